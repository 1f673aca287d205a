//! Deferred procedure calls in memory of the driver's: what the documentation calls a CustomDpc.

use core::{cell::UnsafeCell, mem::MaybeUninit, ptr};

use wdk_sys::{
    KDPC, PKDEFERRED_ROUTINE, PVOID,
    ntddk::{KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc},
};

/// A DPC object in non-paged memory that does not move.
pub(crate) struct Dpc(UnsafeCell<MaybeUninit<KDPC>>);

// SAFETY: what the routines below do to the object they do under the lock of a processor's queue.
unsafe impl Sync for Dpc {}

impl Dpc {
    /// Memory for one.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// Makes it a DPC that calls `routine` with `context`.
    ///
    /// # Safety
    ///
    /// It lies where it will stay, in non-paged memory, and nobody uses it yet. Before it goes, or what `context` leads to, or the
    /// image, it is out of the queue ([`remove`](Self::remove)) and not running ([`flush`]).
    pub(crate) unsafe fn initialize(&self, routine: PKDEFERRED_ROUTINE, context: PVOID) {
        // SAFETY: by contract.
        unsafe { KeInitializeDpc(self.as_ptr(), routine, context) };
    }

    /// Queues it (`KeInsertQueueDpc`). Where it is queued already, that one run will do for both. At any IRQL.
    pub(crate) fn queue(&self) {
        // SAFETY: initialized.
        let _ = unsafe { KeInsertQueueDpc(self.as_ptr(), ptr::null_mut(), ptr::null_mut()) };
    }

    /// Takes it out of the queue (`KeRemoveQueueDpc`). It may still be *running*, on another processor.
    pub(crate) fn remove(&self) {
        // SAFETY: initialized. Whether it was queued makes no difference to what has to follow.
        let _ = unsafe { KeRemoveQueueDpc(self.as_ptr()) };
    }

    /// For the kernel.
    pub(crate) fn as_ptr(&self) -> *mut KDPC {
        self.0.get().cast()
    }
}

/// Returns when every DPC that was queued before has run, on every processor (`KeFlushQueuedDpcs`). At PASSIVE_LEVEL.
pub(crate) fn flush() {
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { KeFlushQueuedDpcs() };
}
