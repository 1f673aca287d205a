//! What a page of special pool holds around its one block.
//!
//! The block lies as far back as its alignment allows. All else on the page is a pattern that differs from page to page;
//! what is left of it when the block is freed tells whether somebody wrote where he should not.

use core::ops::Range;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Where on its page a block of `size` bytes, less than a page, begins that is to have this alignment.
#[must_use]
pub fn offset_of(size: usize, alignment: usize) -> usize {
    PAGE - size.clamp(1, PAGE).next_multiple_of(alignment)
}

/// The pattern of the page at `address`: several bits away from 0 and 0xFF, which are what is mostly written by mistake.
fn pattern(address: u64) -> u8 {
    0xA5 ^ (address >> 13) as u8 & 0x18
}

/// Fills the page at `address`, block and all.
pub fn fill(bytes: &mut [u8; PAGE], address: u64) {
    bytes.fill(pattern(address));
}

/// Where the pattern was written over: an offset on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// Before the block, nearest to it.
    Before(usize),
    /// Behind the block, nearest to it.
    Behind(usize),
    /// One bit, wherever it is.
    SingleBit(usize),
}

/// What became of the pattern around a block on the page at `address`; it takes these bytes of it.
#[must_use]
pub fn corruption(
    bytes: &[u8; PAGE],
    address: u64,
    Range { start, end }: Range<usize>,
) -> Option<Corruption> {
    let pattern = pattern(address);
    let is_wrong = |offset: &usize| bytes[*offset] != pattern;
    let wrong = || (0..start).chain(end..PAGE).filter(is_wrong);
    let first = wrong().next()?;
    if (bytes[first] ^ pattern).count_ones() == 1 && wrong().nth(1).is_none() {
        return Some(Corruption::SingleBit(first));
    }
    let behind = (end..PAGE).find(is_wrong).map(Corruption::Behind);
    behind.or_else(|| (0..start).rfind(is_wrong).map(Corruption::Before))
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use super::*;
    use crate::pool::{ALIGNMENT, CACHE_LINE};

    const ADDRESS: u64 = 0xffff_d000_0012_3000;

    fn page() -> Box<[u8; PAGE]> {
        let mut bytes = Box::new([0; PAGE]);
        fill(&mut bytes, ADDRESS);
        bytes
    }

    #[test]
    fn a_block_ends_as_near_to_its_pages_end_as_its_alignment_allows() {
        assert_eq!(offset_of(0, ALIGNMENT), PAGE - 16);
        assert_eq!(offset_of(16, ALIGNMENT), PAGE - 16);
        assert_eq!(offset_of(17, ALIGNMENT), PAGE - 32);
        assert_eq!(offset_of(4095, ALIGNMENT), 0);
        assert_eq!(offset_of(17, CACHE_LINE), PAGE - 64);
    }

    #[test]
    fn a_block_may_be_written_and_nothing_else() {
        for size in [0, 1, 15, 16, 100, 4095] {
            let mut bytes = page();
            let start = offset_of(size, ALIGNMENT);
            bytes[start..start + size].fill(0x55);
            assert_eq!(corruption(&bytes, ADDRESS, start..start + size), None, "{size}");
        }
    }

    #[test]
    fn one_byte_too_many_is_found_on_either_side() {
        let mut bytes = page();
        let start = offset_of(100, ALIGNMENT);
        bytes[start + 100] = 0;
        assert_eq!(corruption(&bytes, ADDRESS, start..start + 100), Some(Corruption::Behind(start + 100)));
        let mut bytes = page();
        bytes[start - 1] = !bytes[start - 1];
        bytes[3] = 0;
        assert_eq!(corruption(&bytes, ADDRESS, start..start + 100), Some(Corruption::Before(start - 1)));
    }

    #[test]
    fn a_single_bit_is_told_apart() {
        let mut bytes = page();
        bytes[7] ^= 0x10;
        assert_eq!(corruption(&bytes, ADDRESS, PAGE - 64..PAGE), Some(Corruption::SingleBit(7)));
    }

    #[test]
    fn a_zero_or_all_ones_never_passes_for_a_single_bit() {
        for pattern in (0..1000).map(|page| pattern(ADDRESS + page * 4096)) {
            assert!((2..=6).contains(&pattern.count_ones()), "{pattern:#x}");
        }
    }
}
