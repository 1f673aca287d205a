//! UTF-8 and UTF-16, one into the other: what makes no sense becomes U+FFFD, and a character goes over whole or not at all.

use alloc::vec::Vec;

/// Something converted.
#[derive(Debug, PartialEq, Eq)]
pub struct Converted<T> {
    /// As much as there was room for.
    pub text: Vec<T>,
    /// Whether something made no sense.
    pub replaced: bool,
    /// Whether there was no room for all.
    pub cut: bool,
}

/// Puts characters one behind the other until the next would be too much.
fn gather<T: Copy>(room: usize, pieces: impl Iterator<Item = (Vec<T>, bool)>) -> Converted<T> {
    let mut converted = Converted { text: Vec::new(), replaced: false, cut: false };
    for (piece, replaced) in pieces {
        if converted.text.len() + piece.len() > room {
            converted.cut = true;
            break;
        }
        converted.text.extend_from_slice(&piece);
        converted.replaced |= replaced;
    }
    converted
}

/// To UTF-16, of at most `room` units.
pub fn decode(bytes: &[u8], room: usize) -> Converted<u16> {
    let characters = bytes.utf8_chunks().flat_map(|chunk| {
        let replacement = (!chunk.invalid().is_empty()).then_some((char::REPLACEMENT_CHARACTER, true));
        chunk.valid().chars().map(|character| (character, false)).chain(replacement)
    });
    let units =
        |(character, replaced): (char, bool)| (character.encode_utf16(&mut [0; 2]).to_vec(), replaced);
    gather(room, characters.map(units))
}

/// To UTF-8, of at most `room` bytes.
pub fn encode(units: &[u16], room: usize) -> Converted<u8> {
    let characters = char::decode_utf16(units.iter().copied()).map(|character| {
        let (character, replaced) =
            character.map_or((char::REPLACEMENT_CHARACTER, true), |character| (character, false));
        (character.encode_utf8(&mut [0; 4]).as_bytes().to_vec(), replaced)
    });
    gather(room, characters)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_goes_over_whole_or_not_at_all() {
        let smile = decode("a\u{1F600}b".as_bytes(), 2);
        assert_eq!(smile, Converted { text: [0x61].into(), replaced: false, cut: true });
        assert_eq!(encode(&[0x61, 0xE4], 2), Converted { text: [0x61].into(), replaced: false, cut: true });
    }

    #[test]
    fn what_makes_no_sense_is_replaced() {
        assert_eq!(decode(b"a\xFFb", 9).text, [0x61, 0xFFFD, 0x62]);
        assert!(decode(b"a\xFFb", 9).replaced && encode(&[0xD800, 0x61], 9).replaced);
        assert_eq!(encode(&[0xD800, 0x61], 9).text, "\u{FFFD}a".as_bytes());
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(text in ".{0,40}") {
            let there = decode(text.as_bytes(), usize::MAX);
            prop_assert!(!there.replaced && !there.cut);
            prop_assert_eq!(encode(&there.text, usize::MAX).text, text.as_bytes());
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..40), room in 0usize..50) {
            prop_assert!(decode(&bytes, room).text.len() <= room);
        }
    }
}
