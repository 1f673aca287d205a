//! Giving every range of every function its place, as firmware does.
//!
//! Places are taken from the bottom of what is free upwards. A bridge passes on one range of ports and one of memory,
//! so everything behind it is placed together, and a port of PCI Express with nothing behind it gets a little of both
//! all the same. What does not fit stays without a place, and its function does not answer there.

use super::{Config, Function, Space, Width, command, register};

/// Where there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The next free address.
    pub next: u64,
    /// One past the last.
    pub end: u64,
}

impl Room {
    /// Takes `length` bytes at a multiple of `align`, a power of two.
    fn take(&mut self, length: u64, align: u64) -> Option<u64> {
        let start = self.next.checked_next_multiple_of(align)?;
        let next = start.checked_add(length).filter(|&next| next <= self.end)?;
        self.next = next;
        Some(start)
    }
}

/// What the functions of a machine may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rooms {
    /// I/O ports.
    pub ports: Room,
    /// Memory below 4 GiB.
    pub memory: Room,
}

/// What a bridge can pass on comes in pieces of these sizes.
const PORT_PIECE: u64 = 0x1000;
const MEMORY_PIECE: u64 = 0x10_0000;

/// Gives every range a place and lets its function answer there.
pub fn places(config: &impl Config, functions: &mut [Function], rooms: &mut Rooms) {
    on_bus(config, functions, None, rooms);
}

fn on_bus(config: &impl Config, functions: &mut [Function], parent: Option<usize>, rooms: &mut Rooms) {
    for index in 0..functions.len() {
        if functions[index].parent != parent {
            continue;
        }
        function(config, &mut functions[index], rooms);
        if functions[index].secondary.is_some() {
            behind(config, functions, index, rooms);
        }
    }
}

fn function(config: &impl Config, function: &mut Function, rooms: &mut Rooms) {
    let at = function.address;
    let mut answers = 0;
    for bar in function.bars.iter_mut().flatten() {
        let (room, bit) = match bar.space {
            Space::Ports => (&mut rooms.ports, command::PORTS),
            Space::Memory | Space::WideMemory => (&mut rooms.memory, command::MEMORY),
        };
        // Whole pages, so that two functions never share one: a driver maps pages.
        let align = if bar.space == Space::Ports { bar.length } else { bar.length.max(0x1000) };
        bar.start = room.take(bar.length, align);
        let register = register::BASE_ADDRESS + 4 * bar.index;
        config.write(at, register, Width::Long, bar.start.unwrap_or(0) as u32);
        if bar.space == Space::WideMemory {
            config.write(at, register + 4, Width::Long, 0);
        }
        if bar.start.is_some() {
            answers |= bit;
        }
    }
    // A kind of range that has no place in part must not answer at all: it would answer at 0.
    for bar in function.bars.iter().flatten().filter(|bar| bar.start.is_none()) {
        answers &= !if bar.space == Space::Ports { command::PORTS } else { command::MEMORY };
    }
    let before = config.read(at, register::COMMAND, Width::Word);
    config.write(at, register::COMMAND, Width::Word, before | answers | command::MASTER);
}

/// Places everything behind a bridge, and opens the bridge for it.
fn behind(config: &impl Config, functions: &mut [Function], bridge: usize, rooms: &mut Rooms) {
    let at = functions[bridge].address;
    let ports = rooms.ports.take(0, PORT_PIECE);
    let memory = rooms.memory.take(0, MEMORY_PIECE);
    on_bus(config, functions, Some(bridge), rooms);
    // One piece at least, for what may be plugged in later.
    let close = |room: &mut Room, start: Option<u64>, piece: u64| {
        let start = start?;
        let end = room.next.max(start + 1).next_multiple_of(piece);
        room.next = if end <= room.end { end } else { return None };
        Some((start, end - 1))
    };
    let ports = close(&mut rooms.ports, ports, PORT_PIECE);
    let memory = close(&mut rooms.memory, memory, MEMORY_PIECE);
    // A base above its limit is a closed window.
    let (base, limit) = ports.unwrap_or((0xF000, 0));
    config.write(at, register::PORT_WINDOW, Width::Word, (base >> 8 & 0xF0 | limit & 0xF000) as u32);
    let (base, limit) = memory.unwrap_or((0xFFF0_0000, 0));
    let window = base >> 16 & 0xFFF0 | limit & 0xFFF0_0000;
    config.write(at, register::MEMORY_WINDOW, Width::Long, window as u32);
    config.write(at, register::PREFETCHABLE_WINDOW, Width::Long, 0xFFF0);
    let before = config.read(at, register::COMMAND, Width::Word);
    let open = command::PORTS | command::MEMORY | command::MASTER;
    config.write(at, register::COMMAND, Width::Word, before | open);
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Card, Machine};
    use super::super::scan;
    use super::*;

    fn rooms() -> Rooms {
        Rooms {
            ports: Room { next: 0xC000, end: 0x1_0000 },
            memory: Room { next: 0xE000_0000, end: 0xFE00_0000 },
        }
    }

    fn assigned(machine: &Machine) -> alloc::vec::Vec<Function> {
        let mut functions = scan::functions(machine);
        places(machine, &mut functions, &mut rooms());
        functions
    }

    #[test]
    fn no_two_ranges_overlap_and_all_are_aligned() {
        let machine = Machine::new()
            .with(0, 2, Card::sampling())
            .with(0, 3, Card::bridge())
            .with(1, 0, Card::sampling())
            .with(1, 1, Card::sampling())
            .with(0, 4, Card::sampling());
        let functions = assigned(&machine);
        let mut ranges: alloc::vec::Vec<_> = functions
            .iter()
            .flat_map(|function| function.bars.iter().flatten())
            .map(|bar| (bar.start.unwrap(), bar.length))
            .collect();
        assert_eq!(ranges.len(), 12);
        assert!(ranges.iter().all(|(start, length)| start % length == 0));
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:x?}");
    }

    #[test]
    fn a_bridge_passes_on_what_is_behind_it_and_nothing_else() {
        let machine = Machine::new()
            .with(0, 2, Card::sampling())
            .with(0, 3, Card::bridge())
            .with(1, 0, Card::sampling())
            .with(0, 4, Card::sampling());
        let functions = assigned(&machine);
        let behind = functions[2];
        assert_eq!(behind.parent, Some(1));
        let window = machine.long(0, 3, register::MEMORY_WINDOW);
        let (base, limit) = (u64::from(window & 0xFFF0) << 16, u64::from(window >> 16 << 16) | 0xF_FFFF);
        let inside = |address: u64| (base..=limit).contains(&address);
        assert!(inside(behind.range(0).unwrap().0) && inside(behind.range(2).unwrap().0));
        assert!(!inside(functions[0].range(0).unwrap().0) && !inside(functions[3].range(0).unwrap().0));
        let ports = machine.long(0, 3, register::PORT_WINDOW);
        let (base, limit) = (u64::from(ports & 0xF0) << 8, u64::from(ports & 0xF000) | 0xFFF);
        assert!((base..=limit).contains(&behind.range(1).unwrap().0));
        assert!(!(base..=limit).contains(&functions[3].range(1).unwrap().0));
        assert_eq!(machine.long(0, 3, register::COMMAND) & 7, 7);
    }

    #[test]
    fn an_empty_bridge_keeps_room_for_a_card() {
        let machine = Machine::new().with(0, 3, Card::bridge());
        assigned(&machine);
        assert_eq!(machine.long(0, 3, register::MEMORY_WINDOW), 0xE000_E000);
        assert_eq!(machine.long(0, 3, register::PORT_WINDOW) & 0xFFFF, 0xC0C0);
    }

    #[test]
    fn what_does_not_fit_does_not_answer() {
        let machine = Machine::new().with(0, 3, Card::wide()).with(0, 4, Card::sampling());
        let functions = assigned(&machine);
        assert_eq!(functions[0].range(0), None);
        assert_eq!(machine.long(0, 3, register::COMMAND) & command::MEMORY, 0);
        assert_eq!(machine.long(0, 4, register::COMMAND) & 7, 7);
    }
}
