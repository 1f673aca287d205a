//! The agent's side of the QEMU guest agent protocol, as far as it is only bytes and text.
//!
//! The host sends JSON objects over a serial port and gets one JSON object for each. [`framing`] finds the objects in
//! the stream, [`protocol`] types them, [`files`] is the file system that they reach, [`verbs`] are the command lines
//! of `squall-agent`, [`answers`] what these print, [`finding_kind`] what they can find wrong, and [`archive`] files that come by another way. Whoever holds the other end of the port may send anything:
//! every length is bounded, and what is refused is refused in one line.

pub mod answers;
pub mod archive;
pub mod files;
pub mod finding_kind;
pub mod framing;
pub mod protocol;
pub mod verbs;
