//! Runs of clear bits in a bitmap, and single bits in a word.

use alloc::vec::Vec;

use super::bitmap::{get, size};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, RTL_BITMAP};
use crate::selftest::{check, kernel_test};

/// `RTL_BITMAP_RUN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Run {
    start: u32,
    bits: u32,
}

/// The first run of clear bits that has one at or behind `from`; nothing of it before that counts.
///
/// # Safety
/// Everywhere below: `map` must be an initialized bitmap whose buffer holds its bits.
unsafe fn next(map: *const RTL_BITMAP, from: u32) -> Option<Run> {
    // SAFETY: the caller's contract; the bits lie in the map.
    unsafe {
        let size = size(map);
        let start = (from..size).find(|&bit| !get(map, bit))?;
        let end = (start..size).find(|&bit| get(map, bit)).unwrap_or(size);
        Some(Run { start, bits: end - start })
    }
}

/// All of them, in order.
unsafe fn all(map: *const RTL_BITMAP) -> impl Iterator<Item = Run> {
    let mut from = 0;
    core::iter::from_fn(move || {
        // SAFETY: the caller's contract.
        let run = unsafe { next(map, from) }?;
        from = run.start + run.bits;
        Some(run)
    })
}

/// Tells where the run begins, and how long it is.
///
/// # Safety
/// `start` must have room for a number.
unsafe fn tell(run: Option<Run>, start: *mut u32) -> u32 {
    let Run { start: first, bits } = run.unwrap_or(Run { start: 0, bits: 0 });
    if run.is_some() {
        // SAFETY: the caller's contract.
        unsafe { start.write(first) };
    }
    bits
}

export! {
    /// *RtlFindClearRuns function (wdm.h)*: how many were found, of at most `room`: the first, or the longest, those first.
    pub unsafe extern "win64" fn RtlFindClearRuns(
        map: *const RTL_BITMAP,
        runs: *mut Run,
        room: u32,
        longest: BOOLEAN,
    ) -> u32 {
        // SAFETY: the caller's map, and room for that many runs.
        unsafe {
            let mut found: Vec<Run> =
                if longest == FALSE { all(map).take(room as usize).collect() } else { all(map).collect() };
            if longest != FALSE {
                found.sort_by_key(|run| core::cmp::Reverse(run.bits));
                found.truncate(room as usize);
            }
            found.as_ptr().copy_to_nonoverlapping(runs, found.len());
            found.len() as u32
        }
    }

    /// *RtlFindLongestRunClear function (wdm.h)*: its length, and where it begins; 0 for none.
    pub unsafe extern "win64" fn RtlFindLongestRunClear(map: *const RTL_BITMAP, start: *mut u32) -> u32 {
        // SAFETY: the caller's map and storage.
        unsafe {
            let longer = |best: Option<Run>, run: Run| match best {
                Some(best) if best.bits >= run.bits => Some(best),
                _ => Some(run),
            };
            tell(all(map).fold(None, longer), start)
        }
    }

    /// *RtlFindFirstRunClear function (wdm.h)*: its length, and where it begins; 0 for none.
    pub unsafe extern "win64" fn RtlFindFirstRunClear(map: *const RTL_BITMAP, start: *mut u32) -> u32 {
        // SAFETY: the caller's map and storage.
        unsafe { tell(next(map, 0), start) }
    }

    /// *RtlFindNextForwardRunClear function (wdm.h)*: the same from that bit on.
    pub unsafe extern "win64" fn RtlFindNextForwardRunClear(
        map: *const RTL_BITMAP,
        from: u32,
        start: *mut u32,
    ) -> u32 {
        // SAFETY: the caller's map and storage.
        unsafe { tell(next(map, from), start) }
    }

    /// *RtlFindLastBackwardRunClear function (wdm.h)*: from that bit backwards.
    pub unsafe extern "win64" fn RtlFindLastBackwardRunClear(
        map: *const RTL_BITMAP,
        from: u32,
        start: *mut u32,
    ) -> u32 {
        // SAFETY: the caller's map and storage.
        unsafe {
            let from = from.min(size(map).saturating_sub(1));
            let last = (0..size(map).min(from + 1)).rev().find(|&bit| !get(map, bit));
            let run = last.map(|last| {
                let first = (0..last).rev().find(|&bit| get(map, bit)).map_or(0, |bit| bit + 1);
                Run { start: first, bits: last + 1 - first }
            });
            tell(run, start)
        }
    }

    /// *RtlFindMostSignificantBit function (wdm.h)*: from 0; -1 where none is set.
    pub unsafe extern "win64" fn RtlFindMostSignificantBit(set: u64) -> i8 {
        set.checked_ilog2().map_or(-1, |bit| bit as i8)
    }

    /// *RtlFindLeastSignificantBit function (wdm.h)*: from 0; -1 where none is set.
    pub unsafe extern "win64" fn RtlFindLeastSignificantBit(set: u64) -> i8 {
        if set == 0 { -1 } else { set.trailing_zeros() as i8 }
    }

    /// *RtlNumberOfSetBitsUlongPtr function (wdm.h)*.
    pub unsafe extern "win64" fn RtlNumberOfSetBitsUlongPtr(set: u64) -> u32 {
        set.count_ones()
    }
}

kernel_test! {
    /// *RtlFindClearRuns function (wdm.h)* and *RtlFindLastBackwardRunClear function (wdm.h)*.
    fn runs_of_clear_bits_are_found_forwards_backwards_and_by_length() {
        // Clear: 0..4, 8..16, 35..38, 39.
        let mut words = [0xFFFF_00F0u32, 0x0000_0047];
        let map = RTL_BITMAP { SizeOfBitMap: 40, Buffer: words.as_mut_ptr() };
        let map = &raw const map;
        let mut runs = [Run { start: 0, bits: 0 }; 4];
        let mut start = 99;
        // SAFETY: the map, its words and the answers are locals.
        unsafe {
            check!(RtlFindClearRuns(map, runs.as_mut_ptr(), 2, FALSE) == 2);
            check!(runs[..2] == [Run { start: 0, bits: 4 }, Run { start: 8, bits: 8 }]);
            check!(RtlFindClearRuns(map, runs.as_mut_ptr(), 4, 1) == 4);
            check!(runs.map(|run| (run.start, run.bits)) == [(8, 8), (0, 4), (35, 3), (39, 1)]);
            check!(RtlFindLongestRunClear(map, &raw mut start) == 8 && start == 8);
            check!(RtlFindNextForwardRunClear(map, 10, &raw mut start) == 6 && start == 10);
            check!(RtlFindNextForwardRunClear(map, 40, &raw mut start) == 0);
            check!(RtlFindLastBackwardRunClear(map, 36, &raw mut start) == 2 && start == 35);
            check!(RtlFindLastBackwardRunClear(map, 34, &raw mut start) == 8 && start == 8);
            check!(RtlFindLastBackwardRunClear(map, 500, &raw mut start) == 1 && start == 39);
            check!(RtlFindMostSignificantBit(0) == -1 && RtlFindMostSignificantBit(u64::MAX) == 63);
            check!(RtlFindLeastSignificantBit(0x50) == 4 && RtlFindLeastSignificantBit(0) == -1);
        }
    }
}
