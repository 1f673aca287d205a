//! Cancelling a request.
//!
//! A driver that keeps a packet for long sets a cancel routine in it (inline, an atomic exchange of the field). Whoever
//! cancels takes the routine out and calls it with the system's one cancel spin lock held; the routine releases it.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::ke::bugcheck::bugcheck;
use crate::ke::irql::{self, Irql};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DriverCancel, FALSE, IRP, KIRQL, TRUE};

/// A packet that is complete still had a cancel routine, which was to be called.
const CANCEL_STATE_IN_COMPLETED_IRP: u32 = 0x48;

static LOCK: AtomicBool = AtomicBool::new(false);

/// Takes the cancel spin lock; gives the level before.
pub(super) fn acquire() -> Irql {
    let old = irql::raise(Irql::DISPATCH);
    while LOCK.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        core::hint::spin_loop();
    }
    old
}

/// Gives the cancel spin lock back.
pub(super) fn release(old: Irql) {
    LOCK.store(false, Ordering::Release);
    irql::lower(old);
}

/// Asks the driver that has `irp` to complete it; false where it has set no cancel routine.
///
/// # Safety
/// `irp` must stay a packet throughout: its issuer calls this, or prevents its completion.
pub unsafe fn cancel(irp: *mut IRP) -> bool {
    let old = acquire();
    // SAFETY: the caller's contract; drivers exchange the routine atomically, and so does this.
    let routine = unsafe {
        (*irp).Cancel = TRUE;
        let slot = AtomicUsize::from_ptr((&raw mut (*irp).CancelRoutine).cast());
        core::mem::transmute::<usize, Option<DriverCancel>>(slot.swap(0, Ordering::AcqRel))
    };
    let Some(routine) = routine else {
        release(old);
        return false;
    };
    // SAFETY: the caller's contract.
    let is_complete = unsafe { (*irp).CurrentLocation > (*irp).StackCount + 1 };
    if is_complete {
        bugcheck(CANCEL_STATE_IN_COMPLETED_IRP, [irp.addr() as u64, routine as *const () as u64, 0, 0]);
    }
    // SAFETY: the routine is the driver's, called as documented: lock held, the IRQL to return to in the packet.
    unsafe {
        (*irp).CancelIrql = old.0;
        let location = (*irp).Tail.CurrentStackLocation;
        routine((*location).DeviceObject, irp);
    }
    true
}

export! {
    /// *IoCancelIrp function (wdm.h)*: a packet that is complete and has a cancel routine all the same is
    /// *Bug Check 0x48: CANCEL_STATE_IN_COMPLETED_IRP*.
    pub unsafe extern "win64" fn IoCancelIrp(irp: *mut IRP) -> BOOLEAN {
        // SAFETY: the contract is the same.
        if unsafe { cancel(irp) } { TRUE } else { FALSE }
    }

    /// *IoAcquireCancelSpinLock function (wdm.h)*.
    pub unsafe extern "win64" fn IoAcquireCancelSpinLock(old: *mut KIRQL) {
        let level = acquire();
        // SAFETY: the caller gives storage for the level.
        unsafe { old.write(level.0) };
    }

    /// *IoReleaseCancelSpinLock function (wdm.h)*.
    pub unsafe extern "win64" fn IoReleaseCancelSpinLock(old: KIRQL) {
        release(Irql(old));
    }
}
