//! Where driver images live.
//!
//! An image is mapped writable while the loader fills it in, then each section gets the protection that the file asks
//! for. When the driver is gone the whole image goes at once, with every other processor parked: whoever was about to run
//! in it meets the missing *code* first, whatever data it would have touched next. The addresses rest for as long as the
//! window allows, so that a call into the unloaded driver faults instead of landing in its successor.

use core::ptr::NonNull;

use super::frame::PAGE_SIZE;
use super::paging::Protection;
use super::region::{Region, Window};

/// The memory of one driver image. Dropping it is unmapping it.
#[derive(Debug)]
pub struct ImageRegion(Region);

impl ImageRegion {
    /// Where the image begins.
    pub fn base(&self) -> u64 {
        self.0.base()
    }

    /// The same, as a pointer: the image's bytes are written through it until they are protected.
    pub fn pointer(&self) -> NonNull<u8> {
        self.0.pointer()
    }

    /// Bytes mapped: whole pages.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Gives the pages that hold `offset..offset + len` their protection, on every processor.
    pub fn protect(&self, offset: usize, len: usize, protection: Protection) {
        self.0.protect(offset, len, protection);
    }
}

/// Maps `size` bytes of zeros for an image, to be written.
pub fn map(size: usize) -> Option<ImageRegion> {
    let pages = size.div_ceil(PAGE_SIZE);
    if pages == 0 {
        return None;
    }
    Region::map(Window::Images, 0, pages, Protection::ReadWrite).map(ImageRegion)
}

/// Takes the image away from every processor at once.
pub fn unmap(image: ImageRegion) {
    drop(image);
}
