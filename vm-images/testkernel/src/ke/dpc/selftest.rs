//! DPCs on this machine's processors.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::routines::{KeInitializeThreadedDpc, KeRemoveQueueDpcEx, KeSetImportanceDpc};
use super::{MAXIMUM_DEPTH, UNUSED, flush_all, importance, initialize, insert, remove, set_target};
use crate::ke::irql::{self, Irql};
use crate::ke::processor;
use crate::nt::{KDPC, PVOID};
use crate::selftest::{check, kernel_test};

mod recorder {
    //! DPC routines that say when and where they ran.
    use super::{KDPC, c_void};
    use crate::ke::{irql, processor};
    use core::sync::atomic::{AtomicU32, Ordering};

    pub static RUNS: AtomicU32 = AtomicU32::new(0);
    pub static IRQL: AtomicU32 = AtomicU32::new(0);
    pub static PROCESSOR: AtomicU32 = AtomicU32::new(0);
    /// The contexts of the DPCs that ran, a decimal digit each.
    pub static ORDER: AtomicU32 = AtomicU32::new(0);

    pub unsafe extern "win64" fn record(_: *mut KDPC, context: *mut c_void, _: *mut c_void, _: *mut c_void) {
        RUNS.fetch_add(1, Ordering::Relaxed);
        IRQL.store(irql::current().0.into(), Ordering::Relaxed);
        PROCESSOR.store(processor::current().number() as u32, Ordering::Relaxed);
        let before = ORDER.load(Ordering::Relaxed);
        ORDER.store(before.wrapping_mul(10).wrapping_add(context.addr() as u32), Ordering::Relaxed);
    }
}

/// A DPC that records, with a number.
fn recording(number: usize) -> KDPC {
    let mut dpc = UNUSED;
    // SAFETY: in no queue.
    unsafe { initialize(&raw mut dpc, Some(recorder::record), number as *mut c_void) };
    dpc
}

kernel_test! {
    fn a_dpc_runs_before_the_irql_is_low_again() {
        let mut dpc = recording(1);
        recorder::RUNS.store(0, Ordering::Relaxed);
        let old = irql::raise(Irql::DISPATCH);
        // SAFETY: it runs before this returns.
        unsafe {
            check!(insert(&raw mut dpc, ptr::null_mut(), ptr::null_mut()));
            check!(!insert(&raw mut dpc, ptr::null_mut(), ptr::null_mut()));
        }
        check!(recorder::RUNS.load(Ordering::Relaxed) == 0);
        irql::lower(old);
        check!(recorder::RUNS.load(Ordering::Relaxed) == 1);
        check!(recorder::IRQL.load(Ordering::Relaxed) == u32::from(Irql::DISPATCH.0));
        check!(irql::current() == Irql::PASSIVE);
    }

    /// *KeInitializeThreadedDpc function (wdm.h)*: at PASSIVE_LEVEL, on its processor, and done when it is flushed.
    fn a_threaded_dpc_runs_at_passive_level_on_its_processor() {
        for number in 0..processor::count() {
            let mut dpc = UNUSED;
            recorder::RUNS.store(0, Ordering::Relaxed);
            // SAFETY: it has run, or was removed, before this returns.
            unsafe {
                KeInitializeThreadedDpc(&raw mut dpc, Some(recorder::record), 1 as PVOID);
                set_target(&raw mut dpc, number as u16);
                let old = irql::raise(Irql::of_vector(0x51));
                check!(insert(&raw mut dpc, ptr::null_mut(), ptr::null_mut()));
                irql::lower(old);
                flush_all();
                check!(recorder::RUNS.load(Ordering::Relaxed) == 1);
                check!(recorder::IRQL.load(Ordering::Relaxed) == u32::from(Irql::PASSIVE.0));
                check!(recorder::PROCESSOR.load(Ordering::Relaxed) as usize == number);
                check!(KeRemoveQueueDpcEx(&raw mut dpc, 1) == 0);
                // At DISPATCH_LEVEL its thread cannot run here: it is still queued, and can be removed.
                set_target(&raw mut dpc, processor::current().number() as u16);
                let old = irql::raise(Irql::DISPATCH);
                set_target(&raw mut dpc, processor::current().number() as u16);
                check!(insert(&raw mut dpc, ptr::null_mut(), ptr::null_mut()));
                let removed = KeRemoveQueueDpcEx(&raw mut dpc, 0);
                irql::lower(old);
                check!(removed == 1);
                flush_all();
                check!(recorder::RUNS.load(Ordering::Relaxed) == 1);
            }
        }
    }

    fn important_dpcs_go_first_and_removed_ones_not_at_all() {
        let mut dpcs = [recording(1), recording(2), recording(3), recording(4)];
        recorder::ORDER.store(0, Ordering::Relaxed);
        dpcs[2].Importance = importance::HIGH;
        let old = irql::raise(Irql::DISPATCH);
        // SAFETY: they run before this returns.
        unsafe {
            check!(dpcs.each_mut().map(|dpc| insert(dpc, ptr::null_mut(), ptr::null_mut())) == [true; 4]);
            check!(remove(&raw mut dpcs[3]));
            check!(!remove(&raw mut dpcs[3]));
        }
        irql::lower(old);
        check!(recorder::ORDER.load(Ordering::Relaxed) == 312);
    }

    fn a_targeted_dpc_runs_on_its_processor_and_is_flushed() {
        for number in 0..processor::count() {
            let mut dpc = recording(1);
            recorder::RUNS.store(0, Ordering::Relaxed);
            // SAFETY: it has run when it is flushed.
            unsafe {
                set_target(&raw mut dpc, number as u16);
                insert(&raw mut dpc, ptr::null_mut(), ptr::null_mut());
            }
            flush_all();
            check!(recorder::RUNS.load(Ordering::Relaxed) == 1);
            check!(recorder::PROCESSOR.load(Ordering::Relaxed) == number as u32);
        }
    }
}

kernel_test! {
    /// *KeSetImportanceDpc function*: one of low importance is not run at once, but by the time that the queue is flushed; where
    /// as many wait as the queue is to hold, all are run.
    fn a_dpc_of_low_importance_waits_until_the_queue_is_run() {
        static RAN: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn count(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
            RAN.fetch_add(1, Ordering::Relaxed);
        }

        let mut dpcs = [UNUSED; MAXIMUM_DEPTH];
        let mut seen_waiting = false;
        for round in 1..=100 {
            RAN.store(0, Ordering::Relaxed);
            for dpc in &mut dpcs[..1 + round % 2 * (MAXIMUM_DEPTH - 1)] {
                // SAFETY: the DPCs are this test's, which waits for them.
                unsafe {
                    initialize(dpc, Some(count), ptr::null_mut());
                    KeSetImportanceDpc(dpc, importance::LOW.into());
                    insert(dpc, ptr::null_mut(), ptr::null_mut());
                }
            }
            let ran = RAN.load(Ordering::Relaxed);
            // The clock may come in between at any time, though not each time.
            seen_waiting |= round % 2 == 0 && ran == 0;
            flush_all();
            check!(RAN.load(Ordering::Relaxed) == if round % 2 == 0 { 1 } else { MAXIMUM_DEPTH });
        }
        check!(seen_waiting);
    }
}
