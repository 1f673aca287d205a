//! UTF-8 strings.

use squall_testkernel_pure::utf8::{self, Converted};

use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER_4, STATUS_INVALID_PARAMETER_5,
    STATUS_SOME_NOT_MAPPED, STATUS_SUCCESS,
};

/// Hands over what was converted, or only how long it is where nobody wants it.
///
/// # Safety
/// `to` must be null or have room for all of it, `bytes` null or room for a number.
unsafe fn hand_over<T: Copy>(converted: &Converted<T>, to: *mut T, bytes: *mut u32) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        if !to.is_null() {
            converted.text.as_ptr().copy_to_nonoverlapping(to, converted.text.len());
        }
        if !bytes.is_null() {
            bytes.write((converted.text.len() * size_of::<T>()) as u32);
        }
    }
    match converted {
        Converted { cut: true, .. } => STATUS_BUFFER_TOO_SMALL,
        Converted { replaced: true, .. } => STATUS_SOME_NOT_MAPPED,
        _ => STATUS_SUCCESS,
    }
}

export! {
    /// *RtlUTF8ToUnicodeN function (wdm.h)*: as much as fits, with STATUS_BUFFER_TOO_SMALL where that is not all. Without a
    /// destination only the length is told.
    pub unsafe extern "win64" fn RtlUTF8ToUnicodeN(
        to: *mut u16,
        room: u32,
        bytes: *mut u32,
        from: *const u8,
        count: u32,
    ) -> NTSTATUS {
        if from.is_null() {
            return STATUS_INVALID_PARAMETER_4;
        }
        let room = if to.is_null() { usize::MAX } else { room as usize / 2 };
        // SAFETY: the caller's bytes, and as much room as they say.
        unsafe {
            let source = core::slice::from_raw_parts(from, count as usize);
            hand_over(&utf8::decode(source, room), to, bytes)
        }
    }

    /// *RtlUnicodeToUTF8N function (wdm.h)*: likewise.
    pub unsafe extern "win64" fn RtlUnicodeToUTF8N(
        to: *mut u8,
        room: u32,
        bytes: *mut u32,
        from: *const u16,
        count: u32,
    ) -> NTSTATUS {
        if from.is_null() {
            return STATUS_INVALID_PARAMETER_4;
        }
        if !count.is_multiple_of(2) {
            return STATUS_INVALID_PARAMETER_5;
        }
        let room = if to.is_null() { usize::MAX } else { room as usize };
        // SAFETY: the caller's units, and as much room as they say.
        unsafe {
            let source = core::slice::from_raw_parts(from, count as usize / 2);
            hand_over(&utf8::encode(source, room), to, bytes)
        }
    }
}
