//! The register map of Squall's sampling card.
//!
//! The card takes samples, keeps up to [`FIFO_DEPTH`] of them in a FIFO, and interrupts when one is ready. A
//! driver sees eight registers of 32 bits, little-endian, in a window of [`WINDOW_LEN`] bytes:
//!
//! | offset | register | access | meaning |
//! |---|---|---|---|
//! | 0x00 | [`Register::Ident`] | R | [`IDENT`] |
//! | 0x04 | [`Register::Control`] | RW | [`Control`] |
//! | 0x08 | [`Register::Status`] | R, write 1 to clear | [`Status`] |
//! | 0x0C | [`Register::FifoData`] | R | oldest sample, removed by the read; 0 when empty |
//! | 0x10 | [`Register::FifoLevel`] | R | samples waiting, 0 to [`FIFO_DEPTH`] |
//! | 0x14 | [`Register::Sequence`] | R | samples produced since reset, modulo 2^32 |
//!
//! What is left of the window is reserved: it reads 0 and ignores writes. Accesses of 1, 2 and 4 bytes,
//! naturally aligned, are answered.
//!
//! The interrupt line is high while [`Status::SAMPLE_READY`] and [`Control::IRQ_ENABLE`] are both set. A
//! driver's interrupt routine therefore reads `STATUS`, takes what it wants from the FIFO, and writes back
//! the bits it saw; the routine that silences the card for good clears `IRQ_ENABLE`.
//!
//! This crate is the one statement of these numbers. It has no dependency and no `std`, so that a Windows
//! kernel driver and the emulated hardware can both be built from it.
#![no_std]

mod bits;
mod register;

pub use bits::{Control, Status};
pub use register::Register;

/// What the `IDENT` register reads: `SQLL` in memory order.
pub const IDENT: u32 = u32::from_le_bytes(*b"SQLL");

/// Length of the register window, in bytes. The window is aligned to its length.
pub const WINDOW_LEN: u16 = 32;

/// Samples that the FIFO holds before it drops new ones.
pub const FIFO_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ident_is_the_documented_number() {
        assert_eq!(IDENT, 0x4C4C_5153);
    }
}
