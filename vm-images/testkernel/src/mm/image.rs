//! Where driver images live.
//!
//! An image is mapped writable while the loader fills it in, then each section gets the protection that the
//! file asks for. When the driver is gone the whole image goes at once, with every other processor parked:
//! whoever was about to run in it meets the missing *code* first, whatever data it would have touched next.
//! The addresses rest for as long as the window allows, so that a call into the unloaded driver faults
//! instead of landing in its successor.

use core::ptr::NonNull;

use super::frame::PAGE_SIZE;
use super::paging::Protection;
use super::region::{Region, Window};
use crate::selftest::{check, kernel_test};

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

kernel_test! {
    fn an_image_appears_with_its_protections_and_goes_for_good() {
        use super::paging;
        let free = super::frame::free_count();
        let image = map(0x2800);
        check!(image.is_some());
        let Some(image) = image else { return Ok(()) };
        let base = image.base();
        check!(image.bytes() == 0x3000 && base % 0x10000 == 0);
        // mov eax, 42; ret
        let code = [0xB8, 42, 0, 0, 0, 0xC3];
        // SAFETY: the image is mapped, writable and longer than that.
        unsafe { image.pointer().as_ptr().copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        image.protect(0, 6, Protection::ReadExecute);
        // SAFETY: the code just written is such a function, and executable now.
        let answer = unsafe { core::mem::transmute::<u64, extern "C" fn() -> u32>(base)() };
        check!(answer == 42);
        const WRITABLE: u64 = 2;
        const NO_EXECUTE: u64 = 1 << 63;
        check!(paging::entry(base) & (WRITABLE | NO_EXECUTE) == 0);
        check!(paging::entry(base + 0x1000) & (WRITABLE | NO_EXECUTE) == WRITABLE | NO_EXECUTE);
        unmap(image);
        check!((0..3).all(|page| !paging::is_present(base + page * 0x1000)));
        let again = map(0x2800);
        check!(again.is_some_and(|again| again.base() != base));
        // Tables that had to be made stay.
        check!(super::frame::free_count() + 4 >= free);
    }
}
