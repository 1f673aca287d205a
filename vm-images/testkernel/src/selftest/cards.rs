//! Two cards of stock QEMU that interrupt on demand, for the tests.
//!
//! `edu` raises its line, or sends its one message, when its register is written, and copies between memory
//! and a buffer of its own. Of `e1000e`, a network card, only the
//! interrupt causes are used: each is sent as the MSI-X message that a register says. A test that needs a card which
//! the machine lacks says that it was skipped; the bench's machine has both.

use squall_testkernel_pure::pci::Function;

use crate::console::println;
use crate::hal::pci;
use crate::mm;

/// A card's registers, mapped as long as this exists.
pub struct Registers {
    base: *mut u8,
}

impl Registers {
    fn of(function: &Function, bar: u8) -> Option<Self> {
        let (start, length) = function.range(bar)?;
        let base = mm::io::map(start, usize::try_from(length).ok()?, false);
        (!base.is_null()).then_some(Self { base })
    }

    /// The register at `offset`, a multiple of its size.
    fn at<T>(&self, offset: usize) -> *mut T {
        self.base.wrapping_add(offset).cast()
    }

    /// Reads 32 bits.
    pub fn read(&self, offset: usize) -> u32 {
        // SAFETY: the whole range is mapped, and larger than every offset of these cards.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    /// Writes 32 bits.
    pub fn write(&self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).write_volatile(value) };
    }

    /// Writes 64 bits.
    pub fn write_wide(&self, offset: usize, value: u64) {
        // SAFETY: as above.
        unsafe { self.at::<u64>(offset).write_volatile(value) };
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        mm::io::unmap(self.base);
    }
}

/// A card of the machine's.
pub struct Card {
    /// Where it is and what it has.
    pub function: &'static Function,
    /// Its registers.
    pub registers: Registers,
}

impl Card {
    fn find(id: (u16, u16), name: &str) -> Option<Self> {
        let function = pci::functions().iter().find(|function| (function.vendor, function.device) == id);
        let card =
            function.and_then(|function| Some(Self { function, registers: Registers::of(function, 0)? }));
        if card.is_none() {
            println!("skipped: this machine has no {name}");
        }
        card
    }

    /// `-device edu`.
    pub fn edu() -> Option<Self> {
        Self::find((0x1234, 0x11E8), "edu")
    }

    /// `-device e1000e,romfile=`.
    pub fn e1000e() -> Option<Self> {
        Self::find((0x8086, 0x10D3), "e1000e")
    }
}

/// Registers of `edu`.
pub mod edu {
    /// Which causes are raised.
    pub const STATUS: usize = 0x24;
    /// Written: raises these causes.
    pub const RAISE: usize = 0x60;
    /// Written: lowers these causes.
    pub const LOWER: usize = 0x64;
    /// Where a copy begins to read: a physical address, or one of its buffer's.
    pub const COPY_FROM: usize = 0x80;
    /// Where it writes.
    pub const COPY_TO: usize = 0x88;
    /// How many bytes.
    pub const COPY_COUNT: usize = 0x90;
    /// Bit 0 starts, and reads 1 until it is done; bit 1: from the buffer to memory.
    pub const COPY_COMMAND: usize = 0x98;
    /// Its buffer's address, and length.
    pub const BUFFER: (u64, usize) = (0x4_0000, 4096);
}

/// Registers of `e1000e` (*Intel 82574 data sheet*, 10.2.4).
pub mod e1000e {
    /// Causes; written: clears these.
    pub const CAUSES: usize = 0xC0;
    /// Written: sets these causes.
    pub const SET: usize = 0xC8;
    /// Written: enables these.
    pub const ENABLE: usize = 0xD0;
    /// Written: disables these.
    pub const DISABLE: usize = 0xD8;
    /// Which message each of five causes is sent as: four bits each, the fourth says that it is sent.
    pub const MESSAGES: usize = 0xE4;
    /// The cause in the n-th place of [`MESSAGES`].
    pub const fn cause(place: u32) -> u32 {
        1 << (20 + place)
    }
}
