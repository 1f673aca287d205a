//! Which interrupt gets which vector, and so which IRQL.
//!
//! On x64 the upper four bits of a vector are its IRQL: the local APIC compares them with CR8. To choose a
//! vector for a line is therefore to choose the device's DIRQL. Lines keep the order of precedence that the
//! PC gave them (8 to 15 before 3 to 7), two lines to a level, so that of two ISA devices the same one wins
//! as always.

/// The software interrupt that runs DPCs and switches threads: level 2.
pub const DISPATCH_VECTOR: u8 = 0x2F;
/// The clock: level 13.
pub const CLOCK_VECTOR: u8 = 0xD1;
/// Processors that stop each other: level 14.
pub const IPI_VECTOR: u8 = 0xE1;
/// What the local APIC delivers when an interrupt is withdrawn at the last moment.
pub const SPURIOUS_VECTOR: u8 = 0xFF;

/// Input pins of the I/O APIC.
pub const PINS: u8 = 24;

/// ISA lines by falling precedence.
const PRECEDENCE: [u8; 14] = [1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7];

const HIGHEST_DEVICE_LEVEL: u8 = 11;
const LOWEST_DEVICE_LEVEL: u8 = 3;

/// The pin of an ISA line on a PC: the timer's line 0 comes in at pin 2, every other at its own number.
#[must_use]
pub const fn pin_of_isa_line(line: u8) -> Option<u8> {
    match line {
        0 => Some(2),
        1 | 3..=15 => Some(line),
        // Line 2 is the cascade of the second interrupt controller; no device can have it.
        _ => None,
    }
}

/// The vector at which an I/O APIC pin is delivered.
#[must_use]
pub fn vector_of_pin(pin: u8) -> Option<u8> {
    match PRECEDENCE.iter().position(|&line| line == pin) {
        Some(rank) => {
            let rank = rank as u8;
            Some((HIGHEST_DEVICE_LEVEL - rank / 2) << 4 | (rank % 2))
        }
        // The timer and the pins that only PCI uses share the lowest device level.
        None if pin < PINS => Some(LOWEST_DEVICE_LEVEL << 4 | if pin >= 16 { pin - 16 } else { pin + 8 }),
        None => None,
    }
}

/// The pin that is delivered at `vector`.
#[must_use]
pub fn pin_of_vector(vector: u8) -> Option<u8> {
    (0..PINS).find(|&pin| vector_of_pin(pin) == Some(vector))
}

/// Vectors for message-signalled interrupts: the upper half of every device level, where no pin comes in.
const MESSAGES_PER_LEVEL: u8 = 8;
const MESSAGE_LEVELS: u8 = HIGHEST_DEVICE_LEVEL - LOWEST_MESSAGE_LEVEL + 1;
/// The level below has all of its lower vectors and some of the upper ones taken by pins.
const LOWEST_MESSAGE_LEVEL: u8 = LOWEST_DEVICE_LEVEL + 1;

/// Whether `vector` is one that messages are delivered at.
#[must_use]
pub const fn is_message_vector(vector: u8) -> bool {
    matches!(irql_of_vector(vector), LOWEST_MESSAGE_LEVEL..=HIGHEST_DEVICE_LEVEL) && vector % 16 >= 8
}

/// Which message vectors are taken.
#[derive(Debug, Clone, Default)]
pub struct MessageVectors(u64);

impl MessageVectors {
    /// None taken.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Of a message vector.
    fn bit(vector: u8) -> u64 {
        1 << ((irql_of_vector(vector) - LOWEST_MESSAGE_LEVEL) * MESSAGES_PER_LEVEL + vector % 16 - 8)
    }

    /// The lowest free vector, now taken; none where all are.
    pub fn allocate(&mut self) -> Option<u8> {
        self.allocate_block(1)
    }

    /// The lowest free block of `count` neighbouring vectors (1, 2, 4 or 8) that begins at a multiple of as many: the
    /// messages of one MSI capability differ in their lowest bits only, and share one level here.
    pub fn allocate_block(&mut self, count: u8) -> Option<u8> {
        if !matches!(count, 1 | 2 | 4 | MESSAGES_PER_LEVEL) {
            return None;
        }
        let block = (1u64 << count) - 1;
        let mut ranks = (0..MESSAGE_LEVELS * MESSAGES_PER_LEVEL).step_by(usize::from(count));
        let rank = ranks.find(|&rank| self.0 >> rank & block == 0)?;
        self.0 |= block << rank;
        Some((LOWEST_MESSAGE_LEVEL + rank / MESSAGES_PER_LEVEL) << 4 | 8 | (rank % MESSAGES_PER_LEVEL))
    }

    /// Whether `vector` is taken.
    #[must_use]
    pub fn is_taken(&self, vector: u8) -> bool {
        is_message_vector(vector) && self.0 & Self::bit(vector) != 0
    }

    /// Gives a vector back; false where it was not taken.
    pub fn free(&mut self, vector: u8) -> bool {
        let taken = self.is_taken(vector);
        if taken {
            self.0 &= !Self::bit(vector);
        }
        taken
    }
}

/// The IRQL at which an interrupt of this vector runs.
#[must_use]
pub const fn irql_of_vector(vector: u8) -> u8 {
    vector >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_has_a_vector_of_its_own_at_a_device_level() {
        for pin in 0..PINS {
            let vector = vector_of_pin(pin).unwrap();
            assert!((3..=11).contains(&irql_of_vector(vector)), "pin {pin} at {vector:#x}");
            assert_eq!(pin_of_vector(vector), Some(pin), "vector {vector:#x} belongs to one pin");
        }
        assert_eq!(vector_of_pin(PINS), None);
    }

    #[test]
    fn lines_keep_their_precedence() {
        let level = |line| irql_of_vector(vector_of_pin(line).unwrap());
        assert!(level(1) > level(9) && level(9) > level(15) && level(15) > level(5) && level(5) > level(7));
    }

    #[test]
    fn isa_lines_come_in_where_a_pc_wires_them() {
        assert_eq!(pin_of_isa_line(0), Some(2));
        assert_eq!(pin_of_isa_line(2), None);
        assert_eq!(pin_of_isa_line(5), Some(5));
        assert_eq!(pin_of_isa_line(16), None);
    }

    #[test]
    fn every_message_gets_a_vector_that_no_pin_has() {
        let mut vectors = MessageVectors::new();
        let all: alloc::vec::Vec<u8> = core::iter::from_fn(|| vectors.allocate()).collect();
        assert_eq!(all.len(), 64);
        for (index, &vector) in all.iter().enumerate() {
            assert!(is_message_vector(vector) && !all[..index].contains(&vector), "{vector:#x}");
            assert_eq!(pin_of_vector(vector), None, "{vector:#x} belongs to a pin");
            assert!((4..=11).contains(&irql_of_vector(vector)), "{vector:#x}");
        }
        assert!(vectors.free(all[9]) && !vectors.free(all[9]) && !vectors.is_taken(all[9]));
        assert_eq!(vectors.allocate(), Some(all[9]));
        assert!(!vectors.free(CLOCK_VECTOR) && !vectors.free(0x40) && !vectors.free(0));
    }

    #[test]
    fn the_messages_of_a_block_differ_in_their_lowest_bits() {
        let mut vectors = MessageVectors::new();
        assert_eq!(vectors.allocate(), Some(0x48));
        assert_eq!(vectors.allocate_block(4), Some(0x4C));
        assert_eq!(vectors.allocate_block(8), Some(0x58));
        assert_eq!(vectors.allocate_block(2), Some(0x4A));
        assert_eq!(vectors.allocate(), Some(0x49));
        assert_eq!(vectors.allocate_block(3), None);
        assert!((0x48..0x50).all(|vector| vectors.is_taken(vector)));
        assert_eq!((0..9).filter_map(|_| vectors.allocate_block(8)).count(), 6);
    }

    #[test]
    fn the_kernels_own_vectors_are_at_their_levels() {
        assert_eq!(irql_of_vector(DISPATCH_VECTOR), 2);
        assert_eq!(irql_of_vector(CLOCK_VECTOR), 13);
        assert_eq!(irql_of_vector(IPI_VECTOR), 14);
        assert_eq!(pin_of_vector(DISPATCH_VECTOR), None);
    }
}
