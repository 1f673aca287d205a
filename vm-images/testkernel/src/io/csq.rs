//! Cancel-safe queues: the driver keeps the packets, the I/O manager sees to cancelling.
//!
//! The driver gives six routines: insert, remove, peek, lock, unlock, complete as cancelled. The cancel routine is the
//! I/O manager's own; that it is set says that the packet is in the queue. Whoever takes it out, by an atomic exchange,
//! has the packet: the remover or the canceller, never both.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::cancel;
use crate::ke::irql::Irql;
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, DriverCancel, IO_CSQ, IO_CSQ_IRP_CONTEXT, IO_TYPE_CSQ, IO_TYPE_CSQ_EX,
    IO_TYPE_CSQ_IRP_CONTEXT, IRP, NTSTATUS, PVOID, SL_PENDING_RETURNED, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};

/// Which of the driver's words in a packet is the queue's while it is in one.
const WORD: usize = 3;

/// Takes the cancel routine out of a packet, or puts one in; true where there was one.
///
/// # Safety
/// `irp` must be a packet.
unsafe fn exchange(irp: *mut IRP, routine: Option<DriverCancel>) -> bool {
    // SAFETY: the caller's contract; the field is only ever exchanged atomically.
    let slot = unsafe { AtomicUsize::from_ptr((&raw mut (*irp).CancelRoutine).cast()) };
    slot.swap(routine.map_or(0, |routine| routine as usize), Ordering::AcqRel) != 0
}

/// Runs `work` under the driver's lock, which may be a spin lock: what is left at the end is at the level of before.
///
/// # Safety
/// `csq` must be an initialized queue.
unsafe fn locked<T>(csq: *mut IO_CSQ, work: impl FnOnce() -> T) -> T {
    let mut old = Irql::PASSIVE.0;
    // SAFETY: the caller's contract.
    unsafe { ((*csq).CsqAcquireLock)(csq, &raw mut old) };
    let result = work();
    // SAFETY: as above.
    unsafe { ((*csq).CsqReleaseLock)(csq, old) };
    result
}

/// Forgets that the packet was in a queue. Under its lock.
///
/// # Safety
/// `irp` must be a packet that was in a queue.
unsafe fn unlink(irp: *mut IRP) {
    // SAFETY: the word leads to the queue or to the context, which both begin with their type.
    unsafe {
        let word = core::mem::replace(&mut (*irp).Tail.DriverContext[WORD], core::ptr::null_mut());
        if let Some(context) = word.cast::<IO_CSQ_IRP_CONTEXT>().as_mut()
            && context.Type == IO_TYPE_CSQ_IRP_CONTEXT
        {
            context.Irp = core::ptr::null_mut();
        }
    }
}

/// The cancel routine of every packet in a queue.
unsafe extern "win64" fn cancelled(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: called with the cancel lock held; that the routine was set says that the packet is in a queue.
    unsafe {
        cancel::release(Irql((*irp).CancelIrql));
        let word = (*irp).Tail.DriverContext[WORD];
        let context = word.cast::<IO_CSQ_IRP_CONTEXT>();
        let csq =
            if (*context).Type == IO_TYPE_CSQ_IRP_CONTEXT { (*context).Csq } else { word.cast::<IO_CSQ>() };
        locked(csq, || {
            ((*csq).CsqRemoveIrp)(csq, irp);
            unlink(irp);
        });
        ((*csq).CsqCompleteCanceledIrp)(csq, irp);
    }
}

/// # Safety
/// `csq` must be a queue, `irp` the caller's packet, `context` null or the caller's.
unsafe fn insert(
    csq: *mut IO_CSQ,
    irp: *mut IRP,
    context: *mut IO_CSQ_IRP_CONTEXT,
    insert_context: PVOID,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        (*irp).Tail.DriverContext[WORD] = if context.is_null() {
            csq.cast()
        } else {
            context.write(IO_CSQ_IRP_CONTEXT { Type: IO_TYPE_CSQ_IRP_CONTEXT, Irp: irp, Csq: csq });
            context.cast()
        };
        let inserted = locked(csq, || {
            let insert = (*csq).CsqInsertIrp;
            if (*csq).Type == IO_TYPE_CSQ_EX {
                let status = insert(csq, irp, insert_context);
                if !status.is_success() {
                    unlink(irp);
                    return Err(status);
                }
            } else {
                // A routine of the older kind returns nothing.
                let _ = insert(csq, irp, core::ptr::null_mut());
            }
            (*(*irp).Tail.CurrentStackLocation).Control |= SL_PENDING_RETURNED;
            exchange(irp, Some(cancelled));
            // Cancelled before the routine was there: whoever takes it out again has the packet.
            let late = (&raw const (*irp).Cancel).read_volatile() != 0 && exchange(irp, None);
            if late {
                ((*csq).CsqRemoveIrp)(csq, irp);
                unlink(irp);
            }
            Ok(late)
        });
        match inserted {
            Ok(late) => {
                if late {
                    ((*csq).CsqCompleteCanceledIrp)(csq, irp);
                }
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }
}

export! {
    /// *IoCsqInitialize function (wdm.h)*: the driver's routines.
    pub unsafe extern "win64" fn IoCsqInitialize(
        csq: *mut IO_CSQ,
        insert: PVOID,
        remove: PVOID,
        peek: PVOID,
        acquire: PVOID,
        release: PVOID,
        complete: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller's routines.
        unsafe { initialize(csq, IO_TYPE_CSQ, [insert, remove, peek, acquire, release, complete]) }
    }

    /// *IoCsqInitializeEx function (wdm.h)*: the insert routine takes a context and may refuse.
    pub unsafe extern "win64" fn IoCsqInitializeEx(
        csq: *mut IO_CSQ,
        insert: PVOID,
        remove: PVOID,
        peek: PVOID,
        acquire: PVOID,
        release: PVOID,
        complete: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller's routines.
        unsafe { initialize(csq, IO_TYPE_CSQ_EX, [insert, remove, peek, acquire, release, complete]) }
    }

    /// *IoCsqInsertIrp function (wdm.h)*: marks the packet pending and queues it.
    pub unsafe extern "win64" fn IoCsqInsertIrp(csq: *mut IO_CSQ, irp: *mut IRP, context: *mut IO_CSQ_IRP_CONTEXT) {
        // SAFETY: the contract is the same. A routine of the older kind cannot refuse.
        let _ = unsafe { insert(csq, irp, context, core::ptr::null_mut()) };
    }

    /// *IoCsqInsertIrpEx function (wdm.h)*: the same; returns what the driver's insert routine does.
    pub unsafe extern "win64" fn IoCsqInsertIrpEx(
        csq: *mut IO_CSQ,
        irp: *mut IRP,
        context: *mut IO_CSQ_IRP_CONTEXT,
        insert_context: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { insert(csq, irp, context, insert_context) }
    }

    /// *IoCsqRemoveIrp function (wdm.h)*: the packet of a context; null where it was cancelled.
    pub unsafe extern "win64" fn IoCsqRemoveIrp(csq: *mut IO_CSQ, context: *mut IO_CSQ_IRP_CONTEXT) -> *mut IRP {
        // SAFETY: the caller gives a queue and a context that it inserted a packet with.
        unsafe {
            locked(csq, || {
                let irp = (*context).Irp;
                if irp.is_null() || !exchange(irp, None) {
                    return core::ptr::null_mut();
                }
                ((*csq).CsqRemoveIrp)(csq, irp);
                unlink(irp);
                irp
            })
        }
    }

    /// *IoCsqRemoveNextIrp function (wdm.h)*: the next packet that matches and is not being cancelled, or null.
    pub unsafe extern "win64" fn IoCsqRemoveNextIrp(csq: *mut IO_CSQ, peek_context: PVOID) -> *mut IRP {
        // SAFETY: the caller gives a queue; what its peek routine returns is in it.
        unsafe {
            locked(csq, || {
                let mut irp = ((*csq).CsqPeekNextIrp)(csq, core::ptr::null_mut(), peek_context);
                while !irp.is_null() && !exchange(irp, None) {
                    irp = ((*csq).CsqPeekNextIrp)(csq, irp, peek_context);
                }
                if !irp.is_null() {
                    ((*csq).CsqRemoveIrp)(csq, irp);
                    unlink(irp);
                }
                irp
            })
        }
    }
}

/// # Safety
/// `csq` must be writable, each routine the driver's of that kind.
unsafe fn initialize(csq: *mut IO_CSQ, kind: u32, routines: [PVOID; 6]) -> NTSTATUS {
    if routines.iter().any(|routine| routine.is_null()) {
        return STATUS_INVALID_PARAMETER;
    }
    let [insert, remove, peek, acquire, release, complete] = routines;
    // SAFETY: none is null, and each is of its kind by the caller's contract.
    unsafe {
        csq.write(IO_CSQ {
            Type: kind,
            CsqInsertIrp: core::mem::transmute::<PVOID, crate::nt::CsqInsertIrpEx>(insert),
            CsqRemoveIrp: core::mem::transmute::<PVOID, crate::nt::CsqRemoveIrp>(remove),
            CsqPeekNextIrp: core::mem::transmute::<PVOID, crate::nt::CsqPeekNextIrp>(peek),
            CsqAcquireLock: core::mem::transmute::<PVOID, crate::nt::CsqAcquireLock>(acquire),
            CsqReleaseLock: core::mem::transmute::<PVOID, crate::nt::CsqReleaseLock>(release),
            CsqCompleteCanceledIrp: core::mem::transmute::<PVOID, crate::nt::CsqRemoveIrp>(complete),
            ReservePointer: core::ptr::null_mut(),
        });
    }
    STATUS_SUCCESS
}

mod probe {
    //! A queue of at most two packets, which one test uses at a time.
    use super::{IO_CSQ, IRP, NTSTATUS, PVOID, STATUS_SUCCESS};
    use crate::ke::lock::SpinLock;
    use crate::nt::{KIRQL, STATUS_DEVICE_BUSY};
    use alloc::vec::Vec;

    pub static QUEUE: SpinLock<Vec<usize>> = SpinLock::new(Vec::new());
    pub static CANCELLED: SpinLock<Vec<usize>> = SpinLock::new(Vec::new());

    pub unsafe extern "win64" fn insert(_: *mut IO_CSQ, irp: *mut IRP, _: PVOID) -> NTSTATUS {
        let mut queue = QUEUE.lock();
        if queue.len() == 2 {
            return STATUS_DEVICE_BUSY;
        }
        queue.push(irp.expose_provenance());
        STATUS_SUCCESS
    }
    pub unsafe extern "win64" fn remove(_: *mut IO_CSQ, irp: *mut IRP) {
        QUEUE.lock().retain(|&queued| queued != irp.addr());
    }
    pub unsafe extern "win64" fn peek(_: *mut IO_CSQ, irp: *mut IRP, _: PVOID) -> *mut IRP {
        let queue = QUEUE.lock();
        let at = queue.iter().position(|&queued| queued == irp.addr()).map_or(0, |at| at + 1);
        queue.get(at).map_or(core::ptr::null_mut(), |&queued| core::ptr::with_exposed_provenance_mut(queued))
    }
    pub unsafe extern "win64" fn acquire(_: *mut IO_CSQ, _: *mut KIRQL) {}
    pub unsafe extern "win64" fn release(_: *mut IO_CSQ, _: KIRQL) {}
    pub unsafe extern "win64" fn complete(_: *mut IO_CSQ, irp: *mut IRP) {
        CANCELLED.lock().push(irp.addr());
    }
}

kernel_test! {
    /// *Cancel-Safe IRP Queues*: a packet is removed or cancelled, never both; a refused one is in no queue.
    fn a_queued_packet_is_removed_or_cancelled_but_not_both() {
        let mut csq = core::mem::MaybeUninit::<IO_CSQ>::uninit();
        let csq = csq.as_mut_ptr();
        let packets = [(); 3].map(|()| super::irp::allocate(1));
        let [Some(a), Some(b), Some(c)] = packets else { check!(false); return Ok(()) };
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_ptr());
        let none = core::ptr::null_mut();
        let mut context = IO_CSQ_IRP_CONTEXT { Type: 0, Irp: core::ptr::null_mut(), Csq: csq };
        let context = &raw mut context;
        let cancelled = || probe::CANCELLED.lock().clone();
        probe::CANCELLED.lock().clear();
        // SAFETY: queue, context and packets are this test's; each packet has its location made current.
        unsafe {
            let status = IoCsqInitializeEx(
                csq, probe::insert as PVOID, probe::remove as PVOID, probe::peek as PVOID,
                probe::acquire as PVOID, probe::release as PVOID, probe::complete as PVOID,
            );
            check!(status == STATUS_SUCCESS);
            for packet in [a, b, c] {
                (*packet).CurrentLocation -= 1;
                (*packet).Tail.CurrentStackLocation = (*packet).Tail.CurrentStackLocation.sub(1);
            }
            check!(IoCsqInsertIrpEx(csq, a, core::ptr::null_mut(), none) == STATUS_SUCCESS);
            check!((*(*a).Tail.CurrentStackLocation).Control & SL_PENDING_RETURNED != 0);
            check!(IoCsqInsertIrpEx(csq, b, context, none) == STATUS_SUCCESS && (*context).Irp == b);
            check!(IoCsqInsertIrpEx(csq, c, core::ptr::null_mut(), none) == crate::nt::STATUS_DEVICE_BUSY);
            check!((*c).CancelRoutine.is_none());
            check!(cancel::cancel(a) && cancelled() == [a.addr()]);
            check!(!cancel::cancel(a) && IoCsqRemoveNextIrp(csq, none) == b && (*context).Irp.is_null());
            check!(IoCsqRemoveIrp(csq, context).is_null() && IoCsqRemoveNextIrp(csq, none).is_null());
            (*c).Cancel = 1;
            check!(IoCsqInsertIrpEx(csq, c, context, none) == STATUS_SUCCESS);
            check!(cancelled() == [a.addr(), c.addr()] && IoCsqRemoveIrp(csq, context).is_null());
            check!(IoCsqInsertIrpEx(csq, b, context, none) == STATUS_SUCCESS);
            check!(IoCsqRemoveIrp(csq, context) == b && !cancel::cancel(b));
        }
        probe::CANCELLED.lock().clear();
        for packet in packets.into_iter().flatten() {
            // SAFETY: in no queue any more.
            unsafe { super::irp::free(packet) };
        }
    }
}
