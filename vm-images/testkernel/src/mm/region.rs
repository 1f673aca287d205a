//! Ranges of addresses with pages behind them.
//!
//! Three windows of addresses, each of one GiB so that the page tables they need stay few: one for driver
//! images, one for views of sections, which lie among user mode's addresses, one for everything else. Addresses come back as late as the window allows ([`AddressWindow`]), so
//! that a pointer kept too long meets nothing instead of somebody else's memory.

use core::ptr::NonNull;

use squall_testkernel_pure::address_window::AddressWindow;

use super::frame::{self, Frame, PAGE_SIZE};
use super::paging::{self, OutOfMemory, Protection};
use crate::ke::lock::SpinLock;

const WINDOW_PAGES: usize = (1 << 30) / PAGE_SIZE;
/// What is walked round of each window: 1024 drivers of the usual size, for which there are 32 page tables.
const WALKED_PAGES: usize = (64 << 20) / PAGE_SIZE;

/// Views are few: two page tables.
const WALKED_BY_VIEWS: usize = (4 << 20) / PAGE_SIZE;

/// Which window a range comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Stacks, pool, device memory.
    Dynamic,
    /// Driver images.
    Images,
    /// Views of sections, in the system's process.
    Views,
}

impl Window {
    /// The window's first address.
    pub const fn base(self) -> u64 {
        match self {
            Self::Dynamic => 0xffff_c000_0000_0000,
            Self::Images => 0xffff_f800_0000_0000,
            Self::Views => 0x0000_0200_0000_0000,
        }
    }

    /// Whether an address lies in it.
    pub const fn holds(self, address: u64) -> bool {
        address >= self.base() && address - self.base() < (WINDOW_PAGES * PAGE_SIZE) as u64
    }

    /// The addresses that are handed out before any is handed out again.
    pub const fn walked(self) -> core::ops::Range<u64> {
        self.base()..self.base() + (WALKED_PAGES * PAGE_SIZE) as u64
    }

    /// How many of its pages are taken.
    pub fn taken(self) -> usize {
        self.pages().lock().taken()
    }

    fn pages(self) -> &'static SpinLock<AddressWindow> {
        static DYNAMIC: SpinLock<AddressWindow> =
            SpinLock::new(AddressWindow::new(WINDOW_PAGES, WALKED_PAGES));
        static IMAGES: SpinLock<AddressWindow> =
            SpinLock::new(AddressWindow::new(WINDOW_PAGES, WALKED_PAGES));
        static VIEWS: SpinLock<AddressWindow> =
            SpinLock::new(AddressWindow::new(WINDOW_PAGES, WALKED_BY_VIEWS));
        match self {
            Self::Dynamic => &DYNAMIC,
            Self::Images => &IMAGES,
            Self::Views => &VIEWS,
        }
    }
}

/// Makes the page tables for what is walked round of both windows, so that what is in use later tells of who uses it, and not of
/// how far the walk has come. Once, when there is memory.
///
/// # Errors
/// There is not that much.
pub fn prepare() -> Result<(), OutOfMemory> {
    [Window::Dynamic, Window::Images].into_iter().try_for_each(|window| {
        let end = window.base() + (WALKED_PAGES * PAGE_SIZE) as u64;
        paging::tables().prepare(window.base()..end)
    })
}

/// What is behind a range, and so what happens to it in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backing {
    /// Page frames, given back with the range.
    Memory,
    /// A device's registers, or memory that belongs to somebody else.
    Physical,
    /// Nothing any more, nor are the addresses this range's.
    Gone,
}

/// A range of addresses and the pages behind it. Dropping it unmaps them on every processor.
#[derive(Debug)]
pub struct Region {
    window: Window,
    /// Where the range begins, guard pages included, in pages of the window.
    first: usize,
    guard: usize,
    pages: usize,
    backing: Backing,
}

impl Region {
    fn reserve(window: Window, guard: usize, pages: usize, align: usize, backing: Backing) -> Option<Self> {
        let total = guard.checked_add(pages)?.checked_next_multiple_of(align)?;
        let first = window.pages().lock().take(total)?;
        Some(Self { window, first, guard, pages, backing })
    }

    /// Addresses for `pages` pages of memory, behind `guard` pages that fault. Nothing is there yet.
    pub fn empty(window: Window, guard: usize, pages: usize) -> Option<Self> {
        // Images begin at multiples of 64 KiB, as on Windows, with a gap between them.
        let align = if window == Window::Images { 16 } else { 1 };
        let extra = if window == Window::Images { 1 } else { 0 };
        let mut region = Self::reserve(window, guard, pages.checked_add(extra)?, align, Backing::Memory)?;
        region.pages = pages;
        Some(region)
    }

    /// Puts a frame where nothing is yet; it goes back with the region. False, and the frame stays the caller's, where there
    /// is no memory for a page table.
    #[must_use]
    pub fn put(&self, page: usize, frame: Frame, protection: Protection) -> bool {
        paging::tables().map(self.page_address(page), frame, protection).is_ok()
    }

    /// `pages` pages of zeros, behind `guard` pages that fault.
    ///
    /// Where memory runs out, nothing is left behind.
    pub fn map(window: Window, guard: usize, pages: usize, protection: Protection) -> Option<Self> {
        let region = Self::empty(window, guard, pages)?;
        for page in 0..pages {
            // Dropping the region gives back what there is of it.
            let frame = frame::allocate_zeroed()?;
            if !region.put(page, frame, protection) {
                frame::release(frame);
                return None;
            }
        }
        Some(region)
    }

    /// Unmaps it, on every processor, and lets the caller have the frames that were behind it. Once; dropping it is the same,
    /// with the frames given back.
    pub fn unmap(&mut self, mut freed: impl FnMut(Frame)) {
        let backing = core::mem::replace(&mut self.backing, Backing::Gone);
        if backing == Backing::Gone {
            return;
        }
        let keep = backing == Backing::Memory;
        paging::tables().unmap(self.base(), self.pages, |physical| {
            if keep {
                freed(Frame::containing(physical));
            }
        });
        self.window.pages().lock().give_back(self.first);
    }

    /// Makes `pages` pages from `physical` appear. They stay whoever's they are.
    pub fn map_physical(physical: u64, pages: usize, protection: Protection) -> Option<Self> {
        let region = Self::reserve(Window::Dynamic, 1, pages, 1, Backing::Physical)?;
        for page in 0..pages {
            let physical = physical.checked_add((page * PAGE_SIZE) as u64)?;
            paging::tables().map_physical(region.page_address(page), physical, protection).ok()?;
        }
        Some(region)
    }

    /// Makes the pages at these physical addresses appear one after the other. They stay whoever's they are.
    pub fn map_frames(frames: impl ExactSizeIterator<Item = u64>, protection: Protection) -> Option<Self> {
        Self::map_frames_in(Window::Dynamic, frames, protection)
    }

    /// The same in another window. Views begin at multiples of 64 KiB, as on Windows, with a gap between them.
    pub fn map_frames_in(
        window: Window,
        frames: impl ExactSizeIterator<Item = u64>,
        protection: Protection,
    ) -> Option<Self> {
        let pages = frames.len();
        let (guard, extra, align) = if window == Window::Views { (0, 1, 16) } else { (1, 0, 1) };
        let mut region = Self::reserve(window, guard, pages.checked_add(extra)?, align, Backing::Physical)?;
        region.pages = pages;
        for (page, physical) in frames.enumerate() {
            paging::tables().map_physical(region.page_address(page), physical, protection).ok()?;
        }
        Some(region)
    }

    /// Addresses for `pages` pages, and the page tables for them, so that what is shown there later needs no memory.
    pub fn addresses(pages: usize) -> Option<Self> {
        let region = Self::reserve(Window::Dynamic, 1, pages, 1, Backing::Physical)?;
        let end = region.base() + region.bytes() as u64;
        // The last page's table as well, wherever in its span the first page lies.
        let prepared = {
            let mut tables = paging::tables();
            tables.prepare(region.base()..end).and_then(|()| tables.prepare(end - 1..end))
        };
        prepared.ok().map(|()| region)
    }

    /// Makes a page that stays somebody else's appear where nothing is.
    #[must_use]
    pub fn show(&self, page: usize, physical: u64, protection: Protection) -> bool {
        paging::tables().map_physical(self.page_address(page), physical, protection).is_ok()
    }

    /// Takes away what was shown of the `pages` from `base` on, of a region's addresses; they stay the region's.
    pub fn conceal(base: u64, pages: usize) {
        paging::tables().unmap(base, pages, |_| ());
    }

    fn page_address(&self, page: usize) -> u64 {
        self.window.base() + ((self.first + self.guard + page) * PAGE_SIZE) as u64
    }

    /// The first usable address.
    pub fn base(&self) -> u64 {
        self.page_address(0)
    }

    /// The first usable address, as a pointer.
    pub fn pointer(&self) -> NonNull<u8> {
        // A window's addresses are never null.
        NonNull::new(self.base() as *mut u8).unwrap_or(NonNull::dangling())
    }

    /// Bytes between [`Self::base`] and the end.
    pub fn bytes(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// Changes what may be done with the pages that hold `offset..offset + len`.
    pub fn protect(&self, offset: usize, len: usize, protection: Protection) {
        let first = (offset / PAGE_SIZE).min(self.pages);
        let end = offset.saturating_add(len).div_ceil(PAGE_SIZE).min(self.pages);
        paging::tables().protect(self.page_address(first), end.saturating_sub(first), protection);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.unmap(frame::release);
    }
}
