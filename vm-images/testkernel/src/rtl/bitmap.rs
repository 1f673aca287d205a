//! Bitmaps in a driver's own memory: 32-bit words, the lowest bit of each first.

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, RTL_BITMAP, TRUE};
use crate::selftest::{check, kernel_test};

/// What the searches return where there is nothing to be found.
const NOT_FOUND: u32 = u32::MAX;

/// How many bits there are.
///
/// # Safety
/// Everywhere below: `map` must be an initialized bitmap whose buffer holds its bits.
pub(super) unsafe fn size(map: *const RTL_BITMAP) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { (*map).SizeOfBitMap }
}

/// One of them.
///
/// # Safety
/// As above; `bit` lies in the map.
pub(super) unsafe fn get(map: *const RTL_BITMAP, bit: u32) -> bool {
    // SAFETY: the caller's contract.
    unsafe { (*map).Buffer.add(bit as usize / 32).read() >> (bit % 32) & 1 != 0 }
}

/// # Safety
/// As above.
unsafe fn put(map: *const RTL_BITMAP, bit: u32, value: bool) {
    // SAFETY: the caller's contract.
    unsafe {
        let word = (*map).Buffer.add(bit as usize / 32);
        let mask = 1 << (bit % 32);
        word.write(if value { word.read() | mask } else { word.read() & !mask });
    }
}

/// The bits from `start` on, as far as the map has them.
///
/// # Safety
/// As above.
unsafe fn run(map: *const RTL_BITMAP, start: u32, count: u32) -> core::ops::Range<u32> {
    // SAFETY: the caller's contract.
    start..start.saturating_add(count).min(unsafe { size(map) })
}

/// # Safety
/// As above.
unsafe fn fill(map: *const RTL_BITMAP, start: u32, count: u32, value: bool) {
    // SAFETY: the caller's contract.
    unsafe { run(map, start, count).for_each(|bit| put(map, bit, value)) };
}

/// Whether `count` bits from `start` all have the value; false where there are none, or not so many.
///
/// # Safety
/// As above.
unsafe fn all(map: *const RTL_BITMAP, start: u32, count: u32, value: bool) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        let bits = run(map, start, count);
        count > 0 && bits.len() == count as usize && { bits }.all(|bit| get(map, bit) == value)
    }
}

/// Where the first `count` bits of that value begin, looking from the hint to the end and then from the beginning.
///
/// # Safety
/// As above.
unsafe fn find(map: *const RTL_BITMAP, count: u32, hint: u32, value: bool) -> u32 {
    // SAFETY: the caller's contract.
    unsafe {
        let size = size(map);
        let hint = if hint < size { hint } else { 0 };
        if count == 0 {
            return hint & !7;
        }
        let mut starts = (hint..size).chain(0..hint);
        starts.find(|&start| all(map, start, count, value)).unwrap_or(NOT_FOUND)
    }
}

/// # Safety
/// As above.
unsafe fn find_and_put(map: *const RTL_BITMAP, count: u32, hint: u32, value: bool) -> u32 {
    // SAFETY: the caller's contract.
    unsafe {
        let found = find(map, count, hint, value);
        if found != NOT_FOUND {
            fill(map, found, count, !value);
        }
        found
    }
}

/// # Safety
/// As above.
unsafe fn count(map: *const RTL_BITMAP, value: bool) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { (0..size(map)).filter(|&bit| get(map, bit) == value).count() as u32 }
}

export! {
    /// *RtlInitializeBitMap function (wdm.h)*: the bits stay as they are.
    pub unsafe extern "win64" fn RtlInitializeBitMap(map: *mut RTL_BITMAP, buffer: *mut u32, size: u32) {
        // SAFETY: the caller's storage.
        unsafe { map.write(RTL_BITMAP { SizeOfBitMap: size, Buffer: buffer }) };
    }

    /// *RtlSetBits function (wdm.h)*.
    pub unsafe extern "win64" fn RtlSetBits(map: *mut RTL_BITMAP, start: u32, number: u32) {
        // SAFETY: the caller's map.
        unsafe { fill(map, start, number, true) };
    }

    /// *RtlClearBits function (wdm.h)*.
    pub unsafe extern "win64" fn RtlClearBits(map: *mut RTL_BITMAP, start: u32, number: u32) {
        // SAFETY: the caller's map.
        unsafe { fill(map, start, number, false) };
    }

    /// *RtlSetAllBits function (wdm.h)*.
    pub unsafe extern "win64" fn RtlSetAllBits(map: *mut RTL_BITMAP) {
        // SAFETY: the caller's map.
        unsafe { fill(map, 0, u32::MAX, true) };
    }

    /// *RtlClearAllBits function (wdm.h)*.
    pub unsafe extern "win64" fn RtlClearAllBits(map: *mut RTL_BITMAP) {
        // SAFETY: the caller's map.
        unsafe { fill(map, 0, u32::MAX, false) };
    }

    /// *RtlSetBit function (wdm.h)*.
    pub unsafe extern "win64" fn RtlSetBit(map: *mut RTL_BITMAP, bit: u32) {
        // SAFETY: the caller's map.
        unsafe { fill(map, bit, 1, true) };
    }

    /// *RtlClearBit function (wdm.h)*.
    pub unsafe extern "win64" fn RtlClearBit(map: *mut RTL_BITMAP, bit: u32) {
        // SAFETY: the caller's map.
        unsafe { fill(map, bit, 1, false) };
    }

    /// *RtlTestBit function (wdm.h)*.
    pub unsafe extern "win64" fn RtlTestBit(map: *const RTL_BITMAP, bit: u32) -> BOOLEAN {
        // SAFETY: the caller's map.
        if unsafe { all(map, bit, 1, true) } { TRUE } else { FALSE }
    }

    /// *RtlAreBitsSet function (wdm.h)*: FALSE for no bits, or for more than there are.
    pub unsafe extern "win64" fn RtlAreBitsSet(map: *const RTL_BITMAP, start: u32, length: u32) -> BOOLEAN {
        // SAFETY: the caller's map.
        if unsafe { all(map, start, length, true) } { TRUE } else { FALSE }
    }

    /// *RtlAreBitsClear function (wdm.h)*: likewise.
    pub unsafe extern "win64" fn RtlAreBitsClear(map: *const RTL_BITMAP, start: u32, length: u32) -> BOOLEAN {
        // SAFETY: the caller's map.
        if unsafe { all(map, start, length, false) } { TRUE } else { FALSE }
    }

    /// *RtlNumberOfSetBits function (wdm.h)*.
    pub unsafe extern "win64" fn RtlNumberOfSetBits(map: *const RTL_BITMAP) -> u32 {
        // SAFETY: the caller's map.
        unsafe { count(map, true) }
    }

    /// *RtlNumberOfClearBits function (wdm.h)*.
    pub unsafe extern "win64" fn RtlNumberOfClearBits(map: *const RTL_BITMAP) -> u32 {
        // SAFETY: the caller's map.
        unsafe { count(map, false) }
    }

    /// *RtlFindClearBits function (wdm.h)*: from the hint on, then from the beginning; 0xFFFFFFFF for none.
    pub unsafe extern "win64" fn RtlFindClearBits(map: *const RTL_BITMAP, number: u32, hint: u32) -> u32 {
        // SAFETY: the caller's map.
        unsafe { find(map, number, hint, false) }
    }

    /// *RtlFindSetBits function (wdm.h)*: likewise.
    pub unsafe extern "win64" fn RtlFindSetBits(map: *const RTL_BITMAP, number: u32, hint: u32) -> u32 {
        // SAFETY: the caller's map.
        unsafe { find(map, number, hint, true) }
    }

    /// *RtlFindClearBitsAndSet function (wdm.h)*.
    pub unsafe extern "win64" fn RtlFindClearBitsAndSet(map: *mut RTL_BITMAP, number: u32, hint: u32) -> u32 {
        // SAFETY: the caller's map.
        unsafe { find_and_put(map, number, hint, false) }
    }

    /// *RtlFindSetBitsAndClear function (wdm.h)*.
    pub unsafe extern "win64" fn RtlFindSetBitsAndClear(map: *mut RTL_BITMAP, number: u32, hint: u32) -> u32 {
        // SAFETY: the caller's map.
        unsafe { find_and_put(map, number, hint, true) }
    }
}

kernel_test! {
    /// *RtlFindClearBitsAndSet function*: the first run that is long enough, from the hint and then from the start.
    fn runs_of_bits_are_found_and_changed_within_the_map() {
        let mut words = [0u32, 0, 0xFFFF_FFFF];
        let mut map = RTL_BITMAP { SizeOfBitMap: 0, Buffer: core::ptr::null_mut() };
        let map = &raw mut map;
        // SAFETY: the map and its words are locals.
        unsafe {
            RtlInitializeBitMap(map, words.as_mut_ptr(), 40);
            check!(RtlNumberOfSetBits(map) == 0 && RtlNumberOfClearBits(map) == 40);
            check!(RtlFindClearBitsAndSet(map, 3, 30) == 30 && RtlAreBitsSet(map, 30, 3) == TRUE);
            check!(RtlTestBit(map, 29) == FALSE && RtlTestBit(map, 40) == FALSE);
            check!(RtlFindClearBits(map, 30, 31) == 0 && RtlFindClearBits(map, 31, 0) == NOT_FOUND);
            check!(RtlFindSetBits(map, 3, 39) == 30 && RtlFindSetBitsAndClear(map, 2, 0) == 30);
            check!(RtlNumberOfSetBits(map) == 1 && RtlAreBitsClear(map, 0, 0) == FALSE);
            RtlSetAllBits(map);
            check!(RtlAreBitsSet(map, 0, 40) == TRUE && RtlAreBitsSet(map, 0, 41) == FALSE);
            RtlClearBits(map, 1, 38);
            RtlClearBit(map, 0);
            RtlSetBit(map, 5);
            check!(RtlNumberOfSetBits(map) == 2);
            RtlClearAllBits(map);
        }
        check!(words[0] == 0 && words[1] == 0 && words[2] == 0xFFFF_FFFF);
    }
}
