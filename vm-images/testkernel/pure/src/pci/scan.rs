//! Finding the functions of a machine, and reading what each says of itself.

use alloc::vec::Vec;

use super::{Address, Bar, Config, Function, Msi, MsiX, Space, Width, command, register};

/// More than any machine of ours has; a machine that answers everywhere must not fill the memory.
const MAX_FUNCTIONS: usize = 256;
/// As many buses as have numbers.
const LAST_BUS: u8 = 255;
/// Capabilities lie above the header, four bytes apart at least.
const MAX_CAPABILITIES: usize = (256 - 64) / 4;

const ABSENT: u16 = 0xFFFF;
const MULTIFUNCTION: u32 = 0x80;
const HAS_CAPABILITIES: u32 = 1 << 4;
const BRIDGE_TO_PCI: u32 = 0x0604;

const CAPABILITY_MSI: u32 = 0x05;
const CAPABILITY_MSIX: u32 = 0x11;

/// Every function behind the host bridge, each bridge before what is behind it. Buses are numbered on the way. Base
/// addresses have their lengths, no places yet; nobody answers at any.
pub fn functions(config: &impl Config) -> Vec<Function> {
    let mut found = Vec::new();
    let mut last_bus = 0;
    bus(config, 0, None, &mut last_bus, &mut found);
    found
}

fn bus(
    config: &impl Config,
    number: u8,
    parent: Option<usize>,
    last_bus: &mut u8,
    found: &mut Vec<Function>,
) {
    for device in 0..32 {
        for function in 0..8 {
            let address = Address { bus: number, device, function };
            let Some(description) = describe(config, address, parent) else {
                // Function 0 is always there, where there is any.
                if function == 0 {
                    break;
                }
                continue;
            };
            if found.len() == MAX_FUNCTIONS {
                return;
            }
            found.push(description);
            let header = config.read(address, register::HEADER, Width::Byte);
            if description.class >> 8 == BRIDGE_TO_PCI && *last_bus < LAST_BUS {
                let index = found.len() - 1;
                *last_bus += 1;
                let secondary = *last_bus;
                // Everything further on is behind it until it is known how much that is.
                let buses = |last: u8| u32::from(number) | u32::from(secondary) << 8 | u32::from(last) << 16;
                config.write(address, register::BUSES, Width::Long, buses(LAST_BUS));
                bus(config, secondary, Some(index), last_bus, found);
                config.write(address, register::BUSES, Width::Long, buses(*last_bus));
                if let Some(bridge) = found.get_mut(index) {
                    bridge.secondary = Some(secondary);
                }
            }
            if function == 0 && header & MULTIFUNCTION == 0 {
                break;
            }
        }
    }
}

fn describe(config: &impl Config, at: Address, parent: Option<usize>) -> Option<Function> {
    let id = config.read(at, register::ID, Width::Long);
    if id as u16 == ABSENT {
        return None;
    }
    let class = config.read(at, register::REVISION, Width::Long);
    let is_bridge = config.read(at, register::HEADER, Width::Byte) & !MULTIFUNCTION != 0;
    let subsystem = if is_bridge { 0 } else { config.read(at, register::SUBSYSTEM, Width::Long) };
    let pin = config.read(at, register::PIN, Width::Byte);
    let mut function = Function {
        address: at,
        parent,
        vendor: id as u16,
        device: (id >> 16) as u16,
        revision: class as u8,
        class: class >> 8,
        subsystem: (subsystem as u16, (subsystem >> 16) as u16),
        secondary: None,
        bars: bars(config, at, if is_bridge { 2 } else { 6 }),
        pin: matches!(pin, 1..=4).then(|| pin as u8 - 1),
        msi: None,
        msix: None,
    };
    capabilities(config, &mut function);
    Some(function)
}

/// Asks how long each range is: the bits of an address that cannot be set are the length's.
fn bars(config: &impl Config, at: Address, count: u8) -> [Option<Bar>; 6] {
    let mut bars = [None; 6];
    // While all ones stand where addresses do, nobody may answer there.
    let before = config.read(at, register::COMMAND, Width::Word);
    config.write(at, register::COMMAND, Width::Word, before & !(command::PORTS | command::MEMORY));
    let mask = |index: u8| {
        let register = register::BASE_ADDRESS + 4 * index;
        let before = config.read(at, register, Width::Long);
        config.write(at, register, Width::Long, u32::MAX);
        let mask = config.read(at, register, Width::Long);
        config.write(at, register, Width::Long, before);
        mask
    };
    let mut index = 0;
    while index < count {
        let low = mask(index);
        let (space, bits) = match low & 0b111 {
            _ if low & 1 != 0 => (Space::Ports, u64::from(low & !0b11 | 0xFFFF_0000) | u64::MAX << 32),
            0b100 if index + 1 < count => {
                (Space::WideMemory, u64::from(low & !0b1111) | u64::from(mask(index + 1)) << 32)
            }
            _ => (Space::Memory, u64::from(low & !0b1111) | u64::MAX << 32),
        };
        let length = (!bits).wrapping_add(1);
        if low != 0 && length.is_power_of_two() {
            bars[usize::from(index)] = Some(Bar { index, space, start: None, length });
        }
        index += if space == Space::WideMemory { 2 } else { 1 };
    }
    bars
}

fn capabilities(config: &impl Config, function: &mut Function) {
    let at = function.address;
    if config.read(at, register::STATUS, Width::Word) & HAS_CAPABILITIES == 0 {
        return;
    }
    let mut next = config.read(at, register::CAPABILITIES, Width::Byte) as u8 & !3;
    // A list that leads in a circle ends all the same.
    for _ in 0..MAX_CAPABILITIES {
        // Those that matter here have more than four bytes.
        if !(0x40..=0xF0).contains(&next) {
            return;
        }
        let header = config.read(at, next, Width::Long);
        let control = header >> 16;
        match header & 0xFF {
            CAPABILITY_MSI => {
                function.msi = Some(Msi {
                    at: next,
                    wide: control & 1 << 7 != 0,
                    maskable: control & 1 << 8 != 0,
                    messages: 1 << (control >> 1 & 7).min(5),
                });
            }
            CAPABILITY_MSIX => {
                let table = config.read(at, next + 4, Width::Long);
                function.msix = Some(MsiX {
                    at: next,
                    entries: (control as u16 & 0x7FF) + 1,
                    bar: (table & 7) as u8,
                    offset: table & !7,
                });
            }
            _ => {}
        }
        next = (header >> 8) as u8 & !3;
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Card, Machine};
    use super::*;

    #[test]
    fn a_card_is_found_with_its_ranges_and_its_interrupts() {
        let machine = Machine::new().with(0, 2, Card::sampling());
        let functions = functions(&machine);
        let [card] = functions.as_slice() else { panic!("{functions:?}") };
        assert_eq!((card.vendor, card.device, card.class), (0x1234, 0x5153, 0x11_8000));
        assert_eq!(card.subsystem, (0x1234, 1));
        let spaces = card.bars.map(|bar| bar.map(|bar| (bar.space, bar.length)));
        let expected = [Some((Space::Memory, 4096)), Some((Space::Ports, 32)), Some((Space::Memory, 4096))];
        assert_eq!(spaces[..3], expected);
        assert_eq!(spaces[3..], [None; 3]);
        assert_eq!(card.pin, Some(0));
        assert_eq!(card.msi, Some(Msi { at: 0x50, wide: true, maskable: false, messages: 1 }));
        assert_eq!(card.msix, Some(MsiX { at: 0x40, entries: 4, bar: 2, offset: 0 }));
    }

    #[test]
    fn a_wide_range_takes_two_registers() {
        let machine = Machine::new().with(0, 3, Card::wide());
        let bars = functions(&machine)[0].bars;
        assert_eq!(bars[0].map(|bar| (bar.space, bar.length)), Some((Space::WideMemory, 1 << 33)));
        assert_eq!(bars[1], None);
        assert_eq!(bars[2].map(|bar| bar.length), Some(16));
    }

    #[test]
    fn buses_are_numbered_behind_bridges() {
        let machine = Machine::new()
            .with(0, 1, Card::bridge())
            .with(1, 0, Card::bridge())
            .with(2, 4, Card::sampling())
            .with(0, 5, Card::bridge())
            .with(3, 0, Card::sampling());
        let functions = functions(&machine);
        let places: Vec<_> = functions.iter().map(|f| (f.address.bus, f.address.device, f.parent)).collect();
        assert_eq!(places, [(0, 1, None), (1, 0, Some(0)), (2, 4, Some(1)), (0, 5, None), (3, 0, Some(3))]);
        assert_eq!(functions[0].secondary, Some(1));
        assert_eq!(machine.long(0, 1, register::BUSES), 0x02_01_00);
        assert_eq!(machine.long(0, 5, register::BUSES), 0x03_03_00);
    }

    #[test]
    fn a_circle_of_capabilities_ends() {
        let mut card = Card::sampling();
        card.set_long(0x50, 0x0080_5005); // MSI, the next one is itself
        let machine = Machine::new().with(0, 2, card);
        assert!(functions(&machine)[0].msi.is_some());
    }

    #[test]
    fn a_machine_that_answers_everywhere_is_not_believed_for_ever() {
        struct Everywhere;
        impl Config for Everywhere {
            fn read(&self, _: Address, _: u8, _: Width) -> u32 {
                0x0604_0604
            }
            fn write(&self, _: Address, _: u8, _: Width, _: u32) {}
        }
        assert!(functions(&Everywhere).len() <= MAX_FUNCTIONS);
    }
}
