//! Timers that call a DPC again and again: what the documentation calls a CustomTimerDpc.

use core::{cell::UnsafeCell, mem::MaybeUninit, ptr::NonNull};

use wdk_sys::{
    _TIMER_TYPE::SynchronizationTimer,
    KTIMER, LARGE_INTEGER, PKDEFERRED_ROUTINE, PVOID,
    ntddk::{KeCancelTimer, KeInitializeTimerEx, KeSetTimerEx},
};

use super::dpc::Dpc;

/// Memory for a timer and its DPC, non-paged, that does not move.
pub(crate) struct TimerMemory {
    timer: UnsafeCell<MaybeUninit<KTIMER>>,
    dpc: Dpc,
}

// SAFETY: what the routines below do to the objects they do under the dispatcher's lock.
unsafe impl Sync for TimerMemory {}

impl TimerMemory {
    /// Memory for one.
    pub(crate) const fn new() -> Self {
        Self { timer: UnsafeCell::new(MaybeUninit::zeroed()), dpc: Dpc::new() }
    }
}

/// A timer that is set; cancelled when dropped.
pub(crate) struct Timer(NonNull<KTIMER>);

impl Timer {
    /// Has `routine` called with `context`, at DISPATCH_LEVEL, every `period` milliseconds.
    ///
    /// # Safety
    ///
    /// `memory` lies where it will stay, and nobody uses it yet. The timer is cancelled, and its DPC not running any more, before the
    /// memory goes, or what `context` leads to.
    pub(crate) unsafe fn start(
        memory: &TimerMemory,
        period: i32,
        routine: PKDEFERRED_ROUTINE,
        context: PVOID,
    ) -> Self {
        /// The kernel counts in these, and what is negative counts from now.
        const PER_MILLISECOND: i64 = -10_000;
        // SAFETY: by contract.
        unsafe { memory.dpc.initialize(routine, context) };
        let timer: *mut KTIMER = memory.timer.get().cast();
        // SAFETY: by contract. As a synchronization timer: nobody waits for it, and it need not stay set.
        unsafe { KeInitializeTimerEx(timer, SynchronizationTimer) };
        let due = LARGE_INTEGER { QuadPart: PER_MILLISECOND * i64::from(period) };
        // SAFETY: timer and DPC are initialized.
        let _ = unsafe { KeSetTimerEx(timer, due, period, memory.dpc.as_ptr()) };
        // SAFETY: a reference's address is not null.
        Self(unsafe { NonNull::new_unchecked(timer) })
    }

    /// `KeCancelTimer`: its DPC is not queued again. It may be queued or running once more, which flushing the DPCs ends.
    pub(crate) fn cancel(self) {
        drop(self);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: set by `start`. Whether it was still in the queue says nothing: it is periodic.
        let _ = unsafe { KeCancelTimer(self.0.as_ptr()) };
    }
}
