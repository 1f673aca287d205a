//! Fast mutexes and guarded mutexes: a count, and an event for whoever has to wait.
//!
//! The count is 1 when free; each that comes takes one off, and waits unless it found 1. A fast mutex raises its owner to
//! APC_LEVEL; a guarded one, and the `Unsafe` forms, leave the IRQL to the caller. Neither may be acquired twice.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use crate::ke::irql::{self, Irql};
use crate::ke::thread;
use crate::ke::{apc, event, wait};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, FAST_MUTEX, TRUE, object_type};
use crate::selftest::{check, kernel_test};

/// Where normal kernel APCs are kept out; this guest delivers none, but drivers look.
const APC_LEVEL: Irql = Irql(1);

/// # Safety
/// Everywhere below: `mutex` was initialized, and is alive.
unsafe fn count<'a>(mutex: *mut FAST_MUTEX) -> &'a AtomicI32 {
    // SAFETY: the caller's; the field only changes atomically.
    unsafe { AtomicI32::from_ptr(&raw mut (*mutex).Count) }
}

/// # Safety
/// See [`count`].
unsafe fn take(mutex: *mut FAST_MUTEX) {
    // SAFETY: the caller's; the owner is only written by whoever has the mutex, the count of contentions atomically.
    unsafe {
        let waited = count(mutex).fetch_sub(1, Ordering::Acquire) != 1;
        if waited {
            AtomicU32::from_ptr(&raw mut (*mutex).Contention).fetch_add(1, Ordering::Relaxed);
            let _ = wait::for_one((&raw mut (*mutex).Event).cast(), None);
        }
        (*mutex).Owner = thread::current().as_ptr().cast();
    }
}

/// # Safety
/// See [`count`].
unsafe fn try_take(mutex: *mut FAST_MUTEX) -> bool {
    // SAFETY: the caller's.
    unsafe {
        let free = count(mutex).compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if free {
            (*mutex).Owner = thread::current().as_ptr().cast();
        }
        free
    }
}

/// # Safety
/// See [`count`]; the caller has the mutex.
unsafe fn give_back(mutex: *mut FAST_MUTEX) {
    // SAFETY: the caller's.
    unsafe {
        (*mutex).Owner = core::ptr::null_mut();
        if count(mutex).fetch_add(1, Ordering::Release) != 0 {
            event::set(&raw mut (*mutex).Event);
        }
    }
}

export! {
    /// *ExAcquireFastMutex function (wdm.h)*: returns at APC_LEVEL.
    pub unsafe extern "win64" fn ExAcquireFastMutex(mutex: *mut FAST_MUTEX) {
        let old = irql::raise(APC_LEVEL);
        // SAFETY: the caller's mutex.
        unsafe {
            take(mutex);
            (*mutex).OldIrql = old.0.into();
        }
    }

    /// *ExTryToAcquireFastMutex function (wdm.h)*: at APC_LEVEL where it got it.
    pub unsafe extern "win64" fn ExTryToAcquireFastMutex(mutex: *mut FAST_MUTEX) -> BOOLEAN {
        let old = irql::raise(APC_LEVEL);
        // SAFETY: the caller's mutex.
        unsafe {
            if try_take(mutex) {
                (*mutex).OldIrql = old.0.into();
                return TRUE;
            }
        }
        irql::lower(old);
        FALSE
    }

    /// *ExReleaseFastMutex function (wdm.h)*: back to the IRQL before.
    pub unsafe extern "win64" fn ExReleaseFastMutex(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex, which it has.
        let old = unsafe {
            let old = (*mutex).OldIrql;
            give_back(mutex);
            old
        };
        irql::lower(Irql(old as u8));
    }

    /// *ExAcquireFastMutexUnsafe function (wdm.h)*: the caller is at APC_LEVEL or in a critical region.
    pub unsafe extern "win64" fn ExAcquireFastMutexUnsafe(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex.
        unsafe { take(mutex) };
    }

    /// *ExReleaseFastMutexUnsafe function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseFastMutexUnsafe(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex, which it has.
        unsafe { give_back(mutex) };
    }

    /// *ExEnterCriticalRegionAndAcquireFastMutexUnsafe*: both at once.
    pub unsafe extern "win64" fn ExEnterCriticalRegionAndAcquireFastMutexUnsafe(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex.
        unsafe {
            apc::KeEnterCriticalRegion();
            take(mutex);
        }
    }

    /// *ExReleaseFastMutexUnsafeAndLeaveCriticalRegion*: both undone at once.
    pub unsafe extern "win64" fn ExReleaseFastMutexUnsafeAndLeaveCriticalRegion(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex, which it has.
        unsafe {
            give_back(mutex);
            apc::KeLeaveCriticalRegion();
        }
    }

    /// *KeInitializeGuardedMutex function (wdm.h)*: free.
    pub unsafe extern "win64" fn KeInitializeGuardedMutex(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's storage.
        unsafe {
            (*mutex).Count = 1;
            (*mutex).Owner = core::ptr::null_mut();
            (*mutex).Contention = 0;
            (*mutex).OldIrql = 0;
            event::initialize(&raw mut (*mutex).Event, object_type::EVENT_SYNCHRONIZATION, false);
        }
    }

    /// *KeAcquireGuardedMutex function (wdm.h)*: enters a guarded region; the IRQL stays.
    pub unsafe extern "win64" fn KeAcquireGuardedMutex(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex.
        unsafe {
            apc::KeEnterGuardedRegion();
            take(mutex);
        }
    }

    /// *KeTryToAcquireGuardedMutex function (wdm.h)*.
    pub unsafe extern "win64" fn KeTryToAcquireGuardedMutex(mutex: *mut FAST_MUTEX) -> BOOLEAN {
        // SAFETY: the caller's mutex.
        unsafe {
            let taken = try_take(mutex);
            if taken {
                apc::KeEnterGuardedRegion();
            }
            taken.into()
        }
    }

    /// *KeReleaseGuardedMutex function (wdm.h)*.
    pub unsafe extern "win64" fn KeReleaseGuardedMutex(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex, which it has.
        unsafe {
            give_back(mutex);
            apc::KeLeaveGuardedRegion();
        }
    }

    /// *KeAcquireGuardedMutexUnsafe function (wdm.h)*: the caller is in a guarded region.
    pub unsafe extern "win64" fn KeAcquireGuardedMutexUnsafe(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex.
        unsafe { take(mutex) };
    }

    /// *KeReleaseGuardedMutexUnsafe function (wdm.h)*.
    pub unsafe extern "win64" fn KeReleaseGuardedMutexUnsafe(mutex: *mut FAST_MUTEX) {
        // SAFETY: the caller's mutex, which it has.
        unsafe { give_back(mutex) };
    }
}

kernel_test! {
    /// *KeAcquireGuardedMutex function (wdm.h)*: in a guarded region from acquiring to releasing.
    fn a_guarded_mutex_is_held_in_a_guarded_region() {
        let mut storage = core::mem::MaybeUninit::<FAST_MUTEX>::uninit();
        let mutex = storage.as_mut_ptr();
        // SAFETY: the mutex lives until the end of the test.
        unsafe {
            KeInitializeGuardedMutex(mutex);
            KeAcquireGuardedMutex(mutex);
            let inside = apc::KeAreAllApcsDisabled();
            let again = KeTryToAcquireGuardedMutex(mutex);
            KeReleaseGuardedMutex(mutex);
            check!(inside == TRUE && again == FALSE && apc::KeAreAllApcsDisabled() == FALSE);
            check!(KeTryToAcquireGuardedMutex(mutex) == TRUE && apc::KeAreAllApcsDisabled() == TRUE);
            KeReleaseGuardedMutex(mutex);
            check!(apc::KeAreAllApcsDisabled() == FALSE && (*mutex).Count == 1);
        }
    }

    /// *ExAcquireFastMutex function (wdm.h)*: at APC_LEVEL from acquiring to releasing.
    fn a_fast_mutex_is_held_at_apc_level() {
        let mut storage = core::mem::MaybeUninit::<FAST_MUTEX>::uninit();
        let mutex = storage.as_mut_ptr();
        // SAFETY: the mutex lives until the end of the test; the headers' ExInitializeFastMutex does the same.
        unsafe {
            KeInitializeGuardedMutex(mutex);
            ExAcquireFastMutex(mutex);
            let inside = irql::current();
            let again = ExTryToAcquireFastMutex(mutex);
            ExReleaseFastMutex(mutex);
            check!(inside == APC_LEVEL && again == FALSE && irql::current() == Irql::PASSIVE);
        }
    }
}
