//! Stopping the other processors for a moment.
//!
//! Page tables are cached by each processor. To take a page away for good, everybody has to forget it at a moment that
//! everybody agrees on; and for a driver's image the moment must be *one*, so that whoever runs in it meets missing code,
//! not first the missing data of code that is still there. So the others are called together by an interprocessor
//! interrupt, wait with interrupts off while the initiator makes its change, forget all translations, and go on.
//!
//! The change itself must take no lock: whoever holds it may be among those who wait.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use squall_testkernel_pure::vectors::IPI_VECTOR;

use super::lock::SpinLock;
use super::processor;
use crate::hal::apic;
use crate::mm::paging;
use crate::selftest::{check, kernel_test};

/// One initiator at a time. Those who wait for it do so at DISPATCH_LEVEL and can still be called together.
static INITIATOR: SpinLock<()> = SpinLock::new(());
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static DEPARTED: AtomicUsize = AtomicUsize::new(0);
static OPEN: AtomicBool = AtomicBool::new(false);

/// Runs `change` while every other processor stands still. No processor remembers an old translation when this returns.
/// At DISPATCH_LEVEL or below, interrupts on.
pub fn with_others_parked(change: impl FnOnce()) {
    let others = processor::count().saturating_sub(1);
    let _initiator = INITIATOR.lock();
    if others > 0 {
        ARRIVED.store(0, Ordering::Relaxed);
        DEPARTED.store(0, Ordering::Relaxed);
        OPEN.store(false, Ordering::Release);
        apic::interrupt_others(IPI_VECTOR);
        while ARRIVED.load(Ordering::Acquire) < others {
            core::hint::spin_loop();
        }
    }
    change();
    paging::flush_this_processor();
    if others > 0 {
        OPEN.store(true, Ordering::Release);
        while DEPARTED.load(Ordering::Acquire) < others {
            core::hint::spin_loop();
        }
    }
}

/// The interprocessor interrupt, at IPI_LEVEL.
pub fn interrupt() {
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    while !OPEN.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    paging::flush_this_processor();
    DEPARTED.fetch_add(1, Ordering::AcqRel);
}

kernel_test! {
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
        for _ in 0..100 {
            with_others_parked(|| {
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
