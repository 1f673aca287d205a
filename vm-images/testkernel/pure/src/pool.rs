//! Who has which bytes of the pool.
//!
//! The books are kept apart from the memory they are about: a driver that writes to a block after it freed it, which
//! is what this guest is for, must not be able to confuse the allocator. For the same reason freed memory keeps its
//! contents. The addresses are numbers here; the kernel supplies the memory.

use alloc::collections::{BTreeMap, VecDeque};

/// Every block begins on such a boundary.
pub const ALIGNMENT: usize = 16;
/// What is asked for cache aligned begins on such a one: a line of the processor's caches.
pub const CACHE_LINE: usize = 64;
const PAGE: usize = 4096;
/// In a tag: only a free with the same tag is allowed (`PROTECTED_POOL`).
const PROTECTED: u32 = 0x8000_0000;
/// How many freed blocks are remembered, to tell a block freed twice from one that never was.
const MEMORY: usize = 1024;

/// What a block is, to whoever looks at what was left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A driver's memory, or the kernel's.
    #[default]
    Plain,
    /// An I/O request packet that the kernel made for a driver.
    Irp,
    /// A memory descriptor list.
    Mdl,
    /// A work item of the I/O manager's.
    WorkItem,
    /// A controller object.
    Controller,
    /// An entry of the error log that was not written yet.
    ErrorLogEntry,
}

impl Kind {
    /// Whether Driver Verifier counts such a block as the driver's allocation (*Special Pool*, *Pool Tracking*): its own
    /// memory, packets and lists; not what else the I/O manager makes for it.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, Self::Plain | Self::Irp | Self::Mdl)
    }
}

/// What a block is wanted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Bytes.
    pub size: usize,
    /// Four letters.
    pub tag: u32,
    /// From paged pool.
    pub paged: bool,
    /// On a boundary of the caches' lines.
    pub cache_aligned: bool,
    /// Address of the code that asks; 0 for the kernel itself.
    pub caller: usize,
    /// What it is to be.
    pub kind: Kind,
}

impl Terms {
    /// The boundary that a block of less than a page begins on.
    #[must_use]
    pub fn alignment(&self) -> usize {
        if self.cache_aligned { CACHE_LINE } else { ALIGNMENT }
    }
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub address: usize,
    /// Bytes asked for.
    pub size: usize,
    /// The tag it was asked for with.
    pub tag: u32,
    /// Paged or not, as the caller asked; all of it is resident here.
    pub paged: bool,
    /// Address of the code that asked.
    pub caller: usize,
    /// What it is.
    pub kind: Kind,
}

impl Block {
    /// A block of these terms.
    pub fn new(address: usize, Terms { size, tag, paged, caller, kind, .. }: Terms) -> Self {
        Self { address, size, tag, paged, caller, kind }
    }
}

/// Why a block cannot be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFree {
    /// It was, before; this is what it had been.
    #[error("already freed")]
    AlreadyFreed(Block),
    /// No block begins there.
    #[error("never allocated")]
    NeverAllocated,
    /// It has a protected tag, this one, and another was given.
    #[error("another component's, by its tag")]
    WrongTag(u32),
}

/// The books of one pool.
#[derive(Default)]
pub struct Books {
    free: BTreeMap<usize, usize>,
    used: BTreeMap<usize, Block>,
    freed: VecDeque<Block>,
}

impl Books {
    /// Books of a pool without memory.
    pub const fn new() -> Self {
        Self { free: BTreeMap::new(), used: BTreeMap::new(), freed: VecDeque::new() }
    }

    /// Adds `bytes` of page-aligned memory at `address` to the pool.
    pub fn grow(&mut self, address: usize, bytes: usize) {
        self.release(address, bytes);
    }

    /// Finds room for a block. Those of a page or more are whole pages; smaller ones are 16-byte aligned, or as they are to be, and lie
    /// within one page.
    pub fn allocate(&mut self, terms: Terms) -> Option<Block> {
        let (length, alignment) = extent(terms.size)?;
        let alignment = alignment.max(terms.alignment());
        let fit = |(&start, &bytes): (&usize, &usize)| {
            let mut at = start.checked_next_multiple_of(alignment)?;
            if length <= PAGE && at % PAGE + length > PAGE {
                at = at.checked_next_multiple_of(PAGE)?;
            }
            (at.checked_add(length)? <= start + bytes).then_some((bytes, start, at))
        };
        // Best fit: the smallest hole that will do, the lowest of those.
        let (bytes, start, at) = self.free.iter().filter_map(fit).min()?;
        self.free.remove(&start);
        self.keep(start, at - start);
        self.keep(at + length, start + bytes - (at + length));
        self.freed.retain(|block| block.address != at);
        let block = Block::new(at, terms);
        self.used.insert(at, block);
        Some(block)
    }

    /// Gives the block at `address` back; `tag` matters only to a block whose own is protected.
    pub fn free(&mut self, address: usize, tag: u32) -> Result<Block, BadFree> {
        if let Some(block) = self.used.get(&address)
            && block.tag & PROTECTED != 0
            && block.tag != tag
        {
            return Err(BadFree::WrongTag(block.tag));
        }
        let Some(block) = self.used.remove(&address) else {
            return Err(self
                .freed(address)
                .map_or(BadFree::NeverAllocated, |block| BadFree::AlreadyFreed(*block)));
        };
        if let Some((length, _)) = extent(block.size) {
            self.release(address, length);
        }
        if self.freed.len() == MEMORY {
            self.freed.pop_front();
        }
        self.freed.push_back(block);
        Ok(block)
    }

    /// The block that begins at `address`, if it is in use.
    pub fn find(&self, address: usize) -> Option<&Block> {
        self.used.get(&address)
    }

    /// The block in use that `address` lies in.
    pub fn holding(&self, address: usize) -> Option<&Block> {
        let (_, block) = self.used.range(..=address).next_back()?;
        (address < block.address + block.size.max(1)).then_some(block)
    }

    /// What began at `address` before it was freed, if that is remembered and nothing begins there again.
    pub fn freed(&self, address: usize) -> Option<&Block> {
        self.freed.iter().rev().find(|block| block.address == address)
    }

    /// How many blocks are in use, and the bytes that were asked for with them.
    pub fn in_use(&self) -> (usize, usize) {
        (self.used.len(), self.used.values().map(|block| block.size).sum())
    }

    /// The blocks in use whose caller `is_it` accepts.
    pub fn blocks_of(&self, is_it: impl Fn(usize) -> bool) -> impl Iterator<Item = &Block> {
        self.used.values().filter(move |block| is_it(block.caller))
    }

    fn release(&mut self, mut start: usize, mut bytes: usize) {
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.free.remove(&before);
            start = before;
            bytes += length;
        }
        if let Some(length) = self.free.remove(&(start + bytes)) {
            bytes += length;
        }
        self.keep(start, bytes);
    }

    fn keep(&mut self, start: usize, bytes: usize) {
        if bytes > 0 {
            self.free.insert(start, bytes);
        }
    }
}

/// Bytes that a block of `size` takes, and on which boundary.
fn extent(size: usize) -> Option<(usize, usize)> {
    if size >= PAGE {
        Some((size.checked_next_multiple_of(PAGE)?, PAGE))
    } else {
        Some((size.max(1).next_multiple_of(ALIGNMENT), ALIGNMENT))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: usize = 0x10_0000;

    fn terms(size: usize, tag: u32, paged: bool, caller: usize) -> Terms {
        Terms { size, tag, paged, caller, ..Terms::default() }
    }

    fn pool() -> Books {
        let mut books = Books::new();
        books.grow(START, 16 * PAGE);
        books
    }

    #[test]
    fn what_is_to_be_cache_aligned_is_and_leaves_no_hole_behind() {
        let mut books = pool();
        let odd = books.allocate(terms(8, 7, false, 0)).unwrap();
        let aligned = Terms { cache_aligned: true, ..terms(100, 7, false, 0) };
        let blocks = [(); 5].map(|()| books.allocate(aligned).unwrap());
        assert!(blocks.iter().all(|block| block.address % CACHE_LINE == 0));
        let between = books.allocate(terms(16, 7, false, 0)).unwrap();
        assert!(between.address < blocks[4].address, "what lies before an aligned block is used");
        for block in blocks.iter().chain([&odd, &between]) {
            books.free(block.address, 7).unwrap();
        }
        assert_eq!(books.free.len(), 1);
    }

    #[test]
    fn blocks_are_aligned_and_remembered_with_their_caller() {
        let mut books = pool();
        let small = books.allocate(terms(24, 0x6C6C7153, false, 0x1000)).unwrap();
        let large = books.allocate(terms(PAGE, 1, true, 0x2000)).unwrap();
        assert_eq!((small.address % ALIGNMENT, large.address % PAGE), (0, 0));
        assert!(large.address >= small.address + 24);
        let mine: alloc::vec::Vec<_> =
            books.blocks_of(|caller| caller == 0x1000).map(|block| block.tag).collect();
        assert_eq!(mine, [0x6C6C7153]);
    }

    #[test]
    fn what_is_smaller_than_a_page_does_not_cross_into_another() {
        let mut books = pool();
        for size in [1000, 3000, 2000, 4090, 17, 1500, 3500, 600, 2048, 2048, 2048] {
            let block = books.allocate(terms(size, 1, false, 0)).unwrap();
            assert_eq!(block.address / PAGE, (block.address + size - 1) / PAGE, "{size} bytes");
        }
    }

    #[test]
    fn a_block_is_freed_once() {
        let mut books = pool();
        let block = books.allocate(terms(100, 1, false, 0)).unwrap();
        assert_eq!(books.free(block.address, 0), Ok(block));
        assert_eq!(books.free(block.address, 0), Err(BadFree::AlreadyFreed(block)));
        assert_eq!(books.free(block.address + 16, 0), Err(BadFree::NeverAllocated));
        let again = books.allocate(terms(100, 2, false, 0)).unwrap();
        assert_eq!(again.address, block.address, "the hole is used again");
        assert_eq!(books.free(again.address, 0), Ok(again));
    }

    #[test]
    fn a_protected_block_wants_its_own_tag() {
        let mut books = pool();
        let mine = 0x8000_0001;
        let block = books.allocate(terms(100, mine, false, 0)).unwrap();
        assert_eq!(books.free(block.address, 1), Err(BadFree::WrongTag(mine)));
        assert_eq!(books.free(block.address, mine), Ok(block));
    }

    #[test]
    fn what_does_not_fit_is_refused_until_the_pool_grows() {
        let mut books = pool();
        assert_eq!(books.allocate(terms(17 * PAGE, 1, false, 0)), None);
        assert_eq!(books.allocate(terms(usize::MAX, 1, false, 0)), None);
        books.grow(START + 16 * PAGE, PAGE);
        assert!(books.allocate(terms(17 * PAGE, 1, false, 0)).is_some(), "adjoining memory becomes one hole");
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_everything_comes_back(
            sizes in prop::collection::vec(0usize..9000, 1..60),
            order in any::<u64>(),
        ) {
            let mut books = pool();
            let mut live: alloc::vec::Vec<Block> = alloc::vec::Vec::new();
            for (index, size) in sizes.into_iter().enumerate() {
                if order >> (index % 64) & 1 == 1 && !live.is_empty() {
                    let block = live.swap_remove(index % live.len());
                    prop_assert_eq!(books.free(block.address, 0), Ok(block));
                }
                if let Some(block) = books.allocate(terms(size, 0, false, 0)) {
                    let end = block.address + size;
                    prop_assert!(block.address >= START && end <= START + 16 * PAGE);
                    prop_assert!(live.iter().all(|other| end <= other.address || other.address + other.size <= block.address));
                    live.push(block);
                }
            }
            for block in live {
                prop_assert_eq!(books.free(block.address, 0), Ok(block));
            }
            prop_assert_eq!(books.free.into_iter().collect::<alloc::vec::Vec<_>>(), [(START, 16 * PAGE)]);
        }
    }
}
