//! What the plug and play manager has given to a PCI card: a `CM_RESOURCE_LIST`, translated.

/// Where the card's registers are, and what it interrupts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Physical address of its registers in memory.
    pub registers: u64,
    /// Bytes of them.
    pub length: u32,
    lines: [Line; Self::MOST_LINES],
    count: usize,
}

/// An interrupt: a line, or a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// The system's interrupt vector.
    pub vector: u32,
    /// The IRQL at which its interrupts are served.
    pub irql: u8,
    /// The processors that may serve it.
    pub affinity: u64,
    /// It is an edge or a message; otherwise a level.
    pub latched: bool,
    /// Others may be connected to it.
    pub shared: bool,
}

/// Why a list cannot be a card's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantError {
    /// It ends in the middle of a descriptor, or is of another kind.
    Malformed,
    /// It has no memory.
    NoRegisters,
    /// It has nothing to interrupt with, or more than a card has.
    NoLines,
}

impl Granted {
    /// The most messages that MSI has, and more than the card's MSI-X.
    pub const MOST_LINES: usize = 32;

    /// Reads a list: the bytes of one full descriptor, whose first memory has the registers.
    ///
    /// # Errors
    ///
    /// Says what is missing or wrong.
    pub fn read(list: &[u8]) -> Result<Self, GrantError> {
        /// Count, and of the one full descriptor interface type, bus number, version and revision, count.
        const HEADER: usize = 20;
        const DESCRIPTOR: usize = 20;
        const INTERRUPT: u8 = 2;
        const MEMORY: u8 = 3;
        const SHARED: u8 = 3;
        const LATCHED: u16 = 1;

        let (header, descriptors) = list.split_at_checked(HEADER).ok_or(GrantError::Malformed)?;
        if number(header, 0) != Some(1) {
            return Err(GrantError::Malformed);
        }
        let count = number(header, 16).ok_or(GrantError::Malformed)? as usize;
        let length = count.checked_mul(DESCRIPTOR).ok_or(GrantError::Malformed)?;
        let descriptors = descriptors.get(..length).ok_or(GrantError::Malformed)?;
        let mut registers = None;
        let mut lines = [Line::default(); Self::MOST_LINES];
        let mut places = lines.iter_mut();
        let mut count = 0;
        for descriptor in descriptors.chunks_exact(DESCRIPTOR) {
            let [kind, share, flags @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = descriptor else {
                return Err(GrantError::Malformed);
            };
            let flags = flags.iter().rev().fold(0, |flags, byte| flags << 8 | u16::from(*byte));
            let low = |at| number(descriptor, at).map(u64::from).ok_or(GrantError::Malformed);
            let long = |at| Ok(low(at)? | low(at + 4)? << 32);
            match *kind {
                MEMORY if registers.is_none() => registers = Some((long(4)?, low(12)? as u32)),
                INTERRUPT => {
                    *places.next().ok_or(GrantError::NoLines)? = Line {
                        vector: low(8)? as u32,
                        irql: u8::try_from(low(4)? & 0xFFFF).map_err(|_| GrantError::Malformed)?,
                        affinity: long(12)?,
                        latched: flags & LATCHED != 0,
                        shared: *share == SHARED,
                    };
                    count += 1;
                }
                _ => {}
            }
        }
        let (registers, length) = registers.ok_or(GrantError::NoRegisters)?;
        if count == 0 { Err(GrantError::NoLines) } else { Ok(Self { registers, length, lines, count }) }
    }

    /// What the card interrupts with: one line, or messages by number.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        self.lines.get(..self.count).unwrap_or_default()
    }
}

/// The 32-bit number at an offset.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::{vec, vec::Vec};

    use super::*;

    fn list(descriptors: &[[u8; 20]]) -> Vec<u8> {
        let mut list = vec![1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, descriptors.len() as u8, 0, 0, 0];
        list.extend(descriptors.concat());
        list
    }

    const fn memory(high: u8) -> [u8; 20] {
        [3, 1, 0, 0, 0, 0, 0, 0xE0, high, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]
    }

    const fn interrupt(flags: u8, share: u8, vector: u8) -> [u8; 20] {
        [2, share, flags, 0, 6, 0, 0, 0, vector, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x80]
    }

    #[test]
    fn the_first_memory_and_every_interrupt() {
        let granted =
            Granted::read(&list(&[memory(1), memory(2), interrupt(0, 3, 0x61), interrupt(3, 1, 0x62)]))
                .unwrap();
        assert_eq!((granted.registers, granted.length), (0x1_E000_0000, 0x1000));
        let line =
            Line { vector: 0x61, irql: 6, affinity: 0x8000_0000_0000_0003, latched: false, shared: true };
        let message = Line { vector: 0x62, latched: true, shared: false, ..line };
        assert_eq!(granted.lines(), [line, message]);
    }

    #[test]
    fn a_list_that_is_no_cards_is_refused() {
        let whole = list(&[memory(1), interrupt(0, 3, 0x61)]);
        for length in 0..whole.len() {
            let part = whole.get(..length).unwrap();
            assert_eq!(Granted::read(part), Err(GrantError::Malformed), "{length}");
        }
        assert_eq!(Granted::read(&list(&[interrupt(0, 3, 1)])), Err(GrantError::NoRegisters));
        assert_eq!(Granted::read(&list(&[memory(1)])), Err(GrantError::NoLines));
        let many = [interrupt(0, 3, 1); 33];
        assert_eq!(Granted::read(&list(&many)), Err(GrantError::NoLines));
        let with = |at: usize, value: u8| {
            let mut list = whole.clone();
            *list.get_mut(at).unwrap() = value;
            Granted::read(&list)
        };
        // Two full descriptors, or more descriptors than there are.
        assert_eq!(with(0, 2), Err(GrantError::Malformed));
        assert_eq!(with(19, 0xFF), Err(GrantError::Malformed));
    }
}
