//! The card's registers, behind their names.

use squall_registers::{Control, FIFO_DEPTH, IDENT, Register, Status};
use wdk_sys::STATUS_NO_SUCH_DEVICE;

use crate::{port, status::Result};

/// The sampling card at its window of I/O ports. Every access is one atomic port instruction, so any IRQL will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Card {
    base: u16,
}

impl Card {
    /// The card whose window begins at `base`.
    ///
    /// # Safety
    ///
    /// The window has been claimed for this driver, and stays so while the value or a copy of it is used.
    pub(crate) const unsafe fn at(base: u16) -> Self {
        Self { base }
    }

    /// Makes sure that the card is there.
    pub(crate) fn identify(self) -> Result<()> {
        if self.read(Register::Ident) == IDENT { Ok(()) } else { Err(STATUS_NO_SUCH_DEVICE) }
    }

    /// Back to the state after power-on: silent and empty.
    pub(crate) fn reset(self) {
        self.write(Register::Control, Control::RESET.bits());
    }

    /// From now on a sample interrupts.
    pub(crate) fn enable_interrupts(self) {
        self.write(Register::Control, Control::IRQ_ENABLE.bits());
    }

    /// From now on none does.
    pub(crate) fn disable_interrupts(self) {
        self.write(Register::Control, 0);
    }

    /// What has happened since it was last acknowledged.
    pub(crate) fn status(self) -> Status {
        Status::from_bits(self.read(Register::Status))
    }

    /// Clears these bits; without `SAMPLE_READY` the line falls.
    pub(crate) fn acknowledge(self, seen: Status) {
        self.write(Register::Status, seen.bits());
    }

    /// Takes waiting samples, at most a full FIFO of them. One that arrives meanwhile interrupts for itself.
    pub(crate) fn drain(self, mut take: impl FnMut(u32)) {
        for _ in 0..FIFO_DEPTH {
            if self.read(Register::FifoLevel) == 0 {
                break;
            }
            take(self.read(Register::FifoData));
        }
    }

    fn read(self, register: Register) -> u32 {
        // SAFETY: the window is ours by the contract of `at`.
        unsafe { port::read_u32(self.base + register.offset()) }
    }

    fn write(self, register: Register, value: u32) {
        // SAFETY: the window is ours by the contract of `at`.
        unsafe { port::write_u32(self.base + register.offset(), value) }
    }
}
