//! Automatic checks: IRQLs that are changed the wrong way, locks and waits at the wrong level.
//!
//! Source: *Automatic Checks*, and *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0x30 to 0x42, 0x80,
//! 0x111, 0x11A to 0x122. Those about memory are in [`super::mdl_rules`].
//!
//! The values 0x37 to 0x3A are not here: Windows exempts system threads from them, and this guest has no others.

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::thunk::intercept;
use super::{stops, verified};
use crate::ex::resource::Resource;
use crate::ke::irql::{self, Irql};
use crate::ke::spinlock::KLOCK_QUEUE_HANDLE;
use crate::ke::wait::{self, WaitBlock};
use crate::ke::{apc, processor};
use crate::nt::{BOOLEAN, FAST_MUTEX, KEVENT, KIRQL, KPROCESSOR_MODE, KSPIN_LOCK, NTSTATUS, PVOID};
use crate::selftest::{check, kernel_test};
use core::sync::atomic::Ordering;

/// The level, which most of these stops have as their second parameter.
fn level() -> u64 {
    irql::current().0.into()
}

fn stop(what: u64, parameters: [u64; 3]) -> ! {
    let [second, third, fourth] = parameters;
    stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [what, second, third, fourth])
}

fn above(limit: Irql) -> bool {
    irql::current() > limit
}

fn in_dpc() -> bool {
    processor::current().dpc_active.load(Ordering::Relaxed) != 0
}

fn raises(new: u8) {
    if irql::current().0 > new || new > Irql::HIGH.0 {
        stop(0x30, [level(), new.into(), 0]);
    }
}

/// A wait, at DISPATCH_LEVEL or above, that could not end there.
fn waits(object: usize, timeout: *const i64) {
    let irql = irql::current();
    if irql < Irql::DISPATCH || (irql == Irql::DISPATCH && wait::is_to_follow()) {
        return;
    }
    let stop = |what| stop(what, [(&raw const irql).addr() as u64, object as u64, timeout.addr() as u64]);
    if irql > Irql::DISPATCH {
        stop(0x120);
    }
    // SAFETY: where it is not null the driver's timeout.
    match unsafe { timeout.as_ref() } {
        None => stop(0x121),
        Some(0) => {}
        Some(_) => stop(0x122),
    }
}

/// 0x111: an ISR has come back at another level than this, at which it was called.
pub fn isr_returned(routine: u64, before: Irql) {
    if verified::at(routine as usize).is_some() {
        stop(0x111, [routine, before.0.into(), level()]);
    }
}

/// A resource's address, which ERESOURCE's alignment makes a multiple of 8.
fn aligned(resource: *const Resource) {
    if !resource.addr().is_multiple_of(align_of::<Resource>()) {
        stop(0x3D, [0, 0, resource.addr() as u64]);
    }
}

intercept! {
    for Automatic;

    /// 0x30: *KeRaiseIrql function (wdm.h)*, which calls this, never lowers.
    before fn KfRaiseIrql(site; new: KIRQL) -> KIRQL {
        raises(new);
        None
    }

    /// 0x30.
    before fn KeRaiseIrqlToDpcLevel(site) -> KIRQL {
        raises(Irql::DISPATCH.0);
        None
    }

    /// 0x31: *KeLowerIrql function (wdm.h)* never raises, and not below DISPATCH_LEVEL in a DPC.
    before fn KeLowerIrql(site; new: KIRQL) {
        if new > irql::current().0 {
            stop(0x31, [level(), new.into(), 0]);
        }
        if in_dpc() && new < Irql::DISPATCH.0 {
            stop(0x31, [level(), new.into(), 1]);
        }
        None
    }

    /// 0x32: also a second release.
    before fn KeReleaseSpinLock(site; lock: *mut KSPIN_LOCK, old: KIRQL) {
        if irql::current() != Irql::DISPATCH {
            stop(0x32, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x33.
    before fn ExAcquireFastMutex(site; mutex: *mut FAST_MUTEX) {
        if above(Irql::APC) {
            stop(0x33, [level(), mutex.addr() as u64, 0]);
        }
        None
    }

    /// 0x33.
    before fn ExTryToAcquireFastMutex(site; mutex: *mut FAST_MUTEX) -> BOOLEAN {
        if above(Irql::APC) {
            stop(0x33, [level(), mutex.addr() as u64, 0]);
        }
        None
    }

    /// 0x34.
    before fn ExReleaseFastMutex(site; mutex: *mut FAST_MUTEX) {
        if irql::current() != Irql::APC {
            stop(0x34, [level(), mutex.addr() as u64, 0]);
        }
        None
    }

    /// 0x3D.
    before fn ExAcquireResourceExclusiveLite(site; resource: *mut Resource, wait: BOOLEAN) -> BOOLEAN {
        aligned(resource);
        None
    }

    /// 0x3D.
    before fn ExAcquireResourceSharedLite(site; resource: *mut Resource, wait: BOOLEAN) -> BOOLEAN {
        aligned(resource);
        None
    }

    /// 0x11A.
    before fn KeEnterCriticalRegion(site) {
        if above(Irql::APC) {
            stop(0x11A, [level(), 0, 0]);
        }
        None
    }

    /// 0x3E and 0x11B.
    before fn KeLeaveCriticalRegion(site) {
        if above(Irql::APC) {
            stop(0x11B, [level(), 0, 0]);
        }
        if apc::critical_regions() == 0 {
            stop(0x3E, [0, 0, 0]);
        }
        None
    }

    /// 0x40.
    before fn KeAcquireSpinLockAtDpcLevel(site; lock: *mut KSPIN_LOCK) {
        if irql::current() < Irql::DISPATCH {
            stop(0x40, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x40.
    before fn KeTryToAcquireSpinLockAtDpcLevel(site; lock: *mut KSPIN_LOCK) -> BOOLEAN {
        if irql::current() < Irql::DISPATCH {
            stop(0x40, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x40.
    before fn KeAcquireInStackQueuedSpinLockAtDpcLevel(site; lock: *mut KSPIN_LOCK, handle: *mut KLOCK_QUEUE_HANDLE) {
        if irql::current() < Irql::DISPATCH {
            stop(0x40, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x41.
    before fn KeReleaseSpinLockFromDpcLevel(site; lock: *mut KSPIN_LOCK) {
        if irql::current() < Irql::DISPATCH {
            stop(0x41, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x42: *KeAcquireSpinLock macro (wdm.h)*, which calls this.
    before fn KeAcquireSpinLockRaiseToDpc(site; lock: *mut KSPIN_LOCK) -> KIRQL {
        if above(Irql::DISPATCH) {
            stop(0x42, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x42.
    before fn KeAcquireInStackQueuedSpinLock(site; lock: *mut KSPIN_LOCK, handle: *mut KLOCK_QUEUE_HANDLE) {
        if above(Irql::DISPATCH) {
            stop(0x42, [level(), lock.addr() as u64, 0]);
        }
        None
    }

    /// 0x80.
    before fn KeSetEvent(site; event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32 {
        if above(Irql::DISPATCH) {
            stop(0x80, [level(), event.addr() as u64, 0]);
        }
        None
    }

    /// 0x120 to 0x122.
    before fn KeWaitForSingleObject(
        site;
        object: PVOID,
        reason: u32,
        mode: KPROCESSOR_MODE,
        alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS {
        waits(object.addr(), timeout);
        None
    }

    /// 0x120 to 0x122: the object is the first.
    before fn KeWaitForMultipleObjects(
        site;
        count: u32,
        objects: *const PVOID,
        kind: u32,
        reason: u32,
        mode: KPROCESSOR_MODE,
        alertable: BOOLEAN,
        timeout: *const i64,
        blocks: *mut WaitBlock,
    ) -> NTSTATUS {
        if irql::current() >= Irql::DISPATCH && count > 0 {
            // SAFETY: the driver's array has that many objects.
            waits(unsafe { *objects }.addr(), timeout);
        }
        None
    }
}

/// What the Verifier stops a driver for that calls `export` with these arguments at `irql`, given only automatic checks.
fn stop_at(irql: Irql, export: &'static str, arguments: [u64; 5]) -> Option<[u64; 4]> {
    use super::rehearsal::Stage;
    type Routine = unsafe extern "win64" fn(u64, u64, u64, u64, u64) -> u64;
    // Automatic checks come with whatever class is asked for.
    let stage = Stage::new(super::classes::Class::Rehearsal as u32)?;
    let stop = stage.stop_of(move |driver| {
        // SAFETY: what an import leads to is a routine.
        let routine = unsafe { core::mem::transmute::<*const _, Routine>(driver.import(export)) };
        let [a, b, c, d, e] = arguments;
        irql::raise(irql);
        // SAFETY: the routine takes at most as many, and is stopped before it looks at them.
        unsafe { routine(a, b, c, d, e) };
        irql::set(Irql::PASSIVE);
    });
    stop.filter(|(code, _)| *code == DRIVER_VERIFIER_DETECTED_VIOLATION).map(|(_, parameters)| parameters)
}

kernel_test! {
    fn levels_that_go_the_wrong_way_are_stopped() {
        let [passive, apc, dispatch, device] = [Irql::PASSIVE, Irql::APC, Irql::DISPATCH, Irql(5)];
        check!(stop_at(dispatch, "KfRaiseIrql", [1, 0, 0, 0, 0]) == Some([0x30, 2, 1, 0]));
        check!(stop_at(passive, "KfRaiseIrql", [16, 0, 0, 0, 0]) == Some([0x30, 0, 16, 0]));
        check!(stop_at(device, "KeRaiseIrqlToDpcLevel", [0; 5]) == Some([0x30, 5, 2, 0]));
        check!(stop_at(apc, "KeLowerIrql", [2, 0, 0, 0, 0]) == Some([0x31, 1, 2, 0]));
        check!(stop_at(apc, "KfRaiseIrql", [2, 0, 0, 0, 0]).is_none());
        check!(stop_at(dispatch, "KeLowerIrql", [0, 0, 0, 0, 0]).is_none());
    }

    fn locks_at_the_wrong_level_are_stopped() {
        let [passive, apc, dispatch, device] = [Irql::PASSIVE, Irql::APC, Irql::DISPATCH, Irql(5)];
        let lock = [0x1000, 0, 0, 0, 0];
        for (level, export, what) in [
            (apc, "KeReleaseSpinLock", 0x32),
            (dispatch, "ExAcquireFastMutex", 0x33),
            (dispatch, "ExTryToAcquireFastMutex", 0x33),
            (passive, "ExReleaseFastMutex", 0x34),
            (apc, "KeAcquireSpinLockAtDpcLevel", 0x40),
            (passive, "KeAcquireInStackQueuedSpinLockAtDpcLevel", 0x40),
            (passive, "KeReleaseSpinLockFromDpcLevel", 0x41),
            (device, "KeAcquireSpinLockRaiseToDpc", 0x42),
            (device, "KeAcquireInStackQueuedSpinLock", 0x42),
            (device, "KeSetEvent", 0x80),
        ] {
            check!(stop_at(level, export, lock) == Some([what, level.0.into(), 0x1000, 0]));
        }
        check!(stop_at(passive, "ExAcquireResourceSharedLite", [0x1004, 0, 0, 0, 0]) == Some([0x3D, 0, 0, 0x1004]));
        check!(stop_at(dispatch, "KeEnterCriticalRegion", [0; 5]) == Some([0x11A, 2, 0, 0]));
        check!(stop_at(dispatch, "KeLeaveCriticalRegion", [0; 5]) == Some([0x11B, 2, 0, 0]));
        check!(stop_at(apc, "KeLeaveCriticalRegion", [0; 5]) == Some([0x3E, 0, 0, 0]));
    }

    fn waits_that_cannot_end_at_their_level_are_stopped() {
        static SHORT: i64 = -10_000;
        let timeout = (&raw const SHORT).addr() as u64;
        let wait = |level, timeout| {
            let stop = stop_at(level, "KeWaitForSingleObject", [0x2000, 0, 0, 0, timeout]);
            stop.filter(|stop| stop[1] != 0).map(|[what, _, object, timeout]| [what, object, timeout])
        };
        check!(wait(Irql(5), 0) == Some([0x120, 0x2000, 0]));
        check!(wait(Irql::DISPATCH, 0) == Some([0x121, 0x2000, 0]));
        check!(wait(Irql::DISPATCH, timeout) == Some([0x122, 0x2000, timeout]));
    }
}
