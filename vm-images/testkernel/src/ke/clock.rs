//! The kernel's clock.
//!
//! A processor with nothing to do and no timer to wait for gets no clock interrupt at all, so that an idle
//! guest costs its host nothing. A processor that runs a thread gets one every 15.625 ms, NT's own interval,
//! which ends the thread's time slice; and either gets one when its next timer is due.
//!
//! Time is read from the processor's counter, never counted in ticks. Only the page that drivers read it from
//! by themselves, `KUSER_SHARED_DATA`, is brought up to date as interrupts come.

use core::sync::atomic::{AtomicU64, Ordering};

use squall_testkernel_pure::vectors::DISPATCH_VECTOR;

use super::processor::{self, Processor};
use super::{dpc, shared_data};
use crate::hal;
use crate::hal::apic;
use crate::ldr::export::export;

/// Between two ticks, in 100 ns: `KeQueryTimeIncrement`.
pub const TICK: u64 = 156_250;
const TICK_NS: u64 = TICK * 100;

/// 100 ns units between 1601, where NT's time begins, and 1970.
const UNITS_TO_1970: u64 = 116_444_736_000_000_000;

static SYSTEM_TIME_AT_BOOT: AtomicU64 = AtomicU64::new(0);

/// Reads the machine's clock chip once.
pub fn init() {
    let now = hal::clock::wall_clock_seconds() * 10_000_000 + UNITS_TO_1970;
    SYSTEM_TIME_AT_BOOT.store(now.saturating_sub(interrupt_time()), Ordering::Relaxed);
    shared_data::update();
}

/// 100 ns units since the kernel began: NT's interrupt time.
pub fn interrupt_time() -> u64 {
    hal::clock::now_ns() / 100
}

/// The system time when the kernel began, in 100 ns since 1601.
pub fn system_time_at_boot() -> u64 {
    SYSTEM_TIME_AT_BOOT.load(Ordering::Relaxed)
}

/// 100 ns units since 1601.
pub fn system_time() -> u64 {
    system_time_at_boot() + interrupt_time()
}

/// `processor` is about to run another thread: ticks begin or end with it. Under the dispatcher's lock.
pub fn thread_changes(processor: &Processor, idle: bool) {
    if idle {
        // In this order: whoever queues a DPC of low importance in between, an ISR on this processor, finds that no tick will come.
        processor.next_tick.store(u64::MAX, Ordering::Relaxed);
        dpc::run_before_idling(processor);
    } else if processor.next_tick.load(Ordering::Relaxed) == u64::MAX {
        processor.next_tick.store(hal::clock::now_ns() + TICK_NS, Ordering::Relaxed);
        shared_data::update();
    }
    arm(processor);
}

/// Whether the clock ticks on `processor`, as it does while a thread runs there.
pub fn ticks(processor: &Processor) -> bool {
    processor.next_tick.load(Ordering::Relaxed) != u64::MAX
}

/// Sets the clock of `processor`, which runs this, to whatever comes first. Under the dispatcher's lock.
pub fn arm(processor: &Processor) {
    let timer = processor.timers.first_due().map_or(u64::MAX, |due| due.saturating_mul(100));
    let due = timer.min(processor.next_tick.load(Ordering::Relaxed));
    if processor.clock_armed.swap(due, Ordering::Relaxed) == due {
        return;
    }
    if due == u64::MAX {
        hal::clock::disarm();
    } else {
        hal::clock::arm_in(due.saturating_sub(hal::clock::now_ns()));
    }
}

/// The clock's interrupt, at CLOCK_LEVEL: what is due is seen to at DISPATCH_LEVEL.
pub fn interrupt() {
    processor::current().clock_armed.store(u64::MAX - 1, Ordering::Relaxed);
    shared_data::update();
    apic::interrupt_self(DISPATCH_VECTOR);
}

/// Whether the running thread's time slice is over on `processor`; begins the next one if so.
pub fn slice_over(processor: &Processor) -> bool {
    let tick = processor.next_tick.load(Ordering::Relaxed);
    let now = hal::clock::now_ns();
    if tick == u64::MAX || now < tick {
        return false;
    }
    processor.next_tick.store(now + TICK_NS, Ordering::Relaxed);
    true
}

export! {
    /// *KeQueryTimeIncrement function (wdm.h)*: 100 ns units to a tick.
    pub unsafe extern "win64" fn KeQueryTimeIncrement() -> u32 {
        TICK as u32
    }

    /// *KeQueryInterruptTime function (wdm.h)*: 100 ns units since the start.
    pub unsafe extern "win64" fn KeQueryInterruptTime() -> u64 {
        interrupt_time()
    }

    /// *KeQuerySystemTime function (wdm.h)*, which the headers mostly read inline: 100 ns units since 1601.
    pub unsafe extern "win64" fn KeQuerySystemTime(time: *mut i64) {
        // SAFETY: the caller's.
        unsafe { time.write(system_time().cast_signed()) };
    }

    /// *KeQueryTickCount macro (wdm.h)*, which the headers mostly read inline: ticks since the start.
    pub unsafe extern "win64" fn KeQueryTickCount(count: *mut i64) {
        // SAFETY: the caller's.
        unsafe { count.write((interrupt_time() / TICK).cast_signed()) };
    }

    /// *KeQuerySystemTimePrecise function (wdm.h)*: 100 ns units since 1601.
    pub unsafe extern "win64" fn KeQuerySystemTimePrecise(time: *mut i64) {
        // SAFETY: the caller's.
        unsafe { time.write(system_time().cast_signed()) };
    }

    /// *KeQueryInterruptTimePrecise function (wdm.h)*: 100 ns units since the start, and the performance
    /// counter then.
    pub unsafe extern "win64" fn KeQueryInterruptTimePrecise(counter: *mut u64) -> u64 {
        // SAFETY: the caller's.
        unsafe { counter.write(hal::clock::counter()) };
        interrupt_time()
    }

    /// *KeQueryUnbiasedInterruptTimePrecise function (wdm.h)*: the same as KeQueryInterruptTimePrecise, as the guest never sleeps.
    pub unsafe extern "win64" fn KeQueryUnbiasedInterruptTimePrecise(counter: *mut u64) -> u64 {
        // SAFETY: the contract is the same.
        unsafe { KeQueryInterruptTimePrecise(counter) }
    }

    /// *KeQueryUnbiasedInterruptTime*: 100 ns units since the start; the guest never sleeps.
    pub unsafe extern "win64" fn KeQueryUnbiasedInterruptTime() -> u64 {
        interrupt_time()
    }
}
