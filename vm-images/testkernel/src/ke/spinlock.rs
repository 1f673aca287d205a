//! The spin locks that drivers own: one word each, 0 when free.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::irql::{self, Irql};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, KIRQL, KSPIN_LOCK};
use crate::selftest::{check, kernel_test};

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

/// Whether anybody has the lock.
///
/// # Safety
/// See above.
pub unsafe fn is_held(lock: *mut KSPIN_LOCK) -> bool {
    // SAFETY: the caller's.
    unsafe { word(lock) }.load(Ordering::Acquire) != 0
}

/// Releases the lock.
///
/// # Safety
/// See above.
pub unsafe fn release(lock: *mut KSPIN_LOCK) {
    // SAFETY: the caller's.
    unsafe { word(lock) }.store(0, Ordering::Release);
}

/// `KLOCK_QUEUE_HANDLE`: a place in the queue for a lock, on its holder's stack.
///
/// The lock's word leads to the last in the queue; each in it waits for a bit of its own, which the one before clears. So
/// the lock goes round in the order in which it was asked for, and nobody who waits disturbs the others.
#[derive(Debug)]
#[repr(C)]
pub struct KLOCK_QUEUE_HANDLE {
    next: AtomicUsize,
    /// The lock, and [`WAITS`].
    lock: AtomicUsize,
    old_irql: KIRQL,
}

const _: () = assert!(size_of::<KLOCK_QUEUE_HANDLE>() == 0x18);

/// Another holds the lock. A lock is aligned, so that its address has this bit clear.
const WAITS: usize = 1;

/// Which lock a handle holds, and the level before.
///
/// # Safety
/// `handle` was filled in when the lock was taken.
pub unsafe fn queued(handle: *const KLOCK_QUEUE_HANDLE) -> (*mut KSPIN_LOCK, Irql) {
    // SAFETY: the caller's.
    let handle = unsafe { &*handle };
    let lock = handle.lock.load(Ordering::Relaxed) & !WAITS;
    (core::ptr::with_exposed_provenance_mut(lock), Irql(handle.old_irql))
}

/// Goes to the end of the queue for a lock and waits for its turn.
///
/// # Safety
/// `lock` is a live KSPIN_LOCK, `handle` storage that stays until the lock is released.
unsafe fn acquire_queued(lock: *mut KSPIN_LOCK, handle: *mut KLOCK_QUEUE_HANDLE, old: Irql) {
    let address = lock.expose_provenance();
    // SAFETY: the caller's; who is before in the queue stays there until it has passed the lock on.
    unsafe {
        handle.write(KLOCK_QUEUE_HANDLE {
            next: AtomicUsize::new(0),
            lock: AtomicUsize::new(address | WAITS),
            old_irql: old.0,
        });
        let before = word(lock).swap(handle.expose_provenance(), Ordering::AcqRel);
        let handle = &*handle;
        if before == 0 {
            handle.lock.store(address, Ordering::Relaxed);
            return;
        }
        let before = core::ptr::with_exposed_provenance::<KLOCK_QUEUE_HANDLE>(before);
        (*before).next.store(core::ptr::from_ref(handle).expose_provenance(), Ordering::Release);
        while handle.lock.load(Ordering::Acquire) & WAITS != 0 {
            core::hint::spin_loop();
        }
    }
}

/// Passes the lock on to the next in the queue.
///
/// # Safety
/// `handle` holds the lock.
unsafe fn release_queued(handle: *mut KLOCK_QUEUE_HANDLE) {
    // SAFETY: the caller's; whoever is next waits until its bit is cleared.
    unsafe {
        let (lock, _) = queued(handle);
        let mine = handle.expose_provenance();
        let handle = &*handle;
        let alone = || word(lock).compare_exchange(mine, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if handle.next.load(Ordering::Acquire) == 0 && alone() {
            return;
        }
        // Somebody is behind, and may not have said yet who.
        loop {
            let next = handle.next.load(Ordering::Acquire);
            if next != 0 {
                let next = core::ptr::with_exposed_provenance::<KLOCK_QUEUE_HANDLE>(next);
                (*next).lock.fetch_and(!WAITS, Ordering::AcqRel);
                return;
            }
            core::hint::spin_loop();
        }
    }
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

    /// *KeAcquireSpinLockRaiseToSynch*: raises to SYNCH_LEVEL, takes the lock, returns the IRQL before.
    pub unsafe extern "win64" fn KeAcquireSpinLockRaiseToSynch(lock: *mut KSPIN_LOCK) -> KIRQL {
        let old = irql::raise(Irql::SYNCH);
        // SAFETY: the caller's lock.
        unsafe { acquire(lock) };
        old.0
    }

    /// *KeAcquireInStackQueuedSpinLockRaiseToSynch*: likewise with a place in the queue.
    pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLockRaiseToSynch(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    ) {
        let old = irql::raise(Irql::SYNCH);
        // SAFETY: the caller's lock and handle.
        unsafe { acquire_queued(lock, handle, old) };
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
        unsafe { acquire_queued(lock, handle, old) };
    }

    /// *KeReleaseInStackQueuedSpinLock function (wdm.h)*: releases the lock, then restores the IRQL.
    pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLock(handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the caller's handle, filled in when the lock was taken.
        let (_, old) = unsafe { queued(handle) };
        // SAFETY: as above.
        unsafe { release_queued(handle) };
        irql::lower(old);
    }

    /// *KeAcquireInStackQueuedSpinLockAtDpcLevel function (wdm.h)*: for callers at DISPATCH_LEVEL.
    pub unsafe extern "win64" fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    ) {
        // SAFETY: the caller's lock and handle.
        unsafe { acquire_queued(lock, handle, irql::current()) };
    }

    /// *KeReleaseInStackQueuedSpinLockFromDpcLevel function (wdm.h)*: releases the lock and leaves the IRQL
    /// alone.
    pub unsafe extern "win64" fn KeReleaseInStackQueuedSpinLockFromDpcLevel(handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the caller's handle, filled in when the lock was taken.
        unsafe { release_queued(handle) };
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

kernel_test! {
    /// *Queued Spin Locks*: whoever asks first gets the lock first.
    fn a_queued_lock_goes_round_in_the_order_in_which_it_was_asked_for() {
        use crate::ke::{processor, thread};
        const MOST: usize = 8;
        static LOCK: AtomicUsize = AtomicUsize::new(0);
        /// Who asks, by number, and who got it, by place.
        static HANDLES: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
        static SEEN: [AtomicUsize; MOST] = [const { AtomicUsize::new(usize::MAX) }; MOST];
        /// Waits until the handle of `number` is the last in the queue.
        fn wait_for(number: usize) {
            let is_last = || {
                let handle = HANDLES[number].load(Ordering::Acquire);
                handle != 0 && LOCK.load(Ordering::Acquire) == handle
            };
            while !is_last() {
                core::hint::spin_loop();
            }
        }
        fn ask(number: usize, while_held: impl FnOnce()) {
            let mut handle =
                KLOCK_QUEUE_HANDLE { next: AtomicUsize::new(0), lock: AtomicUsize::new(0), old_irql: 0 };
            let handle = &raw mut handle;
            HANDLES[number].store(handle.expose_provenance(), Ordering::Release);
            // SAFETY: the handle lives until the lock is released.
            unsafe {
                KeAcquireInStackQueuedSpinLockAtDpcLevel(LOCK.as_ptr(), handle);
                let place = SEEN.iter().position(|seen| seen.load(Ordering::Relaxed) == usize::MAX);
                SEEN[place.unwrap_or(0)].store(number, Ordering::Relaxed);
                while_held();
                KeReleaseInStackQueuedSpinLockFromDpcLevel(handle);
            }
        }
        let others = processor::count().min(MOST) - 1;
        let here = thread::set_affinity(1);
        // They keep their processors until it is their turn. Whoever holds the lock first does so in this thread's, and so comes
        // last.
        let threads: alloc::vec::Vec<_> = (1..=others)
            .filter_map(|number| {
                thread::spawn("asker", thread::NORMAL_PRIORITY, move || {
                    thread::set_affinity(1 << number);
                    let old = irql::raise(Irql::DISPATCH);
                    wait_for(number - 1);
                    ask(number, || {});
                    irql::lower(old);
                })
                .ok()
            })
            .collect();
        check!(threads.len() == others);
        let old = irql::raise(Irql::DISPATCH);
        ask(0, || wait_for(others));
        irql::lower(old);
        check!(threads.iter().all(|thread| thread.join(Some(10_000_000_000))));
        thread::set_affinity(here);
        check!((0..=others).all(|place| SEEN[place].load(Ordering::Relaxed) == place));
        check!(LOCK.load(Ordering::Relaxed) == 0);
    }
}
