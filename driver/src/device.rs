//! The device object.

use core::{mem, ptr, ptr::NonNull};

use wdk_sys::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DRIVER_OBJECT, FALSE, FILE_DEVICE_SECURE_OPEN, FILE_DEVICE_UNKNOWN,
    PDEVICE_OBJECT, PKDEFERRED_ROUTINE, STATUS_INSUFFICIENT_RESOURCES, ULONG,
    ntddk::{IoCreateDevice, IoDeleteDevice, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc},
};

use crate::{
    extension::Extension,
    status::{Result, check},
    text::text,
};

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
    /// Makes the device object. Nobody can open it before DriverEntry has returned.
    pub(crate) fn create(driver: &mut DRIVER_OBJECT, extension: Extension) -> Result<Self> {
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
                FALSE as u8,
                &mut device,
            )
        })?;
        let device = Self(NonNull::new(device).ok_or(STATUS_INSUFFICIENT_RESOURCES)?);
        // SAFETY: just made, and not yet known to anybody else.
        let object = unsafe { &mut *device.as_ptr() };
        object.Flags |= DO_BUFFERED_IO;
        // SAFETY: that many bytes of non-paged memory, aligned to 16, belong to this driver.
        unsafe { object.DeviceExtension.cast::<Extension>().write(extension) };
        Ok(device)
    }

    /// The device that DriverEntry left in the driver object's list.
    ///
    /// # Safety
    ///
    /// Called by Unload, once: from there on the value owns the device.
    pub(crate) unsafe fn of(driver: *mut DRIVER_OBJECT) -> Option<Self> {
        // SAFETY: Unload gets the driver object of this image.
        NonNull::new(unsafe { (*driver).DeviceObject }).map(Self)
    }

    /// Leaves the device where it is, until Unload finds it.
    pub(crate) fn leave(self) {
        mem::forget(self);
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

    /// Takes the device's DPC out of the queue. It may still be *running*, on another processor.
    pub(crate) fn remove_dpc(&self) {
        // SAFETY: part of the device.
        let dpc = unsafe { &raw mut (*self.as_ptr()).Dpc };
        // SAFETY: initialized in DriverEntry. Whether it was queued makes no difference to what has to follow.
        let _ = unsafe { KeRemoveQueueDpc(dpc) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made by `create`, and deleted here alone.
        unsafe { IoDeleteDevice(self.as_ptr()) };
    }
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
