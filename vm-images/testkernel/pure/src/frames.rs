//! Which page frames are free: a bitmap, one bit a frame.
//!
//! The guest has at most a few hundred thousand frames, so a bitmap with a moving start is fast enough and,
//! unlike a list threaded through the free frames themselves, cannot be corrupted by a driver that writes
//! where it should not.

/// A frame was given back that was not given out: a bug of the caller's, told apart from running out of
/// memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAllocated(pub usize);

/// The state of `WORDS * 64` frames. A fresh one has none to give.
#[derive(Debug)]
pub struct FrameBitmap<const WORDS: usize> {
    /// A set bit is a free frame.
    free: [u64; WORDS],
    free_count: usize,
    /// One past the last word that ever had a free frame: no search goes further.
    words: usize,
    /// The word where the next search begins, so that a frame just freed is not the next one given out.
    cursor: usize,
}

impl<const WORDS: usize> FrameBitmap<WORDS> {
    /// Frames that a bitmap of this size can tell apart.
    pub const CAPACITY: usize = WORDS * 64;

    /// A bitmap without a free frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { free: [0; WORDS], free_count: 0, words: 0, cursor: 0 }
    }

    /// How many frames are free.
    #[must_use]
    pub const fn free_count(&self) -> usize {
        self.free_count
    }

    fn is_free(&self, frame: usize) -> bool {
        self.free[frame / 64] & (1 << (frame % 64)) != 0
    }

    fn set_used(&mut self, frame: usize) {
        self.free[frame / 64] &= !(1 << (frame % 64));
        self.free_count -= 1;
    }

    /// Puts the frames `first..end` at disposal; what lies beyond the capacity is left out.
    pub fn add(&mut self, first: usize, end: usize) {
        for frame in first..end.min(Self::CAPACITY) {
            if !self.is_free(frame) {
                self.free[frame / 64] |= 1 << (frame % 64);
                self.free_count += 1;
                self.words = self.words.max(frame / 64 + 1);
            }
        }
    }

    /// The next single frame is looked for from `frame` on, and only when there is none from the beginning.
    pub fn begin_at(&mut self, frame: usize) {
        self.cursor = frame / 64;
    }

    /// Takes the frames `first..end` away, those of them that are free.
    pub fn reserve(&mut self, first: usize, end: usize) {
        for frame in first..end.min(Self::CAPACITY) {
            if self.is_free(frame) {
                self.set_used(frame);
            }
        }
    }

    /// One frame, or nothing where none is left.
    pub fn allocate(&mut self) -> Option<usize> {
        for step in 0..self.words {
            let word = (self.cursor.min(self.words) + step) % self.words;
            if self.free[word] != 0 {
                self.cursor = word;
                let frame = word * 64 + self.free[word].trailing_zeros() as usize;
                self.set_used(frame);
                return Some(frame);
            }
        }
        None
    }

    /// `count` neighbouring frames, the first of them a multiple of `align`, all below `limit`.
    pub fn allocate_run(&mut self, count: usize, align: usize, limit: usize) -> Option<usize> {
        self.allocate_run_from(count, align, 0, limit)
    }

    /// The same, none of them below `from`.
    pub fn allocate_run_from(
        &mut self,
        count: usize,
        align: usize,
        from: usize,
        limit: usize,
    ) -> Option<usize> {
        let align = align.max(1);
        let limit = limit.min(self.words * 64);
        let mut first = from.checked_next_multiple_of(align)?;
        while count > 0 && first.checked_add(count)? <= limit {
            match (first..first + count).rev().find(|&frame| !self.is_free(frame)) {
                None => {
                    (first..first + count).for_each(|frame| self.set_used(frame));
                    return Some(first);
                }
                // No run that holds a used frame will do: go on behind the last one.
                Some(used) => first = (used + 1).next_multiple_of(align),
            }
        }
        None
    }

    /// Gives one frame back.
    ///
    /// # Errors
    /// Where the frame is free already, or is none of this bitmap's.
    pub fn release(&mut self, frame: usize) -> Result<(), NotAllocated> {
        if frame >= Self::CAPACITY || self.is_free(frame) {
            return Err(NotAllocated(frame));
        }
        self.free[frame / 64] |= 1 << (frame % 64);
        self.free_count += 1;
        Ok(())
    }
}

impl<const WORDS: usize> Default for FrameBitmap<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_free(first: usize, end: usize) -> FrameBitmap<4> {
        let mut bitmap = FrameBitmap::new();
        bitmap.add(first, end);
        bitmap
    }

    #[test]
    fn gives_every_frame_once_and_then_none() {
        let mut bitmap = with_free(3, 70);
        let mut given: alloc::vec::Vec<_> = core::iter::from_fn(|| bitmap.allocate()).collect();
        given.sort_unstable();
        assert!(given.iter().copied().eq(3..70));
        assert_eq!(bitmap.free_count(), 0);
    }

    #[test]
    fn counts_overlapping_ranges_once() {
        let mut bitmap = with_free(0, 10);
        bitmap.add(5, 15);
        bitmap.reserve(0, 2);
        bitmap.reserve(0, 4);
        assert_eq!(bitmap.free_count(), 11);
    }

    #[test]
    fn what_lies_beyond_the_capacity_is_left_out() {
        assert_eq!(with_free(250, 100_000).free_count(), 6);
    }

    #[test]
    fn a_run_skips_used_frames_and_keeps_its_alignment_and_limit() {
        let mut bitmap = with_free(0, 200);
        bitmap.reserve(9, 10);
        assert_eq!(bitmap.allocate_run_from(2, 4, 121, 200), Some(124));
        assert_eq!(bitmap.allocate_run_from(8, 1, 199, 200), None);
        assert_eq!(bitmap.allocate_run(8, 4, 200), Some(0));
        assert_eq!(bitmap.allocate_run(8, 4, 200), Some(12));
        assert_eq!(bitmap.allocate_run(100, 1, 64), None);
        assert_eq!(bitmap.allocate_run(usize::MAX, 1, 200), None);
        assert_eq!(bitmap.allocate_run(0, 1, 200), None);
    }

    #[test]
    fn a_frame_freed_twice_is_told() {
        let mut bitmap = with_free(0, 8);
        let frame = bitmap.allocate().unwrap();
        assert_eq!(bitmap.release(frame), Ok(()));
        assert_eq!(bitmap.release(frame), Err(NotAllocated(frame)));
        assert_eq!(bitmap.release(4096), Err(NotAllocated(4096)));
        assert_eq!(bitmap.free_count(), 8);
    }
}
