//! Samples between the DPC and the reader.

/// The last `N` samples that nobody has read yet.
///
/// Hardware does not wait for a reader: when the ring is full the oldest sample makes room. Each sample is its own sequence
/// number, so a reader sees what it missed; [`lost`](Self::lost) counts it.
#[derive(Debug)]
pub struct SampleRing<const N: usize> {
    samples: [u32; N],
    /// Where the oldest sample is.
    first: usize,
    len: usize,
    lost: u64,
}

impl<const N: usize> SampleRing<N> {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N > 0, "a ring needs room") };
        Self { samples: [0; N], first: 0, len: 0, lost: 0 }
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Samples that made room for newer ones.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds a sample.
    pub fn push(&mut self, sample: u32) {
        if self.len == N {
            self.pop();
            self.lost += 1;
        }
        if let Some(slot) = self.samples.get_mut((self.first + self.len) % N) {
            *slot = sample;
            self.len += 1;
        }
    }

    /// Takes the oldest sample.
    pub fn pop(&mut self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let sample = self.samples.get(self.first).copied();
        self.first = (self.first + 1) % N;
        self.len -= 1;
        sample
    }

    /// Moves the oldest samples to a reader's buffer, little-endian, as many as there are and as fit whole. Returns the bytes
    /// written.
    pub fn drain_into(&mut self, buffer: &mut [u8]) -> usize {
        let mut written = 0;
        for place in buffer.chunks_exact_mut(size_of::<u32>()) {
            let Some(sample) = self.pop() else { break };
            place.copy_from_slice(&sample.to_le_bytes());
            written += size_of::<u32>();
        }
        written
    }
}

impl<const N: usize> Default for SampleRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_around_the_end() {
        let mut ring = SampleRing::<3>::new();
        for round in 0..10 {
            ring.push(2 * round);
            ring.push(2 * round + 1);
            assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(2 * round), Some(2 * round + 1), None));
        }
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let mut ring = SampleRing::<3>::new();
        (0..8).for_each(|sample| ring.push(sample));
        assert_eq!(ring.lost(), 5);
        assert_eq!([ring.pop(), ring.pop(), ring.pop(), ring.pop()], [Some(5), Some(6), Some(7), None]);
    }

    #[test]
    fn a_reader_gets_whole_samples_and_the_rest_stays() {
        let mut ring = SampleRing::<4>::new();
        ring.push(0x0403_0201);
        ring.push(0x0807_0605);
        let mut buffer = [0xFF; 7];
        assert_eq!(ring.drain_into(&mut buffer), 4);
        assert_eq!(buffer, [1, 2, 3, 4, 0xFF, 0xFF, 0xFF]);
        assert_eq!(ring.drain_into(&mut [0; 3]), 0);
        assert_eq!(ring.drain_into(&mut [0; 64]), 4);
        assert!(ring.is_empty());
    }
}
