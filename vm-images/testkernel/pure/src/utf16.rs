//! Names as NT has them: UTF-16 code units, compared without regard to case.
//!
//! Upper-casing is the simple one-unit-to-one-unit kind. Windows keeps a table of its own for it; Unicode's simple
//! mappings differ from that table only outside the letters that device and registry names are made of.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The upper-case form of one code unit, or the unit itself.
pub fn upcase(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(unit.into()) else { return unit };
    let mut upper = letter.to_uppercase();
    match (upper.next().map(u32::from).map(u16::try_from), upper.next()) {
        (Some(Ok(single)), None) => single,
        _ => unit,
    }
}

/// The lower-case form of one code unit, or the unit itself.
pub fn downcase(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(unit.into()) else { return unit };
    let mut lower = letter.to_lowercase();
    match (lower.next().map(u32::from).map(u16::try_from), lower.next()) {
        (Some(Ok(single)), None) => single,
        _ => unit,
    }
}

/// The upper-case form of a name.
pub fn upcased(name: &[u16]) -> Vec<u16> {
    name.iter().copied().map(upcase).collect()
}

/// Orders two names as `RtlCompareUnicodeString` does: the first unit that differs, else the length.
pub fn compare(left: &[u16], right: &[u16], ignore_case: bool) -> Ordering {
    if ignore_case {
        left.iter().copied().map(upcase).cmp(right.iter().copied().map(upcase))
    } else {
        left.cmp(right)
    }
}

/// Code units of a Rust string.
pub fn encode(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// A name for people: what is not valid UTF-16 shows as a replacement character.
pub fn display(name: &[u16]) -> String {
    String::from_utf16_lossy(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_letter_by_letter() {
        assert_eq!(compare(&encode("Squall\u{e9}"), &encode("SQUALL\u{c9}"), true), Ordering::Equal);
        assert_eq!(compare(&encode("squall"), &encode("SQUALL"), false), Ordering::Greater);
        assert_eq!(compare(&encode("ab"), &encode("abc"), true), Ordering::Less);
    }

    #[test]
    fn what_has_no_single_upper_case_unit_stays() {
        assert_eq!(upcase(u16::from(b'\\')), u16::from(b'\\'));
        assert_eq!(upcase(0xDF), 0xDF, "sharp s would become two letters");
        assert_eq!(upcase(0xD800), 0xD800, "half of a surrogate pair");
        assert_eq!((downcase(0xC9), downcase(0xE9), downcase(0xD800)), (0xE9, 0xE9, 0xD800));
    }
}
