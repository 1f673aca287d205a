//! Strings between Rust's and the kernel's.

use alloc::{string::String, vec, vec::Vec};

use wdk_sys::{
    ANSI_STRING, NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_SUCCESS, UNICODE_STRING,
    ntddk::{
        RtlAnsiStringToUnicodeString, RtlCompareUnicodeString, RtlIntegerToUnicodeString,
        RtlUnicodeStringToAnsiString, RtlUnicodeStringToInteger,
    },
};

use crate::check::{Suite, holds, rule};

/// A string of Rust's as the kernel takes it. Neither moves while `units` is borrowed.
pub(crate) fn counted(units: &mut [u16]) -> UNICODE_STRING {
    let bytes = size_of_val(units).min(0xFFFE) as u16;
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_mut_ptr() }
}

/// The characters of `text`.
pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

pub(crate) fn rules(suite: &mut Suite) {
    rule!(
        suite,
        "RtlUnicodeStringToAnsiString function",
        "writes into the caller's buffer, and says when it is too small",
        |rule| {
            let mut units = wide(r"\Device\Rust");
            let from = counted(&mut units);
            let mut room = vec![0u8; 64];
            let mut to = ANSI_STRING { Length: 0, MaximumLength: 64, Buffer: room.as_mut_ptr().cast() };
            // SAFETY: both strings are ours, with room for what they say.
            let status: NTSTATUS = unsafe { RtlUnicodeStringToAnsiString(&mut to, &from, 0) };
            holds!(rule, status == STATUS_SUCCESS && to.Length == 12);
            holds!(rule, room.starts_with(b"\\Device\\Rust\0"));
            let mut to = ANSI_STRING { Length: 0, MaximumLength: 5, Buffer: room.as_mut_ptr().cast() };
            // SAFETY: as above.
            let status = unsafe { RtlUnicodeStringToAnsiString(&mut to, &from, 0) };
            holds!(rule, status == STATUS_BUFFER_OVERFLOW);
        }
    );

    rule!(
        suite,
        "RtlAnsiStringToUnicodeString function",
        "what comes back is what String makes of it",
        |rule| {
            let mut bytes = *b"Squall 0123456789";
            let mut from = ANSI_STRING { Length: 17, MaximumLength: 17, Buffer: bytes.as_mut_ptr().cast() };
            let mut room = vec![0u16; 32];
            let mut to = UNICODE_STRING { Length: 0, MaximumLength: 64, Buffer: room.as_mut_ptr() };
            // SAFETY: both strings are ours, with room for what they say.
            let status = unsafe { RtlAnsiStringToUnicodeString(&mut to, &mut from, 0) };
            holds!(rule, status == STATUS_SUCCESS && to.Length == 34);
            holds!(
                rule,
                String::from_utf16_lossy(room.split(|unit| *unit == 0).next().unwrap_or(&[])).as_bytes()
                    == bytes
            );
        }
    );

    rule!(
        suite,
        "RtlIntegerToUnicodeString function",
        "digits that RtlUnicodeStringToInteger and Rust read back",
        |rule| {
            for number in [0, 7, 255, 4_294_967_295u32] {
                let mut room = vec![0u16; 40];
                let mut digits = UNICODE_STRING { Length: 0, MaximumLength: 80, Buffer: room.as_mut_ptr() };
                let mut back = !number;
                // SAFETY: the string and the number are ours.
                let (made, read) = unsafe {
                    (
                        RtlIntegerToUnicodeString(number, 10, &mut digits),
                        RtlUnicodeStringToInteger(&digits, 10, &mut back),
                    )
                };
                holds!(rule, made == STATUS_SUCCESS && read == STATUS_SUCCESS && back == number);
                let text =
                    String::from_utf16_lossy(room.get(..usize::from(digits.Length) / 2).unwrap_or(&[]));
                holds!(rule, text.parse() == Ok(number));
            }
        }
    );

    rule!(
        suite,
        "RtlCompareUnicodeString function",
        "has the sign of Rust's own comparison of the units",
        |rule| {
            let words = ["alpha", "Alpha", "alphabet", "beta", ""];
            for one in words {
                for other in words {
                    let (mut one_units, mut other_units) = (wide(one), wide(other));
                    let expected = one_units.cmp(&other_units) as i32;
                    // SAFETY: both strings are ours.
                    let order = unsafe {
                        RtlCompareUnicodeString(&counted(&mut one_units), &counted(&mut other_units), 0)
                    };
                    holds!(rule, order.signum() == expected);
                }
            }
        }
    );
}
