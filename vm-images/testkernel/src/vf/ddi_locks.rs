//! DDI compliance: spin locks and regions are entered before they are left, and not twice.
//!
//! Whoever acquires a spin lock that it holds waits for itself, at DISPATCH_LEVEL, for ever; whoever releases one that nobody holds
//! lets the next two in together. Regions that are left more often than entered let APCs in where they must not come.
//!
//! Source: the rules *SpinLock*, *SpinLockRelease*, *QueuedSpinLock*, *QueuedSpinLockRelease*, *CriticalRegions* and *GuardedRegions*
//! (wdm), 0xC4's values 0x40003 to 0x4000E; and the IRQL rules of the same routines. A lock may be released by another routine
//! than its own, at DISPATCH_LEVEL: that is let pass, and noted. What is not held when a dispatch routine returns is told by its IRQL
//! ([`super::dispatch`]).

use core::ops::Range;

use super::deadlock;
use super::irql_rules::{Levels, broken, judge};
use super::thunk::intercept;
use crate::ke::apc;
use crate::ke::lock::InterruptLock;
use crate::ke::spinlock::{self, KLOCK_QUEUE_HANDLE};
use crate::nt::{KIRQL, KSPIN_LOCK};
use crate::selftest::{check, kernel_test};

/// Locks that are watched at once; one for which there is no room is not.
const CAPACITY: usize = 128;

/// A lock, and who holds it or is about to.
type Held = (usize, usize);

static HELD: InterruptLock<[Held; CAPACITY]> = InterruptLock::new([(0, 0); CAPACITY]);

/// Who runs now holds the lock, or will in a moment; false where it did before.
fn enter(lock: *mut KSPIN_LOCK) -> bool {
    let held = (lock.addr(), deadlock::who());
    let mut all = HELD.lock();
    // SAFETY: the driver's lock.
    if all.contains(&held) && unsafe { spinlock::is_held(lock) } {
        return false;
    }
    if !all.contains(&held)
        && let Some(free) = all.iter_mut().find(|held| held.0 == 0)
    {
        *free = held;
    }
    true
}

/// The lock is released; false where nobody holds it.
fn leave(lock: *mut KSPIN_LOCK) -> bool {
    let held = (lock.addr(), deadlock::who());
    if let Some(found) = HELD.lock().iter_mut().find(|other| **other == held) {
        *found = (0, 0);
    }
    // SAFETY: the driver's lock.
    unsafe { spinlock::is_held(lock) }
}

/// Memory went, and the locks in it.
pub fn forget(range: &Range<usize>) {
    for held in HELD.lock().iter_mut().filter(|held| range.contains(&held.0)) {
        *held = (0, 0);
    }
}

intercept! {
    for Ddi;

    /// *SpinLock rule (wdm)*, and *IrqlKeDispatchLte rule (wdm)*.
    before fn KeAcquireSpinLockRaiseToDpc(site; lock: *mut KSPIN_LOCK) -> KIRQL {
        const LEVEL: &str = "IrqlKeDispatchLte: KeAcquireSpinLockRaiseToDpc may be called only at IRQL <= DISPATCH_LEVEL\0";
        judge(0x20011, Levels::UpToDispatch, LEVEL);
        if !enter(lock) {
            broken(0x40009, "SpinLock: KeAcquireSpinLock was called for a spin lock that the caller holds\0");
        }
        None
    }

    /// *SpinLockRelease rule (wdm)*, and *IrqlKeReleaseSpinLock rule (wdm)*.
    before fn KeReleaseSpinLock(site; lock: *mut KSPIN_LOCK, old: KIRQL) {
        const LEVEL: &str = "IrqlKeReleaseSpinLock: KeReleaseSpinLock may be called only at IRQL = DISPATCH_LEVEL\0";
        judge(0x20015, Levels::Dispatch, LEVEL);
        if !leave(lock) {
            broken(0x4000B, "SpinLockRelease: KeReleaseSpinLock was called for a spin lock that is not held\0");
        }
        None
    }

    /// As [`leave`] has it.
    before fn KeReleaseSpinLockFromDpcLevel(site; lock: *mut KSPIN_LOCK) {
        leave(lock);
        None
    }

    /// *QueuedSpinLock rule (wdm)*.
    before fn KeAcquireInStackQueuedSpinLock(site; lock: *mut KSPIN_LOCK, handle: *mut KLOCK_QUEUE_HANDLE) {
        if !enter(lock) {
            broken(0x40006, "QueuedSpinLock: KeAcquireInStackQueuedSpinLock was called for a lock that the caller holds\0");
        }
        None
    }

    /// *QueuedSpinLockRelease rule (wdm)*.
    before fn KeReleaseInStackQueuedSpinLock(site; handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: the driver's handle, filled in when the lock was taken.
        let (lock, _) = unsafe { spinlock::queued(handle) };
        if !leave(lock) {
            broken(0x40007, "QueuedSpinLockRelease: KeReleaseInStackQueuedSpinLock was called for a lock that is not held\0");
        }
        None
    }

    /// As [`leave`] has it.
    before fn KeReleaseInStackQueuedSpinLockFromDpcLevel(site; handle: *mut KLOCK_QUEUE_HANDLE) {
        // SAFETY: as above.
        let (lock, _) = unsafe { spinlock::queued(handle) };
        leave(lock);
        None
    }

    /// *CriticalRegions rule (wdm)*, and *IrqlKeApcLte2 rule (wdm)*.
    before fn KeLeaveCriticalRegion(site) {
        const LEVEL: &str = "IrqlKeApcLte2: KeLeaveCriticalRegion may be called only at IRQL <= APC_LEVEL\0";
        judge(0x20010, Levels::UpToApc, LEVEL);
        if apc::critical_regions() == 0 {
            broken(0x40003, "CriticalRegions: KeLeaveCriticalRegion was called without KeEnterCriticalRegion\0");
        }
        None
    }

    /// *GuardedRegions rule (wdm)*, and *IrqlKeApcLte2 rule (wdm)*.
    before fn KeLeaveGuardedRegion(site) {
        const LEVEL: &str = "IrqlKeApcLte2: KeLeaveGuardedRegion may be called only at IRQL <= APC_LEVEL\0";
        judge(0x20010, Levels::UpToApc, LEVEL);
        if apc::guarded_regions() == 0 {
            broken(0x4000E, "GuardedRegions: KeLeaveGuardedRegion was called without KeEnterGuardedRegion\0");
        }
        None
    }
}

kernel_test! {
    /// Locks that are taken and released as documented, by other routines than their own too, and by several threads.
    fn locks_that_are_released_by_whatever_routine_are_free_again() {
        use super::rehearsal::{Stage, import};
        use crate::ke::irql;
        use crate::ke::spinlock::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock, KeReleaseSpinLockFromDpcLevel};
        use core::cell::UnsafeCell;
        struct Lock(UnsafeCell<KSPIN_LOCK>);
        // SAFETY: it is only used as a lock.
        unsafe impl Sync for Lock {}
        static LOCK: Lock = Lock(UnsafeCell::new(0));
        let Some(stage) = Stage::new(super::classes::Class::Ddi as u32) else { check!(false); return Ok(()) };
        for _ in 0..2 {
            let stop = stage.stop_of(|driver| {
                let acquire = import!(driver, KeAcquireSpinLockRaiseToDpc: fn(*mut KSPIN_LOCK) -> KIRQL);
                let release = import!(driver, KeReleaseSpinLock: fn(*mut KSPIN_LOCK, KIRQL));
                let release_only = import!(driver, KeReleaseSpinLockFromDpcLevel: fn(*mut KSPIN_LOCK));
                // SAFETY: the lock is the test's.
                unsafe {
                    for _ in 0..3 {
                        let old = acquire(LOCK.0.get());
                        release(LOCK.0.get(), old);
                    }
                    let old = acquire(LOCK.0.get());
                    release_only(LOCK.0.get());
                    irql::lower(irql::Irql(old));
                    let old = acquire(LOCK.0.get());
                    release(LOCK.0.get(), old);
                }
            });
            check!(stop.is_none());
        }
        check!(HELD.lock().iter().all(|held| held.0 == 0));
        let twice = stage.stop_of(|driver| {
            let acquire = import!(driver, KeAcquireSpinLockRaiseToDpc: fn(*mut KSPIN_LOCK) -> KIRQL);
            // SAFETY: as above; the second call does not come that far.
            unsafe {
                acquire(LOCK.0.get());
                acquire(LOCK.0.get());
            }
        });
        check!(twice.is_some_and(|(code, [rule, ..])| (code, rule) == (0xC4, 0x40009)));
        let address = LOCK.0.get().addr();
        forget(&(address..address + 8));
        // SAFETY: the scene before was stopped with it taken.
        unsafe { spinlock::release(LOCK.0.get()) };
    }
}
