//! Which registers exist, and where.

use crate::WINDOW_LEN;

/// A register of the card. Each is 32 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Register {
    /// Identifies the card: always [`IDENT`](crate::IDENT).
    Ident = 0x00,
    /// Interrupt enable and reset: [`Control`](crate::Control).
    Control = 0x04,
    /// What has happened; writing a 1 clears that bit: [`Status`](crate::Status).
    Status = 0x08,
    /// The oldest sample, which reading byte 0 removes; 0 when there is none.
    FifoData = 0x0C,
    /// How many samples wait.
    FifoLevel = 0x10,
    /// How many samples were produced since reset, modulo 2^32. The n-th sample has the value n, so that a
    /// consumer can tell a lost one.
    Sequence = 0x14,
}

impl Register {
    /// Every register, by offset.
    pub const ALL: [Self; 6] =
        [Self::Ident, Self::Control, Self::Status, Self::FifoData, Self::FifoLevel, Self::Sequence];

    /// The register's offset in the window, in bytes.
    #[must_use]
    pub const fn offset(self) -> u16 {
        self as u16
    }

    /// The register's name, as the map writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ident => "IDENT",
            Self::Control => "CONTROL",
            Self::Status => "STATUS",
            Self::FifoData => "FIFO_DATA",
            Self::FifoLevel => "FIFO_LEVEL",
            Self::Sequence => "SEQUENCE",
        }
    }

    /// The register of that name, or `None`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|register| register.name() == name)
    }

    /// The register whose first byte is at `offset`, or `None` for a reserved or unaligned place.
    #[must_use]
    pub const fn at(offset: u16) -> Option<Self> {
        match offset {
            0x00 => Some(Self::Ident),
            0x04 => Some(Self::Control),
            0x08 => Some(Self::Status),
            0x0C => Some(Self::FifoData),
            0x10 => Some(Self::FifoLevel),
            0x14 => Some(Self::Sequence),
            _ => None,
        }
    }
}

const _: () = assert!(Register::Sequence.offset() + 4 <= WINDOW_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_at_are_inverse() {
        let found: [Option<Register>; 6] = Register::ALL.map(|r| Register::at(r.offset()));
        assert_eq!(found, Register::ALL.map(Some));
    }

    #[test]
    fn name_and_named_are_inverse() {
        assert_eq!(Register::ALL.map(|r| Register::named(r.name())), Register::ALL.map(Some));
        assert_eq!(Register::named("status"), None);
    }

    #[test]
    fn only_aligned_offsets_of_registers_are_registers() {
        let count = (0..=u16::MAX).filter(|&offset| Register::at(offset).is_some()).count();
        assert_eq!(count, Register::ALL.len());
    }
}
