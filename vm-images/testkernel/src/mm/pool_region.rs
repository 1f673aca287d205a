//! Pages for the pool that drivers allocate from.

use alloc::collections::BTreeMap;
use core::ptr::NonNull;

use super::paging::Protection;
use super::region::{Region, Window};
use crate::ke::lock::SpinLock;

static REGIONS: SpinLock<BTreeMap<usize, Region>> = SpinLock::new(BTreeMap::new());

/// `pages` pages of zeros, not executable.
pub fn allocate(pages: usize) -> Option<NonNull<u8>> {
    let region = Region::map(Window::Dynamic, 0, pages, Protection::ReadWrite)?;
    let pointer = region.pointer();
    REGIONS.lock().insert(pointer.addr().get(), region);
    Some(pointer)
}

/// Gives back what [`allocate`] gave; false where it never did. The addresses fault afterwards.
pub fn free(pointer: NonNull<u8>) -> bool {
    let region = REGIONS.lock().remove(&pointer.addr().get());
    // Unmapping waits for the other processors, so it happens after the lock is free.
    region.is_some()
}
