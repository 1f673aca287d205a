//! Connecting and disconnecting interrupts, as drivers see it.
//!
//! What is behind it is in [`crate::ke::interrupt`]; this is the I/O manager's part: the checks, and the
//! shapes that the documentation gives the parameters.

use crate::ke::interrupt::{self, Connection, Refused, Trigger};
use crate::ke::irql::Irql;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP, IO_CONNECT_INTERRUPT_PARAMETERS,
    IO_DISCONNECT_INTERRUPT_PARAMETERS, KAFFINITY, KINTERRUPT, KIRQL, KSPIN_LOCK, LEVEL_SENSITIVE, NTSTATUS,
    PVOID, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED, STATUS_SUCCESS, ServiceRoutine,
    SynchronizeRoutine,
};

/// Connects, and says what became of it in NT's terms.
///
/// # Safety
/// `object` is writable.
unsafe fn connect(object: *mut *mut KINTERRUPT, irql: KIRQL, connection: Connection) -> NTSTATUS {
    if Irql(irql) != Irql::of_vector(connection.vector) {
        return STATUS_INVALID_PARAMETER;
    }
    match interrupt::connect(connection) {
        Ok(connected) => {
            // SAFETY: the caller's.
            unsafe { object.write(connected) };
            STATUS_SUCCESS
        }
        Err(Refused::NoSuchVector) => STATUS_NOT_FOUND,
        Err(Refused::WrongIrql | Refused::NoProcessor | Refused::InUse) => STATUS_INVALID_PARAMETER,
    }
}

fn trigger(mode: u32) -> Trigger {
    if mode == LEVEL_SENSITIVE { Trigger::Level } else { Trigger::Edge }
}

export! {
    /// *IoConnectInterruptEx function (wdm.h)*: CONNECT_FULLY_SPECIFIED, with or without a group. Of the
    /// versions that look up a device's resources it says STATUS_NOT_SUPPORTED and, as documented, stores the
    /// version that is supported. A null PhysicalDeviceObject is refused.
    pub unsafe extern "win64" fn IoConnectInterruptEx(
        parameters: *mut IO_CONNECT_INTERRUPT_PARAMETERS,
    ) -> NTSTATUS {
        // SAFETY: the caller's parameters; the version says which member of the union they hold.
        unsafe {
            let version = (*parameters).Version;
            if version != CONNECT_FULLY_SPECIFIED && version != CONNECT_FULLY_SPECIFIED_GROUP {
                (*parameters).Version = CONNECT_FULLY_SPECIFIED;
                return STATUS_NOT_SUPPORTED;
            }
            let asked = (*parameters).FullySpecified;
            let (Some(routine), Ok(vector)) = (asked.ServiceRoutine, u8::try_from(asked.Vector)) else {
                return STATUS_INVALID_PARAMETER;
            };
            let nowhere = asked.PhysicalDeviceObject.is_null() || asked.InterruptObject.is_null();
            if nowhere || asked.FloatingSave != 0 {
                return STATUS_INVALID_PARAMETER;
            }
            if version == CONNECT_FULLY_SPECIFIED_GROUP && asked.Group != 0 {
                return STATUS_INVALID_PARAMETER;
            }
            connect(
                asked.InterruptObject,
                asked.Irql,
                Connection {
                    routine,
                    context: asked.ServiceContext,
                    lock: asked.SpinLock,
                    vector,
                    synchronize_irql: Irql(asked.SynchronizeIrql),
                    trigger: trigger(asked.InterruptMode),
                    shared: asked.ShareVector != 0,
                    affinity: asked.ProcessorEnableMask,
                },
            )
        }
    }

    /// *IoDisconnectInterruptEx function (wdm.h)*: when it returns, the ISR runs nowhere.
    pub unsafe extern "win64" fn IoDisconnectInterruptEx(
        parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS,
    ) {
        // SAFETY: the caller's parameters.
        let object = unsafe { (*parameters).InterruptObject };
        interrupt::disconnect(object);
    }

    /// *IoConnectInterrupt function (wdm.h)*.
    pub unsafe extern "win64" fn IoConnectInterrupt(
        object: *mut *mut KINTERRUPT,
        routine: Option<ServiceRoutine>,
        context: PVOID,
        lock: *mut KSPIN_LOCK,
        vector: u32,
        irql: KIRQL,
        synchronize_irql: KIRQL,
        mode: u32,
        shared: BOOLEAN,
        affinity: KAFFINITY,
        floating_save: BOOLEAN,
    ) -> NTSTATUS {
        let (Some(routine), Ok(vector)) = (routine, u8::try_from(vector)) else {
            return STATUS_INVALID_PARAMETER;
        };
        if object.is_null() || floating_save != 0 {
            return STATUS_INVALID_PARAMETER;
        }
        let connection = Connection {
            routine,
            context,
            lock,
            vector,
            synchronize_irql: Irql(synchronize_irql),
            trigger: trigger(mode),
            shared: shared != 0,
            affinity,
        };
        // SAFETY: the caller's.
        unsafe { connect(object, irql, connection) }
    }

    /// *IoDisconnectInterrupt function (wdm.h)*: when it returns, the ISR runs nowhere.
    pub unsafe extern "win64" fn IoDisconnectInterrupt(object: *mut KINTERRUPT) {
        interrupt::disconnect(object);
    }

    /// *KeSynchronizeExecution function (wdm.h)*: calls the routine at the interrupt's SynchronizeIrql with
    /// its spin lock held, so that the ISR cannot run meanwhile.
    pub unsafe extern "win64" fn KeSynchronizeExecution(
        object: *mut KINTERRUPT,
        routine: SynchronizeRoutine,
        context: PVOID,
    ) -> BOOLEAN {
        // SAFETY: the caller's object and routine.
        unsafe { interrupt::synchronize(object, || routine(context)) }
    }

    /// *KeAcquireInterruptSpinLock function (wdm.h)*: returns the IRQL before.
    pub unsafe extern "win64" fn KeAcquireInterruptSpinLock(object: *mut KINTERRUPT) -> KIRQL {
        // SAFETY: the caller's object.
        unsafe { interrupt::acquire_lock(object) }.0
    }

    /// *KeReleaseInterruptSpinLock function (wdm.h)*.
    pub unsafe extern "win64" fn KeReleaseInterruptSpinLock(object: *mut KINTERRUPT, old: KIRQL) {
        // SAFETY: the caller's object and lock.
        unsafe { interrupt::release_lock(object, Irql(old)) };
    }
}
