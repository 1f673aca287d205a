//! The C library's memory routines and the `Rtl` names for them, as ntoskrnl.exe exports them.

use core::ffi::c_void;

use crate::ldr::export::export;

export! {
    /// `memcpy`; ntoskrnl's tolerates overlap, as it is the same routine as `memmove`.
    pub unsafe extern "win64" fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
        // SAFETY: the caller gives two ranges of that many bytes.
        unsafe { core::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) };
        to
    }

    /// `memmove`.
    pub unsafe extern "win64" fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
        // SAFETY: as for memcpy.
        unsafe { core::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) };
        to
    }

    /// `memset`.
    pub unsafe extern "win64" fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void {
        // SAFETY: the caller gives a range of that many bytes.
        unsafe { core::ptr::write_bytes(to.cast::<u8>(), byte as u8, bytes) };
        to
    }

    /// `memcmp`.
    pub unsafe extern "win64" fn memcmp(left: *const c_void, right: *const c_void, bytes: usize) -> i32 {
        // SAFETY: the caller gives two ranges of that many bytes; both are only read.
        let (left, right) = unsafe { (bytes_of(left, bytes), bytes_of(right, bytes)) };
        left.cmp(right) as i32
    }

    /// *RtlCopyMemory macro (wdm.h)*, in its exported form.
    pub unsafe extern "win64" fn RtlCopyMemory(to: *mut c_void, from: *const c_void, bytes: usize) {
        // SAFETY: as for memcpy.
        unsafe { core::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) };
    }

    /// *RtlMoveMemory macro (wdm.h)*, in its exported form.
    pub unsafe extern "win64" fn RtlMoveMemory(to: *mut c_void, from: *const c_void, bytes: usize) {
        // SAFETY: as for memcpy.
        unsafe { core::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) };
    }

    /// *RtlZeroMemory macro (wdm.h)*, in its exported form.
    pub unsafe extern "win64" fn RtlZeroMemory(to: *mut c_void, bytes: usize) {
        // SAFETY: as for memset.
        unsafe { core::ptr::write_bytes(to.cast::<u8>(), 0, bytes) };
    }

    /// *RtlFillMemory macro (wdm.h)*, in its exported form: length before value.
    pub unsafe extern "win64" fn RtlFillMemory(to: *mut c_void, bytes: usize, byte: u8) {
        // SAFETY: as for memset.
        unsafe { core::ptr::write_bytes(to.cast::<u8>(), byte, bytes) };
    }

    /// *RtlCompareMemory function (wdm.h)*: how many bytes are equal before the first that differs.
    pub unsafe extern "win64" fn RtlCompareMemory(left: *const c_void, right: *const c_void, bytes: usize) -> usize {
        // SAFETY: as for memcmp.
        let (left, right) = unsafe { (bytes_of(left, bytes), bytes_of(right, bytes)) };
        left.iter().zip(right).take_while(|(left, right)| left == right).count()
    }

    /// *RtlCompareMemoryUlong function (ntifs.h)*: how many bytes at the beginning repeat a pattern.
    pub unsafe extern "win64" fn RtlCompareMemoryUlong(memory: *const u32, bytes: usize, pattern: u32) -> usize {
        // SAFETY: the caller gives that many bytes, four at a time.
        let equal = |&index: &usize| unsafe { memory.add(index).read() } == pattern;
        4 * (0..bytes / 4).take_while(equal).count()
    }
}

/// # Safety
/// `pointer` must lead to that many bytes, which nobody writes meanwhile.
unsafe fn bytes_of<'a>(pointer: *const c_void, bytes: usize) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: the caller's contract.
    unsafe { core::slice::from_raw_parts(pointer.cast(), bytes) }
}
