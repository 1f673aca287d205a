//! Which accesses the window answers, and which bytes of a register they touch.
//!
//! A bus of 32 bits has four byte enables. A narrow access turns on the lanes of the bytes that it names: a
//! read takes those bytes out of the register, a write changes only them.

use squall_registers::{Register, WINDOW_LEN};
use thiserror::Error;

/// An access that the window answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    offset: u16,
    size: u8,
}

/// An access of a size or alignment that the window does not answer, or beyond its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "an access of {size} bytes at offset {offset:#x} is not 1, 2 or 4 bytes, naturally aligned, in the window"
)]
pub struct Refused {
    /// Where, in bytes from the start of the window.
    pub offset: u64,
    /// How wide, in bytes.
    pub size: u32,
}

impl Access {
    /// The access of `size` bytes at `offset`.
    ///
    /// # Errors
    /// [`Refused`] where the window does not answer it.
    pub fn new(offset: u64, size: u32) -> Result<Self, Refused> {
        let refused = Refused { offset, size };
        let width = match size {
            1 | 2 | 4 => size as u8,
            _ => return Err(refused),
        };
        // A mask and not a remainder: every access of the guest's comes by here, and a division takes as long as all else.
        if offset >= u64::from(WINDOW_LEN) || offset & u64::from(width - 1) != 0 {
            return Err(refused);
        }
        Ok(Self { offset: offset as u16, size: width })
    }

    /// Where the access begins, in bytes from the start of the window.
    #[must_use]
    pub const fn offset(self) -> u16 {
        self.offset
    }

    /// How wide the access is: 1, 2 or 4 bytes.
    #[must_use]
    pub const fn size(self) -> u8 {
        self.size
    }

    /// The register that the access falls into, or `None` where the window is reserved.
    #[must_use]
    pub const fn register(self) -> Option<Register> {
        Register::at(self.offset & !3)
    }

    /// Whether the access touches byte 0 of its register.
    #[must_use]
    pub const fn has_low_byte(self) -> bool {
        self.offset & 3 == 0
    }

    /// The accessed bytes of a register that holds `register`.
    #[must_use]
    pub const fn extract(self, register: u32) -> u32 {
        (register >> self.shift()) & self.lane()
    }

    /// The bits that a write of `value` sets in its register: only accessed bytes can be other than 0.
    #[must_use]
    pub const fn place(self, value: u32) -> u32 {
        (value & self.lane()) << self.shift()
    }

    /// The bits of the register that the access covers.
    #[must_use]
    pub const fn mask(self) -> u32 {
        self.lane() << self.shift()
    }

    const fn shift(self) -> u32 {
        (self.offset as u32 & 3) * 8
    }

    const fn lane(self) -> u32 {
        u32::MAX >> (32 - 8 * self.size as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_alignment_is_answered_and_nothing_else() {
        let answered = |size| (0..40).filter(move |&offset| Access::new(offset, size).is_ok()).count();
        assert_eq!([1, 2, 4].map(answered), [32, 16, 8]);
        assert_eq!([0, 3, 8, 16, u32::MAX].map(answered), [0; 5]);
        assert!(Access::new(u64::MAX, 1).is_err());
    }

    #[test]
    fn lanes_follow_the_offset() {
        let high_half = Access::new(0x06, 2).unwrap();
        assert_eq!(high_half.register(), Some(Register::Control));
        assert_eq!(high_half.extract(0xAABB_CCDD), 0xAABB);
        assert_eq!(high_half.place(0xFFFF_1234), 0x1234_0000);
        assert_eq!(high_half.mask(), 0xFFFF_0000);
        assert!(!high_half.has_low_byte());
        assert_eq!(Access::new(0x00, 4).unwrap().mask(), u32::MAX);
    }

    #[test]
    fn a_refusal_says_what_and_where() {
        let text = std::format!("{}", Access::new(0x05, 4).unwrap_err());
        assert!(text.contains("4 bytes at offset 0x5"), "{text}");
    }

    extern crate std;
}
