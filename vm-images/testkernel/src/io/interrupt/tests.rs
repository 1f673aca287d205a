//! Every version of IoConnectInterruptEx against devices of the tree that are made up for it.

use core::sync::atomic::{AtomicU32, Ordering};

use squall_testkernel_pure::vectors::irql_of_vector;

use super::*;
use crate::hal::apic;
use crate::hal::interrupt::vector_of_isa_line;
use crate::ke::thread;
use crate::nt::CM_PARTIAL_RESOURCE_DESCRIPTOR as Descriptor;
use crate::selftest::{check, kernel_test};

/// How often the ISR was called, and with which message last.
static CALLS: AtomicU32 = AtomicU32::new(0);
static MESSAGE: AtomicU32 = AtomicU32::new(u32::MAX);

unsafe extern "win64" fn service(_: *mut KINTERRUPT, _: PVOID) -> BOOLEAN {
    CALLS.fetch_add(1, Ordering::SeqCst);
    1
}

unsafe extern "win64" fn message_service(_: *mut KINTERRUPT, _: PVOID, number: u32) -> BOOLEAN {
    MESSAGE.store(number, Ordering::SeqCst);
    CALLS.fetch_add(1, Ordering::SeqCst);
    1
}

/// A device with these resources. (Nodes of the tree stay; there are few.)
fn device_with(raw: Vec<Descriptor>, translated: Vec<Descriptor>) -> *mut DEVICE_OBJECT {
    let description = Description { enumerator: "Test", raw, translated, ..Description::default() };
    pnp::add("PnpManager", Vec::new(), Vec::new(), description).unwrap_or(core::ptr::null_mut())
}

fn device_on_line(line: u32) -> (*mut DEVICE_OBJECT, u8) {
    let vector = vector_of_isa_line(line).unwrap_or(0);
    let raw = Descriptor::interrupt(1, 1, line, line, u64::MAX);
    let irql = irql_of_vector(vector).into();
    (device_with([raw].into(), [Descriptor::interrupt(1, 1, irql, vector.into(), u64::MAX)].into()), vector)
}

/// How often the ISR is called when `vector` comes here.
fn calls_of(vector: u8) -> u32 {
    let before = CALLS.load(Ordering::SeqCst);
    apic::interrupt_self(vector);
    CALLS.load(Ordering::SeqCst) - before
}

fn parameters(version: u32, device: *mut DEVICE_OBJECT) -> IO_CONNECT_INTERRUPT_PARAMETERS {
    let asked = IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
        PhysicalDeviceObject: device,
        InterruptObject: core::ptr::null_mut(),
        ServiceRoutine: Some(service),
        ServiceContext: core::ptr::null_mut(),
        SpinLock: core::ptr::null_mut(),
        SynchronizeIrql: 0,
        FloatingSave: 0,
        ShareVector: 0,
        Vector: 0,
        Irql: 0,
        InterruptMode: LATCHED,
        ProcessorEnableMask: 1,
        Group: 0,
    };
    IO_CONNECT_INTERRUPT_PARAMETERS { Version: version, FullySpecified: asked }
}

fn disconnect(version: u32, context: PVOID) {
    let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS { Version: version, ConnectionContext: context };
    // SAFETY: what an earlier call gave.
    unsafe { IoDisconnectInterruptEx(&raw mut parameters) };
}

kernel_test! {
    /// *IoConnectInterruptEx function (wdm.h)*: a fully specified vector has to be the device's own.
    fn a_vector_has_to_be_the_devices_own() {
        let old = thread::set_affinity(1);
        let (device, vector) = device_on_line(9);
        check!(!device.is_null());
        let mut object = core::ptr::null_mut();
        let mut asked = parameters(CONNECT_FULLY_SPECIFIED, device);
        asked.FullySpecified.InterruptObject = &raw mut object;
        asked.FullySpecified.Vector = vector.into();
        asked.FullySpecified.Irql = irql_of_vector(vector);
        asked.FullySpecified.SynchronizeIrql = irql_of_vector(vector);
        // SAFETY: the parameters are a local.
        let try_it = |change: &dyn Fn(&mut IO_CONNECT_INTERRUPT_PARAMETERS)| unsafe {
            let mut changed = asked;
            change(&mut changed);
            IoConnectInterruptEx(&raw mut changed)
        };
        check!(try_it(&|asked| asked.FullySpecified.Vector += 1) == STATUS_NOT_FOUND);
        check!(try_it(&|asked| asked.FullySpecified.PhysicalDeviceObject = core::ptr::null_mut()) == STATUS_INVALID_PARAMETER);
        let mut storage = 0u64;
        let not_physical: *mut DEVICE_OBJECT = (&raw mut storage).cast();
        check!(try_it(&|asked| asked.FullySpecified.PhysicalDeviceObject = not_physical) == STATUS_INVALID_PARAMETER);
        check!(try_it(&|asked| asked.FullySpecified.SynchronizeIrql -= 1) == STATUS_INVALID_PARAMETER);
        check!(try_it(&|asked| asked.FullySpecified.Irql -= 1) == STATUS_INVALID_PARAMETER);
        check!(try_it(&|asked| asked.FullySpecified.FloatingSave = 1) == STATUS_INVALID_PARAMETER);
        check!(try_it(&|asked| asked.FullySpecified.ProcessorEnableMask = 0) == STATUS_INVALID_PARAMETER);
        check!(try_it(&|asked| asked.FullySpecified.ServiceRoutine = None) == STATUS_INVALID_PARAMETER);
        let group = |asked: &mut IO_CONNECT_INTERRUPT_PARAMETERS| {
            asked.Version = CONNECT_FULLY_SPECIFIED_GROUP;
            asked.FullySpecified.Group = 1;
        };
        check!(try_it(&group) == STATUS_INVALID_PARAMETER);
        check!(object.is_null());
        for version in [CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP] {
            check!(try_it(&|asked| asked.Version = version) == STATUS_SUCCESS && !object.is_null());
            check!(try_it(&|_| ()) == STATUS_INVALID_PARAMETER); // not shared
            check!(calls_of(vector) == 1);
            disconnect(version, object.cast());
        }
        thread::set_affinity(old);
    }

    /// *IoConnectInterruptEx function (wdm.h)*: of an unknown version, STATUS_NOT_SUPPORTED and the highest known.
    fn an_unknown_version_is_answered_with_the_highest_known() {
        let mut asked = parameters(9, core::ptr::null_mut());
        // SAFETY: the parameters are a local.
        check!(unsafe { IoConnectInterruptEx(&raw mut asked) } == STATUS_NOT_SUPPORTED);
        check!(asked.Version == CONNECT_FULLY_SPECIFIED_GROUP);
    }

    /// *Using the CONNECT_LINE_BASED Version of IoConnectInterruptEx*: the system finds vector, IRQL and mode.
    /// *IoReportInterruptInactive function*: the ISR is not called until it is expected again.
    fn a_line_is_found_among_the_devices_resources() {
        let old = thread::set_affinity(1);
        let (device, vector) = device_on_line(9);
        let mut object = core::ptr::null_mut();
        let mut asked = parameters(CONNECT_LINE_BASED, device);
        asked.FullySpecified.InterruptObject = &raw mut object;
        // SAFETY: the parameters are locals; the object is connected between the two calls.
        unsafe {
            check!(IoConnectInterruptEx(&raw mut asked) == STATUS_SUCCESS && calls_of(vector) == 1);
            let mut state =
                IO_DISCONNECT_INTERRUPT_PARAMETERS { Version: asked.Version, ConnectionContext: object.cast() };
            IoReportInterruptInactive(&raw mut state);
            check!(calls_of(vector) == 0);
            IoReportInterruptActive(&raw mut state);
            check!(calls_of(vector) == 1);
            IoDisconnectInterruptEx(&raw mut state);
            asked.FullySpecified.PhysicalDeviceObject = device_with(Vec::new(), Vec::new());
            check!(IoConnectInterruptEx(&raw mut asked) == STATUS_NOT_FOUND);
        }
        check!(calls_of(vector) == 0);
        thread::set_affinity(old);
    }

    /// *Using the CONNECT_MESSAGE_BASED Version of IoConnectInterruptEx*: one ISR for all messages, told which; the table
    /// names each.
    fn every_message_of_a_device_comes_with_its_number() {
        let old = thread::set_affinity(1);
        let vectors: Vec<u8> = (0..3).filter_map(|_| message::lend()).collect();
        check!(vectors.len() == 3);
        let irql = |&vector: &u8| u32::from(irql_of_vector(vector));
        let raw = vectors.iter().map(|&vector| Descriptor::raw_message(1, vector.into(), 1)).collect();
        let translated =
            vectors.iter().map(|vector| Descriptor::translated_message(irql(vector), (*vector).into(), 1)).collect();
        let device = device_with(raw, translated);
        let mut context: PVOID = core::ptr::null_mut();
        let mut asked = parameters(CONNECT_MESSAGE_BASED, device);
        let based = IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS {
            PhysicalDeviceObject: device,
            ConnectionContext: &raw mut context,
            MessageServiceRoutine: Some(message_service),
            ServiceContext: core::ptr::null_mut(),
            SpinLock: core::ptr::null_mut(),
            SynchronizeIrql: 0,
            FloatingSave: 0,
            FallBackServiceRoutine: Some(service),
        };
        // SAFETY: the parameters and the table, while it is connected, are valid; the union has room for each member.
        unsafe {
            let union = (&raw mut asked.FullySpecified).cast::<IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS>();
            union.write(based);
            check!(IoConnectInterruptEx(&raw mut asked) == STATUS_SUCCESS && asked.Version == CONNECT_MESSAGE_BASED);
            let table = context.cast::<IO_INTERRUPT_MESSAGE_INFO>();
            check!((*table).MessageCount == 3);
            check!(vectors.iter().map(irql).max() == Some((*table).UnifiedIrql.into()));
            let first = (&raw const (*table).MessageInfo).cast::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
            for (number, &vector) in vectors.iter().enumerate().rev() {
                let entry = first.add(number).read();
                check!(entry.Vector == u32::from(vector) && !entry.InterruptObject.is_null() && entry.Mode == LATCHED);
                check!(calls_of(vector) == 1 && MESSAGE.load(Ordering::SeqCst) == number as u32);
            }
            disconnect(asked.Version, context);
            check!(vectors.iter().all(|&vector| calls_of(vector) == 0));
            // Without messages, the line; without a routine for that either, nothing.
            let (device, vector) = device_on_line(9);
            union.write(IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS { PhysicalDeviceObject: device, ..based });
            check!(IoConnectInterruptEx(&raw mut asked) == STATUS_SUCCESS && asked.Version == CONNECT_LINE_BASED);
            check!(calls_of(vector) == 1);
            disconnect(asked.Version, context);
            asked.Version = CONNECT_MESSAGE_BASED;
            (*union).FallBackServiceRoutine = None;
            check!(IoConnectInterruptEx(&raw mut asked) == STATUS_NOT_FOUND);
        }
        check!(vectors.iter().all(|&vector| message::take_back(vector)));
        thread::set_affinity(old);
    }
}
