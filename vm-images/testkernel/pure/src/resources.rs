//! Hardware resources: who claims which, whether two claims collide, and what a line means to the processor.

use crate::vectors::{irql_of_vector, pin_of_isa_line, vector_of_pin};

/// Something that a device needs for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A range of I/O ports.
    Ports {
        /// The first.
        start: u64,
        /// How many.
        length: u32,
    },
    /// A range of physical memory.
    Memory {
        /// The first byte.
        start: u64,
        /// How many.
        length: u32,
    },
    /// An interrupt line.
    Line(u32),
}

/// A resource, and whether its claimer lets others use it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed.
    pub resource: Resource,
    /// Others may claim it as well, if they share too.
    pub shared: bool,
}

impl Claim {
    /// True where both cannot be had.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let overlap = match (self.resource, other.resource) {
            (Resource::Ports { start: a, length: m }, Resource::Ports { start: b, length: n })
            | (Resource::Memory { start: a, length: m }, Resource::Memory { start: b, length: n }) => {
                a < b.saturating_add(n.into()) && b < a.saturating_add(m.into())
            }
            (Resource::Line(a), Resource::Line(b)) => a == b,
            _ => false,
        };
        overlap && !(self.shared && other.shared)
    }
}

/// What the system itself uses on this machine: the serial port of the agent, the debug ports, and what every PC has.
pub const SYSTEM: [Claim; 12] = [
    ports(0x20, 2),
    ports(0x40, 4),
    ports(0x60, 5),
    ports(0x70, 2),
    ports(0xA0, 2),
    ports(0xE9, 1),
    ports(0x3F8, 8),
    ports(0x402, 1),
    ports(0x505, 1),
    ports(0x510, 12),
    Claim { resource: Resource::Line(0), shared: false },
    Claim { resource: Resource::Line(4), shared: false },
];

const fn ports(start: u64, length: u32) -> Claim {
    Claim { resource: Resource::Ports { start, length }, shared: false }
}

/// A line as the processor knows it: IRQL and vector.
pub fn translate_line(line: u32) -> Option<(u8, u8)> {
    let vector = vector_of_pin(pin_of_isa_line(u8::try_from(line).ok()?)?)?;
    Some((irql_of_vector(vector), vector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_ranges_conflict() {
        assert!(ports(0x300, 32).conflicts_with(&ports(0x31F, 1)));
        assert!(!ports(0x300, 32).conflicts_with(&ports(0x320, 32)));
        let memory = Claim { resource: Resource::Memory { start: 0x300, length: 32 }, shared: false };
        assert!(!ports(0x300, 32).conflicts_with(&memory), "ports are not memory");
    }

    #[test]
    fn a_line_is_shared_only_by_agreement() {
        let line = |shared| Claim { resource: Resource::Line(5), shared };
        assert!(line(false).conflicts_with(&line(true)));
        assert!(!line(true).conflicts_with(&line(true)));
    }

    #[test]
    fn the_agents_serial_port_is_taken_and_the_card_is_not() {
        let taken = |claim: Claim| SYSTEM.iter().any(|system| system.conflicts_with(&claim));
        assert!(taken(ports(0x3F0, 16)));
        assert!(!taken(ports(0x300, 32)));
        assert!(!taken(Claim { resource: Resource::Line(5), shared: false }));
    }

    #[test]
    fn a_line_becomes_a_vector_at_its_irql() {
        let (irql, vector) = translate_line(5).unwrap();
        assert_eq!(vector >> 4, irql);
        assert_eq!(translate_line(2), None, "the cascade");
        assert_eq!(translate_line(u32::MAX), None);
    }
}
