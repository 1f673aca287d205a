//! The device below: attached to, and where it has a name, opened.

use core::{
    mem,
    ptr::{self, NonNull},
};

use wdk_sys::{
    DEVICE_OBJECT, FILE_OBJECT, FILE_READ_DATA, IO_STATUS_BLOCK, PDEVICE_OBJECT,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_SUCH_DEVICE, STATUS_PENDING, TRUE, ULONG, UNICODE_STRING,
    ntddk::{
        IoAttachDeviceToDeviceStack, IoBuildDeviceIoControlRequest, IoDetachDevice, IoGetDeviceObjectPointer,
        IofCallDriver, ObfDereferenceObject,
    },
};

use super::{
    device::Device,
    event::{self, Event},
    status::{Result, check},
};

/// The device that ours is attached to; detached from when dropped.
pub(crate) struct Attached(NonNull<DEVICE_OBJECT>);

impl Attached {
    /// Attaches `device` on top of the stack of `target`. At PASSIVE_LEVEL.
    ///
    /// # Safety
    ///
    /// `target` exists. The value is dropped before `device` is deleted. What is not for this driver, it passes down.
    pub(crate) unsafe fn attach(device: &Device, target: PDEVICE_OBJECT) -> Result<Self> {
        // SAFETY: this driver's device, and by contract.
        let lower = unsafe { IoAttachDeviceToDeviceStack(device.as_ptr(), target) };
        let lower = NonNull::new(lower).ok_or(STATUS_NO_SUCH_DEVICE)?;
        Ok(Self(lower))
    }

    /// `IoDetachDevice`. At PASSIVE_LEVEL.
    pub(crate) fn detach(self) {
        drop(self);
    }

    /// For who passes a request down.
    pub(crate) fn as_ptr(&self) -> PDEVICE_OBJECT {
        self.0.as_ptr()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: attached by `attach`, and detached here alone.
        unsafe { IoDetachDevice(self.0.as_ptr()) };
    }
}

/// A device that was opened by its name; its file object is given up when dropped.
pub(crate) struct Opened {
    file: NonNull<FILE_OBJECT>,
    device: PDEVICE_OBJECT,
}

impl Opened {
    /// Opens a device. At PASSIVE_LEVEL.
    pub(crate) fn open(name: &UNICODE_STRING) -> Result<Self> {
        let (mut file, mut device) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the name is only read; the other pointers are to locals.
        check(unsafe {
            IoGetDeviceObjectPointer(ptr::from_ref(name).cast_mut(), FILE_READ_DATA, &mut file, &mut device)
        })?;
        Ok(Self { file: NonNull::new(file).ok_or(STATUS_NO_SUCH_DEVICE)?, device })
    }

    /// The top of its stack.
    pub(crate) fn device(&self) -> PDEVICE_OBJECT {
        self.device
    }

    /// Sends an internal device control request without input, and waits for the answer. Returns its length. At PASSIVE_LEVEL.
    pub(crate) fn ask(&self, code: u32, answer: &mut [u8]) -> Result<usize> {
        let done = Event::new();
        // SAFETY: on this thread's stack, which is not paged out while the thread waits in kernel mode for an executive reason.
        unsafe { done.initialize(event::Kind::Notification, false) };
        // SAFETY: plain data, for which zero is a value.
        let mut outcome: IO_STATUS_BLOCK = unsafe { mem::zeroed() };
        // SAFETY: the device is open; buffer, event and outcome are there until the request is done, which is waited for.
        let irp = unsafe {
            IoBuildDeviceIoControlRequest(
                code,
                self.device,
                ptr::null_mut(),
                0,
                answer.as_mut_ptr().cast(),
                answer.len() as ULONG,
                TRUE as u8,
                done.as_ptr(),
                &mut outcome,
            )
        };
        if irp.is_null() {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        // SAFETY: just built for this device, and the I/O manager's to free.
        let status = unsafe { IofCallDriver(self.device, irp) };
        if status == STATUS_PENDING {
            done.wait();
            // SAFETY: the request is done, so this was written.
            check(unsafe { outcome.__bindgen_anon_1.Status })?;
        } else {
            check(status)?;
        }
        Ok((outcome.Information as usize).min(answer.len()))
    }

    /// `ObDereferenceObject`: this driver does not hold the device open any more.
    pub(crate) fn dereference(self) {
        drop(self);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: referenced by `open`, and given up here alone.
        unsafe { ObfDereferenceObject(self.file.as_ptr().cast()) };
    }
}
