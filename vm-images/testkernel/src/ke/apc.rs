//! Critical and guarded regions.
//!
//! A thread in a critical region takes no normal kernel APC, in a guarded region none at all. This kernel
//! delivers none to anybody; what it keeps is the account, since drivers ask.

use core::sync::atomic::Ordering;

use super::irql::{self, Irql};
use super::thread::{self, Thread};
use crate::ldr::export::export;
use crate::nt::BOOLEAN;
use crate::selftest::{check, kernel_test};

fn current() -> &'static Thread {
    // SAFETY: the thread that runs is alive, and the reference is dropped before it could end.
    unsafe { thread::current().as_ref() }
}

/// How many critical regions the calling thread is in.
pub fn critical_regions() -> u32 {
    current().kernel_apcs_off.load(Ordering::Relaxed)
}

/// What the calling thread's `CombinedApcDisable` would be: minus the guarded regions that it is in above minus the critical ones, 16 bits
/// each.
pub fn disabled() -> u32 {
    let minus = |count: &core::sync::atomic::AtomicU32| count.load(Ordering::Relaxed).wrapping_neg() & 0xFFFF;
    minus(&current().all_apcs_off) << 16 | minus(&current().kernel_apcs_off)
}

/// How many guarded regions the calling thread is in.
pub fn guarded_regions() -> u32 {
    current().all_apcs_off.load(Ordering::Relaxed)
}

/// The APC disable count as Windows tells it, which goes down with each critical region that the thread enters.
pub fn disable_count() -> i64 {
    -i64::from(critical_regions().cast_signed())
}

/// Whether the calling thread takes no normal APC: it is in a region, or its IRQL says so.
pub fn are_off() -> bool {
    let thread = current();
    let off = [&thread.kernel_apcs_off, &thread.all_apcs_off];
    irql::current() > Irql::PASSIVE || off.iter().any(|count| count.load(Ordering::Relaxed) != 0)
}

export! {
    /// *KeEnterCriticalRegion function (ntddk.h)*: normal kernel APCs are off until as many calls of
    /// KeLeaveCriticalRegion.
    pub unsafe extern "win64" fn KeEnterCriticalRegion() {
        current().kernel_apcs_off.fetch_add(1, Ordering::Relaxed);
    }

    /// *KeLeaveCriticalRegion function (ntddk.h)*.
    pub unsafe extern "win64" fn KeLeaveCriticalRegion() {
        current().kernel_apcs_off.fetch_sub(1, Ordering::Relaxed);
    }

    /// *KeEnterGuardedRegion function (ntddk.h)*: all APCs are off.
    pub unsafe extern "win64" fn KeEnterGuardedRegion() {
        current().all_apcs_off.fetch_add(1, Ordering::Relaxed);
    }

    /// *KeLeaveGuardedRegion function (ntddk.h)*.
    pub unsafe extern "win64" fn KeLeaveGuardedRegion() {
        current().all_apcs_off.fetch_sub(1, Ordering::Relaxed);
    }

    /// *KeAreApcsDisabled function (ntddk.h)*: TRUE in a critical or guarded region.
    pub unsafe extern "win64" fn KeAreApcsDisabled() -> BOOLEAN {
        let thread = current();
        let off = [&thread.kernel_apcs_off, &thread.all_apcs_off];
        off.iter().any(|count| count.load(Ordering::Relaxed) != 0).into()
    }

    /// *KeAreAllApcsDisabled function (wdm.h)*: TRUE in a guarded region, or at APC_LEVEL or above.
    pub unsafe extern "win64" fn KeAreAllApcsDisabled() -> BOOLEAN {
        (irql::current() > Irql::PASSIVE || current().all_apcs_off.load(Ordering::Relaxed) != 0).into()
    }
}

kernel_test! {
    /// *KeAreApcsDisabled function (ntddk.h)* and *KeAreAllApcsDisabled function (wdm.h)*.
    fn regions_nest_and_are_told_apart() {
        let state = || {
            // SAFETY: these ask only.
            unsafe { (KeAreApcsDisabled(), KeAreAllApcsDisabled()) }
        };
        check!(state() == (0, 0));
        // SAFETY: entered and left as often.
        unsafe {
            KeEnterCriticalRegion();
            KeEnterCriticalRegion();
            KeLeaveCriticalRegion();
            check!(state() == (1, 0));
            KeLeaveCriticalRegion();
            KeEnterGuardedRegion();
            check!(state() == (1, 1));
            KeLeaveGuardedRegion();
        }
        check!(state() == (0, 0));
        let old = irql::raise(Irql(1));
        let raised = state();
        irql::lower(old);
        check!(raised == (0, 1));
    }
}
