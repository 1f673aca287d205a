//! A device whose routines are Rust's, and requests to it.

use alloc::{boxed::Box, sync::Arc};
use core::{
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use wdk_sys::{
    _EVENT_TYPE::NotificationEvent,
    _KWAIT_REASON::Executive,
    _MODE::KernelMode,
    _WORK_QUEUE_TYPE::DelayedWorkQueue,
    CCHAR, DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FALSE, FILE_DEVICE_UNKNOWN, IO_NO_INCREMENT,
    IO_STACK_LOCATION, IO_STATUS_BLOCK, IRP, IRP_MJ_DEVICE_CONTROL, KEVENT, PDEVICE_OBJECT, PVOID,
    STATUS_BUFFER_TOO_SMALL, STATUS_OBJECT_NAME_COLLISION, STATUS_PENDING, STATUS_SUCCESS,
    ntddk::{
        IoAllocateWorkItem, IoBuildDeviceIoControlRequest, IoCreateDevice, IoDeleteDevice, IoFreeWorkItem,
        IoQueueWorkItem, IofCallDriver, IofCompleteRequest, KeInitializeEvent, KeWaitForSingleObject,
    },
};

use crate::{
    check::{Suite, holds, rule},
    irql,
    text::{counted, wide},
    thread::sleep_us,
};

/// `CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)`.
const REVERSE: u32 = FILE_DEVICE_UNKNOWN << 16 | 0x800 << 2;

/// The device extension.
#[repr(C)]
struct Extension {
    served: AtomicU32,
    rest: [u64; 15],
}

/// `IoGetCurrentIrpStackLocation`.
///
/// # Safety
///
/// The request is with this driver.
unsafe fn stack(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    // SAFETY: by contract its tail is the overlay, and its current location is set.
    unsafe { (*irp).Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation }
}

/// Turns what came around.
unsafe extern "C" fn control(device: PDEVICE_OBJECT, irp: *mut IRP) -> i32 {
    // SAFETY: the device is this driver's, its extension was zeroed, which is a valid one; the request is with this driver.
    let (extension, request, buffer) = unsafe {
        (
            &*(*device).DeviceExtension.cast::<Extension>(),
            (*stack(irp)).Parameters.DeviceIoControl,
            (*irp).AssociatedIrp.SystemBuffer,
        )
    };
    extension.served.fetch_add(1, Ordering::SeqCst);
    let length = request.InputBufferLength as usize;
    let (status, bytes) = if request.IoControlCode == REVERSE && request.OutputBufferLength as usize >= length
    {
        // SAFETY: a buffered request's buffer holds the larger of both lengths.
        unsafe { core::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) }.reverse();
        (STATUS_SUCCESS, length)
    } else {
        (STATUS_BUFFER_TOO_SMALL, 0)
    };
    // SAFETY: the request is this driver's until it is completed.
    unsafe {
        (*irp).IoStatus.__bindgen_anon_1.Status = status;
        (*irp).IoStatus.Information = bytes as u64;
        IofCompleteRequest(irp, IO_NO_INCREMENT as CCHAR);
    }
    status
}

/// Sends a control request and waits for it: its status and how many bytes came back.
fn ask(device: PDEVICE_OBJECT, input: &mut [u8], output: &mut [u8]) -> Option<(i32, usize)> {
    let mut event = Box::new(KEVENT::default());
    let mut outcome = Box::new(MaybeUninit::<IO_STATUS_BLOCK>::zeroed());
    // SAFETY: everything the request names outlives it: it is waited for.
    unsafe {
        KeInitializeEvent(&mut *event, NotificationEvent, FALSE as u8);
        let irp = IoBuildDeviceIoControlRequest(
            REVERSE,
            device,
            input.as_mut_ptr().cast(),
            input.len() as u32,
            output.as_mut_ptr().cast(),
            output.len() as u32,
            FALSE as u8,
            &mut *event,
            outcome.as_mut_ptr(),
        );
        if irp.is_null() {
            return None;
        }
        if IofCallDriver(device, irp) == STATUS_PENDING {
            let _ = KeWaitForSingleObject(
                (&raw mut *event).cast(),
                Executive,
                KernelMode as i8,
                FALSE as u8,
                ptr::null_mut(),
            );
        }
        let outcome = outcome.assume_init_ref();
        Some((outcome.__bindgen_anon_1.Status, outcome.Information as usize))
    }
}

/// What a work item is given.
struct Told {
    irql: AtomicU32,
    device: core::sync::atomic::AtomicUsize,
    runs: AtomicU32,
}

unsafe extern "C" fn work(device: PDEVICE_OBJECT, context: PVOID) {
    // SAFETY: `IoQueueWorkItem` below gave one share away for this call.
    let told = unsafe { Arc::from_raw(context.cast::<Told>()) };
    told.irql.store(irql::current(), Ordering::SeqCst);
    told.device.store(device.addr(), Ordering::SeqCst);
    told.runs.fetch_add(1, Ordering::SeqCst);
}

pub(crate) fn rules(suite: &mut Suite, driver: &mut DRIVER_OBJECT) {
    if let Some(entry) = driver.MajorFunction.get_mut(IRP_MJ_DEVICE_CONTROL as usize) {
        *entry = Some(control);
    }
    let mut units = wide(r"\Device\ConformanceRust");
    let mut device: *mut DEVICE_OBJECT = ptr::null_mut();
    let mut create = |device: &mut *mut DEVICE_OBJECT| {
        let mut name = counted(&mut units);
        let bytes = size_of::<Extension>() as u32;
        // SAFETY: the driver is ours, the name is valid for the call.
        unsafe { IoCreateDevice(driver, bytes, &mut name, FILE_DEVICE_UNKNOWN, 0, FALSE as u8, device) }
    };

    rule!(
        suite,
        "IoCreateDevice function",
        "the extension is zeroed, aligned for any structure, and the driver's",
        |rule| {
            if !holds!(rule, create(&mut device) == STATUS_SUCCESS) {
                return;
            }
            // SAFETY: just created.
            let extension = unsafe { (*device).DeviceExtension }.cast::<Extension>();
            holds!(rule, extension.addr().is_multiple_of(16));
            // SAFETY: an extension of that size; any bytes are one.
            let extension = unsafe { &*extension };
            holds!(
                rule,
                extension.served.load(Ordering::SeqCst) == 0 && extension.rest.iter().all(|word| *word == 0)
            );
            // SAFETY: as above.
            unsafe { (*device).Flags &= !DO_DEVICE_INITIALIZING };
        }
    );

    rule!(suite, "IoCreateDevice function", "a name that is taken is a collision", |rule| {
        let mut second = ptr::null_mut();
        holds!(rule, create(&mut second) == STATUS_OBJECT_NAME_COLLISION && second.is_null());
    });
    if device.is_null() {
        return;
    }

    rule!(
        suite,
        "IoBuildDeviceIoControlRequest function",
        "a buffered request's bytes reach a routine in Rust and come back",
        |rule| {
            for length in [1usize, 2, 17, 300] {
                let mut input: alloc::vec::Vec<u8> = (0..length).map(|index| index as u8).collect();
                let mut output = alloc::vec![0xEEu8; length + 8];
                holds!(rule, ask(device, &mut input, &mut output) == Some((STATUS_SUCCESS, length)));
                holds!(rule, output.iter().take(length).copied().eq(input.iter().rev().copied()));
                holds!(rule, output.iter().skip(length).all(|byte| *byte == 0xEE));
            }
            let (mut input, mut output) = ([1u8; 8], [0u8; 4]);
            holds!(rule, ask(device, &mut input, &mut output) == Some((STATUS_BUFFER_TOO_SMALL, 0)));
            // SAFETY: the device is ours.
            let extension = unsafe { &*(*device).DeviceExtension.cast::<Extension>() };
            holds!(rule, extension.served.load(Ordering::SeqCst) == 5);
        }
    );

    rule!(
        suite,
        "IoQueueWorkItem function",
        "the routine runs once at PASSIVE_LEVEL, with its device and its context",
        |rule| {
            let told = Arc::new(Told { irql: AtomicU32::new(99), device: 0.into(), runs: AtomicU32::new(0) });
            // SAFETY: our device.
            let item = unsafe { IoAllocateWorkItem(device) };
            if !holds!(rule, !item.is_null()) {
                return;
            }
            // SAFETY: the routine takes a share of `Told`, and gets one.
            unsafe {
                IoQueueWorkItem(
                    item,
                    Some(work),
                    DelayedWorkQueue,
                    Arc::into_raw(told.clone()).cast_mut().cast(),
                )
            };
            for _ in 0..5000 {
                if told.runs.load(Ordering::SeqCst) != 0 && Arc::strong_count(&told) == 1 {
                    break;
                }
                sleep_us(1000);
            }
            holds!(rule, told.runs.load(Ordering::SeqCst) == 1 && told.irql.load(Ordering::SeqCst) == 0);
            holds!(rule, told.device.load(Ordering::SeqCst) == device.addr());
            holds!(rule, Arc::strong_count(&told) == 1);
            // SAFETY: not queued any more.
            unsafe { IoFreeWorkItem(item) };
        }
    );
    // SAFETY: ours, and nobody has a request or a handle.
    unsafe { IoDeleteDevice(device) };
}
