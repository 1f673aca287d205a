//! Finds the messages in a stream of bytes.
//!
//! A message is one JSON object; QEMU's own agent finds its end by counting braces, and so does this one, so that a
//! client may or may not send newlines. The byte 0xFF, which no JSON text contains, discards whatever came before
//! it: a client that finds a stranger's half-sent command on the line begins with it.

use alloc::vec::Vec;

/// The longest message. What does not fit is skipped to its end and reported once.
pub const MAX_MESSAGE: usize = 1 << 20;

/// What most messages fit into.
const USUAL_MESSAGE: usize = 256;

/// What the stream held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The text of one object, not yet parsed.
    Message(Vec<u8>),
    /// An object longer than [`MAX_MESSAGE`].
    TooLong,
    /// Bytes outside any object, up to the end of their line.
    Garbage,
}

/// Collects bytes until they make a frame.
#[derive(Default)]
pub struct Framer {
    message: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    too_long: bool,
    garbage: bool,
}

impl Framer {
    /// Whether a message has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }

    /// Takes one byte; gives the frame that it ends, if any.
    pub fn push(&mut self, byte: u8) -> Option<Frame> {
        if byte == 0xFF {
            *self = Self::default();
            return None;
        }
        if self.depth == 0 {
            return self.between(byte);
        }
        if self.message.len() < MAX_MESSAGE {
            self.message.push(byte);
        } else {
            self.too_long = true;
        }
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return None;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if self.depth > 0 {
            return None;
        }
        let Self { message, too_long, .. } = core::mem::take(self);
        Some(if too_long { Frame::TooLong } else { Frame::Message(message) })
    }

    fn between(&mut self, byte: u8) -> Option<Frame> {
        match byte {
            b'{' => {
                self.garbage = false;
                self.message.reserve(USUAL_MESSAGE);
                self.message.push(byte);
                self.depth = 1;
                None
            }
            b'\n' => core::mem::take(&mut self.garbage).then_some(Frame::Garbage),
            byte => {
                self.garbage |= !byte.is_ascii_whitespace();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let mut framer = Framer::default();
        bytes.iter().filter_map(|&byte| framer.push(byte)).collect()
    }

    fn message(text: &str) -> Frame {
        Frame::Message(text.as_bytes().to_vec())
    }

    #[test]
    fn objects_end_where_their_braces_do() {
        let two = frames(b"{\"a\":{\"b\":[1,2]}}\n  {\"c\":\"}\\\"{\"}");
        assert_eq!(two, [message(r#"{"a":{"b":[1,2]}}"#), message(r#"{"c":"}\"{"}"#)]);
    }

    #[test]
    fn the_sentinel_discards_what_came_before() {
        assert_eq!(frames(b"{\"half\":\"\xFF{\"whole\":1}"), [message(r#"{"whole":1}"#)]);
    }

    #[test]
    fn garbage_is_reported_once_a_line() {
        assert_eq!(frames(b"hello there\n\n]]\n{}\n"), [Frame::Garbage, Frame::Garbage, message("{}")]);
    }

    #[test]
    fn a_message_without_bounds_is_skipped_and_costs_no_memory() {
        let mut framer = Framer::default();
        framer.push(b'{');
        for _ in 0..2 * MAX_MESSAGE {
            assert_eq!(framer.push(b'x'), None);
        }
        assert!(framer.message.len() <= MAX_MESSAGE);
        assert_eq!(framer.push(b'}'), Some(Frame::TooLong));
        assert_eq!(framer.push(b'{').or(framer.push(b'}')), Some(message("{}")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_and_a_sentinel_always_recovers(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut framer = Framer::default();
            for byte in bytes {
                framer.push(byte);
            }
            framer.push(0xFF);
            prop_assert_eq!(framer.push(b'{'), None);
            prop_assert_eq!(framer.push(b'}'), Some(message("{}")));
        }
    }
}
