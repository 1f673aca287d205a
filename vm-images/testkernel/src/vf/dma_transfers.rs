//! DMA verification of transfers: a part of a buffer is mapped, is flushed, and only then are its map registers given back.
//!
//! What is mapped is copied or not, by where the buffer lies; a driver that forgets to flush loses data on one machine and not on the
//! next. So the parts are kept by their addresses, whether they were copied or not.

use alloc::vec::Vec;

use super::dma::violation;
use crate::nt::{MDL, MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_SOURCE_IS_NONPAGED_POOL, PVOID};

/// `MDL_IO_SPACE`: a list of device memory, of which nothing can be paged out.
const MDL_IO_SPACE: i16 = 0x0800;

/// The parts of buffers that an adapter has mapped and not flushed: where each begins and ends.
#[derive(Debug, Default)]
pub struct Mapped(Vec<(usize, usize)>);

impl Mapped {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A part that is mapped already and overlaps this one: where it begins.
    pub fn overlap(&self, start: usize, length: usize) -> Option<usize> {
        let overlapping = self.0.iter().find(|(other, end)| *other < start + length && start < *end);
        overlapping.map(|(other, _)| *other)
    }

    /// A part was mapped.
    pub fn add(&mut self, start: usize, length: usize) {
        if length > 0 {
            self.0.push((start, start + length));
        }
    }

    /// Everything is flushed; false where nothing was mapped.
    pub fn flush(&mut self) -> bool {
        !core::mem::take(&mut self.0).is_empty()
    }

    /// How many parts are mapped.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// 0x0E: the pages of a buffer stay where they are.
///
/// # Safety
/// `mdl` must be null or a list.
pub unsafe fn judge_locked(mdl: *mut MDL) {
    let stays = MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_IO_SPACE;
    // SAFETY: the caller's contract.
    if unsafe { mdl.as_ref() }.is_some_and(|list| list.MdlFlags & stays == 0) {
        violation(0xE, [mdl.addr() as u64, 0, 0]);
    }
}

/// 0x1B: the address lies in what the list describes.
///
/// # Safety
/// As above.
pub unsafe fn judge_bounds(mdl: *mut MDL, current: PVOID) {
    // SAFETY: the caller's contract.
    let Some(list) = (unsafe { mdl.as_ref() }) else { return };
    let start = list.StartVa.addr() + list.ByteOffset as usize;
    if !(start..start + list.ByteCount as usize).contains(&current.addr()) {
        violation(0x1B, [current.addr() as u64, mdl.addr() as u64, 0]);
    }
}
