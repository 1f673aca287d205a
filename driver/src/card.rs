//! The card's registers, behind their names.

use core::ptr::NonNull;

use squall_registers::{Control, FIFO_DEPTH, IDENT, Register, Status};
use wdk_sys::STATUS_NO_SUCH_DEVICE;

use crate::nt::{port, status::Result};

/// The sampling card at its window of registers. Every access is one instruction, so any IRQL will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Card(Window);

/// Where the registers are.
#[derive(Debug, Clone, Copy)]
enum Window {
    /// In I/O ports, from this one on.
    Ports(u16),
    /// In memory, from this address on.
    Memory(NonNull<u8>),
}

impl Card {
    /// The card whose window of ports begins at `base`.
    ///
    /// # Safety
    ///
    /// The window has been claimed for this driver, and stays so while the value or a copy of it is used.
    pub(crate) const unsafe fn at_port(base: u16) -> Self {
        Self(Window::Ports(base))
    }

    /// The card whose window in memory is mapped at `start`.
    ///
    /// # Safety
    ///
    /// It is, uncached, and stays so while the value or a copy of it is used.
    pub(crate) const unsafe fn at_memory(start: NonNull<u8>) -> Self {
        Self(Window::Memory(start))
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

    /// Samples that wait in the card.
    pub(crate) fn level(self) -> u32 {
        self.read(Register::FifoLevel)
    }

    /// Takes waiting samples, at most a full FIFO of them. One that arrives meanwhile interrupts for itself.
    pub(crate) fn drain(self, mut take: impl FnMut(u32)) {
        for _ in 0..FIFO_DEPTH {
            if self.level() == 0 {
                break;
            }
            take(self.read(Register::FifoData));
        }
    }

    fn read(self, register: Register) -> u32 {
        match self.0 {
            // SAFETY: the window is ours by the contract of `at_port`.
            Window::Ports(base) => unsafe { port::read_u32(base + register.offset()) },
            // SAFETY: the window is mapped by the contract of `at_memory`, and aligned to its length.
            Window::Memory(start) => unsafe { address(start, register).read_volatile() },
        }
    }

    fn write(self, register: Register, value: u32) {
        match self.0 {
            // SAFETY: as in `read`.
            Window::Ports(base) => unsafe { port::write_u32(base + register.offset(), value) },
            // SAFETY: as in `read`.
            Window::Memory(start) => unsafe { address(start, register).write_volatile(value) },
        }
    }
}

/// Where a register is in memory.
fn address(start: NonNull<u8>, register: Register) -> *mut u32 {
    start.as_ptr().wrapping_add(register.offset().into()).cast()
}
