//! Pages for the pool that drivers allocate from.

use core::ptr::NonNull;

use super::paging::Protection;
use super::region::{Region, Window};

/// `pages` pages of zeros, not executable. The pool keeps what it got.
pub fn allocate(pages: usize) -> Option<NonNull<u8>> {
    let region = Region::map(Window::Dynamic, 0, pages, Protection::ReadWrite)?;
    let pointer = region.pointer();
    core::mem::forget(region);
    Some(pointer)
}
