//! The controller object: what only one device's request can use at a time.

use core::ptr::{self, NonNull};

use wdk_sys::{
    CONTROLLER_OBJECT, PDEVICE_OBJECT, PDRIVER_CONTROL, STATUS_INSUFFICIENT_RESOURCES,
    ntddk::{IoAllocateController, IoCreateController, IoDeleteController, IoFreeController},
};

use super::status::Result;

/// A controller object without an extension of its own; deleted when dropped.
pub(crate) struct Controller(NonNull<CONTROLLER_OBJECT>);

impl Controller {
    /// Makes one. At PASSIVE_LEVEL.
    pub(crate) fn create() -> Result<Self> {
        // SAFETY: has no requirement that a size could break.
        let controller = unsafe { IoCreateController(0) };
        NonNull::new(controller).map(Self).ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }

    /// `IoDeleteController`. At PASSIVE_LEVEL.
    pub(crate) fn delete(self) {
        drop(self);
    }

    /// For the routines that use it.
    pub(crate) fn handle(&self) -> Handle {
        Handle(self.0.as_ptr())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // SAFETY: made by `create`, and deleted here alone.
        unsafe { IoDeleteController(self.0.as_ptr()) };
    }
}

/// The controller as StartIo and the DPC know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle(*mut CONTROLLER_OBJECT);

impl Handle {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(ptr::null_mut())
    }

    /// Has `routine` called with the device's current request when the controller is free. At DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// The controller exists, and `device` does not wait for it already.
    pub(crate) unsafe fn allocate(self, device: PDEVICE_OBJECT, routine: PDRIVER_CONTROL) {
        // SAFETY: by contract.
        unsafe { IoAllocateController(self.0, device, routine, ptr::null_mut()) };
    }

    /// Lets the next one have it. At DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// The routine that [`allocate`](Self::allocate) called has said `KeepObject`, and nobody has freed it since.
    pub(crate) unsafe fn free(self) {
        // SAFETY: by contract.
        unsafe { IoFreeController(self.0) };
    }
}
