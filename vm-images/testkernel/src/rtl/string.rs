//! Counted strings.
//!
//! A counted string lends its buffer; these routines never allocate, but for the two that convert with
//! `AllocateDestinationString`. Lengths are in bytes and 16 bits wide, so a string of 32,767 code units is the longest.

use core::cmp::Ordering;

use squall_testkernel_pure::utf16;

use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    ANSI_STRING, BOOLEAN, NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_PARAMETER, STATUS_NAME_TOO_LONG, STATUS_NO_MEMORY, STATUS_SUCCESS, STRING, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// The longest counted string with room for a terminator, in bytes.
const MAX_BYTES: usize = 0xFFFE;

impl UNICODE_STRING {
    /// The empty string.
    pub const EMPTY: Self = Self { Length: 0, MaximumLength: 0, Buffer: core::ptr::null_mut() };

    /// The string's code units.
    ///
    /// # Safety
    /// `Buffer` must lead to `Length` bytes that nobody writes while the slice lives.
    pub unsafe fn units<'a>(&self) -> &'a [u16] {
        if self.Buffer.is_null() || self.Length < 2 {
            return &[];
        }
        // SAFETY: the caller's contract.
        unsafe { core::slice::from_raw_parts(self.Buffer, usize::from(self.Length) / 2) }
    }
}

/// # Safety
/// `string` must be null or lead to a valid counted string.
unsafe fn units<'a>(string: *const UNICODE_STRING) -> &'a [u16] {
    // SAFETY: the caller's contract.
    unsafe { string.as_ref() }.map_or(&[], |string| {
        // SAFETY: the caller's contract.
        unsafe { string.units() }
    })
}

/// The string's bytes.
///
/// # Safety
/// `string` must lead to a valid counted string.
pub unsafe fn bytes<'a>(string: *const STRING) -> &'a [u8] {
    // SAFETY: the caller's contract.
    let string = unsafe { &*string };
    if string.Buffer.is_null() || string.Length == 0 {
        return &[];
    }
    // SAFETY: the caller's contract.
    unsafe { core::slice::from_raw_parts(string.Buffer, string.Length.into()) }
}

/// Code units up to the terminator, at most as many as a counted string holds.
///
/// # Safety
/// `text` must lead to a terminated string.
pub unsafe fn terminated<'a>(text: *const u16) -> &'a [u16] {
    let mut length = 0;
    // SAFETY: everything up to the terminator can be read.
    while length < MAX_BYTES / 2 && unsafe { text.add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: that many were just read.
    unsafe { core::slice::from_raw_parts(text, length) }
}

/// Appends `tail`, with a terminator where there is room for one.
///
/// # Safety
/// `destination` must be a valid counted string whose buffer holds `MaximumLength` bytes.
unsafe fn append(destination: *mut UNICODE_STRING, tail: &[u16]) -> NTSTATUS {
    // SAFETY: the caller's contract.
    let destination = unsafe { &mut *destination };
    let (used, room) = (usize::from(destination.Length) / 2, usize::from(destination.MaximumLength) / 2);
    if tail.len() > room.saturating_sub(used) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: `used + tail.len()` units fit the buffer, and so does one more where it is below `room`. The tail may
    // be the destination's own units, hence a copy that tolerates overlap.
    unsafe {
        tail.as_ptr().copy_to(destination.Buffer.add(used), tail.len());
        if used + tail.len() < room {
            destination.Buffer.add(used + tail.len()).write(0);
        }
    }
    destination.Length += (tail.len() * 2) as u16;
    STATUS_SUCCESS
}

/// A number as text, in place of what the destination held.
///
/// # Safety
/// `destination` must be a valid counted string whose buffer holds `MaximumLength` bytes.
unsafe fn write_number(value: u64, base: u32, destination: *mut UNICODE_STRING) -> NTSTATUS {
    let base = if base == 0 { 10 } else { base };
    if ![2, 8, 10, 16].contains(&base) {
        return STATUS_INVALID_PARAMETER;
    }
    let mut digits = [0u16; 64];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        let digit = char::from_digit((rest % u64::from(base)) as u32, base).unwrap_or('?');
        digits[start] = digit.to_ascii_uppercase() as u16;
        rest /= u64::from(base);
        if rest == 0 {
            break;
        }
    }
    // SAFETY: the caller's contract.
    unsafe {
        // With the terminator.
        if (digits.len() - start + 1) * 2 > usize::from((*destination).MaximumLength) {
            return STATUS_BUFFER_OVERFLOW;
        }
        (*destination).Length = 0;
        append(destination, &digits[start..])
    }
}

export! {
    /// *RtlInitUnicodeString function (wdm.h)*: a null source makes an empty string.
    pub unsafe extern "win64" fn RtlInitUnicodeString(destination: *mut UNICODE_STRING, source: *const u16) {
        let mut string = UNICODE_STRING::EMPTY;
        if !source.is_null() {
            // SAFETY: the caller gives a terminated string.
            let bytes = unsafe { terminated(source) }.len() * 2;
            string = UNICODE_STRING {
                Length: bytes as u16,
                MaximumLength: (bytes + 2).min(0xFFFF) as u16,
                Buffer: source.cast_mut(),
            };
        }
        // SAFETY: the caller gives storage for a string.
        unsafe { destination.write(string) };
    }

    /// *RtlInitUnicodeStringEx function (ntddk.h)*: STATUS_NAME_TOO_LONG where the length field cannot hold it.
    pub unsafe extern "win64" fn RtlInitUnicodeStringEx(
        destination: *mut UNICODE_STRING,
        source: *const u16,
    ) -> NTSTATUS {
        // SAFETY: the caller gives null or a terminated string, and storage for a string. `terminated` reads no further
        // than the longest string, so that the next unit is there to be read.
        unsafe {
            if !source.is_null() && source.add(terminated(source).len()).read() != 0 {
                return STATUS_NAME_TOO_LONG;
            }
            RtlInitUnicodeString(destination, source);
        }
        STATUS_SUCCESS
    }

    /// *RtlInitAnsiString function (wdm.h)*: a null source makes an empty string.
    pub unsafe extern "win64" fn RtlInitAnsiString(destination: *mut ANSI_STRING, source: *const u8) {
        let mut length = 0;
        // SAFETY: the caller gives null or a terminated string.
        while !source.is_null() && length < MAX_BYTES && unsafe { source.add(length).read() } != 0 {
            length += 1;
        }
        let room = if source.is_null() { 0 } else { length + 1 };
        let string = STRING { Length: length as u16, MaximumLength: room as u16, Buffer: source.cast_mut() };
        // SAFETY: the caller gives storage for a string.
        unsafe { destination.write(string) };
    }

    /// *RtlCopyUnicodeString function (wdm.h)*: as much as fits; a null source makes the destination empty.
    pub unsafe extern "win64" fn RtlCopyUnicodeString(
        destination: *mut UNICODE_STRING,
        source: *const UNICODE_STRING,
    ) {
        // SAFETY: the caller gives two valid strings, the source possibly null.
        unsafe {
            let source = units(source);
            (*destination).Length = 0;
            let room = usize::from((*destination).MaximumLength) / 2;
            // What was cut to the room always fits.
            let _ = append(destination, &source[..source.len().min(room)]);
        }
    }

    /// *RtlCompareUnicodeString function (wdm.h)*: below, equal to or above zero.
    pub unsafe extern "win64" fn RtlCompareUnicodeString(
        left: *const UNICODE_STRING,
        right: *const UNICODE_STRING,
        ignore_case: BOOLEAN,
    ) -> i32 {
        // SAFETY: the caller gives two valid strings.
        let (left, right) = unsafe { (units(left), units(right)) };
        utf16::compare(left, right, ignore_case != 0) as i32
    }

    /// *RtlCompareUnicodeStrings function (wdm.h)*: of so many characters each.
    pub unsafe extern "win64" fn RtlCompareUnicodeStrings(
        left: *const u16,
        left_length: usize,
        right: *const u16,
        right_length: usize,
        ignore_case: BOOLEAN,
    ) -> i32 {
        let characters = |string: *const u16, length: usize| {
            // SAFETY: the caller's characters; where there are none, nothing is looked at.
            if length == 0 { &[] } else { unsafe { core::slice::from_raw_parts(string, length) } }
        };
        utf16::compare(characters(left, left_length), characters(right, right_length), ignore_case != 0) as i32
    }

    /// *RtlEqualUnicodeString function (wdm.h)*.
    pub unsafe extern "win64" fn RtlEqualUnicodeString(
        left: *const UNICODE_STRING,
        right: *const UNICODE_STRING,
        ignore_case: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller gives two valid strings.
        let (left, right) = unsafe { (units(left), units(right)) };
        (utf16::compare(left, right, ignore_case != 0) == Ordering::Equal).into()
    }

    /// *RtlAppendUnicodeStringToString function (wdm.h)*: STATUS_BUFFER_TOO_SMALL and unchanged where it does not fit.
    pub unsafe extern "win64" fn RtlAppendUnicodeStringToString(
        destination: *mut UNICODE_STRING,
        source: *const UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the caller gives two valid strings.
        unsafe { append(destination, units(source)) }
    }

    /// *RtlAppendUnicodeToString function (wdm.h)*: the same for a terminated source, which may be null.
    pub unsafe extern "win64" fn RtlAppendUnicodeToString(
        destination: *mut UNICODE_STRING,
        source: *const u16,
    ) -> NTSTATUS {
        if source.is_null() {
            return STATUS_SUCCESS;
        }
        // SAFETY: the caller gives a valid string and a terminated one.
        unsafe { append(destination, terminated(source)) }
    }

    /// *RtlIntegerToUnicodeString function (wdm.h)*: base 0 is 10; 2, 8, 10 and 16 are allowed. STATUS_BUFFER_OVERFLOW where digits and
    /// terminator do not fit.
    pub unsafe extern "win64" fn RtlIntegerToUnicodeString(
        value: u32,
        base: u32,
        destination: *mut UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid string.
        unsafe { write_number(value.into(), base, destination) }
    }

    /// *RtlInt64ToUnicodeString function (wdm.h)*: the same for 64 bits.
    pub unsafe extern "win64" fn RtlInt64ToUnicodeString(
        value: u64,
        base: u32,
        destination: *mut UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid string.
        unsafe { write_number(value, base, destination) }
    }

    /// *RtlUnicodeStringToAnsiString function (wdm.h)*: what Latin-1 lacks becomes a question mark.
    pub unsafe extern "win64" fn RtlUnicodeStringToAnsiString(
        destination: *mut ANSI_STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller gives two valid strings, the destination's contents only where nothing is to be allocated.
        let (source, destination) = unsafe { (units(source), &mut *destination) };
        let room = source.len() + 1;
        if room > 0xFFFF {
            return STATUS_NAME_TOO_LONG;
        }
        if allocate != 0 {
            let Some(buffer) = pool::allocate_zeroed(room, *b"Strg") else { return STATUS_NO_MEMORY };
            *destination = STRING { Length: 0, MaximumLength: room as u16, Buffer: buffer.as_ptr() };
        } else if room > destination.MaximumLength.into() {
            return STATUS_BUFFER_OVERFLOW;
        }
        let narrow = source.iter().map(|&unit| u8::try_from(unit).unwrap_or(b'?'));
        for (index, byte) in narrow.chain(core::iter::once(0)).enumerate() {
            // SAFETY: `room` bytes fit the buffer.
            unsafe { destination.Buffer.add(index).write(byte) };
        }
        destination.Length = source.len() as u16;
        STATUS_SUCCESS
    }

    /// *RtlAnsiStringToUnicodeString function (wdm.h)*: the code page is Latin-1.
    pub unsafe extern "win64" fn RtlAnsiStringToUnicodeString(
        destination: *mut UNICODE_STRING,
        source: *const ANSI_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: as above.
        let (source, destination) = unsafe { (bytes(source), &mut *destination) };
        let room = (source.len() + 1) * 2;
        if room > MAX_BYTES {
            return STATUS_NAME_TOO_LONG;
        }
        if allocate != 0 {
            let Some(buffer) = pool::allocate_zeroed(room, *b"Strg") else { return STATUS_NO_MEMORY };
            *destination =
                UNICODE_STRING { Length: 0, MaximumLength: room as u16, Buffer: buffer.as_ptr().cast() };
        } else if room > destination.MaximumLength.into() {
            return STATUS_BUFFER_OVERFLOW;
        }
        for (index, &byte) in source.iter().chain(core::iter::once(&0)).enumerate() {
            // SAFETY: `room` bytes fit the buffer.
            unsafe { destination.Buffer.add(index).write(byte.into()) };
        }
        destination.Length = (source.len() * 2) as u16;
        STATUS_SUCCESS
    }

    /// *RtlFreeUnicodeString function (wdm.h)*: for what a conversion allocated.
    pub unsafe extern "win64" fn RtlFreeUnicodeString(string: *mut UNICODE_STRING) {
        // SAFETY: the caller gives a valid string.
        let string = unsafe { &mut *string };
        if !string.Buffer.is_null() {
            pool::free(string.Buffer.addr(), 0);
            *string = UNICODE_STRING::EMPTY;
        }
    }

    /// *RtlFreeAnsiString function (wdm.h)*: for what a conversion allocated.
    pub unsafe extern "win64" fn RtlFreeAnsiString(string: *mut ANSI_STRING) {
        // SAFETY: the caller gives a valid string.
        let string = unsafe { &mut *string };
        if !string.Buffer.is_null() {
            pool::free(string.Buffer.addr(), 0);
            *string = STRING { Length: 0, MaximumLength: 0, Buffer: core::ptr::null_mut() };
        }
    }
}

kernel_test! {
    fn strings_grow_within_their_buffer_and_no_further() {
        let mut buffer = [0xFFFFu16; 8];
        let mut text = UNICODE_STRING { Length: 0, MaximumLength: 16, Buffer: buffer.as_mut_ptr() };
        let mut source = UNICODE_STRING::EMPTY;
        let hello: alloc::vec::Vec<u16> = "Hello\0".encode_utf16().collect();
        // SAFETY: every pointer leads to a local of the right kind.
        unsafe {
            RtlInitUnicodeString(&raw mut source, hello.as_ptr());
            check!(source.Length == 10 && source.MaximumLength == 12);
            RtlCopyUnicodeString(&raw mut text, &raw const source);
            check!(text.units() == &hello[..5] && text.Buffer.add(5).read() == 0);
            check!(RtlAppendUnicodeStringToString(&raw mut text, &raw const source) == STATUS_BUFFER_TOO_SMALL);
            check!(text.Length == 10);
            check!(RtlIntegerToUnicodeString(0xBEEF, 16, &raw mut text) == STATUS_SUCCESS);
            check!(text.units().iter().eq("BEEF".encode_utf16().collect::<alloc::vec::Vec<_>>().iter()));
            check!(RtlIntegerToUnicodeString(u32::MAX, 2, &raw mut text) == STATUS_BUFFER_OVERFLOW);
            text.MaximumLength = 8;
            check!(RtlIntegerToUnicodeString(0xBEEF, 16, &raw mut text) == STATUS_BUFFER_OVERFLOW);
        }
    }

    fn strings_convert_both_ways() {
        let mut wide = UNICODE_STRING::EMPTY;
        let mut narrow = STRING { Length: 0, MaximumLength: 0, Buffer: core::ptr::null_mut() };
        let mut again = UNICODE_STRING::EMPTY;
        // SAFETY: every pointer leads to a local of the right kind; what is allocated is freed.
        unsafe {
            RtlInitAnsiString(&raw mut narrow, c"caf\xE9".as_ptr().cast());
            check!(RtlAnsiStringToUnicodeString(&raw mut wide, &raw const narrow, 1) == STATUS_SUCCESS);
            check!(wide.units() == [0x63, 0x61, 0x66, 0xE9]);
            check!(RtlUnicodeStringToAnsiString(&raw mut narrow, &raw const wide, 1) == STATUS_SUCCESS);
            check!(RtlAnsiStringToUnicodeString(&raw mut again, &raw const narrow, 1) == STATUS_SUCCESS);
            check!(RtlEqualUnicodeString(&raw const wide, &raw const again, 0) == 1);
            RtlFreeAnsiString(&raw mut narrow);
            RtlFreeUnicodeString(&raw mut wide);
            RtlFreeUnicodeString(&raw mut again);
            check!(wide.Buffer.is_null());
        }
    }
}
