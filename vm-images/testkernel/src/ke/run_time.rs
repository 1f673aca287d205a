//! How long threads have run, by their processors' counters. What interrupts take of a thread's time is counted as its own.

use core::sync::atomic::Ordering;

use super::thread::Thread;
use crate::hal::clock as hardware;
use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// Clock ticks in a second: one each 15.625 ms.
const TICKS_PER_SECOND: u64 = 64;

/// A processor goes on with `next` instead of `current`. Under the dispatcher's lock.
#[inline]
pub fn passes_from(current: &Thread, next: &Thread) {
    let now = hardware::counter();
    let ran = now.wrapping_sub(current.running_since.load(Ordering::Relaxed));
    current.cycles.store(current.cycles.load(Ordering::Relaxed).wrapping_add(ran), Ordering::Relaxed);
    next.running_since.store(now, Ordering::Relaxed);
}

/// Cycles that a thread has run for, and the counter now. Of one that runs on another processor, what it has run for since it came
/// to run last is not known.
fn cycles(thread: &Thread) -> (u64, u64) {
    let now = hardware::counter();
    let before = thread.cycles.load(Ordering::Relaxed);
    if core::ptr::eq(thread, super::thread::current().as_ptr()) {
        let since = now.saturating_sub(thread.running_since.load(Ordering::Relaxed));
        return (before.wrapping_add(since), now);
    }
    (before, now)
}

export! {
    /// *KeQueryTotalCycleTimeThread function (wdm.h)*: cycles of the thread, and the processor's counter.
    pub unsafe extern "win64" fn KeQueryTotalCycleTimeThread(thread: *const Thread, stamp: *mut u64) -> u64 {
        // SAFETY: the caller's thread.
        let (cycles, now) = cycles(unsafe { &*thread });
        if !stamp.is_null() {
            // SAFETY: the caller's.
            unsafe { stamp.write(now) };
        }
        cycles
    }

    /// *KeQueryRuntimeThread function (wdm.h)*: clock ticks that the thread ran in kernel mode; in user mode none.
    pub unsafe extern "win64" fn KeQueryRuntimeThread(thread: *const Thread, user: *mut u32) -> u32 {
        if !user.is_null() {
            // SAFETY: the caller's.
            unsafe { user.write(0) };
        }
        // SAFETY: the caller's thread.
        let (cycles, _) = cycles(unsafe { &*thread });
        let a_second = u128::from(hardware::counter_frequency().max(1));
        (u128::from(cycles) * u128::from(TICKS_PER_SECOND) / a_second) as u32
    }
}

kernel_test! {
    /// *KeQueryTotalCycleTimeThread function (wdm.h)*: a thread that works counts, one that sleeps does not.
    fn a_thread_counts_what_it_runs_for_and_not_what_it_sleeps_for() {
        use super::thread;
        let me = thread::current();
        // SAFETY: the thread that runs is alive.
        let ran = || unsafe { KeQueryTotalCycleTimeThread(me.as_ptr(), core::ptr::null_mut()) };
        let a_millisecond = hardware::counter_frequency() / 1000;
        let before = ran();
        let end = hardware::counter() + 5 * a_millisecond;
        while hardware::counter() < end {
            core::hint::spin_loop();
        }
        let after = ran();
        check!(after >= before + a_millisecond);
        let slept = ran();
        thread::sleep_ns(200_000_000);
        check!(ran() - slept < 150 * a_millisecond);
    }
}
