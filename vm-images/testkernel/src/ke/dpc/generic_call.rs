//! One routine as a DPC of every processor.
//!
//! What a driver does on all processors that must not be interrupted by each other's DPCs, and takes longer than an interprocessor
//! interrupt may: counters of the processors' own, a barrier before code is changed. None of the three routines has a page; ntoskrnl
//! exports them, and what is known is what drivers rely on: the caller waits below DISPATCH_LEVEL until every processor's routine has
//! called KeSignalCallDpcDone with its third argument, and KeSignalCallDpcSynchronize with the fourth is where they all meet.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{initialize, insert, set_target};
use crate::ke::event::Event;
use crate::ke::lock::SpinLock;
use crate::ke::processor;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DeferredRoutine, KDPC, PVOID};
use crate::selftest::{check, kernel_test};

/// One call is queued everywhere before the next is anywhere: else two would wait for each other, each on the other's processor.
static ORDER: SpinLock<()> = SpinLock::new(());

/// A call that is under way.
struct Call {
    processors: usize,
    /// How many have not said that they are done.
    left: AtomicUsize,
    /// How often a processor has come to where all meet.
    met: AtomicUsize,
    done: Event,
}

export! {
    /// *KeGenericCallDpc*: runs the routine at DISPATCH_LEVEL on every processor; returns when all have called KeSignalCallDpcDone. Below
    /// DISPATCH_LEVEL.
    pub unsafe extern "win64" fn KeGenericCallDpc(routine: Option<DeferredRoutine>, context: PVOID) {
        let processors = processor::count();
        let call = Call {
            processors,
            left: AtomicUsize::new(processors),
            met: AtomicUsize::new(0),
            done: Event::new_notification(),
        };
        let argument: PVOID = ptr::from_ref(&call).cast_mut().cast();
        let mut dpcs = [const { core::mem::MaybeUninit::<KDPC>::uninit() }; processor::MAX_PROCESSORS];
        let order = ORDER.lock();
        for (number, dpc) in dpcs.iter_mut().enumerate().take(processors) {
            let dpc = dpc.as_mut_ptr();
            // SAFETY: DPCs and call live on this stack until all are done; a DPC that runs is in no queue any more.
            unsafe {
                initialize(dpc, routine, context);
                set_target(dpc, number as u16);
                insert(dpc, argument, argument);
            }
        }
        drop(order);
        call.done.wait(None);
    }

    /// *KeSignalCallDpcDone*: the routine on this processor is through, but for its return.
    pub unsafe extern "win64" fn KeSignalCallDpcDone(argument: PVOID) {
        // SAFETY: SystemArgument1 of a routine that KeGenericCallDpc runs, and waits for.
        let call = unsafe { &*argument.cast::<Call>() };
        if call.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            call.done.set();
        }
    }

    /// *KeSignalCallDpcSynchronize*: waits until the routine on every processor has come here; TRUE on one of them. It may be called
    /// again.
    pub unsafe extern "win64" fn KeSignalCallDpcSynchronize(argument: PVOID) -> BOOLEAN {
        // SAFETY: SystemArgument2, as above.
        let call = unsafe { &*argument.cast::<Call>() };
        let mine = call.met.fetch_add(1, Ordering::AcqRel) + 1;
        let all = mine.next_multiple_of(call.processors);
        while call.met.load(Ordering::Acquire) < all {
            core::hint::spin_loop();
        }
        BOOLEAN::from(mine == all)
    }
}

kernel_test! {
    /// Each processor runs the routine once, none passes the meeting place before all are there, and one is told TRUE.
    fn a_routine_is_a_dpc_of_every_processor() {
        static BEFORE: AtomicUsize = AtomicUsize::new(0);
        static EARLY: AtomicUsize = AtomicUsize::new(0);
        static CHOSEN: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn meet(_: *mut KDPC, context: PVOID, done: PVOID, place: PVOID) {
            BEFORE.fetch_add(1, Ordering::AcqRel);
            // SAFETY: the arguments are those of this call.
            unsafe {
                for _ in 0..2 {
                    CHOSEN.fetch_add(KeSignalCallDpcSynchronize(place).into(), Ordering::AcqRel);
                }
                if BEFORE.load(Ordering::Acquire) != context.addr() {
                    EARLY.fetch_add(1, Ordering::AcqRel);
                }
                KeSignalCallDpcDone(done);
            }
        }
        let count = processor::count();
        for round in 1..=20 {
            BEFORE.store(0, Ordering::Release);
            // SAFETY: the routine does as it is to.
            unsafe { KeGenericCallDpc(Some(meet), ptr::without_provenance_mut(count)) };
            check!(BEFORE.load(Ordering::Acquire) == count && EARLY.load(Ordering::Acquire) == 0);
            check!(CHOSEN.load(Ordering::Acquire) == 2 * round);
        }
    }
}
