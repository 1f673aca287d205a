//! Security identifiers.

use alloc::string::ToString;

use squall_testkernel_pure::security::sid::{HEADER, MAX_SUBAUTHORITIES};
use squall_testkernel_pure::utf16;

use super::sid_at;
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER,
    STATUS_INVALID_SID, STATUS_NO_MEMORY, STATUS_SUCCESS, UNICODE_STRING,
};

export! {
    /// *RtlLengthRequiredSid function (ntifs.h)*: of so many subauthorities.
    pub unsafe extern "win64" fn RtlLengthRequiredSid(subauthorities: u32) -> u32 {
        subauthorities.wrapping_mul(4).wrapping_add(HEADER as u32)
    }

    /// *RtlInitializeSid function (ntifs.h)*: all but the subauthorities.
    pub unsafe extern "win64" fn RtlInitializeSid(sid: *mut u8, authority: *const u8, count: u8) -> NTSTATUS {
        if count > MAX_SUBAUTHORITIES {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's storage, and six bytes of authority.
        unsafe {
            sid.cast::<[u8; 2]>().write([1, count]);
            authority.copy_to_nonoverlapping(sid.add(2), 6);
        }
        STATUS_SUCCESS
    }

    /// *RtlSubAuthoritySid function (ntifs.h)*: where number `index` is, from 0.
    pub unsafe extern "win64" fn RtlSubAuthoritySid(sid: *mut u8, index: u32) -> *mut u32 {
        sid.wrapping_add(HEADER + 4 * index as usize).cast()
    }

    /// *RtlSubAuthorityCountSid function (ntifs.h)*: where their number is.
    pub unsafe extern "win64" fn RtlSubAuthorityCountSid(sid: *mut u8) -> *mut u8 {
        sid.wrapping_add(1)
    }

    /// *RtlValidSid function (ntifs.h)*: the revision is known, and there are no more subauthorities than may be.
    pub unsafe extern "win64" fn RtlValidSid(sid: *const u8) -> BOOLEAN {
        // SAFETY: the caller's identifier.
        unsafe { sid_at(sid) }.is_some().into()
    }

    /// *RtlLengthSid function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlLengthSid(sid: *const u8) -> u32 {
        // SAFETY: the caller's identifier, whose validity is theirs as well.
        (HEADER + 4 * usize::from(unsafe { sid.add(1).read() })) as u32
    }

    /// *RtlEqualSid function (ntifs.h)*: in everything.
    pub unsafe extern "win64" fn RtlEqualSid(first: *const u8, second: *const u8) -> BOOLEAN {
        // SAFETY: the caller's identifiers.
        let (first, second) = unsafe { (sid_at(first), sid_at(second)) };
        (first.is_some() && first == second).into()
    }

    /// *RtlCopySid function (ntifs.h)*: STATUS_BUFFER_TOO_SMALL where it does not fit.
    pub unsafe extern "win64" fn RtlCopySid(room: u32, to: *mut u8, from: *const u8) -> NTSTATUS {
        // SAFETY: the caller's identifier, and as much room as they say.
        unsafe {
            let length = RtlLengthSid(from);
            if length > room {
                return STATUS_BUFFER_TOO_SMALL;
            }
            from.copy_to(to, length as usize);
        }
        STATUS_SUCCESS
    }

    /// *RtlConvertSidToUnicodeString function (ntifs.h)*: `S-1-5-18`, in the caller's buffer or in one that
    /// RtlFreeUnicodeString frees; with a zero behind it where there is room.
    pub unsafe extern "win64" fn RtlConvertSidToUnicodeString(
        to: *mut UNICODE_STRING,
        sid: *const u8,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's identifier, and a string whose buffer is theirs unless one is wanted.
        unsafe {
            let Some(sid) = sid_at(sid) else { return STATUS_INVALID_SID };
            let units = utf16::encode(&sid.to_string());
            let bytes = units.len() * 2;
            let to = &mut *to;
            if allocate != FALSE {
                let Some(buffer) = pool::allocate_zeroed(bytes + 2, *b"Strg") else { return STATUS_NO_MEMORY };
                to.Buffer = buffer.as_ptr().cast();
                to.MaximumLength = bytes as u16 + 2;
            } else if bytes > to.MaximumLength.into() {
                return STATUS_BUFFER_OVERFLOW;
            }
            units.as_ptr().copy_to_nonoverlapping(to.Buffer, units.len());
            to.Length = bytes as u16;
            if bytes + 2 <= to.MaximumLength.into() {
                to.Buffer.add(units.len()).write(0);
            }
        }
        STATUS_SUCCESS
    }
}
