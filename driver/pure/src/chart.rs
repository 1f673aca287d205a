//! The chart: what was sampled last, for who asks later.

/// The newest samples, in memory that somebody else provides and that is written round and round.
#[derive(Debug)]
pub struct Chart<'a> {
    samples: &'a mut [u32],
    /// Samples ever written.
    written: u64,
}

impl<'a> Chart<'a> {
    /// An empty chart that keeps as many samples as `samples` has room for.
    #[must_use]
    pub const fn new(samples: &'a mut [u32]) -> Self {
        Self { samples, written: 0 }
    }

    /// Samples ever written.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Adds samples, the oldest first. What no longer fits is overwritten.
    pub fn append(&mut self, samples: &[u32]) {
        for &sample in samples {
            if let Some(place) =
                place(self.written, self.samples.len()).and_then(|at| self.samples.get_mut(at))
            {
                *place = sample;
                self.written += 1;
            }
        }
    }

    /// Writes the newest samples to a buffer, little-endian, the oldest of them first, as many as there are and as fit whole. Returns
    /// the bytes written.
    pub fn newest_into(&self, buffer: &mut [u8]) -> usize {
        let kept = self.written.min(self.samples.len() as u64);
        let wanted = kept.min((buffer.len() / size_of::<u32>()) as u64);
        let mut written = 0;
        for (number, room) in
            (self.written - wanted..self.written).zip(buffer.chunks_exact_mut(size_of::<u32>()))
        {
            let sample = place(number, self.samples.len()).and_then(|at| self.samples.get(at));
            room.copy_from_slice(&sample.copied().unwrap_or_default().to_le_bytes());
            written += size_of::<u32>();
        }
        written
    }
}

/// Where the sample of that number lies, in memory for `room` of them.
fn place(number: u64, room: usize) -> Option<usize> {
    number.checked_rem(room as u64).map(|place| place as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_out_oldest_first() {
        let mut memory = [0; 4];
        let mut chart = Chart::new(&mut memory);
        assert_eq!(chart.newest_into(&mut [0; 16]), 0);
        chart.append(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(chart.written(), 6);
        let mut buffer = [0xFF; 15];
        assert_eq!(chart.newest_into(&mut buffer), 12);
        assert_eq!(buffer, [4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0xFF, 0xFF, 0xFF]);
        let mut buffer = [0; 32];
        assert_eq!(chart.newest_into(&mut buffer), 16);
        assert_eq!(buffer.first_chunk(), Some(&[3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]));
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let mut chart = Chart::new(&mut []);
        chart.append(&[1]);
        assert_eq!((chart.written(), chart.newest_into(&mut [0; 8])), (0, 0));
    }
}
