//! Special pool: each allocation of a verified driver's on a page of its own.
//!
//! The block lies at the end of its page, and the next page is a guard: whoever runs past the end faults at once. What
//! lies before the block, and between its end and the page's, holds a pattern that is looked at when the block is freed.
//! A freed block's page goes at once, and its addresses rest as long as the window allows: whoever touches it faults.
//!
//! As on Windows it covers allocations of less than a page, packets and memory descriptor lists included, and where it is
//! exhausted, memory comes from the common pool. Device extensions and other objects of the I/O manager's are not covered.
//!
//! Source: *Special Pool* of Driver Verifier, and *Bug Check 0xC1: SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION*.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use squall_testkernel_pure::bugcheck::SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION;
use squall_testkernel_pure::pool::{ALIGNMENT, Block, CACHE_LINE, Terms};
use squall_testkernel_pure::special_page::{self, Corruption, PAGE};

use super::classes::Class;
use super::stops::stop;
use super::{force_irql, verified};
use crate::ex::pool::Known;
use crate::ke::lock::SpinLock;
use crate::mm::special_region;
use crate::selftest::{check, kernel_test};

/// The most pages that are in use at once; beyond, the common pool serves.
const MAX_LIVE: usize = 3072;
/// How many freed blocks are remembered, to tell one freed twice from one that never was.
const REMEMBERED: usize = 1024;

struct Books {
    live: BTreeMap<usize, Block>,
    freed: VecDeque<Block>,
}

static BOOKS: SpinLock<Books> = SpinLock::new(Books { live: BTreeMap::new(), freed: VecDeque::new() });
/// Allocations that were to come from special pool and did not fit.
static MISSED: AtomicUsize = AtomicUsize::new(0);

/// Whether `address` lies in the special pool, whatever is there.
pub fn holds(address: usize) -> bool {
    special_region::page_of(address as u64).is_some()
}

/// Allocates a block for a driver that is verified for this; none where it is not, or does not fit.
pub fn allocate(terms: Terms) -> Option<NonNull<u8>> {
    let driver = verified::at(terms.caller)?;
    if terms.paged {
        force_irql::paged_in();
    }
    // Paged pool is to be taken away block by block where that is forced.
    let paged = terms.paged && driver.is_for(Class::ForceIrql);
    if !(paged || driver.is_for(Class::SpecialPool)) || terms.size >= PAGE || !terms.kind.is_verified() {
        return None;
    }
    let taken = take(terms);
    if taken.is_none() {
        MISSED.fetch_add(1, Ordering::Relaxed);
    }
    taken
}

fn take(terms: Terms) -> Option<NonNull<u8>> {
    if BOOKS.lock().live.len() >= MAX_LIVE {
        return None;
    }
    let page = special_region::take()?;
    // SAFETY: the page was just taken: writable, and nobody else's.
    let bytes = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<[u8; PAGE]>(page as usize) };
    special_page::fill(bytes, page);
    let address = page as usize + special_page::offset_of(terms.size, terms.alignment());
    BOOKS.lock().live.insert(address, Block::new(address, terms));
    NonNull::new(core::ptr::with_exposed_provenance_mut(address))
}

/// Frees a block of the special pool; anything else is a stop, and so is one that was written around.
pub fn free(address: usize) {
    let block = BOOKS.lock().live.remove(&address);
    let Some(block) = block else {
        stop(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, [address as u64, 0, 0, 0x20]);
    };
    let page = address & !(PAGE - 1);
    // SAFETY: the block was in use, so its page is there; nobody else may use it while it is freed.
    let bytes = unsafe { &*core::ptr::with_exposed_provenance::<[u8; PAGE]>(page) };
    let start = address - page;
    if let Some(found) = special_page::corruption(bytes, page as u64, start..start + block.size) {
        let (offset, kind) = match found {
            Corruption::Before(offset) => (offset, 0x23),
            Corruption::Behind(offset) => (offset, 0x24),
            Corruption::SingleBit(offset) => (offset, 0x32),
        };
        let at = (page + offset) as u64;
        stop(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, [address as u64, at, 0, kind]);
    }
    {
        let mut books = BOOKS.lock();
        if books.freed.capacity() < REMEMBERED {
            // All of it with the first, so that what is in use later tells of who uses it.
            books.freed.reserve_exact(REMEMBERED);
        }
        if books.freed.len() == REMEMBERED {
            books.freed.pop_front();
        }
        books.freed.push_back(block);
    }
    special_region::give_back(page as u64);
}

/// What begins, or began, at `address`.
pub fn look_up(address: usize) -> Known {
    let books = BOOKS.lock();
    if let Some(block) = books.live.get(&address) {
        return Known::Live(*block);
    }
    let freed = books.freed.iter().rev().find(|block| block.address == address);
    freed.map_or(Known::Never, |block| Known::Freed(*block))
}

/// The block in use that `address` lies in.
pub fn holding(address: usize) -> Option<Block> {
    let books = BOOKS.lock();
    let (_, block) = books.live.range(..=address).next_back()?;
    (address < block.address + block.size.max(1)).then_some(*block)
}

/// The blocks in use whose caller `is_it` accepts.
pub fn allocated_by(is_it: impl Fn(usize) -> bool) -> Vec<Block> {
    BOOKS.lock().live.values().filter(|block| is_it(block.caller)).copied().collect()
}

kernel_test! {
    /// *Special Pool*: blocks end with their page, and what is freed is gone, with its addresses unused for long.
    fn a_special_block_ends_with_its_page_and_goes_when_it_is_freed() {
        use crate::mm::paging::{self, Absent};
        let mut last = 0;
        for size in [0, 1, 16, 100, 4095] {
            let terms = Terms { size, tag: 7, ..Terms::default() };
            check!(allocate(terms).is_none());
            let Some(block) = take(terms) else { check!(false); return Ok(()) };
            let address = block.as_ptr().addr();
            check!(address > last && address.is_multiple_of(ALIGNMENT) && holds(address));
            check!((address + size.max(1)).next_multiple_of(ALIGNMENT).is_multiple_of(PAGE));
            check!(matches!(look_up(address), Known::Live(block) if block.size == size));
            let page = address as u64 & !(PAGE as u64 - 1);
            check!(paging::is_present(page));
            check!(paging::absent(paging::entry(page + PAGE as u64)) == Some(Absent::Guard));
            // SAFETY: the block is that large, and nobody else's.
            unsafe { block.write_bytes(0xEE, size) };
            free(address);
            check!(paging::absent(paging::entry(page)) == Some(Absent::Freed));
            check!(matches!(look_up(address), Known::Freed(block) if block.size == size));
            last = address;
        }
    }

    /// *POOL_TYPE enumeration (wdm.h)*: what is asked for cache aligned is, on a page of its own too.
    fn a_special_block_is_cache_aligned_where_it_is_to_be() {
        for size in [1, 17, 100, 4095] {
            let Some(block) = take(Terms { size, cache_aligned: true, ..Terms::default() }) else { check!(false); return Ok(()) };
            let address = block.as_ptr().addr();
            check!(address.is_multiple_of(CACHE_LINE) && (address + size).next_multiple_of(CACHE_LINE).is_multiple_of(PAGE));
            // SAFETY: the block is that large, and nobody else's.
            unsafe { block.write_bytes(0xEE, size) };
            free(address);
        }
    }

    fn special_pool_gives_back_every_frame() {
        let round = || {
            for size in 1..200 {
                let Some(block) = take(Terms { size: size * 20, ..Terms::default() }) else { break };
                free(block.as_ptr().addr());
            }
            crate::mm::frame::free_count()
        };
        // The first round makes page tables.
        round();
        let before = round();
        check!(round() + 1 >= before);
        check!(BOOKS.lock().live.is_empty() && MISSED.load(Ordering::Relaxed) == 0);
    }
}
