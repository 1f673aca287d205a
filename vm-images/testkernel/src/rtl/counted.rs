//! More of counted strings: made from others, checked, and strings of bytes appended and compared.

use super::string::{bytes, terminated};
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY,
    STATUS_SUCCESS, STRING, TRUE, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// `RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE` and `RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING`.
const TERMINATE: u32 = 1;
const ALLOCATE_EMPTY: u32 = 2;

/// A copy of `units` in a buffer that RtlFreeUnicodeString frees, with room for a terminator where that is wanted.
fn copy_of(units: &[u16], terminate: bool) -> Option<UNICODE_STRING> {
    let length = units.len() * 2;
    let room = length + if terminate { 2 } else { 0 };
    let room = u16::try_from(room).ok()?;
    let buffer = pool::allocate_zeroed(usize::from(room).max(2), *b"Strg")?.as_ptr().cast::<u16>();
    // SAFETY: the buffer is new, zeroed, and holds them.
    unsafe { units.as_ptr().copy_to_nonoverlapping(buffer, units.len()) };
    Some(UNICODE_STRING { Length: length as u16, MaximumLength: room, Buffer: buffer })
}

/// Whether a counted string can be one.
///
/// # Safety
/// `string` must be null or lead to a structure.
unsafe fn is_valid(string: *const UNICODE_STRING) -> bool {
    // SAFETY: the caller's contract.
    unsafe { string.as_ref() }.is_none_or(|string| {
        let halves = string.Length.is_multiple_of(2) && string.MaximumLength.is_multiple_of(2);
        let has_room = string.Length <= string.MaximumLength;
        halves && has_room && (string.MaximumLength == 0 || !string.Buffer.is_null())
    })
}

/// Appends bytes, all or none.
///
/// # Safety
/// `destination` must be a valid counted string whose buffer holds `MaximumLength` bytes.
unsafe fn append(destination: *mut STRING, tail: &[u8]) -> NTSTATUS {
    // SAFETY: the caller's contract; what is appended fits.
    unsafe {
        let (used, room) = (usize::from((*destination).Length), usize::from((*destination).MaximumLength));
        if tail.len() > room.saturating_sub(used) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        tail.as_ptr().copy_to((*destination).Buffer.add(used), tail.len());
        (*destination).Length += tail.len() as u16;
    }
    STATUS_SUCCESS
}

export! {
    /// *RtlCreateUnicodeString function (ntifs.h)*: a copy of terminated text, with its terminator; FALSE where there is no memory.
    pub unsafe extern "win64" fn RtlCreateUnicodeString(destination: *mut UNICODE_STRING, source: *const u16) -> BOOLEAN {
        // SAFETY: the caller gives terminated text and storage for a string.
        unsafe {
            match copy_of(terminated(source), true) {
                Some(copy) => {
                    destination.write(copy);
                    TRUE
                }
                None => FALSE,
            }
        }
    }

    /// *RtlDuplicateUnicodeString function*: a copy, terminated or not; an empty string has a buffer only where that is asked for.
    pub unsafe extern "win64" fn RtlDuplicateUnicodeString(
        flags: u32,
        source: *const UNICODE_STRING,
        destination: *mut UNICODE_STRING,
    ) -> NTSTATUS {
        let sensible = flags & !(TERMINATE | ALLOCATE_EMPTY) == 0 && flags != ALLOCATE_EMPTY;
        // SAFETY: the caller gives a valid string or null, and storage for one.
        unsafe {
            if !sensible || destination.is_null() || !is_valid(source) {
                return STATUS_INVALID_PARAMETER;
            }
            let units = source.as_ref().map_or(&[][..], |source| source.units());
            if units.is_empty() && flags & ALLOCATE_EMPTY == 0 {
                destination.write(UNICODE_STRING::EMPTY);
                return STATUS_SUCCESS;
            }
            match copy_of(units, flags & TERMINATE != 0) {
                Some(copy) => {
                    destination.write(copy);
                    STATUS_SUCCESS
                }
                None => STATUS_NO_MEMORY,
            }
        }
    }

    /// *RtlValidateUnicodeString function (ntifs.h)*: lengths are even, one within the other, and there is a buffer for them; there are no
    /// flags.
    pub unsafe extern "win64" fn RtlValidateUnicodeString(flags: u32, string: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller gives a structure or null.
        if flags == 0 && unsafe { is_valid(string) } { STATUS_SUCCESS } else { STATUS_INVALID_PARAMETER }
    }

    /// *RtlAppendStringToString function (ntifs.h)*: STATUS_BUFFER_TOO_SMALL and unchanged where it does not fit.
    pub unsafe extern "win64" fn RtlAppendStringToString(destination: *mut STRING, source: *const STRING) -> NTSTATUS {
        // SAFETY: the caller gives two valid strings.
        unsafe { append(destination, bytes(source)) }
    }

    /// *RtlAppendAsciizToString function*: the same for terminated text, which may be null.
    pub unsafe extern "win64" fn RtlAppendAsciizToString(destination: *mut STRING, source: *const u8) -> NTSTATUS {
        if source.is_null() {
            return STATUS_SUCCESS;
        }
        // SAFETY: the caller gives a valid string and terminated text.
        unsafe { append(destination, core::ffi::CStr::from_ptr(source.cast()).to_bytes()) }
    }

    /// *RtlPrefixString function*: whether `string` begins with `prefix`.
    pub unsafe extern "win64" fn RtlPrefixString(
        prefix: *const STRING,
        string: *const STRING,
        ignore_case: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller gives two valid strings.
        let (prefix, string) = unsafe { (bytes(prefix), bytes(string)) };
        let begins = string.get(..prefix.len()).is_some_and(|start| {
            if ignore_case != 0 { start.eq_ignore_ascii_case(prefix) } else { start == prefix }
        });
        if begins { TRUE } else { FALSE }
    }
}

kernel_test! {
    /// *RtlDuplicateUnicodeString function*: with its terminator or without; nothing for nothing.
    fn strings_are_copied_into_buffers_of_their_own() {
        use super::string::RtlFreeUnicodeString;
        let text = squall_testkernel_pure::utf16::encode("copy\0");
        let source = UNICODE_STRING { Length: 8, MaximumLength: 10, Buffer: text.as_ptr().cast_mut() };
        let mut copy = UNICODE_STRING::EMPTY;
        let empty = UNICODE_STRING::EMPTY;
        // SAFETY: locals of the right kind; what is allocated is freed.
        unsafe {
            for (flags, room) in [(0, 8), (TERMINATE, 10)] {
                check!(RtlDuplicateUnicodeString(flags, &raw const source, &raw mut copy) == STATUS_SUCCESS);
                check!(copy.MaximumLength == room && copy.units() == &text[..4] && copy.Buffer != source.Buffer);
                RtlFreeUnicodeString(&raw mut copy);
            }
            check!(RtlDuplicateUnicodeString(TERMINATE, &raw const empty, &raw mut copy) == STATUS_SUCCESS);
            check!(copy.Buffer.is_null());
            check!(RtlDuplicateUnicodeString(3, &raw const empty, &raw mut copy) == STATUS_SUCCESS);
            check!(!copy.Buffer.is_null() && copy.MaximumLength == 2);
            RtlFreeUnicodeString(&raw mut copy);
            check!(RtlDuplicateUnicodeString(2, &raw const source, &raw mut copy) == STATUS_INVALID_PARAMETER);
            let odd = UNICODE_STRING { Length: 3, ..source };
            check!(RtlValidateUnicodeString(0, &raw const odd) == STATUS_INVALID_PARAMETER);
            check!(RtlCreateUnicodeString(&raw mut copy, text.as_ptr()) == TRUE && copy.MaximumLength == 10);
            RtlFreeUnicodeString(&raw mut copy);
        }
    }
}
