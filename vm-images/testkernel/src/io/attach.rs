//! Stacks of devices: a driver's device attached on top of another's, so that requests for the lower one pass the upper.
//!
//! Whoever opens the lower device by name gets its stack: requests begin at the top. The lower device can neither be
//! unloaded nor go away while something is attached to it.

use super::device;
use crate::ke::bugcheck::bugcheck;
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, FILE_OBJECT, NTSTATUS, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ob::{self, names};
use crate::selftest::{check, kernel_test};

const REFERENCE_BY_POINTER: u32 = 0x18;

export! {
    /// *IoAttachDeviceToDeviceStack function (wdm.h)*: on top of whatever is attached already; returns the device just
    /// below, null where that is being deleted, unloaded or not yet initialized.
    pub unsafe extern "win64" fn IoAttachDeviceToDeviceStack(
        source: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
    ) -> *mut DEVICE_OBJECT {
        // SAFETY: the caller gives two devices.
        unsafe { device::attach(source, target, |_| {}) }.unwrap_or(core::ptr::null_mut())
    }

    /// *IoAttachDeviceToDeviceStackSafe function (ntddk.h)*: the same; the caller's field is set before any request can
    /// come through the new device.
    pub unsafe extern "win64" fn IoAttachDeviceToDeviceStackSafe(
        source: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
        attached_to: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        // SAFETY: the caller gives two devices and storage, which is nonpaged like all memory here.
        match unsafe { device::attach(source, target, |lower| attached_to.write(lower)) } {
            Some(_) => STATUS_SUCCESS,
            None => STATUS_NO_SUCH_DEVICE,
        }
    }

    /// *IoAttachDeviceByPointer function*: obsolete; STATUS_NO_SUCH_DEVICE where the other gives null.
    pub unsafe extern "win64" fn IoAttachDeviceByPointer(
        source: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        // SAFETY: the caller gives two devices.
        match unsafe { device::attach(source, target, |_| {}) } {
            Some(_) => STATUS_SUCCESS,
            None => STATUS_NO_SUCH_DEVICE,
        }
    }

    /// *IoAttachDevice function (wdm.h)*: the same for a device by name.
    pub unsafe extern "win64" fn IoAttachDevice(
        source: *mut DEVICE_OBJECT,
        name: *const UNICODE_STRING,
        attached_to: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid name.
        let name = unsafe { (*name).units() };
        let (address, _) = match names::with(|names| names.resolve(name)) {
            Ok(found) => found,
            Err(error) => return names::status_of(error),
        };
        let target = match device::open(address) {
            Ok(target) => target,
            Err(status) => return status,
        };
        // SAFETY: the opener just counted in keeps the target alive; the rest is the caller's.
        unsafe {
            let status = IoAttachDeviceToDeviceStackSafe(source, target, attached_to);
            device::close(target);
            status
        }
    }

    /// *IoDetachDevice function (wdm.h)*: of the lower device, as attaching returned it.
    pub unsafe extern "win64" fn IoDetachDevice(target: *mut DEVICE_OBJECT) {
        // SAFETY: the caller gives the lower device.
        unsafe { device::detach(target) };
    }

    /// *IoGetAttachedDevice function (ntifs.h)*: the top of the stack; no reference is taken.
    pub unsafe extern "win64" fn IoGetAttachedDevice(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
        // SAFETY: the caller gives a device.
        unsafe { device::top(device) }
    }

    /// *IoGetAttachedDeviceReference function (wdm.h)*: the top of the stack, with a reference for the caller.
    pub unsafe extern "win64" fn IoGetAttachedDeviceReference(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
        // SAFETY: the caller gives a device.
        let top = unsafe { device::top(device) };
        if !ob::reference(top.addr()) {
            bugcheck(REFERENCE_BY_POINTER, [0, top.addr() as u64, 0, 0]);
        }
        top
    }

    /// *IoGetLowerDeviceObject function (ntifs.h)*: what a device is attached to, with a reference for the caller; null
    /// where it is attached to nothing.
    pub unsafe extern "win64" fn IoGetLowerDeviceObject(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
        let lower = device::attached_to(device.addr()).filter(|&lower| ob::reference(lower));
        lower.map_or(core::ptr::null_mut(), core::ptr::with_exposed_provenance_mut)
    }

    /// *IoGetDeviceAttachmentBaseRef function (ntifs.h)*: the lowest device of the stack, with a reference for the caller.
    pub unsafe extern "win64" fn IoGetDeviceAttachmentBaseRef(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT {
        let mut lowest = device.addr();
        while let Some(lower) = device::attached_to(lowest) {
            lowest = lower;
        }
        ob::reference(lowest);
        core::ptr::with_exposed_provenance_mut(lowest)
    }

    /// *IoGetRelatedDeviceObject function (wdm.h)*: the top of the stack that an open file's requests go to.
    pub unsafe extern "win64" fn IoGetRelatedDeviceObject(file: *mut FILE_OBJECT) -> *mut DEVICE_OBJECT {
        // SAFETY: the caller gives an open file, which keeps its device alive.
        unsafe { device::top((*file).DeviceObject) }
    }
}

kernel_test! {
    /// *IoAttachDeviceToDeviceStack function*: requests for the lower device begin at the top of its stack.
    fn requests_pass_the_device_that_is_attached_on_top() {
        use super::device::Blueprint;
        use super::file::File;
        use super::{driver, irp, selftest};
        use crate::nt::{DO_DEVICE_INITIALIZING, DRVO_LEGACY_DRIVER, IRP, IRP_MJ_COUNT};
        use core::sync::atomic::{AtomicUsize, Ordering};
        use squall_testkernel_pure::utf16::encode;

        static PASSED: AtomicUsize = AtomicUsize::new(0);
        static LOWER: AtomicUsize = AtomicUsize::new(0);
        /// Skips its own location, as IoSkipCurrentIrpStackLocation does, and passes everything down.
        unsafe extern "win64" fn pass(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
            PASSED.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the packet is this routine's until it is passed on.
            unsafe {
                (*irp).CurrentLocation += 1;
                (*irp).Tail.CurrentStackLocation = (*irp).Tail.CurrentStackLocation.add(1);
                let lower = core::ptr::with_exposed_provenance_mut(LOWER.load(Ordering::Relaxed));
                irp::IofCallDriver(lower, irp)
            }
        }

        PASSED.store(0, Ordering::Relaxed);
        let Ok((lower_driver, lower)) = selftest::start() else { check!(false); return Ok(()) };
        let Ok(upper_driver) = driver::create("selftest-upper", DRVO_LEGACY_DRIVER) else { check!(false); return Ok(()) };
        let plan = Blueprint { extension: 0, name: None, kind: 0x22, characteristics: 0, exclusive: false };
        let mut attached = core::ptr::null_mut();
        // SAFETY: drivers and devices are this test's.
        unsafe {
            (*upper_driver).MajorFunction = [Some(pass); IRP_MJ_COUNT];
            let Ok(upper) = device::create(upper_driver, plan) else { check!(false); return Ok(()) };
            (*upper).Flags |= (*lower).Flags & !DO_DEVICE_INITIALIZING;
            (*upper).Flags &= !DO_DEVICE_INITIALIZING;
            check!(IoAttachDeviceToDeviceStackSafe(upper, lower, &raw mut attached) == STATUS_SUCCESS);
            LOWER.store(attached.addr(), Ordering::Relaxed);
            check!(attached == lower && (*upper).StackSize == 2 && IoGetAttachedDevice(lower) == upper);
            check!(device::attached_to(upper.addr()) == Some(lower.addr()));
            check!(IoGetAttachedDeviceReference(lower) == upper);
            check!(ob::dereference(upper.addr()) == Some(1));
            check!(IoGetDeviceAttachmentBaseRef(upper) == lower);
            check!(ob::dereference(lower.addr()).is_some());
            let Ok(mut file) = File::open(&encode(r"\Device\Selftest"), true, true) else { check!(false); return Ok(()) };
            check!(file.write(b"hello") == Ok(5));
            drop(file);
            check!(PASSED.load(Ordering::Relaxed) == 4);
            // *IoDeleteDevice function*: a device with another on top goes when that is detached.
            check!(device::begin_unload(lower_driver).is_err());
            device::delete(lower);
            check!(ob::references(lower.addr()).is_some());
            check!(IoAttachDeviceToDeviceStack(upper, lower).is_null());
            IoDetachDevice(lower);
            check!(ob::references(lower.addr()).is_none() && device::attached_to(upper.addr()).is_none());
            device::delete(upper);
        }
        selftest::stop(upper_driver)?;
        selftest::stop(lower_driver)?;
    }
}
