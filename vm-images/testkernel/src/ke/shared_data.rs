//! `KUSER_SHARED_DATA`: the page that drivers read the time from without a call.
//!
//! The headers' `KeQuerySystemTime`, `KeQueryInterruptTime` and `KeQueryTickCount` are macros that read a
//! fixed address. The page is brought up to date by every clock interrupt and whenever a processor leaves
//! idle. What else the structure's page documents is filled in once; fields that are not listed here are 0, as they are on a Windows that
//! has no use for them.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::clock::{self, TICK};
use super::extended_state::LEGACY;
use super::lock::InterruptLock;
use super::processor;
use crate::ex::system::ExIsProcessorFeaturePresent;
use crate::mm::frame;
use crate::mm::paging::{self, OutOfMemory, Protection};
use crate::rtl::version;
use crate::selftest::{check, kernel_test};

/// Where every x64 Windows has it.
const ADDRESS: u64 = 0xffff_f780_0000_0000;

const TICK_COUNT_MULTIPLIER: usize = 0x4;
const INTERRUPT_TIME: usize = 0x8;
const SYSTEM_TIME: usize = 0x14;
const IMAGE_NUMBERS: usize = 0x2C;
const SYSTEM_ROOT: usize = 0x30;
const LARGE_PAGE_MINIMUM: usize = 0x244;
const BUILD_NUMBER: usize = 0x260;
const PRODUCT_TYPE: usize = 0x264;
/// `ProductTypeIsValid`, and `NativeProcessorArchitecture` in the upper half.
const PRODUCT_TYPE_IS_VALID: usize = 0x268;
const MAJOR_VERSION: usize = 0x26C;
const MINOR_VERSION: usize = 0x270;
const PROCESSOR_FEATURES: usize = 0x274;
const PROCESSOR_FEATURE_MAX: u32 = 64;
const SUITE_MASK: usize = 0x2D0;
const NUMBER_OF_PHYSICAL_PAGES: usize = 0x2E8;
const QPC_FREQUENCY: usize = 0x300;
const TICK_COUNT: usize = 0x320;
const ACTIVE_PROCESSOR_COUNT: usize = 0x3C0;
/// A byte; the ones before it are 0.
const ACTIVE_GROUP_COUNT: usize = 0x3C4;
const XSTATE_ENABLED_FEATURES: usize = 0x3D8;

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

/// Maps the page. Only the times are there until [`fill_in`].
///
/// # Errors
/// Where memory is short.
pub fn init() -> Result<(), OutOfMemory> {
    let frame = frame::allocate_zeroed().ok_or(OutOfMemory)?;
    paging::tables().map(ADDRESS, frame, Protection::Read)?;
    let page = frame.direct();
    PAGE.store(page, Ordering::Release);
    Ok(())
}

/// Fills in what does not change, and how many processors there are. Before any driver is loaded.
pub fn fill_in() {
    /// `IMAGE_FILE_MACHINE_AMD64`, the lowest and the highest machine whose images run here.
    const AMD64: u32 = 0x8664;
    /// `NtProductWinNt`.
    const WORKSTATION: u32 = 1;
    /// `PROCESSOR_ARCHITECTURE_AMD64`.
    const ARCHITECTURE_AMD64: u32 = 9;
    const LARGE_PAGE: u32 = 2 << 20;
    const ROOT: &str = r"C:\Windows";
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return;
    }
    word(page, BUILD_NUMBER).store(version::BUILD, Ordering::Relaxed);
    word(page, MAJOR_VERSION).store(version::MAJOR, Ordering::Relaxed);
    word(page, MINOR_VERSION).store(version::MINOR, Ordering::Relaxed);
    // GetTickCount's milliseconds are ticks * multiplier >> 24.
    word(page, TICK_COUNT_MULTIPLIER).store(((TICK << 24) / 10_000) as u32, Ordering::Relaxed);
    word(page, IMAGE_NUMBERS).store(AMD64 << 16 | AMD64, Ordering::Relaxed);
    word(page, LARGE_PAGE_MINIMUM).store(LARGE_PAGE, Ordering::Relaxed);
    word(page, PRODUCT_TYPE).store(WORKSTATION, Ordering::Relaxed);
    word(page, PRODUCT_TYPE_IS_VALID).store(ARCHITECTURE_AMD64 << 16 | 1, Ordering::Relaxed);
    word(page, SUITE_MASK).store(version::SUITES.into(), Ordering::Relaxed);
    word(page, NUMBER_OF_PHYSICAL_PAGES)
        .store((frame::end_of_memory() / frame::PAGE_SIZE as u64) as u32, Ordering::Relaxed);
    let frequency = crate::hal::clock::counter_frequency();
    word(page, QPC_FREQUENCY).store(frequency as u32, Ordering::Relaxed);
    word(page, QPC_FREQUENCY + 4).store((frequency >> 32) as u32, Ordering::Relaxed);
    word(page, ACTIVE_GROUP_COUNT).store(1, Ordering::Relaxed);
    word(page, XSTATE_ENABLED_FEATURES).store(LEGACY as u32, Ordering::Relaxed);
    for (index, unit) in ROOT.encode_utf16().enumerate() {
        // SAFETY: the page is this kernel's, nobody reads it yet, and the name is short.
        unsafe { page.add(SYSTEM_ROOT).cast::<u16>().add(index).write(unit) };
    }
    for feature in 0..PROCESSOR_FEATURE_MAX {
        // SAFETY: as above; the question may be asked at any time.
        unsafe {
            page.add(PROCESSOR_FEATURES + feature as usize).write(ExIsProcessorFeaturePresent(feature))
        };
    }
    processors_are(processor::count());
}

/// So many processors run from now on.
pub fn processors_are(count: usize) {
    let page = PAGE.load(Ordering::Acquire);
    if !page.is_null() {
        word(page, ACTIVE_PROCESSOR_COUNT).store(count as u32, Ordering::Release);
    }
}

/// The system's time as drivers read it, which is that of the last tick: what is dated by it is never later than a driver's own look.
pub fn system_time() -> u64 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return clock::system_time();
    }
    loop {
        let high = word(page, SYSTEM_TIME + 4).load(Ordering::Acquire);
        let low = word(page, SYSTEM_TIME).load(Ordering::Acquire);
        if word(page, SYSTEM_TIME + 8).load(Ordering::Acquire) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
        core::hint::spin_loop();
    }
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
        check!(system_time() >= shown && system_time() <= clock::system_time());
        check!(ticks <= clock::interrupt_time() / TICK);
        // This was written in 2026: 1601 is far away.
        check!(shown > 130_000_000_000_000_000);
    }

    /// *KUSER_SHARED_DATA structure (ntddk.h)*.
    fn drivers_can_read_what_the_system_is_from_the_page() {
        // SAFETY: the page is mapped, readable, for ever.
        let word = |offset: usize| unsafe { ((ADDRESS + offset as u64) as *const u32).read_volatile() };
        check!(word(MAJOR_VERSION) == 10 && word(MINOR_VERSION) == 0 && word(PRODUCT_TYPE) == 1);
        check!(word(ACTIVE_PROCESSOR_COUNT) as usize == processor::count());
        check!(word(SYSTEM_ROOT) == u32::from(b'C') | u32::from(b':') << 16);
        check!(word(NUMBER_OF_PHYSICAL_PAGES) > 0 && word(QPC_FREQUENCY) > 0);
    }
}
