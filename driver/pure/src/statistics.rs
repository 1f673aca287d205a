//! What the driver has counted, as a program gets it.

/// The answer to the request for statistics: six numbers of 64 bits, little-endian, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Interrupts that the ISR served.
    pub interrupts: u64,
    /// Of these, those that found samples dropped by the card.
    pub overruns: u64,
    /// Samples given to readers.
    pub delivered: u64,
    /// Samples that waited too long for a reader.
    pub lost: u64,
    /// Samples that were found without an interrupt having announced them.
    pub recovered: u64,
    /// Reads that ended because no sample came in time.
    pub timed_out: u64,
}

impl Statistics {
    /// Bytes of the answer.
    pub const LEN: usize = 48;

    /// The answer.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let numbers =
            [self.interrupts, self.overruns, self.delivered, self.lost, self.recovered, self.timed_out];
        let mut bytes = [0; Self::LEN];
        for (place, number) in bytes.chunks_exact_mut(size_of::<u64>()).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_follow_each_other() {
        let statistics =
            Statistics { interrupts: 1, overruns: 2, delivered: 3, lost: 4, recovered: 5, timed_out: 0x0102 };
        let bytes = statistics.to_bytes();
        let numbers = bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap()));
        assert!(numbers.eq([1, 2, 3, 4, 5, 0x0102]));
    }
}
