//! Counted strings of bytes, and the conversions between bytes and code units that count nothing themselves.
//!
//! The code page is Latin-1: every byte is the code unit of the same number, so the two directions need no tables.

use core::ptr::null_mut;

use squall_testkernel_pure::utf16;

use super::string::{RtlInitAnsiString, bytes};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, NTSTATUS, STATUS_ACCESS_VIOLATION, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STRING,
    UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// The upper-case form of a byte of Latin-1, where that is one of Latin-1 as well.
fn upcase(byte: u8) -> u8 {
    u8::try_from(utf16::upcase(byte.into())).unwrap_or(byte)
}

/// # Safety
/// Both must lead to valid counted strings, the source's pointer may be null.
unsafe fn copy(destination: *mut STRING, source: *const STRING, through: impl Fn(u8) -> u8) {
    // SAFETY: the caller's contract; what is written fits the destination's buffer.
    unsafe {
        (*destination).Length = 0;
        if source.is_null() {
            return;
        }
        let room = usize::from((*destination).MaximumLength);
        let text = bytes(source);
        let text = &text[..text.len().min(room)];
        for (index, &byte) in text.iter().enumerate() {
            (*destination).Buffer.add(index).write(through(byte));
        }
        (*destination).Length = text.len() as u16;
    }
}

/// # Safety
/// Both must lead to valid counted strings.
unsafe fn compare(left: *const STRING, right: *const STRING, ignore_case: BOOLEAN) -> core::cmp::Ordering {
    // SAFETY: the caller's contract.
    let (left, right) = unsafe { (bytes(left), bytes(right)) };
    if ignore_case != 0 {
        left.iter().map(|&byte| upcase(byte)).cmp(right.iter().map(|&byte| upcase(byte)))
    } else {
        left.cmp(right)
    }
}

/// Code units to bytes, as much as fits, each through something; what the code page lacks becomes a question mark. Says how many bytes were
/// written where asked.
///
/// # Safety
/// Both buffers must hold as many bytes as is said of them.
pub unsafe fn to_bytes(
    to: *mut u8,
    room: u32,
    written: *mut u32,
    (from, length): (*const u16, u32),
    through: impl Fn(u16) -> u16,
) -> NTSTATUS {
    let count = room.min(length / 2) as usize;
    // SAFETY: the caller's contract.
    unsafe {
        for index in 0..count {
            let unit = through(from.add(index).read());
            to.add(index).write(u8::try_from(unit).unwrap_or(b'?'));
        }
        if !written.is_null() {
            written.write(count as u32);
        }
    }
    STATUS_SUCCESS
}

/// The number that terminated text begins with: blanks, a sign, a prefix where no base is given, digits.
///
/// # Safety
/// `text` must be terminated.
unsafe fn number(text: *const u8, base: u32) -> Option<u32> {
    let mut at = text;
    // SAFETY: nothing is read beyond the terminator, which is neither blank, sign, prefix nor digit.
    let mut take = |accepts: &dyn Fn(u8) -> bool| unsafe {
        let byte = at.read();
        let taken = byte != 0 && accepts(byte);
        at = if taken { at.add(1) } else { at };
        taken.then_some(byte)
    };
    while take(&|byte| byte <= b' ').is_some() {}
    let sign = take(&|byte| byte == b'-' || byte == b'+');
    let mut base = base;
    let mut value = 0u32;
    if base == 0 {
        base = 10;
        if take(&|byte| byte == b'0').is_some() {
            base = match take(&|byte| matches!(byte, b'x' | b'o' | b'b')) {
                Some(b'x') => 16,
                Some(b'o') => 8,
                Some(_) => 2,
                None => 10,
            };
        }
    }
    if ![2, 8, 10, 16].contains(&base) {
        return None;
    }
    while let Some(digit) = take(&|byte| char::from(byte).is_digit(base)) {
        let digit = char::from(digit).to_digit(base).unwrap_or(0);
        value = value.wrapping_mul(base).wrapping_add(digit);
    }
    Some(if sign == Some(b'-') { value.wrapping_neg() } else { value })
}

export! {
    /// *RtlInitString function (wdm.h)*: a null source makes an empty string.
    pub unsafe extern "win64" fn RtlInitString(destination: *mut STRING, source: *const u8) {
        // SAFETY: the same contract.
        unsafe { RtlInitAnsiString(destination, source) };
    }

    /// *RtlCopyString function (ntddk.h)*: as much as fits; a null source makes the destination empty.
    pub unsafe extern "win64" fn RtlCopyString(destination: *mut STRING, source: *const STRING) {
        // SAFETY: the caller gives two valid strings, the source possibly null.
        unsafe { copy(destination, source, |byte| byte) };
    }

    /// *RtlUpperString function (ntddk.h)*: as much as fits.
    pub unsafe extern "win64" fn RtlUpperString(destination: *mut STRING, source: *const STRING) {
        // SAFETY: the caller gives two valid strings.
        unsafe { copy(destination, source, upcase) };
    }

    /// *RtlCompareString function (ntddk.h)*: below, equal to or above zero.
    pub unsafe extern "win64" fn RtlCompareString(
        left: *const STRING,
        right: *const STRING,
        ignore_case: BOOLEAN,
    ) -> i32 {
        // SAFETY: the caller gives two valid strings.
        unsafe { compare(left, right, ignore_case) as i32 }
    }

    /// *RtlEqualString function (ntddk.h)*.
    pub unsafe extern "win64" fn RtlEqualString(
        left: *const STRING,
        right: *const STRING,
        ignore_case: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller gives two valid strings.
        unsafe { compare(left, right, ignore_case).is_eq().into() }
    }

    /// *RtlCharToInteger function (ntddk.h)*: STATUS_INVALID_PARAMETER for a base that is not 0, 2, 8, 10 or 16,
    /// STATUS_ACCESS_VIOLATION where there is no place for the number.
    pub unsafe extern "win64" fn RtlCharToInteger(text: *const u8, base: u32, value: *mut u32) -> NTSTATUS {
        if value.is_null() {
            return STATUS_ACCESS_VIOLATION;
        }
        // SAFETY: the caller gives terminated text and storage for the number.
        unsafe {
            let Some(found) = number(text, base) else { return STATUS_INVALID_PARAMETER };
            value.write(found);
        }
        STATUS_SUCCESS
    }

    /// *RtlMultiByteToUnicodeN function (ntifs.h)*: as much as fits; says how many bytes were written where asked.
    pub unsafe extern "win64" fn RtlMultiByteToUnicodeN(
        to: *mut u16,
        room: u32,
        written: *mut u32,
        from: *const u8,
        length: u32,
    ) -> NTSTATUS {
        let count = (room / 2).min(length) as usize;
        // SAFETY: the caller gives both buffers with their sizes in bytes.
        unsafe {
            (0..count).for_each(|index| to.add(index).write(from.add(index).read().into()));
            if !written.is_null() {
                written.write(2 * count as u32);
            }
        }
        STATUS_SUCCESS
    }

    /// *RtlUnicodeToMultiByteN function (ntifs.h)*: as much as fits; what the code page lacks becomes a question mark.
    pub unsafe extern "win64" fn RtlUnicodeToMultiByteN(
        to: *mut u8,
        room: u32,
        written: *mut u32,
        from: *const u16,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller gives both buffers with their sizes in bytes.
        unsafe { to_bytes(to, room, written, (from, length), |unit| unit) }
    }

    /// *RtlMultiByteToUnicodeSize function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlMultiByteToUnicodeSize(size: *mut u32, _from: *const u8, length: u32) -> NTSTATUS {
        // SAFETY: the caller gives storage for the size.
        unsafe { size.write(length.saturating_mul(2)) };
        STATUS_SUCCESS
    }

    /// *RtlUnicodeToMultiByteSize function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlUnicodeToMultiByteSize(size: *mut u32, _from: *const u16, length: u32) -> NTSTATUS {
        // SAFETY: the caller gives storage for the size.
        unsafe { size.write(length / 2) };
        STATUS_SUCCESS
    }

    /// *RtlUnicodeStringToAnsiSize macro (ntifs.h)*, in its exported form: with the terminator.
    pub unsafe extern "win64" fn RtlxUnicodeStringToAnsiSize(string: *const UNICODE_STRING) -> u32 {
        // SAFETY: the caller gives a valid string.
        unsafe { u32::from((*string).Length) / 2 + 1 }
    }

    /// *RtlAnsiStringToUnicodeSize macro (ntifs.h)*, in its exported form: with the terminator.
    pub unsafe extern "win64" fn RtlxAnsiStringToUnicodeSize(string: *const STRING) -> u32 {
        // SAFETY: the caller gives a valid string.
        unsafe { (u32::from((*string).Length) + 1) * 2 }
    }
}

kernel_test! {
    fn byte_strings_are_copied_as_far_as_they_fit() {
        let (mut room, mut source) = ([0u8; 3], STRING { Length: 0, MaximumLength: 0, Buffer: null_mut() });
        let mut target = STRING { Length: 0, MaximumLength: 3, Buffer: room.as_mut_ptr() };
        // SAFETY: locals of the right kind.
        unsafe {
            RtlInitString(&raw mut source, c"a\xE9bc".as_ptr().cast());
            RtlUpperString(&raw mut target, &raw const source);
            check!(bytes(&raw const target) == b"A\xC9B");
            check!(RtlEqualString(&raw const target, &raw const source, 1) == 0);
            let mut value = 0;
            check!(RtlCharToInteger(c" -0x10z".as_ptr().cast(), 0, &raw mut value) == STATUS_SUCCESS);
            check!(value == 16u32.wrapping_neg());
        }
    }
}
