//! Where driver images live.
//!
//! A driver's image is put together in the heap and appears whole, each page with the protection that the file asks for:
//! nobody can have seen it before, so no processor has to be told. When the driver is gone the whole image goes at once, with every other processor parked:
//! whoever was about to run in it meets the missing *code* first, whatever data it would have touched next.
//! The addresses rest for as long as the window allows, so that a call into the unloaded driver faults
//! instead of landing in its successor.
//!
//! The frames of pages that only hold code are kept on *standby* for a while, as Windows keeps those of an image's section: a
//! driver that is loaded again finds its code there, byte for byte, since code that addresses everything relative to itself
//! is the same wherever it lies. It saves more than the copying. An emulator translates code by the memory that it lies in, and
//! keeps the translation until that memory is written to; translating a driver anew costs it many times what loading one does.

use alloc::vec::Vec;
use core::ptr::NonNull;

use super::frame::{self, Frame, PAGE_SIZE};
use super::paging::Protection;
use super::region::{Region, Window};
use crate::ke::lock::SpinLock;
use crate::selftest::{check, kernel_test};

/// Frames on standby, at most: 512 KiB of code.
const MOST_ON_STANDBY: usize = 128;

/// Frames that hold code which is mapped nowhere, the ones that have been there longest first.
static STANDBY: SpinLock<Vec<Frame>> = SpinLock::new(Vec::new());

/// The memory of one driver image. Dropping it is unmapping it.
#[derive(Debug)]
pub struct ImageRegion {
    region: Region,
    /// The frames that hold only code.
    code: Vec<Frame>,
}

/// Addresses for an image that is still to appear there.
#[derive(Debug)]
pub struct Place(Region);

/// Finds a place for an image of `size` bytes.
pub fn reserve(size: usize) -> Option<Place> {
    let pages = size.div_ceil(PAGE_SIZE);
    if pages == 0 {
        return None;
    }
    Region::empty(Window::Images, 0, pages).map(Place)
}

impl Place {
    /// Where the image will begin.
    pub fn base(&self) -> u64 {
        self.0.base()
    }

    /// Has the image appear, finished; `protection` says by each page's offset what may be done with it. Where memory runs
    /// out, nothing is left behind.
    pub fn fill(self, image: &[u8], protection: impl Fn(usize) -> Protection) -> Option<ImageRegion> {
        let mut code = Vec::new();
        code.try_reserve_exact(self.0.bytes() / PAGE_SIZE).ok()?;
        for (page, bytes) in image.chunks(PAGE_SIZE).enumerate() {
            let protection = protection(page * PAGE_SIZE);
            let frame = match protection {
                Protection::ReadExecute => code_frame(bytes)?,
                _ => frame_of(bytes)?,
            };
            if !self.0.put(page, frame, protection) {
                frame::release(frame);
                return None;
            }
            if protection == Protection::ReadExecute {
                code.push(frame);
            }
        }
        Some(ImageRegion { region: self.0, code })
    }
}

/// A new frame with these bytes, and zeros behind them.
fn frame_of(bytes: &[u8]) -> Option<Frame> {
    let frame = frame::allocate_zeroed()?;
    // SAFETY: the frame is nobody else's, and as long as any page of an image.
    unsafe { frame.direct().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    Some(frame)
}

/// A frame with these bytes: one that was on standby with just them, or a new one.
fn code_frame(bytes: &[u8]) -> Option<Frame> {
    let holds = |frame: &Frame| {
        // SAFETY: a frame on standby is mapped nowhere else, and nobody writes to it.
        let there = unsafe { core::slice::from_raw_parts(frame.direct(), PAGE_SIZE) };
        there.starts_with(bytes) && there[bytes.len()..].iter().all(|&byte| byte == 0)
    };
    let found = {
        let mut standby = STANDBY.lock();
        standby.iter().position(holds).map(|at| standby.remove(at))
    };
    found.or_else(|| frame_of(bytes))
}

/// Keeps a frame for who needs the same code again.
fn put_on_standby(frame: Frame) {
    let mut standby = STANDBY.lock();
    let oldest = (standby.len() >= MOST_ON_STANDBY).then(|| standby.remove(0));
    let kept = standby.try_reserve(1).is_ok();
    if kept {
        standby.push(frame);
    }
    drop(standby);
    oldest.into_iter().chain((!kept).then_some(frame)).for_each(frame::release);
}

impl Drop for ImageRegion {
    fn drop(&mut self) {
        let Self { region, code } = self;
        region
            .unmap(|frame| if code.contains(&frame) { put_on_standby(frame) } else { frame::release(frame) });
    }
}

impl ImageRegion {
    /// Where the image begins.
    pub fn base(&self) -> u64 {
        self.region.base()
    }

    /// The same, as a pointer: the image's bytes are written through it until they are protected.
    pub fn pointer(&self) -> NonNull<u8> {
        self.region.pointer()
    }

    /// Bytes mapped: whole pages.
    pub fn bytes(&self) -> usize {
        self.region.bytes()
    }

    /// Gives the pages that hold `offset..offset + len` their protection, on every processor.
    pub fn protect(&self, offset: usize, len: usize, protection: Protection) {
        self.region.protect(offset, len, protection);
    }
}

/// Maps `size` bytes of zeros for an image, to be written.
pub fn map(size: usize) -> Option<ImageRegion> {
    let pages = size.div_ceil(PAGE_SIZE);
    if pages == 0 {
        return None;
    }
    let region = Region::map(Window::Images, 0, pages, Protection::ReadWrite)?;
    Some(ImageRegion { region, code: Vec::new() })
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
