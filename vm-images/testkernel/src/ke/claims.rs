//! How many interrupts drivers have claimed, and waiting for more of them.
//!
//! An ISR that returns TRUE says that the interrupt was its device's. Who wants a driver to be in the middle of its work waits for so
//! many of these, without a look at the clock meanwhile: on an emulated machine a timer costs as much as many an interrupt.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};

use alloc::boxed::Box;

use super::event::Event;
use super::{dpc, processor};
use crate::nt::KDPC;

/// So many more, and the waiter is woken; 0 or less while nobody waits.
static WANTED: AtomicI64 = AtomicI64::new(0);
static WAITER: AtomicPtr<Waiter> = AtomicPtr::new(ptr::null_mut());

struct Waiter {
    /// An ISR may not signal an event; its DPC does.
    dpc: UnsafeCell<KDPC>,
    enough: Event,
}

/// An ISR of a driver's has claimed an interrupt. At its IRQL.
pub fn count() {
    processor::current().claimed.fetch_add(1, Ordering::Relaxed);
    if WANTED.load(Ordering::Relaxed) > 0 && WANTED.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: whoever wants some has made the waiter before, which lives for ever, its DPC initialized.
        if let Some(waiter) = unsafe { WAITER.load(Ordering::Acquire).as_ref() } {
            // SAFETY: as above.
            unsafe { dpc::insert(waiter.dpc.get(), ptr::null_mut(), ptr::null_mut()) };
        }
    }
}

/// Claimed so far, ever.
pub fn total() -> u64 {
    processor::all().map(|processor| processor.claimed.load(Ordering::Relaxed)).sum()
}

unsafe extern "win64" fn wake(_: *mut KDPC, waiter: *mut c_void, _: *mut c_void, _: *mut c_void) {
    // SAFETY: the waiter lives for ever.
    unsafe { &*waiter.cast::<Waiter>() }.enough.set();
}

/// The one waiter, made when it is first wanted.
fn waiter() -> &'static Waiter {
    // SAFETY: once stored, it lives for ever.
    if let Some(waiter) = unsafe { WAITER.load(Ordering::Acquire).as_ref() } {
        return waiter;
    }
    let waiter: &'static Waiter = Box::leak(Box::new(Waiter {
        dpc: UnsafeCell::new(dpc::UNUSED),
        enough: Event::new_synchronization(),
    }));
    // SAFETY: the DPC lives for ever and is in no queue yet.
    unsafe { dpc::initialize(waiter.dpc.get(), Some(wake), ptr::from_ref(waiter).cast_mut().cast()) };
    WAITER.store(ptr::from_ref(waiter).cast_mut(), Ordering::Release);
    waiter
}

/// Waits until so many more have been claimed than `before`: false where there was none for `patience_ns`, or where another thread
/// waits already. At PASSIVE_LEVEL.
pub fn wait_for(before: u64, wanted: u64, patience_ns: u64) -> bool {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Acquire) {
        return false;
    }
    let waiter = waiter();
    let came = loop {
        let seen = total();
        let missing = i64::try_from((before + wanted).saturating_sub(seen)).unwrap_or(i64::MAX);
        if missing == 0 {
            break true;
        }
        // What is claimed between the look and this is not counted down: the next look is for that.
        WANTED.store(missing, Ordering::Release);
        let late = total() - seen;
        if late > 0 {
            continue;
        }
        if !waiter.enough.wait(Some(patience_ns)) && total() == seen {
            break false;
        }
    };
    WANTED.store(0, Ordering::Release);
    TAKEN.store(false, Ordering::Release);
    came
}
