//! The I/O manager against a driver of the kernel's own: requests that complete at once, from a DPC, by cancellation and
//! through completion routines; devices that outlive their deletion.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use squall_testkernel_pure::utf16::encode;

use super::device::{self, Blueprint};
use super::file::File;
use super::{cancel, driver, irp, link};
use crate::ke::thread;
use crate::nt::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, DRVO_LEGACY_DRIVER,
    IO_STACK_LOCATION, IRP, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_READ, IRP_MJ_WRITE, NTSTATUS,
    PVOID, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, STATUS_CANCELLED,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED, STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_PENDING, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ob::{self, names};
use crate::selftest::{Outcome, check, kernel_test};

const TEXT: &[u8; 5] = b"hello";

/// Major functions seen, one bit each.
static SEEN: AtomicU32 = AtomicU32::new(0);
static PENDING: AtomicPtr<IRP> = AtomicPtr::new(core::ptr::null_mut());

/// Completes `packet`.
///
/// # Safety
/// The packet is the caller's.
pub(crate) unsafe fn finish(packet: *mut IRP, status: NTSTATUS, information: usize) -> NTSTATUS {
    // SAFETY: the tests' packets are owned by whoever calls this.
    unsafe {
        (*packet).IoStatus.Status = status;
        (*packet).IoStatus.Information = information;
        irp::IofCompleteRequest(packet, 0);
    }
    status
}

unsafe fn note(packet: *mut IRP) -> *mut IO_STACK_LOCATION {
    // SAFETY: a dispatch routine's packet has a current location.
    unsafe {
        let location = (*packet).Tail.CurrentStackLocation;
        SEEN.fetch_or(1 << (*location).MajorFunction, Ordering::Relaxed);
        location
    }
}

unsafe extern "win64" fn succeed(_device: *mut DEVICE_OBJECT, packet: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's.
    unsafe {
        note(packet);
        finish(packet, STATUS_SUCCESS, 0)
    }
}

/// Takes what it is given.
unsafe extern "win64" fn write(_device: *mut DEVICE_OBJECT, packet: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's; its buffer holds as much as its location says.
    unsafe {
        let length = (*note(packet)).Parameters.0[0] as usize;
        let bytes = core::slice::from_raw_parts((*packet).SystemBuffer.cast::<u8>(), length);
        let status = if bytes == TEXT { STATUS_SUCCESS } else { STATUS_INVALID_DEVICE_REQUEST };
        finish(packet, status, length)
    }
}

/// Keeps the packet; [`complete_pending`] or its cancel routine gives it back.
unsafe extern "win64" fn read(_device: *mut DEVICE_OBJECT, packet: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's.
    unsafe {
        (*note(packet)).Control |= SL_PENDING_RETURNED;
        (*packet).CancelRoutine = Some(cancelled);
    }
    PENDING.store(packet, Ordering::Release);
    STATUS_PENDING
}

unsafe extern "win64" fn cancelled(_device: *mut DEVICE_OBJECT, packet: *mut IRP) {
    PENDING.store(core::ptr::null_mut(), Ordering::Release);
    // SAFETY: called with the lock held, and the packet is this routine's.
    unsafe {
        cancel::IoReleaseCancelSpinLock((*packet).CancelIrql);
        let _ = finish(packet, STATUS_CANCELLED, 0);
    }
}

/// Completes the pending read once there is one, from another thread.
fn complete_pending() {
    let packet = loop {
        let packet = PENDING.swap(core::ptr::null_mut(), Ordering::AcqRel);
        if !packet.is_null() {
            break packet;
        }
        thread::yield_now();
    };
    // SAFETY: the packet was this driver's, and was taken out of its one place.
    unsafe {
        (*packet).CancelRoutine = None;
        TEXT.as_ptr().copy_to_nonoverlapping((*packet).SystemBuffer.cast(), TEXT.len());
        let _ = finish(packet, STATUS_SUCCESS, TEXT.len());
    }
}

/// A driver with one device, `\Device\Selftest`, open for use.
pub fn start() -> Result<(*mut DRIVER_OBJECT, *mut DEVICE_OBJECT), NTSTATUS> {
    let driver = driver::create("selftest", DRVO_LEGACY_DRIVER)?;
    let name = encode(r"\Device\Selftest");
    let plan =
        Blueprint { extension: 100, name: Some(&name), kind: 0x22, characteristics: 0, exclusive: false };
    // SAFETY: the driver object is new; the device is made open below.
    unsafe {
        for major in [IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE] {
            (*driver).MajorFunction[usize::from(major)] = Some(succeed);
        }
        (*driver).MajorFunction[usize::from(IRP_MJ_READ)] = Some(read);
        (*driver).MajorFunction[usize::from(IRP_MJ_WRITE)] = Some(write);
        let device = device::create(driver, plan)?;
        (*device).Flags |= DO_BUFFERED_IO;
        (*device).Flags &= !DO_DEVICE_INITIALIZING;
        Ok((driver, device))
    }
}

/// The driver is gone with its last reference.
pub(crate) fn stop(driver: *mut DRIVER_OBJECT) -> Outcome {
    check!(ob::dereference(driver.addr()) == Some(0));
    Ok(())
}

kernel_test! {
    fn a_device_is_opened_written_read_and_closed() {
        SEEN.store(0, Ordering::Relaxed);
        let Ok((driver, device)) = start() else { check!(false); return Ok(()) };
        let target = encode(r"\Device\Selftest");
        let name = encode(r"\DosDevices\Selftest");
        let counted = |units: &[u16]| UNICODE_STRING {
            Length: (units.len() * 2) as u16,
            MaximumLength: (units.len() * 2) as u16,
            Buffer: units.as_ptr().cast_mut(),
        };
        let (target, name) = (counted(&target), counted(&name));
        // SAFETY: both names are locals.
        check!(unsafe { link::IoCreateSymbolicLink(&raw const name, &raw const target) } == STATUS_SUCCESS);
        let Ok(mut file) = File::open(&encode(r"\??\selftest"), true, true) else { check!(false); return Ok(()) };
        check!(file.write(TEXT) == Ok(TEXT.len()));
        check!(file.write(b"other") == Err(STATUS_INVALID_DEVICE_REQUEST));
        let completer = thread::spawn("completer", 8, complete_pending);
        check!(file.read(64).is_ok_and(|bytes| bytes == TEXT));
        check!(completer.is_ok_and(|completer| completer.join(Some(1_000_000_000))));
        drop(file);
        let expected = [IRP_MJ_CREATE, IRP_MJ_WRITE, IRP_MJ_READ, IRP_MJ_CLEANUP, IRP_MJ_CLOSE];
        check!(SEEN.load(Ordering::Relaxed) == expected.iter().fold(0, |bits, major| bits | 1 << major));
        // SAFETY: the link and the device are this test's.
        unsafe {
            check!(link::IoDeleteSymbolicLink(&raw const name) == STATUS_SUCCESS);
            device::delete(device);
        }
        check!(File::open(&encode(r"\??\selftest"), true, true).err() == Some(STATUS_OBJECT_NAME_NOT_FOUND));
        stop(driver)?;
    }

    fn a_cancelled_read_comes_back_cancelled() {
        let Ok((driver, device)) = start() else { check!(false); return Ok(()) };
        let Ok(mut file) = File::open(&encode(r"\Device\Selftest"), true, false) else { check!(false); return Ok(()) };
        let canceller = thread::spawn("canceller", 8, || {
            let mut packet = PENDING.load(Ordering::Acquire);
            while packet.is_null() {
                thread::yield_now();
                packet = PENDING.load(Ordering::Acquire);
            }
            // SAFETY: the reader waits for this packet, which only the cancel routine completes.
            unsafe { cancel::IoCancelIrp(packet) };
        });
        check!(file.read(64) == Err(STATUS_CANCELLED));
        check!(canceller.is_ok_and(|canceller| canceller.join(Some(1_000_000_000))));
        drop(file);
        // SAFETY: the device is this test's.
        unsafe { device::delete(device) };
        stop(driver)?;
    }

    fn an_open_device_outlives_its_deletion() {
        let Ok((driver, device)) = start() else { check!(false); return Ok(()) };
        let Ok(file) = File::open(&encode(r"\Device\Selftest"), true, false) else { check!(false); return Ok(()) };
        let name = encode(r"\Device\Selftest");
        // SAFETY: the driver and the device are this test's.
        unsafe {
            check!(device::begin_unload(driver).is_err());
            device::delete(device);
            check!(device::of_driver(driver).as_slice() == [(device.addr(), true)]);
        }
        check!(names::with(|names| names.resolve(&name)).is_err());
        check!(device::open(device.addr()) == Err(STATUS_NO_SUCH_DEVICE));
        drop(file);
        // SAFETY: the driver is this test's.
        check!(unsafe { device::of_driver(driver) }.is_empty());
        check!(ob::references(device.addr()).is_none());
        stop(driver)?;
    }

    fn completion_routines_run_from_the_bottom_up_and_may_take_the_packet_back() {
        static ORDER: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn record(_: *mut DEVICE_OBJECT, packet: *mut IRP, context: PVOID) -> NTSTATUS {
            ORDER.store(ORDER.load(Ordering::Relaxed) * 10 + context.addr(), Ordering::Relaxed);
            if context.addr() < 3 {
                return STATUS_SUCCESS;
            }
            // SAFETY: the packet is this routine's while it runs.
            unsafe { (*packet).IoStatus.Information = 77 };
            STATUS_MORE_PROCESSING_REQUIRED
        }
        let Ok((driver, device)) = start() else { check!(false); return Ok(()) };
        let Some(packet) = irp::allocate(3) else { check!(false); return Ok(()) };
        let object = packet.as_ptr();
        // SAFETY: the packet is this test's; each location is set up before it is passed.
        unsafe {
            for level in [3usize, 2, 1] {
                let location = irp::next_location(packet);
                location.MajorFunction = IRP_MJ_CLEANUP;
                location.CompletionRoutine = Some(record);
                location.Context = core::ptr::without_provenance_mut(level);
                location.Control = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR;
                if level > 1 {
                    (*object).CurrentLocation -= 1;
                    (*object).Tail.CurrentStackLocation = (*object).Tail.CurrentStackLocation.sub(1);
                }
            }
            check!(irp::IofCallDriver(device, object) == STATUS_SUCCESS);
            check!(ORDER.load(Ordering::Relaxed) == 123);
            check!((*object).IoStatus.Information == 77 && (*object).CurrentLocation == 4);
            irp::free(packet);
            device::delete(device);
        }
        stop(driver)?;
    }

    fn a_device_extension_is_the_drivers_own_zeroed_memory() {
        let Ok((driver, device)) = start() else { check!(false); return Ok(()) };
        // SAFETY: the device is this test's, with an extension of 100 bytes.
        unsafe {
            check!((*device).DeviceExtension.addr() == device.addr() + 0x150 && (*device).Size == 0x150 + 100);
            let extension = NonNull::new((*device).DeviceExtension.cast::<u8>());
            check!(extension.is_some_and(|bytes| (0..100).all(|index| bytes.add(index).read() == 0)));
            check!((*driver).DeviceObject == device && (*device).DriverObject == driver);
            device::delete(device);
            check!((*driver).DeviceObject.is_null());
        }
        stop(driver)?;
    }
}
