//! Strings in the OEM code page, which file names on old disks are in. Here it is Latin-1, as the ANSI code page is, so that all of these are
//! the conversions that have ANSI in their names.

use squall_testkernel_pure::utf16;

use super::ansi::{
    RtlMultiByteToUnicodeN, RtlUnicodeToMultiByteN, RtlxAnsiStringToUnicodeSize, RtlxUnicodeStringToAnsiSize,
    to_bytes,
};
use super::string::{RtlAnsiStringToUnicodeString, RtlFreeAnsiString, RtlUnicodeStringToAnsiString};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, NTSTATUS, STATUS_SUCCESS, STRING, UNICODE_STRING};
use crate::selftest::{check, kernel_test};

export! {
    /// *RtlOemStringToUnicodeString function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlOemStringToUnicodeString(
        destination: *mut UNICODE_STRING,
        source: *const STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { RtlAnsiStringToUnicodeString(destination, source, allocate) }
    }

    /// *RtlUnicodeStringToOemString function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlUnicodeStringToOemString(
        destination: *mut STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { RtlUnicodeStringToAnsiString(destination, source, allocate) }
    }

    /// *RtlUpcaseUnicodeStringToOemString function (ntifs.h)*: in upper case.
    pub unsafe extern "win64" fn RtlUpcaseUnicodeStringToOemString(
        destination: *mut STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same; what was converted is as long as the destination says.
        unsafe {
            let status = RtlUnicodeStringToAnsiString(destination, source, allocate);
            if status == STATUS_SUCCESS {
                let length = u32::from((*source).Length);
                let units = ((*source).Buffer.cast_const(), length);
                let _ = to_bytes((*destination).Buffer, length / 2, core::ptr::null_mut(), units, utf16::upcase);
            }
            status
        }
    }

    /// *RtlFreeOemString function (ntifs.h)*: for what a conversion allocated.
    pub unsafe extern "win64" fn RtlFreeOemString(string: *mut STRING) {
        // SAFETY: the contract is the same.
        unsafe { RtlFreeAnsiString(string) };
    }

    /// *RtlOemToUnicodeN function (ntifs.h)*: as much as fits.
    pub unsafe extern "win64" fn RtlOemToUnicodeN(
        to: *mut u16,
        room: u32,
        written: *mut u32,
        from: *const u8,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { RtlMultiByteToUnicodeN(to, room, written, from, length) }
    }

    /// *RtlUnicodeToOemN function (ntifs.h)*: as much as fits.
    pub unsafe extern "win64" fn RtlUnicodeToOemN(
        to: *mut u8,
        room: u32,
        written: *mut u32,
        from: *const u16,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { RtlUnicodeToMultiByteN(to, room, written, from, length) }
    }

    /// *RtlUpcaseUnicodeToOemN function (ntifs.h)*: as much as fits, in upper case.
    pub unsafe extern "win64" fn RtlUpcaseUnicodeToOemN(
        to: *mut u8,
        room: u32,
        written: *mut u32,
        from: *const u16,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { to_bytes(to, room, written, (from, length), utf16::upcase) }
    }

    /// *RtlUpcaseUnicodeToMultiByteN function (ntifs.h)*: as much as fits, in upper case.
    pub unsafe extern "win64" fn RtlUpcaseUnicodeToMultiByteN(
        to: *mut u8,
        room: u32,
        written: *mut u32,
        from: *const u16,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { to_bytes(to, room, written, (from, length), utf16::upcase) }
    }

    /// *RtlUnicodeStringToOemSize macro (ntifs.h)*, in its exported form: with the terminator.
    pub unsafe extern "win64" fn RtlxUnicodeStringToOemSize(string: *const UNICODE_STRING) -> u32 {
        // SAFETY: the contract is the same.
        unsafe { RtlxUnicodeStringToAnsiSize(string) }
    }

    /// *RtlOemStringToUnicodeSize macro (ntifs.h)*, in its exported form: with the terminator.
    pub unsafe extern "win64" fn RtlxOemStringToUnicodeSize(string: *const STRING) -> u32 {
        // SAFETY: the contract is the same.
        unsafe { RtlxAnsiStringToUnicodeSize(string) }
    }
}

kernel_test! {
    fn text_becomes_upper_case_on_its_way_to_the_code_page() {
        let text = utf16::encode("caf\u{e9}\u{416}");
        let source = UNICODE_STRING { Length: 10, MaximumLength: 10, Buffer: text.as_ptr().cast_mut() };
        let mut oem = STRING { Length: 0, MaximumLength: 0, Buffer: core::ptr::null_mut() };
        // SAFETY: locals of the right kind; what is allocated is freed.
        unsafe {
            check!(RtlUpcaseUnicodeStringToOemString(&raw mut oem, &raw const source, 1) == STATUS_SUCCESS);
            check!(super::string::bytes(&raw const oem) == b"CAF\xC9?");
            RtlFreeOemString(&raw mut oem);
        }
    }
}
