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

/// What a device would take: a range somewhere, or one of several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Ports.
    Ports(Span),
    /// Memory.
    Memory(Span),
    /// A line from the first to the second.
    Line(u32, u32),
}

/// A range of `length` at a multiple of `align`, from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// How many.
    pub length: u32,
    /// 0 and 1: anywhere.
    pub align: u32,
    /// The lowest address that may be in it.
    pub first: u64,
    /// The highest.
    pub last: u64,
}

/// The most places that are tried for one wish.
const MAX_TRIES: usize = 1 << 16;

impl Wish {
    /// The first place for it that is free.
    pub fn place(&self, shared: bool, is_free: impl Fn(&Claim) -> bool) -> Option<Claim> {
        let claim = |resource| Claim { resource, shared };
        let spans = |span: Span| {
            let align = u64::from(span.align.max(1));
            let first = span.first.checked_next_multiple_of(align);
            let starts = core::iter::successors(first, move |start| start.checked_add(align));
            let last = span.last;
            let length = u64::from(span.length);
            starts
                .take_while(move |start| {
                    length > 0 && start.checked_add(length - 1).is_some_and(|end| end <= last)
                })
                .take(MAX_TRIES)
        };
        match *self {
            Self::Ports(span) => {
                spans(span).map(|start| claim(Resource::Ports { start, length: span.length })).find(is_free)
            }
            Self::Memory(span) => {
                spans(span).map(|start| claim(Resource::Memory { start, length: span.length })).find(is_free)
            }
            Self::Line(first, last) => {
                (first..=last).take(MAX_TRIES).map(|line| claim(Resource::Line(line))).find(is_free)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_gets_the_first_place_that_is_free() {
        let span = Span { length: 16, align: 16, first: 0x2F8, last: 0x33F };
        let taken = ports(0x300, 1);
        let is_free = |claim: &Claim| !claim.conflicts_with(&taken);
        let placed = Wish::Ports(span).place(false, is_free).map(|claim| claim.resource);
        assert_eq!(placed, Some(Resource::Ports { start: 0x310, length: 16 }));
        assert_eq!(Wish::Ports(Span { last: 0x31E, ..span }).place(false, is_free), None);
        assert_eq!(Wish::Ports(Span { length: 0, ..span }).place(false, is_free), None);
        let whole = Span { length: u32::MAX, align: 0, first: 1, last: u64::MAX };
        assert!(Wish::Memory(whole).place(false, |_| true).is_some());
        assert_eq!(Wish::Memory(whole).place(false, |_| false), None, "and it ends");
        let line = Wish::Line(3, 7).place(true, |claim| claim.resource == Resource::Line(5));
        assert_eq!(line, Some(Claim { resource: Resource::Line(5), shared: true }));
        assert_eq!(Wish::Line(7, 3).place(true, |_| true), None);
    }

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
