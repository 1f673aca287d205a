//! The samples that wait.

use squall_registers::FIFO_DEPTH;

/// A ring of at most [`FIFO_DEPTH`] samples.
#[derive(Clone, Debug)]
pub(crate) struct Fifo {
    samples: [u32; FIFO_DEPTH],
    oldest: usize,
    len: usize,
}

impl Fifo {
    pub(crate) const fn new() -> Self {
        Self { samples: [0; FIFO_DEPTH], oldest: 0, len: 0 }
    }

    /// Adds a sample; `false` if there is no room for it.
    pub(crate) fn push(&mut self, sample: u32) -> bool {
        if self.len == FIFO_DEPTH {
            return false;
        }
        self.samples[(self.oldest + self.len) % FIFO_DEPTH] = sample;
        self.len += 1;
        true
    }

    pub(crate) fn peek(&self) -> Option<u32> {
        (self.len > 0).then(|| self.samples[self.oldest])
    }

    pub(crate) fn pop(&mut self) {
        if self.len > 0 {
            self.oldest = (self.oldest + 1) % FIFO_DEPTH;
            self.len -= 1;
        }
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len).map(|n| self.samples[(self.oldest + n) % FIFO_DEPTH])
    }

    pub(crate) fn level(&self) -> u32 {
        self.len as u32
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_over_the_wrap() {
        let mut fifo = Fifo::new();
        for sample in 1..=1000 {
            assert!(fifo.push(sample) && fifo.push(sample + 5000));
            assert_eq!(fifo.peek(), Some(sample));
            fifo.pop();
            assert_eq!(fifo.peek(), Some(sample + 5000));
            fifo.pop();
        }
        assert_eq!((fifo.peek(), fifo.level()), (None, 0));
    }

    #[test]
    fn a_full_one_takes_no_more() {
        let mut fifo = Fifo::new();
        let taken = (0..100).filter(|&sample| fifo.push(sample)).count();
        assert_eq!((taken, fifo.level()), (FIFO_DEPTH, FIFO_DEPTH as u32));
        fifo.pop();
        assert!(fifo.push(7));
        assert_eq!(fifo.peek(), Some(1));
    }
}
