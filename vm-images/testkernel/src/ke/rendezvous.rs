//! Stopping the other processors for a moment.
//!
//! Page tables are cached by each processor. To take a page away for good, everybody has to forget it at a
//! moment that everybody agrees on; and for a driver's image the moment must be *one*, so that whoever runs
//! in it meets missing code, not first the missing data of code that is still there. So the others are called
//! together by an interprocessor interrupt, wait with interrupts off while the initiator makes its change,
//! forget what they knew of the pages that it was about, and go on.
//!
//! A processor that sleeps for want of work need not be called: it is held in its sleep ([`Sleep`]), and
//! forgets when it wakes, before it takes the interrupt that woke it. On a guest that is mostly idle, and a
//! host with fewer processors than the guest, that is the difference between microseconds and tens of
//! milliseconds.
//!
//! The change itself must take no lock: whoever holds it may be among those who wait.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use squall_testkernel_pure::vectors::IPI_VECTOR;

use super::irql::{self, Irql};
use super::lock::SpinLock;
use super::processor;
use crate::hal::apic;
use crate::ldr::export::export;
use crate::mm::paging;
use crate::selftest::{check, kernel_test};

/// One initiator at a time. Those who wait for it do so at DISPATCH_LEVEL and can still be called together.
static INITIATOR: SpinLock<()> = SpinLock::new(());
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static DEPARTED: AtomicUsize = AtomicUsize::new(0);
static OPEN: AtomicBool = AtomicBool::new(false);
/// What every processor that was called is to forget before it departs: the initiator's list.
static STALE_RANGES: AtomicPtr<Range<u64>> = AtomicPtr::new(core::ptr::null_mut());
static STALE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether a processor sleeps, and what it missed.
#[derive(Debug)]
pub struct Sleep(AtomicU8);

/// It runs: it has to be called.
const AWAKE: u8 = 0;
/// It sleeps, or is about to, and runs nothing but the kernel's own code when it wakes.
const ASLEEP: u8 = 1;
/// As above, and has translations to forget.
const STALE: u8 = 2;
/// As above, and must not wake before an initiator has made its change.
const HELD: u8 = 3;

impl Sleep {
    /// Of a processor that runs.
    pub const fn awake() -> Self {
        Self(AtomicU8::new(AWAKE))
    }

    /// This processor is about to halt. Interrupts off until it does.
    pub fn fall_asleep(&self) {
        self.0.store(ASLEEP, Ordering::SeqCst);
    }

    /// This processor took an interrupt. Interrupts off; before anything else but the kernel's own code.
    #[inline]
    pub fn wake(&self) {
        if self.0.load(Ordering::Relaxed) != AWAKE {
            self.wake_from_sleep();
        }
    }

    #[cold]
    fn wake_from_sleep(&self) {
        let change = |from| self.0.compare_exchange(from, AWAKE, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        while !change(ASLEEP) {
            if change(STALE) {
                paging::flush_this_processor();
                return;
            }
            core::hint::spin_loop();
        }
    }

    /// Keeps another processor asleep; false where it is not.
    fn hold(&self) -> bool {
        [ASLEEP, STALE]
            .into_iter()
            .any(|from| self.0.compare_exchange(from, HELD, Ordering::SeqCst, Ordering::Relaxed).is_ok())
    }

    /// Lets it wake again, to forget first.
    fn let_go(&self) {
        self.0.store(STALE, Ordering::SeqCst);
    }
}

/// Runs `change`, which is to the pages of these ranges, while every other processor stands still. No processor remembers an old
/// translation of theirs when this returns, or before it does anything of its own again. At DISPATCH_LEVEL or below, interrupts
/// on.
pub fn with_others_parked(stale: &[Range<u64>], change: impl FnOnce()) {
    let _initiator = INITIATOR.lock();
    STALE_RANGES.store(stale.as_ptr().cast_mut(), Ordering::Relaxed);
    STALE_COUNT.store(stale.len(), Ordering::Relaxed);
    let me = processor::current_number();
    ARRIVED.store(0, Ordering::Relaxed);
    DEPARTED.store(0, Ordering::Relaxed);
    OPEN.store(false, Ordering::Release);
    let mut held = 0_u64;
    let mut called = 0;
    for other in processor::all().filter(|other| other.number() != me) {
        if other.sleep.hold() {
            held |= other.bit();
        } else {
            called += 1;
            apic::interrupt(other.apic_id, IPI_VECTOR);
        }
    }
    while ARRIVED.load(Ordering::Acquire) < called {
        core::hint::spin_loop();
    }
    change();
    paging::forget(stale);
    OPEN.store(true, Ordering::Release);
    processor::all().filter(|other| held & other.bit() != 0).for_each(|other| other.sleep.let_go());
    while DEPARTED.load(Ordering::Acquire) < called {
        core::hint::spin_loop();
    }
}

/// The interprocessor interrupt, at IPI_LEVEL.
pub fn interrupt() {
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    while !OPEN.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let count = STALE_COUNT.load(Ordering::Relaxed);
    if count > 0 {
        let ranges = STALE_RANGES.load(Ordering::Relaxed);
        // SAFETY: the initiator's own, who waits for this processor to depart.
        paging::forget(unsafe { core::slice::from_raw_parts(ranges, count) });
    }
    let routine = EVERYWHERE.load(Ordering::Acquire);
    if !routine.is_null() {
        // SAFETY: `everywhere` stored the routine that its caller gave for this, and waits for this to return.
        unsafe { core::mem::transmute::<*mut (), Routine>(routine)(ARGUMENT.load(Ordering::Relaxed)) };
    }
    DEPARTED.fetch_add(1, Ordering::AcqRel);
}

/// `KIPI_BROADCAST_WORKER`.
pub type Routine = unsafe extern "win64" fn(argument: usize) -> usize;

/// What every processor is to run before it departs; null where that is nothing.
static EVERYWHERE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static ARGUMENT: AtomicUsize = AtomicUsize::new(0);

export! {
    /// *KeIpiGenericCall function (wdm.h)*: runs the routine on every processor at the same time, at IPI_LEVEL;
    /// returns what it returned on this one. At DISPATCH_LEVEL or below.
    pub unsafe extern "win64" fn KeIpiGenericCall(routine: Routine, argument: usize) -> usize {
        let _initiator = INITIATOR.lock();
        let me = processor::current_number();
        ARRIVED.store(0, Ordering::Relaxed);
        DEPARTED.store(0, Ordering::Relaxed);
        OPEN.store(false, Ordering::Relaxed);
        STALE_COUNT.store(0, Ordering::Relaxed);
        ARGUMENT.store(argument, Ordering::Relaxed);
        EVERYWHERE.store(routine as *mut (), Ordering::Release);
        let others = processor::count() - 1;
        // Nobody is held asleep: an interrupt wakes whoever sleeps.
        processor::all()
            .filter(|other| other.number() != me)
            .for_each(|other| apic::interrupt(other.apic_id, IPI_VECTOR));
        while ARRIVED.load(Ordering::Acquire) < others {
            core::hint::spin_loop();
        }
        let old = irql::raise(Irql::of_vector(IPI_VECTOR));
        OPEN.store(true, Ordering::Release);
        // SAFETY: the caller gave the routine for this call.
        let result = unsafe { routine(argument) };
        while DEPARTED.load(Ordering::Acquire) < others {
            core::hint::spin_loop();
        }
        EVERYWHERE.store(core::ptr::null_mut(), Ordering::Release);
        irql::lower(old);
        result
    }
}

kernel_test! {
    /// *KeIpiGenericCall function (wdm.h)*: on every processor, once, at IPI_LEVEL, simultaneously.
    fn a_generic_call_runs_everywhere_at_once() {
        static INSIDE: AtomicUsize = AtomicUsize::new(0);
        static AT_LEVEL: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn meet(argument: usize) -> usize {
            INSIDE.fetch_add(1, Ordering::AcqRel);
            if irql::current() == Irql::of_vector(IPI_VECTOR) {
                AT_LEVEL.fetch_add(1, Ordering::AcqRel);
            }
            // All are inside at the same time, or this would never end.
            while INSIDE.load(Ordering::Acquire) < processor::count() {
                core::hint::spin_loop();
            }
            argument + 1
        }
        for round in 0..50 {
            INSIDE.store(0, Ordering::Release);
            AT_LEVEL.store(0, Ordering::Release);
            // SAFETY: the routine touches atomics only.
            check!(unsafe { KeIpiGenericCall(meet, round) } == round + 1);
            check!(INSIDE.load(Ordering::Acquire) == processor::count());
            check!(AT_LEVEL.load(Ordering::Acquire) == processor::count());
        }
        check!(irql::current() == Irql::PASSIVE);
    }

    fn nobody_else_moves_while_the_others_are_parked() {
        use crate::ke::thread;
        use core::sync::atomic::AtomicU32;
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        static STOP: AtomicU32 = AtomicU32::new(0);
        STOP.store(0, Ordering::Relaxed);
        let mut threads = alloc::vec::Vec::new();
        for number in 1..processor::count() {
            let spinner = thread::spawn("spinner", 8, move || {
                thread::set_affinity(1 << number);
                while STOP.load(Ordering::Relaxed) == 0 {
                    COUNT.fetch_add(1, Ordering::Relaxed);
                }
            });
            threads.extend(spinner);
        }
        thread::set_affinity(1);
        thread::sleep_ns(20_000_000);
        let mut still = true;
        for _ in 0..20 {
            with_others_parked(&[], || {
                let seen = COUNT.load(Ordering::SeqCst);
                (0..1000).for_each(|_| core::hint::spin_loop());
                still &= COUNT.load(Ordering::SeqCst) == seen;
            });
        }
        thread::set_affinity(u64::MAX);
        STOP.store(1, Ordering::Relaxed);
        check!(still);
        check!(threads.iter().all(|thread| thread.join(Some(5_000_000_000))));
        check!(processor::count() == 1 || COUNT.load(Ordering::Relaxed) > 0);
    }
}
