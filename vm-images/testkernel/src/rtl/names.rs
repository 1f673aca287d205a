//! More of counted strings: case, prefixes, numbers, hashes, and GUIDs as text.

use squall_testkernel_pure::utf16;

use super::string::RtlInitUnicodeString;
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, GUID, NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY,
    STATUS_SUCCESS, TRUE, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// `HASH_STRING_ALGORITHM_X65599`, which is also the default (0).
const X65599: u32 = 1;

/// # Safety
/// `string` must lead to a valid counted string.
unsafe fn units<'a>(string: *const UNICODE_STRING) -> &'a [u16] {
    // SAFETY: the caller's contract.
    unsafe { (*string).units() }
}

/// The number at the beginning of `text` after blanks: sign, then `0x`, `0o` or `0b` where no base is given, digits.
fn number(text: &[u16], base: u32) -> Option<u32> {
    let ascii = |unit: &u16| char::from_u32(u32::from(*unit)).unwrap_or('\u{FFFD}');
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first > u16::from(b' ') {
            break;
        }
        rest = after;
    }
    let negative = rest.first() == Some(&u16::from(b'-'));
    if let Some((first, after)) = rest.split_first()
        && matches!(ascii(first), '-' | '+')
    {
        rest = after;
    }
    let mut base = base;
    if base == 0 {
        base = 10;
        if let [zero, letter, after @ ..] = rest
            && *zero == u16::from(b'0')
            && let Some(named) = match ascii(letter) {
                'x' => Some(16),
                'o' => Some(8),
                'b' => Some(2),
                _ => None,
            }
        {
            (base, rest) = (named, after);
        }
    }
    if ![2, 8, 10, 16].contains(&base) {
        return None;
    }
    let digits = rest.iter().map_while(|unit| ascii(unit).to_digit(base));
    let value = digits.fold(0u32, |value, digit| value.wrapping_mul(base).wrapping_add(digit));
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Parses `{8-4-4-4-12}`.
fn parse_guid(text: &[u16]) -> Option<GUID> {
    const DASHES: [usize; 4] = [9, 14, 19, 24];
    if text.len() != 38 || text[0] != u16::from(b'{') || text[37] != u16::from(b'}') {
        return None;
    }
    let mut nibbles = [0u8; 32];
    let mut filled = 0;
    for (index, &unit) in text.iter().enumerate().take(37).skip(1) {
        if DASHES.contains(&index) {
            if unit != u16::from(b'-') {
                return None;
            }
            continue;
        }
        nibbles[filled] = char::from_u32(unit.into())?.to_digit(16)? as u8;
        filled += 1;
    }
    let number = |range: core::ops::Range<usize>| {
        nibbles[range].iter().fold(0u32, |value, &nibble| value << 4 | u32::from(nibble))
    };
    let mut tail = [0; 8];
    for (index, byte) in tail.iter_mut().enumerate() {
        *byte = number(16 + 2 * index..18 + 2 * index) as u8;
    }
    Some(GUID { Data1: number(0..8), Data2: number(8..12) as u16, Data3: number(12..16) as u16, Data4: tail })
}

/// Converts a string unit by unit, into the destination's buffer or a new one.
///
/// # Safety
/// Two valid strings; the destination's contents only where nothing is allocated.
unsafe fn convert(
    destination: *mut UNICODE_STRING,
    source: *const UNICODE_STRING,
    allocate: BOOLEAN,
    through: fn(u16) -> u16,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        let source = units(source);
        let bytes = source.len() * 2;
        let destination = &mut *destination;
        if allocate != 0 {
            let Some(buffer) = pool::allocate_zeroed(bytes.max(2), *b"Strg") else { return STATUS_NO_MEMORY };
            *destination =
                UNICODE_STRING { Length: 0, MaximumLength: bytes as u16, Buffer: buffer.as_ptr().cast() };
        } else if bytes > destination.MaximumLength.into() {
            return STATUS_BUFFER_OVERFLOW;
        }
        for (index, &unit) in source.iter().enumerate() {
            destination.Buffer.add(index).write(through(unit));
        }
        destination.Length = bytes as u16;
    }
    STATUS_SUCCESS
}

export! {
    /// *RtlUpcaseUnicodeChar function (ntifs.h)*: Latin letters.
    pub unsafe extern "win64" fn RtlUpcaseUnicodeChar(unit: u16) -> u16 {
        utf16::upcase(unit)
    }

    /// *RtlDowncaseUnicodeChar function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlDowncaseUnicodeChar(unit: u16) -> u16 {
        utf16::downcase(unit)
    }

    /// *RtlUpperChar function (ntifs.h)*: one byte, ASCII.
    pub unsafe extern "win64" fn RtlUpperChar(character: u8) -> u8 {
        character.to_ascii_uppercase()
    }

    /// *RtlUpcaseUnicodeString function (wdm.h)*: into the destination's buffer or, where asked for, one that
    /// RtlFreeUnicodeString frees.
    pub unsafe extern "win64" fn RtlUpcaseUnicodeString(
        destination: *mut UNICODE_STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the same contract.
        unsafe { convert(destination, source, allocate, utf16::upcase) }
    }

    /// *RtlDowncaseUnicodeString function (wdm.h)*: the other way.
    pub unsafe extern "win64" fn RtlDowncaseUnicodeString(
        destination: *mut UNICODE_STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the same contract.
        unsafe { convert(destination, source, allocate, utf16::downcase) }
    }

    /// *RtlPrefixUnicodeString function (ntifs.h)*: whether `string` begins with `prefix`.
    pub unsafe extern "win64" fn RtlPrefixUnicodeString(
        prefix: *const UNICODE_STRING,
        string: *const UNICODE_STRING,
        ignore_case: BOOLEAN,
    ) -> BOOLEAN {
        // SAFETY: the caller gives two valid strings.
        let (prefix, string) = unsafe { (units(prefix), units(string)) };
        let begins = string
            .get(..prefix.len())
            .is_some_and(|start| utf16::compare(start, prefix, ignore_case != 0).is_eq());
        if begins { TRUE } else { FALSE }
    }

    /// *RtlUnicodeStringToInteger function (wdm.h)*: what follows the digits is ignored; STATUS_INVALID_PARAMETER for a
    /// base that is not 0, 2, 8, 10 or 16.
    pub unsafe extern "win64" fn RtlUnicodeStringToInteger(
        string: *const UNICODE_STRING,
        base: u32,
        value: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid string and storage for the number.
        unsafe {
            let Some(found) = number(units(string), base) else { return STATUS_INVALID_PARAMETER };
            value.write(found);
        }
        STATUS_SUCCESS
    }

    /// *RtlHashUnicodeString function (wdm.h)*: the x65599 algorithm, which is the default.
    pub unsafe extern "win64" fn RtlHashUnicodeString(
        string: *const UNICODE_STRING,
        ignore_case: BOOLEAN,
        algorithm: u32,
        value: *mut u32,
    ) -> NTSTATUS {
        if string.is_null() || value.is_null() || algorithm > X65599 {
            return STATUS_INVALID_PARAMETER;
        }
        let folded = |unit: u16| if ignore_case != 0 { utf16::upcase(unit) } else { unit };
        // SAFETY: the caller gives a valid string and storage for the value.
        unsafe {
            let hash = units(string).iter().fold(0u32, |hash, &unit| {
                hash.wrapping_mul(65599).wrapping_add(folded(unit).into())
            });
            value.write(hash);
        }
        STATUS_SUCCESS
    }

    /// *RtlGUIDFromString function (wdm.h)*: `{8-4-4-4-12}` in hexadecimal digits.
    pub unsafe extern "win64" fn RtlGUIDFromString(string: *const UNICODE_STRING, guid: *mut GUID) -> NTSTATUS {
        // SAFETY: the caller gives a valid string and storage for the GUID.
        unsafe {
            let Some(parsed) = parse_guid(units(string)) else { return STATUS_INVALID_PARAMETER };
            guid.write(parsed);
        }
        STATUS_SUCCESS
    }

    /// *RtlStringFromGUID function (wdm.h)*: in a buffer that RtlFreeUnicodeString frees.
    pub unsafe extern "win64" fn RtlStringFromGUID(guid: *const GUID, string: *mut UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller gives a GUID and storage for the string.
        unsafe {
            let GUID { Data1, Data2, Data3, Data4: tail } = guid.read();
            let [a, b, rest @ ..] = tail;
            let mut text = alloc::format!("{{{Data1:08X}-{Data2:04X}-{Data3:04X}-{a:02X}{b:02X}-");
            rest.iter().for_each(|byte| text.push_str(&alloc::format!("{byte:02X}")));
            text.push('}');
            let units = utf16::encode(&text);
            let Some(buffer) = pool::allocate_zeroed((units.len() + 1) * 2, *b"Strg") else {
                return STATUS_NO_MEMORY;
            };
            let buffer = buffer.as_ptr().cast::<u16>();
            units.as_ptr().copy_to_nonoverlapping(buffer, units.len());
            RtlInitUnicodeString(string, buffer);
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *RtlUnicodeStringToInteger function*: base 0 takes it from the prefix; a sign may come first.
    fn numbers_hashes_and_prefixes_of_strings() {
        let counted = |units: &[u16]| UNICODE_STRING {
            Length: (units.len() * 2) as u16,
            MaximumLength: (units.len() * 2) as u16,
            Buffer: units.as_ptr().cast_mut(),
        };
        for (text, base, expected) in
            [("0x1F", 0, 0x1F), ("  -12z", 10, 12u32.wrapping_neg()), ("0b101", 0, 5), ("777", 8, 0o777), ("", 0, 0)]
        {
            let units = utf16::encode(text);
            let string = counted(&units);
            let mut value = 0;
            // SAFETY: locals of the right kind.
            unsafe {
                check!(RtlUnicodeStringToInteger(&raw const string, base, &raw mut value) == STATUS_SUCCESS);
                check!(value == expected);
                check!(RtlUnicodeStringToInteger(&raw const string, 7, &raw mut value) == STATUS_INVALID_PARAMETER);
            }
        }
        let (long, short) = (utf16::encode(r"\Device\Card0"), utf16::encode(r"\DEVICE"));
        let (long, short) = (counted(&long), counted(&short));
        let (mut one, mut other, mut upper) = (0, 0, UNICODE_STRING::EMPTY);
        // SAFETY: locals of the right kind; what is allocated is freed.
        unsafe {
            check!(RtlPrefixUnicodeString(&raw const short, &raw const long, 1) == TRUE);
            check!(RtlPrefixUnicodeString(&raw const short, &raw const long, 0) == FALSE);
            check!(RtlUpcaseUnicodeString(&raw mut upper, &raw const long, 1) == STATUS_SUCCESS);
            check!(utf16::display(upper.units()) == r"\DEVICE\CARD0");
            check!(RtlHashUnicodeString(&raw const long, 1, 0, &raw mut one) == STATUS_SUCCESS);
            check!(RtlHashUnicodeString(&raw const upper, 0, 1, &raw mut other) == STATUS_SUCCESS && one == other);
            super::string::RtlFreeUnicodeString(&raw mut upper);
        }
    }

    /// *RtlGUIDFromString function*, *RtlStringFromGUID function*: the two are each other's inverse.
    fn a_guid_becomes_text_and_the_same_guid_again() {
        let text = utf16::encode("{01234567-89AB-CDEF-0123-456789ABCDEF}");
        let length = (text.len() * 2) as u16;
        let mut string = UNICODE_STRING { Length: length, MaximumLength: length, Buffer: text.as_ptr().cast_mut() };
        let mut guid = GUID { Data1: 0, Data2: 0, Data3: 0, Data4: [0; 8] };
        let mut again = UNICODE_STRING::EMPTY;
        // SAFETY: locals of the right kind; what is allocated is freed.
        unsafe {
            check!(RtlGUIDFromString(&raw const string, &raw mut guid) == STATUS_SUCCESS);
            check!(guid.Data1 == 0x0123_4567 && guid.Data3 == 0xCDEF && guid.Data4[7] == 0xEF);
            check!(RtlStringFromGUID(&raw const guid, &raw mut again) == STATUS_SUCCESS);
            check!(again.units() == text);
            super::string::RtlFreeUnicodeString(&raw mut again);
            string.Length -= 2;
            check!(RtlGUIDFromString(&raw const string, &raw mut guid) == STATUS_INVALID_PARAMETER);
        }
    }
}
