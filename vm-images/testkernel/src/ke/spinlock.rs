//! The spin locks that drivers own: one word each, 0 when free.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::irql::{self, Irql};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, KIRQL, KSPIN_LOCK};

/// # Safety
/// `lock` is a live KSPIN_LOCK; so everywhere below.
unsafe fn word<'a>(lock: *mut KSPIN_LOCK) -> &'a AtomicUsize {
    // SAFETY: the caller's; a lock is only ever accessed atomically.
    unsafe { AtomicUsize::from_ptr(lock) }
}

/// Takes the lock without changing the IRQL, which must be high enough already.
///
/// # Safety
/// See above.
pub unsafe fn acquire(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's.
    while !unsafe { try_acquire(lock) } {
        // SAFETY: the caller's.
        while unsafe { word(lock) }.load(Ordering::Relaxed) != 0 {
            core::hint::spin_loop();
        }
    }
}

/// Takes the lock where it is free.
///
/// # Safety
/// See above.
pub unsafe fn try_acquire(lock: *mut KSPIN_LOCK) -> bool {
    // SAFETY: the caller's.
    unsafe { word(lock) }.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Releases the lock.
///
/// # Safety
/// See above.
pub unsafe fn release(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's.
    unsafe { word(lock) }.store(0, Ordering::Release);
}

/// `KLOCK_QUEUE_HANDLE`: where an in-stack queued lock remembers what it locked. Such locks are ordinary ones
/// here: fair queueing matters on machines with more processors.
#[derive(Debug)]
#[repr(C)]
pub struct KLOCK_QUEUE_HANDLE {
    next: usize,
    lock: *mut KSPIN_LOCK,
    old_irql: KIRQL,
}

const _: () = assert!(size_of::<KLOCK_QUEUE_HANDLE>() == 0x18);

/// Which lock a handle holds, and the level before.
///
/// # Safety
/// `handle` was filled in when the lock was taken.
pub unsafe fn queued(handle: *const KLOCK_QUEUE_HANDLE) -> (*mut KSPIN_LOCK, Irql) {
    // SAFETY: the caller's.
    let KLOCK_QUEUE_HANDLE { lock, old_irql, .. } = unsafe { handle.read() };
    (lock, Irql(old_irql))
}

export! {
    /// *KeInitializeSpinLock function (wdm.h)*: the lock is free.
    pub unsafe extern "win64" fn KeInitializeSpinLock(lock: *mut KSPIN_LOCK) {
        // SAFETY: the caller's storage.
        unsafe { release(lock) };
    }

    /// *KeAcquireSpinLockRaiseToDpc*, what *KeAcquireSpinLock (wdm.h)* calls on x64: raises to
    /// DISPATCH_LEVEL, takes the lock, returns the IRQL before.
    pub unsafe extern "win64" fn KeAcquireSpinLockRaiseToDpc(lock: *mut KSPIN_LOCK) -> KIRQL {
        let old = irql::raise(Irql::DISPATCH);
        // SAFETY: the caller's lock.
        unsafe { acquire(lock) };
        old.0
    }

    /// *KeReleaseSpinLock function (wdm.h)*: releases the lock, then restores the IRQL.
    pub unsafe extern "win64" fn KeReleaseSpinLock(lock: *mut KSPIN_LOCK, old: KIRQL) {
        // SAFETY: the caller's lock.
        unsafe { release(lock) };
        irql::lower(Irql(old));
    }

    /// *KeAcquireSpinLockAtDpcLevel function (wdm.h)*: for callers at DISPATCH_LEVEL or above.
    pub unsafe extern "win64" fn KeAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) {
        // SAFETY: the caller's lock.
        unsafe { acquire(lock) };
    }

    /// *KeReleaseSpinLockFromDpcLevel function (wdm.h)*: releases the lock and leaves the IRQL alone.
    pub unsafe extern "win64" fn KeReleaseSpinLockFromDpcLevel(lock: *mut KSPIN_LOCK) {
        // SAFETY: the caller's lock.
        unsafe { release(lock) };
    }

    /// *KeTryToAcquireSpinLockAtDpcLevel function (wdm.h)*: FALSE where somebody has the lock.
    pub unsafe extern "win64" fn KeTryToAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) -> BOOLEAN {
        // SAFETY: the caller's lock.
        BOOLEAN::from(unsafe { try_acquire(lock) })
    }

    /// *KeTestSpinLock function (wdm.h)*: TRUE where the lock is free.
    pub unsafe extern "win64" fn KeTestSpinLock(lock: *mut KSPIN_LOCK) -> BOOLEAN {
        // SAFETY: the caller's lock.
        BOOLEAN::from(unsafe { word(lock) }.load(Ordering::Acquire) == 0)
    }

    /// *KeAcquireInStackQueuedSpinLock function (wdm.h)*: raises to DISPATCH_LEVEL and takes the lock.
    pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLock(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    ) {
        let old = irql::raise(Irql::DISPATCH);
        // SAFETY: the caller's lock and handle.
        unsafe {
            acquire(lock);
            handle.write(KLOCK_QUEUE_HANDLE { next: 0, lock, old_irql: old.0 });
        }
    }

    /// *KeReleaseInStackQueuedSpinLock function (wdm.h)*: releases the lock, then restores the IRQL.
    pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLock(handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the caller's handle, filled in when the lock was taken.
        let KLOCK_QUEUE_HANDLE { lock, old_irql, .. } = unsafe { handle.read() };
        // SAFETY: as above.
        unsafe { release(lock) };
        irql::lower(Irql(old_irql));
    }

    /// *KeAcquireInStackQueuedSpinLockAtDpcLevel function (wdm.h)*: for callers at DISPATCH_LEVEL.
    pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    ) {
        // SAFETY: the caller's lock and handle.
        unsafe {
            acquire(lock);
            handle.write(KLOCK_QUEUE_HANDLE { next: 0, lock, old_irql: Irql::DISPATCH.0 });
        }
    }

    /// *KeReleaseInStackQueuedSpinLockFromDpcLevel function (wdm.h)*: releases the lock and leaves the IRQL
    /// alone.
    pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLockFromDpcLevel(handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the caller's handle, filled in when the lock was taken.
        unsafe { release((*handle).lock) };
    }

    /// *KeAcquireSpinLockForDpc function (wdm.h)*: for a DPC routine, whether threaded or not; returns the IRQL before.
    pub unsafe extern "win64" fn KeAcquireSpinLockForDpc(lock: *mut KSPIN_LOCK) -> KIRQL {
        // SAFETY: the caller's lock.
        unsafe { KeAcquireSpinLockRaiseToDpc(lock) }
    }

    /// *KeReleaseSpinLockForDpc function (wdm.h)*: releases the lock, then restores the IRQL.
    pub unsafe extern "win64" fn KeReleaseSpinLockForDpc(lock: *mut KSPIN_LOCK, old: KIRQL) {
        // SAFETY: the caller's lock.
        unsafe { KeReleaseSpinLock(lock, old) };
    }

    /// *KeAcquireInStackQueuedSpinLockForDpc function (wdm.h)*: for a DPC routine, whether threaded or not.
    pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLockForDpc(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    ) {
        // SAFETY: the caller's lock and handle.
        unsafe { KeAcquireInStackQueuedSpinLock(lock, handle) };
    }

    /// *KeReleaseInStackQueuedSpinLockForDpc function (wdm.h)*: releases the lock, then restores the IRQL.
    pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLockForDpc(handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the caller's handle.
        unsafe { KeReleaseInStackQueuedSpinLock(handle) };
    }

    /// *KeRaiseIrqlToDpcLevel function (wdm.h)*: returns the IRQL before.
    pub unsafe extern "win64" fn KeRaiseIrqlToDpcLevel() -> KIRQL {
        irql::raise(Irql::DISPATCH).0
    }

    /// *KfRaiseIrql*, what *KeRaiseIrql (wdm.h)* calls on x64: returns the IRQL before. As in a retail
    /// Windows nothing is checked; Verifier does that.
    pub unsafe extern "win64" fn KfRaiseIrql(new: KIRQL) -> KIRQL {
        irql::raise(Irql(new)).0
    }

    /// *KeLowerIrql function (wdm.h)*: what was masked comes in before this returns.
    pub unsafe extern "win64" fn KeLowerIrql(new: KIRQL) {
        irql::lower(Irql(new));
    }

    /// *KeGetCurrentIrql function (wdm.h)*.
    pub unsafe extern "win64" fn KeGetCurrentIrql() -> KIRQL {
        irql::current().0
    }
}
