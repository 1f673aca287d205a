//! Pages that stand alone, for special pool: behind each lies a guard, and one that was given back stays empty as long as
//! the window allows.
//!
//! Why a page is absent is kept in its own table entry ([`paging::Absent`]), where the bug check reads it.

use core::sync::atomic::{AtomicUsize, Ordering};

use squall_testkernel_pure::address_window::AddressWindow;

use super::frame::{self, PAGE_SIZE};
use super::paging::{self, Absent, Protection};
use crate::ke::lock::SpinLock;

/// Where the window begins, and how many pages it has; every second one is a guard.
const BASE: u64 = 0xffff_d000_0000_0000;
const PAGES: usize = (128 << 20) / PAGE_SIZE;

static WINDOW: SpinLock<AddressWindow> = SpinLock::new(AddressWindow::new(PAGES, PAGES));

/// How far the walk has come, in pages.
static REACHED: AtomicUsize = AtomicUsize::new(0);

/// Page frames of the page tables for what was walked: they stay, and say nothing of who holds memory.
pub fn table_pages() -> usize {
    const PAGES_IN_A_TABLE: usize = 512;
    REACHED.load(Ordering::Relaxed).div_ceil(PAGES_IN_A_TABLE)
}

/// The page of the window that holds `address`, guards included.
pub fn page_of(address: u64) -> Option<u64> {
    let end = BASE + (PAGES * PAGE_SIZE) as u64;
    (BASE..end).contains(&address).then_some(address & !(PAGE_SIZE as u64 - 1))
}

/// A page with a guard behind it; its contents are whatever they were.
pub fn take() -> Option<u64> {
    let frame = frame::allocate()?;
    let first = WINDOW.lock().take(2);
    if let Some(first) = first {
        REACHED.fetch_max(first + 2, Ordering::Relaxed);
    }
    let mapped = first.and_then(|first| {
        let page = BASE + (first * PAGE_SIZE) as u64;
        let mut tables = paging::tables();
        tables.map_again(page, frame, Protection::ReadWrite).ok()?;
        if tables.mark(page + PAGE_SIZE as u64, Absent::Guard).is_ok() {
            return Some(page);
        }
        tables.unmap(page, 1, |_| {});
        None
    });
    if mapped.is_none() {
        frame::release(frame);
        if let Some(first) = first {
            WINDOW.lock().give_back(first);
        }
    }
    mapped
}

/// Takes the page away from every processor. Whoever touches it from now on touches what was freed.
pub fn give_back(page: u64) {
    let frame = {
        let mut tables = paging::tables();
        tables.hide(core::slice::from_ref(&(page..page + PAGE_SIZE as u64)), Absent::Freed);
        let frame = paging::hidden_frame(page);
        // Its tables exist: it was mapped.
        let _ = tables.mark(page, Absent::Freed);
        frame
    };
    frame.into_iter().for_each(frame::release);
    WINDOW.lock().give_back((page - BASE) as usize / PAGE_SIZE);
}
