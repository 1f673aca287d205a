//! The device object.

use core::{ptr, ptr::NonNull};

use wdk_sys::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DRIVER_OBJECT, FILE_DEVICE_SECURE_OPEN, FILE_DEVICE_UNKNOWN,
    PDEVICE_OBJECT, PKDEFERRED_ROUTINE, STATUS_INSUFFICIENT_RESOURCES, TRUE, ULONG,
    ntddk::{IoCreateDevice, IoDeleteDevice, IoSetStartIoAttributes, KeInitializeDpc, KeInsertQueueDpc},
};

use super::{
    status::{Result, check},
    text::text,
};
use crate::extension::Extension;

/// The kernel's name of the device.
macro_rules! name {
    () => {
        "\\Device\\Squall0"
    };
}
pub(crate) use name;

/// The driver's device object, with its [`Extension`]; deleted when dropped.
pub(crate) struct Device(NonNull<DEVICE_OBJECT>);

impl Device {
    /// Makes the device object, and in it the extension that `extension` returns for it. One program at a time has it open, and nobody
    /// before DriverEntry has returned. (Not inlined, since an extension on the way is a good part of a page of stack.)
    #[inline(never)]
    pub(crate) fn create(
        driver: &mut DRIVER_OBJECT,
        extension: impl FnOnce(PDEVICE_OBJECT) -> Extension,
    ) -> Result<Self> {
        // Otherwise Verifier neither tracks it nor puts it into special pool.
        const { assert!(size_of::<Extension>() < 4096) };
        const { assert!(align_of::<Extension>() <= 16) };

        let mut name = text!(name!()).counted();
        let mut device = ptr::null_mut();
        // SAFETY: all three pointers are valid for the call; the name is copied.
        check(unsafe {
            IoCreateDevice(
                driver,
                size_of::<Extension>() as ULONG,
                &mut name,
                FILE_DEVICE_UNKNOWN,
                FILE_DEVICE_SECURE_OPEN,
                TRUE as u8,
                &mut device,
            )
        })?;
        let device = Self(NonNull::new(device).ok_or(STATUS_INSUFFICIENT_RESOURCES)?);
        // SAFETY: just made, and not yet known to anybody else.
        let object = unsafe { &mut *device.as_ptr() };
        object.Flags |= DO_BUFFERED_IO;
        // SAFETY: that many bytes of non-paged memory, aligned to 16, belong to this driver.
        unsafe { object.DeviceExtension.cast::<Extension>().write(extension(device.as_ptr())) };
        // SAFETY: this driver's, and without requests yet. StartIo is not entered again before it has returned, and gets requests
        // whose cancel routine is taken out under the cancel spin lock: from there on they are only StartIo's.
        unsafe { IoSetStartIoAttributes(device.as_ptr(), TRUE as u8, TRUE as u8) };
        Ok(device)
    }

    /// `IoDeleteDevice`: the extension goes with it.
    pub(crate) fn delete(self) {
        drop(self);
    }

    /// For the kernel.
    pub(crate) fn as_ptr(&self) -> PDEVICE_OBJECT {
        self.0.as_ptr()
    }

    /// The driver's state.
    pub(crate) fn extension(&self) -> &Extension {
        // SAFETY: initialized in `create`, and as long-lived as the device.
        unsafe { extension(self.as_ptr()) }
    }

    /// Makes `routine` the device's DPC (`IoInitializeDpcRequest`). It is called with the device object as its context.
    pub(crate) fn initialize_dpc(&self, routine: PKDEFERRED_ROUTINE) {
        let device = self.as_ptr();
        // SAFETY: the object is part of the device and is initialized before anything queues it.
        let dpc = unsafe { &raw mut (*device).Dpc };
        // SAFETY: as above; the routine lives as long as the image, the context as long as the object.
        unsafe { KeInitializeDpc(dpc, routine, device.cast()) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made by `create`, and deleted here alone.
        unsafe { IoDeleteDevice(self.as_ptr()) };
    }
}

/// The device in the driver object's list: this driver makes one.
///
/// # Safety
///
/// `driver` is this driver's object.
pub(crate) unsafe fn of(driver: *mut DRIVER_OBJECT) -> Option<PDEVICE_OBJECT> {
    // SAFETY: by contract.
    let device = unsafe { (*driver).DeviceObject };
    (!device.is_null()).then_some(device)
}

/// The driver's state behind a device object that the kernel hands to one of its routines.
///
/// # Safety
///
/// `device` was made by [`Device::create`] and is not deleted while the reference is used.
pub(crate) unsafe fn extension<'a>(device: PDEVICE_OBJECT) -> &'a Extension {
    // SAFETY: by contract.
    let extension = unsafe { (*device).DeviceExtension }.cast::<Extension>();
    // SAFETY: written by `create`, and only ever shared since.
    unsafe { &*extension }
}

/// Takes the device's DPC out of its queue, where it is in one.
///
/// # Safety
///
/// As for [`extension`]; after [`Device::initialize_dpc`].
#[cfg(feature = "defects")]
pub(crate) unsafe fn remove_dpc(device: PDEVICE_OBJECT) {
    // SAFETY: by contract.
    let dpc = unsafe { &raw mut (*device).Dpc };
    // SAFETY: initialized; callable at any IRQL.
    let _ = unsafe { wdk_sys::ntddk::KeRemoveQueueDpc(dpc) };
}

/// Queues the device's DPC (`IoRequestDpc`). Where it is queued already, that one run will do for both.
///
/// # Safety
///
/// As for [`extension`]; after [`Device::initialize_dpc`].
pub(crate) unsafe fn request_dpc(device: PDEVICE_OBJECT) {
    // SAFETY: by contract.
    let dpc = unsafe { &raw mut (*device).Dpc };
    // SAFETY: initialized; callable at any IRQL.
    let _ = unsafe { KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut()) };
}
