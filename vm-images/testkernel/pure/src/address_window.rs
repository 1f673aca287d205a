//! Handing out ranges of addresses from a window, those long unused first.
//!
//! A driver that is called after it was unloaded must fault. It only does where nothing else has been mapped
//! at its old addresses meanwhile, so a window is walked round and round: an address freed comes back only
//! after all others of its part of the window. That part is all that is walked as long as there is room: walking costs a
//! page table for each 512 pages, once, and a window is made large for the rare range that needs it.

use alloc::collections::BTreeMap;

/// A window of pages, some of them taken. Units are pages, counted from the start of the window.
#[derive(Debug)]
pub struct AddressWindow {
    pages: usize,
    /// Where the walk turns back.
    turn: usize,
    /// First page of each range taken, with its length.
    taken: BTreeMap<usize, usize>,
    cursor: usize,
}

impl AddressWindow {
    /// A free window of `pages` pages, of which those from `turn` on are only for what has no room before them.
    #[must_use]
    pub const fn new(pages: usize, turn: usize) -> Self {
        Self { pages, turn, taken: BTreeMap::new(), cursor: 0 }
    }

    /// Takes `count` neighbouring pages, the next that are free behind the ones taken last.
    pub fn take(&mut self, count: usize) -> Option<usize> {
        let turn = self.turn.min(self.pages);
        let walked = self
            .first_fit(self.cursor, turn, count)
            .or_else(|| self.first_fit(0, self.cursor.saturating_add(count).min(turn), count));
        let start = match walked {
            Some(start) => {
                self.cursor = start + count;
                start
            }
            None => self.first_fit(0, self.pages, count)?,
        };
        self.taken.insert(start, count);
        Some(start)
    }

    /// The lowest gap of `count` pages within `from..to`.
    fn first_fit(&self, from: usize, to: usize, count: usize) -> Option<usize> {
        let mut start = from;
        if let Some((&first, &len)) = self.taken.range(..from).next_back() {
            start = start.max(first + len);
        }
        for (&first, &len) in self.taken.range(from..) {
            if first.saturating_sub(start) >= count.max(1) && first >= start {
                break;
            }
            start = start.max(first + len);
        }
        (count > 0 && start.checked_add(count)? <= to).then_some(start)
    }

    /// How many pages are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.values().sum()
    }

    /// Gives back the range that starts at `start` and answers how long it was.
    pub fn give_back(&mut self, start: usize) -> Option<usize> {
        self.taken.remove(&start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_given_back_returns_only_after_a_whole_round() {
        let mut window = AddressWindow::new(16, 16);
        let first = window.take(4).unwrap();
        assert_eq!(window.taken(), 4);
        assert_eq!(window.give_back(first), Some(4));
        assert_eq!(window.taken(), 0);
        assert_eq!(window.take(4), Some(4));
        assert_eq!(window.take(4), Some(8));
        assert_eq!(window.take(4), Some(12));
        assert_eq!(window.take(4), Some(0));
        assert_eq!(window.take(1), None);
    }

    #[test]
    fn what_lies_behind_the_turn_is_for_what_has_no_room_before_it() {
        let mut window = AddressWindow::new(16, 8);
        for round in 0..6 {
            let start = window.take(4).unwrap();
            assert_eq!(start, round % 2 * 4);
            window.give_back(start);
        }
        assert_eq!(window.take(6), Some(0));
        assert_eq!(window.take(6), Some(6));
        assert_eq!(window.take(6), None);
        assert_eq!(window.take(4), Some(12));
    }

    #[test]
    fn gaps_between_ranges_are_found() {
        let mut window = AddressWindow::new(10, 10);
        let ranges: alloc::vec::Vec<_> = (0..5).map(|_| window.take(2).unwrap()).collect();
        window.give_back(ranges[1]);
        window.give_back(ranges[3]);
        assert_eq!(window.take(3), None);
        assert_eq!(window.take(2), Some(2));
        assert_eq!(window.take(1), Some(6));
        assert_eq!(window.take(1), Some(7));
        assert_eq!(window.take(1), None);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let mut window = AddressWindow::new(8, 8);
        assert_eq!(window.take(0), None);
        assert_eq!(window.take(9), None);
        assert_eq!(window.take(usize::MAX), None);
        assert_eq!(window.give_back(0), None);
    }

    #[test]
    fn ranges_never_overlap() {
        let mut window = AddressWindow::new(64, 64);
        let mut live: alloc::vec::Vec<(usize, usize)> = alloc::vec::Vec::new();
        let mut seed = 1_u32;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = (seed >> 24) as usize % 9 + 1;
            if seed & 0x10000 != 0 && !live.is_empty() {
                let (start, len) = live.swap_remove((seed >> 8) as usize % live.len());
                assert_eq!(window.give_back(start), Some(len));
            } else if let Some(start) = window.take(size) {
                assert!(start + size <= 64);
                assert!(live.iter().all(|&(first, len)| start + size <= first || first + len <= start));
                live.push((start, size));
            }
        }
    }
}
