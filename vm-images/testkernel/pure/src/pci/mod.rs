//! PCI: functions on buses, found by asking every place where one could be.
//!
//! A *function* is what a driver calls a device: it answers at one [`Address`] and describes itself in 256 bytes of
//! *configuration space*. Firmware gives each its addresses ([`assign`]) and wires its interrupt pin ([`lines`]);
//! under a firmware that does neither, this is where it is done. What is decided here is tested against made-up
//! machines; how a real one is reached is behind [`Config`].

pub mod assign;
pub mod lines;
#[cfg(test)]
mod machine;
pub mod scan;

/// Where a function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// 0 to 255.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl Address {
    /// What configuration mechanism 1 wants at port 0xCF8 for this `register` (*PCI Local Bus Specification*, 3.2.2.3.2).
    #[must_use]
    pub const fn mechanism_1(self, register: u8) -> u32 {
        1 << 31
            | (self.bus as u32) << 16
            | (self.device as u32 & 0x1F) << 11
            | (self.function as u32 & 7) << 8
            | (register as u32 & 0xFC)
    }

    /// The address whose `PCI_SLOT_NUMBER` on `bus` is `slot`; none where bits are set that it does not have.
    #[must_use]
    pub const fn of_slot(bus: u8, slot: u32) -> Option<Self> {
        if slot > 0xFF {
            return None;
        }
        Some(Self { bus, device: slot as u8 & 0x1F, function: slot as u8 >> 5 })
    }

    /// Its `PCI_SLOT_NUMBER`: five bits of device, then three of function.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.device as u32 | (self.function as u32) << 5
    }
}

/// How wide one access to configuration space is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits, at an even register.
    Word,
    /// 32 bits, at a multiple of four.
    Long,
}

/// A machine's configuration space. Where nobody answers, every bit reads one.
pub trait Config {
    /// Reads a register.
    fn read(&self, at: Address, register: u8, width: Width) -> u32;
    /// Writes a register.
    fn write(&self, at: Address, register: u8, width: Width, value: u32);
}

/// Registers of every function's configuration space, by byte.
pub mod register {
    /// Vendor in the low half, device in the high one.
    pub const ID: u8 = 0x00;
    /// What the function may do on the bus.
    pub const COMMAND: u8 = 0x04;
    /// What it has seen, and whether it has capabilities.
    pub const STATUS: u8 = 0x06;
    /// Revision, then three bytes of class.
    pub const REVISION: u8 = 0x08;
    /// The header's layout; bit 7 says that the device has more functions than one.
    pub const HEADER: u8 = 0x0E;
    /// The first base address.
    pub const BASE_ADDRESS: u8 = 0x10;
    /// Subsystem vendor and device (header 0).
    pub const SUBSYSTEM: u8 = 0x2C;
    /// The first capability.
    pub const CAPABILITIES: u8 = 0x34;
    /// Which line the firmware routed the pin to.
    pub const LINE: u8 = 0x3C;
    /// Which of INTA# to INTD# it uses, from 1; 0 none.
    pub const PIN: u8 = 0x3D;
    /// A bridge's own bus, the one behind it, and the last one behind that.
    pub const BUSES: u8 = 0x18;
    /// What ports a bridge passes on: base and limit.
    pub const PORT_WINDOW: u8 = 0x1C;
    /// What memory a bridge passes on: base and limit.
    pub const MEMORY_WINDOW: u8 = 0x20;
    /// The same for prefetchable memory.
    pub const PREFETCHABLE_WINDOW: u8 = 0x24;
}

/// Bits of [`register::COMMAND`].
pub mod command {
    /// Answers port accesses.
    pub const PORTS: u32 = 1;
    /// Answers memory accesses.
    pub const MEMORY: u32 = 2;
    /// May access memory, and so send messages.
    pub const MASTER: u32 = 4;
    /// Does not use its pin.
    pub const NO_PIN: u32 = 1 << 10;
}

/// What a base address register is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Ports,
    /// Memory, at an address of 32 bits.
    Memory,
    /// Memory, at an address of 64 bits: takes two registers.
    WideMemory,
}

/// A range that a function answers at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Which base address register, 0 to 5.
    pub index: u8,
    /// Of what kind.
    pub space: Space,
    /// Where it is, once it was assigned.
    pub start: Option<u64>,
    /// How long it is, a power of two.
    pub length: u64,
}

/// Message-signalled interrupts: an address and a value in configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msi {
    /// Where the capability is.
    pub at: u8,
    /// The address has 64 bits.
    pub wide: bool,
    /// Each message can be masked.
    pub maskable: bool,
    /// How many messages it can send: 1, 2, 4, ... 32.
    pub messages: u8,
}

/// MSI-X: a table of addresses and values in the function's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiX {
    /// Where the capability is.
    pub at: u8,
    /// How many entries the table has, 1 to 2048.
    pub entries: u16,
    /// Which base address register the table is behind.
    pub bar: u8,
    /// Where in that range.
    pub offset: u32,
}

/// A function, as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Where it answers.
    pub address: Address,
    /// The bridge that it is behind, as an index into the list of functions.
    pub parent: Option<usize>,
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
    /// Its revision.
    pub revision: u8,
    /// Class, subclass, programming interface: the high, middle and low byte of three.
    pub class: u32,
    /// Subsystem vendor and device; 0 for a bridge.
    pub subsystem: (u16, u16),
    /// The bus behind it, where it is a bridge.
    pub secondary: Option<u8>,
    /// What it answers at.
    pub bars: [Option<Bar>; 6],
    /// INTA# is 0; none where it has no pin.
    pub pin: Option<u8>,
    /// MSI, if it has that.
    pub msi: Option<Msi>,
    /// MSI-X, if it has that.
    pub msix: Option<MsiX>,
}

impl Function {
    /// The range behind base address register `index`, where it has one with an address.
    #[must_use]
    pub fn range(&self, index: u8) -> Option<(u64, u64)> {
        let bar = (*self.bars.get(usize::from(index))?)?;
        Some((bar.start?, bar.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_mechanism_and_the_headers_write() {
        let at = Address { bus: 2, device: 31, function: 3 };
        assert_eq!(at.mechanism_1(0x3D), 0x8002_FB3C);
        assert_eq!(at.slot(), 31 | 3 << 5);
        assert_eq!(Address::of_slot(2, at.slot()), Some(at));
        assert_eq!(Address::of_slot(0, 0x100), None);
    }
}
