//! Connecting and disconnecting interrupts, as drivers see it.
//!
//! What is behind it is in [`crate::ke::interrupt`]; this is the I/O manager's part: the checks, the shapes that the
//! documentation gives the parameters, and for the versions that name only a device the search through its resources.
//! A device is one of the plug and play manager's tree ([`super::pnp`]), and a vector has to be among what it was given.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use squall_testkernel_pure::bugcheck::BAD_POOL_CALLER;

use super::pnp::{self, Description};
use crate::ex::pool;
use crate::hal::message;
use crate::ke::bugcheck::bugcheck;
use crate::ke::interrupt::{self, Connection, Refused, Service, Trigger};
use crate::ke::irql::Irql;
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{
    ACTIVE_HIGH, BOOLEAN, CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_INTERRUPT_MESSAGE, CM_SHARE_SHARED,
    CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP, CONNECT_LINE_BASED, CONNECT_MESSAGE_BASED,
    DEVICE_OBJECT, GROUP_AFFINITY, IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS, IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_INTERRUPT_PARAMETERS, IO_INTERRUPT_MESSAGE_INFO,
    IO_INTERRUPT_MESSAGE_INFO_ENTRY, KAFFINITY, KINTERRUPT, KIRQL, KSPIN_LOCK, LATCHED, LEVEL_SENSITIVE,
    NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND,
    STATUS_NOT_SUPPORTED, STATUS_SUCCESS, ServiceRoutine, SynchronizeRoutine,
};

/// Connects, and says what became of it in NT's terms.
fn connect(irql: KIRQL, connection: Connection) -> Result<*mut KINTERRUPT, NTSTATUS> {
    if Irql(irql) != Irql::of_vector(connection.vector) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    interrupt::connect(connection).map_err(|refused| match refused {
        Refused::NoSuchVector => STATUS_NOT_FOUND,
        Refused::WrongIrql | Refused::NoProcessor | Refused::InUse => STATUS_INVALID_PARAMETER,
    })
}

fn trigger(mode: u32) -> Trigger {
    if mode == LEVEL_SENSITIVE { Trigger::Level } else { Trigger::Edge }
}

/// An interrupt that a device was given.
#[derive(Clone, Copy, Debug)]
struct Given {
    irql: KIRQL,
    vector: u8,
    affinity: KAFFINITY,
    trigger: Trigger,
    shared: bool,
    is_message: bool,
}

/// Every interrupt that a device was given, in its resources' order; the messages of one descriptor one by one.
fn given_to(description: &Description) -> Vec<Given> {
    let pairs = description.raw.iter().zip(&description.translated);
    let of_pair = |(raw, translated): (&crate::nt::CM_PARTIAL_RESOURCE_DESCRIPTOR, &_)| {
        let translated: &crate::nt::CM_PARTIAL_RESOURCE_DESCRIPTOR = translated;
        let (irql, vector, affinity) = translated.as_interrupt()?;
        let flags = translated.Flags;
        let is_message = flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0;
        let count = if is_message { raw.Data[0] >> 16 } else { 1 };
        let trigger = if flags & CM_RESOURCE_INTERRUPT_LATCHED != 0 { Trigger::Edge } else { Trigger::Level };
        let shared = translated.ShareDisposition == CM_SHARE_SHARED;
        Some((0..count).filter_map(move |number| {
            let vector = u8::try_from(vector.checked_add(number)?).ok()?;
            Some(Given { irql: irql as KIRQL, vector, affinity, trigger, shared, is_message })
        }))
    };
    pairs.filter_map(of_pair).flatten().collect()
}

fn given_to_device(device: *mut DEVICE_OBJECT) -> Result<Vec<Given>, NTSTATUS> {
    // Only a physical device object is a device of the tree.
    let description = pnp::description_of(device.addr()).ok_or(STATUS_INVALID_PARAMETER)?;
    Ok(given_to(&description))
}

/// What every version says of its ISR.
struct Isr {
    context: PVOID,
    lock: *mut KSPIN_LOCK,
    synchronize_irql: KIRQL,
}

/// Connects to what a device was given, at `irql` where the driver does not say.
fn connect_given(
    given: &Given,
    routine: Service,
    isr: &Isr,
    irql: KIRQL,
) -> Result<*mut KINTERRUPT, NTSTATUS> {
    let connection = Connection {
        routine,
        context: isr.context,
        lock: isr.lock,
        vector: given.vector,
        synchronize_irql: Irql(if isr.synchronize_irql == 0 { irql } else { isr.synchronize_irql }),
        trigger: given.trigger,
        shared: given.shared,
        affinity: given.affinity,
    };
    connect(given.irql, connection)
}

fn fully_specified(
    asked: &IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    has_group: bool,
) -> Result<*mut KINTERRUPT, NTSTATUS> {
    let (Some(routine), Ok(vector)) = (asked.ServiceRoutine, u8::try_from(asked.Vector)) else {
        return Err(STATUS_INVALID_PARAMETER);
    };
    if asked.InterruptObject.is_null() || asked.FloatingSave != 0 || has_group && asked.Group != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let given = given_to_device(asked.PhysicalDeviceObject)?;
    if !given.iter().any(|given| given.vector == vector) {
        return Err(STATUS_NOT_FOUND);
    }
    connect(
        asked.Irql,
        Connection {
            routine: Service::Routine(routine),
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

/// *Using the CONNECT_LINE_BASED Version of IoConnectInterruptEx*: the device's one line.
fn line_based(asked: &IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS) -> Result<*mut KINTERRUPT, NTSTATUS> {
    let routine = asked.ServiceRoutine.ok_or(STATUS_INVALID_PARAMETER)?;
    if asked.InterruptObject.is_null() || asked.FloatingSave != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let given = given_to_device(asked.PhysicalDeviceObject)?;
    let line = given.iter().find(|given| !given.is_message).ok_or(STATUS_NOT_FOUND)?;
    let isr =
        Isr { context: asked.ServiceContext, lock: asked.SpinLock, synchronize_irql: asked.SynchronizeIrql };
    connect_given(line, Service::Routine(routine), &isr, line.irql)
}

/// Message tables that were handed out, with their objects.
static TABLES: SpinLock<BTreeMap<usize, Vec<usize>>> = SpinLock::new(BTreeMap::new());

/// *Using the CONNECT_MESSAGE_BASED Version of IoConnectInterruptEx*: every message of the device, or the line where it
/// has none; gives the version that was connected, and what with.
fn message_based(asked: &IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS) -> Result<(u32, PVOID), NTSTATUS> {
    let routine = asked.MessageServiceRoutine.ok_or(STATUS_INVALID_PARAMETER)?;
    if asked.ConnectionContext.is_null() || asked.FloatingSave != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let given = given_to_device(asked.PhysicalDeviceObject)?;
    let isr =
        Isr { context: asked.ServiceContext, lock: asked.SpinLock, synchronize_irql: asked.SynchronizeIrql };
    let messages: Vec<&Given> = given.iter().filter(|given| given.is_message).collect();
    let Some(highest) = messages.iter().map(|given| given.irql).max() else {
        let line = given.first().ok_or(STATUS_NOT_FOUND)?;
        let routine = asked.FallBackServiceRoutine.ok_or(STATUS_NOT_FOUND)?;
        let object = connect_given(line, Service::Routine(routine), &isr, line.irql)?;
        return Ok((CONNECT_LINE_BASED, object.cast()));
    };
    let unified = highest.max(asked.SynchronizeIrql);
    let mut objects: Vec<*mut KINTERRUPT> = Vec::with_capacity(messages.len());
    for (number, given) in (0..).zip(&messages) {
        // A lock for all of them can only be taken at one IRQL.
        let irql = if isr.lock.is_null() { given.irql } else { unified };
        match connect_given(given, Service::Message(routine, number), &isr, irql) {
            Ok(object) => objects.push(object),
            Err(status) => {
                objects.into_iter().for_each(|object| _ = interrupt::disconnect(object));
                return Err(status);
            }
        }
    }
    let size = size_of::<IO_INTERRUPT_MESSAGE_INFO>()
        + (messages.len() - 1) * size_of::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
    let Some(memory) = pool::allocate_zeroed(size, *b"IoIm") else {
        objects.into_iter().for_each(|object| _ = interrupt::disconnect(object));
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    };
    let table = memory.as_ptr().cast::<IO_INTERRUPT_MESSAGE_INFO>();
    // SAFETY: the block is zeroed, which is valid for the table, and has room for as many entries.
    unsafe {
        (*table).UnifiedIrql = unified;
        (*table).MessageCount = messages.len() as u32;
        let first = (&raw mut (*table).MessageInfo).cast::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
        for (index, (given, &object)) in messages.iter().zip(&objects).enumerate() {
            let apic_id = crate::ke::processor::all()
                .find(|processor| given.affinity & processor.bit() != 0)
                .map_or(0, |processor| processor.apic_id);
            let (address, data) = message::message(given.vector, apic_id);
            first.add(index).write(IO_INTERRUPT_MESSAGE_INFO_ENTRY {
                MessageAddress: address.cast_signed(),
                TargetProcessorSet: given.affinity,
                InterruptObject: object,
                MessageData: data,
                Vector: given.vector.into(),
                Irql: given.irql,
                Mode: LATCHED,
                Polarity: ACTIVE_HIGH,
            });
        }
    }
    TABLES
        .lock()
        .insert(table.addr(), objects.into_iter().map(<*mut KINTERRUPT>::expose_provenance).collect());
    Ok((CONNECT_MESSAGE_BASED, table.cast()))
}

/// Disconnects a driver's object. It is a block of the pool's on Windows: one that was disconnected before is freed twice, and what is
/// none is looked at all the same. (Inferred: the page says nothing of either.)
///
/// # Safety
/// `object` must be one that was connected. A null pointer, say, faults.
unsafe fn disconnect(object: *mut KINTERRUPT) {
    /// A block that is free already.
    const FREE_ALREADY: u64 = 7;
    if interrupt::disconnect(object) {
        return;
    }
    if interrupt::was_disconnected(object) {
        bugcheck(BAD_POOL_CALLER, [FREE_ALREADY, 0, 0, object.addr() as u64]);
    }
    // SAFETY: the caller's contract.
    unsafe { object.cast::<u8>().read_volatile() };
}

/// Does something with each object behind a connection context.
///
/// # Safety
/// `parameters` must be valid.
unsafe fn each_object(
    parameters: *const IO_DISCONNECT_INTERRUPT_PARAMETERS,
    mut action: impl FnMut(*mut KINTERRUPT),
) {
    // SAFETY: the caller's contract.
    let IO_DISCONNECT_INTERRUPT_PARAMETERS { Version: version, ConnectionContext: context } =
        unsafe { *parameters };
    if version != CONNECT_MESSAGE_BASED {
        return action(context.cast());
    }
    let objects = TABLES.lock().get(&context.addr()).cloned().unwrap_or_default();
    objects.into_iter().for_each(|object| action(core::ptr::with_exposed_provenance_mut(object)));
}

export! {
    /// *IoConnectInterruptEx function (wdm.h)*: every version. The vector of a fully specified one has to be among the
    /// device's resources, else STATUS_NOT_FOUND; what is no physical device object is STATUS_INVALID_PARAMETER. A
    /// message-based one of a device without messages falls back to its line and says so in Version. Of a version that
    /// there is not, STATUS_NOT_SUPPORTED and the highest that there is.
    pub unsafe extern "win64" fn IoConnectInterruptEx(
        parameters: *mut IO_CONNECT_INTERRUPT_PARAMETERS,
    ) -> NTSTATUS {
        // SAFETY: the caller's parameters; the version says which member of the union they hold. What is written to was
        // found not to be null.
        unsafe {
            let union = (&raw const (*parameters).FullySpecified).cast::<()>();
            match (*parameters).Version {
                version @ (CONNECT_FULLY_SPECIFIED | CONNECT_FULLY_SPECIFIED_GROUP) => {
                    let asked = (*parameters).FullySpecified;
                    match fully_specified(&asked, version == CONNECT_FULLY_SPECIFIED_GROUP) {
                        Ok(object) => asked.InterruptObject.write(object),
                        Err(status) => return status,
                    }
                }
                CONNECT_LINE_BASED => {
                    let asked = *union.cast::<IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS>();
                    match line_based(&asked) {
                        Ok(object) => asked.InterruptObject.write(object),
                        Err(status) => return status,
                    }
                }
                CONNECT_MESSAGE_BASED => {
                    let asked = *union.cast::<IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS>();
                    match message_based(&asked) {
                        Ok((version, context)) => {
                            asked.ConnectionContext.write(context);
                            (*parameters).Version = version;
                        }
                        Err(status) => return status,
                    }
                }
                _ => {
                    (*parameters).Version = CONNECT_FULLY_SPECIFIED_GROUP;
                    return STATUS_NOT_SUPPORTED;
                }
            }
        }
        STATUS_SUCCESS
    }

    /// *IoDisconnectInterruptEx function (wdm.h)*: when it returns, the ISR runs nowhere, and a message table is gone.
    pub unsafe extern "win64" fn IoDisconnectInterruptEx(
        parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS,
    ) {
        // SAFETY: the caller's parameters.
        unsafe {
            each_object(parameters, |object| disconnect(object));
            let table = (*parameters).ConnectionContext.addr();
            if (*parameters).Version == CONNECT_MESSAGE_BASED && TABLES.lock().remove(&table).is_some() {
                pool::free(table, 0);
            }
        }
    }

    /// *IoReportInterruptActive function (wdm.h)*: the interrupt is expected again, and its line enabled.
    pub unsafe extern "win64" fn IoReportInterruptActive(parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS) {
        // SAFETY: the caller's parameters.
        unsafe { each_object(parameters, |object| _ = interrupt::expect(object, true)) };
    }

    /// *IoReportInterruptInactive function (wdm.h)*: it is not expected: the ISR is not called, and a line of which
    /// nobody expects anything is masked.
    pub unsafe extern "win64" fn IoReportInterruptInactive(
        parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS,
    ) {
        // SAFETY: the caller's parameters.
        unsafe { each_object(parameters, |object| _ = interrupt::expect(object, false)) };
    }

    /// *IoConnectInterrupt function (wdm.h)*: of any vector that a device can have.
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
            routine: Service::Routine(routine),
            context,
            lock,
            vector,
            synchronize_irql: Irql(synchronize_irql),
            trigger: trigger(mode),
            shared: shared != 0,
            affinity,
        };
        match connect(irql, connection) {
            Ok(connected) => {
                // SAFETY: the caller gives storage for the object.
                unsafe { object.write(connected) };
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *IoDisconnectInterrupt function (wdm.h)*: when it returns, the ISR runs nowhere. Only an object that is connected can be
    /// disconnected.
    pub unsafe extern "win64" fn IoDisconnectInterrupt(object: *mut KINTERRUPT) {
        // SAFETY: the caller's object.
        unsafe { disconnect(object) };
    }

    /// *IoGetAffinityInterrupt function (wdm.h)*: the processors that may take the interrupt; STATUS_INVALID_PARAMETER without an
    /// object or without storage.
    pub unsafe extern "win64" fn IoGetAffinityInterrupt(
        object: *mut KINTERRUPT,
        affinity: *mut GROUP_AFFINITY,
    ) -> NTSTATUS {
        if object.is_null() || affinity.is_null() {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's object, and storage for the answer.
        unsafe {
            affinity.write(GROUP_AFFINITY { Mask: interrupt::affinity(object), Group: 0, Reserved: [0; 3] });
        }
        STATUS_SUCCESS
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

mod tests;
