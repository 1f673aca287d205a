//! `KUSER_SHARED_DATA`: the page that drivers read the time from without a call.
//!
//! The headers' `KeQuerySystemTime`, `KeQueryInterruptTime` and `KeQueryTickCount` are macros that read a
//! fixed address. The page is brought up to date by every clock interrupt and whenever a processor leaves
//! idle.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::clock::{self, TICK};
use super::lock::InterruptLock;
use crate::mm::frame;
use crate::mm::paging::{self, OutOfMemory, Protection};
use crate::rtl::version;
use crate::selftest::{check, kernel_test};

/// Where every x64 Windows has it.
const ADDRESS: u64 = 0xffff_f780_0000_0000;

const TICK_COUNT_MULTIPLIER: usize = 0x4;
const INTERRUPT_TIME: usize = 0x8;
const SYSTEM_TIME: usize = 0x14;
const BUILD_NUMBER: usize = 0x260;
const MAJOR_VERSION: usize = 0x26C;
const TICK_COUNT: usize = 0x320;

/// The page through the direct map: what drivers see is read-only.
static PAGE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static WRITER: InterruptLock<()> = InterruptLock::new(());

fn word(page: *mut u8, offset: usize) -> &'static AtomicU32 {
    // SAFETY: the page is mapped for ever, and accessed by aligned words only.
    unsafe { &*page.add(offset).cast::<AtomicU32>() }
}

/// A `KSYSTEM_TIME`: readers take high1 and low and believe them when high2 agrees.
fn write_time(page: *mut u8, offset: usize, value: u64) {
    word(page, offset + 8).store((value >> 32) as u32, Ordering::Release);
    word(page, offset).store(value as u32, Ordering::Release);
    word(page, offset + 4).store((value >> 32) as u32, Ordering::Release);
}

/// Maps the page.
///
/// # Errors
/// Where memory is short.
pub fn init() -> Result<(), OutOfMemory> {
    let frame = frame::allocate_zeroed().ok_or(OutOfMemory)?;
    paging::tables().map(ADDRESS, frame, Protection::Read)?;
    let page = frame.direct();
    word(page, BUILD_NUMBER).store(version::BUILD, Ordering::Relaxed);
    word(page, MAJOR_VERSION).store(10, Ordering::Relaxed);
    // GetTickCount's milliseconds are ticks * multiplier >> 24.
    word(page, TICK_COUNT_MULTIPLIER).store(((TICK << 24) / 10_000) as u32, Ordering::Relaxed);
    PAGE.store(page, Ordering::Release);
    Ok(())
}

/// Brings the times up to date.
pub fn update() {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return;
    }
    let _writer = WRITER.lock();
    let now = clock::interrupt_time();
    write_time(page, INTERRUPT_TIME, now);
    write_time(page, SYSTEM_TIME, clock::system_time_at_boot() + now);
    // SAFETY: as in `word`; the tick count is eight aligned bytes, read whole on x64.
    unsafe { &*page.add(TICK_COUNT).cast::<AtomicU64>() }.store(now / TICK, Ordering::Release);
}

kernel_test! {
    fn drivers_can_read_the_time_from_the_page() {
        update();
        // SAFETY: the page is mapped, readable, for ever.
        let (low, high, ticks) = unsafe {
            (
                ((ADDRESS + SYSTEM_TIME as u64) as *const u32).read_volatile(),
                ((ADDRESS + SYSTEM_TIME as u64 + 4) as *const u32).read_volatile(),
                ((ADDRESS + TICK_COUNT as u64) as *const u64).read_volatile(),
            )
        };
        let shown = u64::from(high) << 32 | u64::from(low);
        check!(clock::system_time() - shown < 10_000_000);
        check!(ticks <= clock::interrupt_time() / TICK);
        // This was written in 2026: 1601 is far away.
        check!(shown > 130_000_000_000_000_000);
    }
}
