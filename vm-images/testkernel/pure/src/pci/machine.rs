//! A made-up machine: cards of 256 bytes, some of whose bits can be written.

use core::cell::RefCell;

use alloc::vec;
use alloc::vec::Vec;

use super::{Address, Config, Width, register};

pub struct Card {
    bytes: [u8; 256],
    writable: [u8; 256],
}

impl Card {
    fn new(id: u32, class: u32, header: u8) -> Self {
        let mut card = Self { bytes: [0; 256], writable: [0; 256] };
        card.set_long(register::ID, id);
        card.set_long(register::REVISION, class << 8 | 1);
        card.bytes[usize::from(register::HEADER)] = header;
        card.may_write(register::COMMAND, 0x407);
        card.may_write(register::LINE, 0xFF);
        card
    }

    pub fn set_long(&mut self, at: u8, value: u32) {
        let at = usize::from(at);
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn may_write(&mut self, at: u8, mask: u32) {
        let at = usize::from(at);
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }

    fn bar(&mut self, index: u8, kind: u32, mask: u32) {
        self.set_long(register::BASE_ADDRESS + 4 * index, kind);
        self.may_write(register::BASE_ADDRESS + 4 * index, mask);
    }

    /// The project's own card.
    pub fn sampling() -> Self {
        let mut card = Self::new(0x5153_1234, 0x11_8000, 0);
        card.set_long(register::SUBSYSTEM, 0x0001_1234);
        card.bar(0, 0, 0xFFFF_F000);
        card.bar(1, 1, 0xFFFF_FFE0);
        card.bar(2, 0, 0xFFFF_F000);
        card.bytes[usize::from(register::PIN)] = 1;
        card.bytes[usize::from(register::STATUS)] = 0x10;
        card.bytes[usize::from(register::CAPABILITIES)] = 0x40;
        card.set_long(0x40, 0x0003_5011);
        card.set_long(0x44, 2);
        card.set_long(0x50, 0x0080_0005);
        card
    }

    /// 8 GiB behind a wide register, and 16 bytes behind the third.
    pub fn wide() -> Self {
        let mut card = Self::new(0x0001_1234, 0x05_8000, 0);
        card.bar(0, 0b1100, 0);
        card.bar(1, 0, 0xFFFF_FFFE);
        card.bar(2, 0, 0xFFFF_FFF0);
        card
    }

    pub fn bridge() -> Self {
        let mut card = Self::new(0x000C_1B36, 0x06_0400, 1);
        card.may_write(register::BUSES, 0xFF_FFFF);
        card.may_write(register::PORT_WINDOW, 0xF0F0);
        card.may_write(register::MEMORY_WINDOW, 0xFFF0_FFF0);
        card.may_write(register::PREFETCHABLE_WINDOW, 0xFFF0_FFF0);
        card
    }
}

#[derive(Default)]
pub struct Machine(RefCell<Vec<(u8, u8, Card)>>);

impl Machine {
    pub fn new() -> Self {
        Self(RefCell::new(vec![]))
    }

    pub fn with(self, bus: u8, device: u8, card: Card) -> Self {
        self.0.borrow_mut().push((bus, device, card));
        self
    }

    pub fn long(&self, bus: u8, device: u8, register: u8) -> u32 {
        self.read(Address { bus, device, function: 0 }, register, Width::Long)
    }
}

fn bytes_of(width: Width) -> usize {
    match width {
        Width::Byte => 1,
        Width::Word => 2,
        Width::Long => 4,
    }
}

impl Config for Machine {
    fn read(&self, at: Address, register: u8, width: Width) -> u32 {
        let cards = self.0.borrow();
        let found = cards.iter().find(|(b, d, _)| (*b, *d, 0) == (at.bus, at.device, at.function));
        let mut word = [0xFF; 4];
        if let Some((_, _, card)) = found {
            word = [0; 4];
            let from = usize::from(register);
            word[..bytes_of(width)].copy_from_slice(&card.bytes[from..from + bytes_of(width)]);
        }
        u32::from_le_bytes(word)
    }

    fn write(&self, at: Address, register: u8, width: Width, value: u32) {
        let mut cards = self.0.borrow_mut();
        let found = cards.iter_mut().find(|(b, d, _)| (*b, *d, 0) == (at.bus, at.device, at.function));
        let Some((_, _, card)) = found else { return };
        for (index, byte) in value.to_le_bytes().into_iter().take(bytes_of(width)).enumerate() {
            let at = usize::from(register) + index;
            card.bytes[at] = card.bytes[at] & !card.writable[at] | byte & card.writable[at];
        }
    }
}
