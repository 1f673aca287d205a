//! Work items: how a DPC has something done at PASSIVE_LEVEL.

use core::ptr::{self, NonNull};

use wdk_sys::{
    _IO_WORKITEM,
    _WORK_QUEUE_TYPE::DelayedWorkQueue,
    PIO_WORKITEM, PIO_WORKITEM_ROUTINE, STATUS_INSUFFICIENT_RESOURCES,
    ntddk::{IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem},
};

use super::{device::Device, status::Result};

/// A work item; freed when dropped.
pub(crate) struct WorkItem(NonNull<_IO_WORKITEM>);

// SAFETY: a work item belongs to no thread.
unsafe impl Send for WorkItem {}

impl WorkItem {
    /// Makes one for the device.
    pub(crate) fn allocate(device: &Device) -> Result<Self> {
        // SAFETY: this driver's device.
        let item = unsafe { IoAllocateWorkItem(device.as_ptr()) };
        NonNull::new(item).map(Self).ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }

    /// `IoFreeWorkItem`.
    ///
    /// While an item is queued, and until its routine has returned, the I/O manager holds a reference on the device, and so on the
    /// image: even the last instruction of a routine that has just said that it is done is still there.
    pub(crate) fn free(self) {
        drop(self);
    }

    /// For the routine that queues it.
    pub(crate) fn handle(&self) -> Handle {
        Handle(self.0.as_ptr())
    }
}

impl Drop for WorkItem {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate`, freed here alone, and not queued: the contract of `queue`.
        unsafe { IoFreeWorkItem(self.0.as_ptr()) };
    }
}

/// The work item as the DPC knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle(PIO_WORKITEM);

impl Handle {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(ptr::null_mut())
    }

    /// Has `routine` called with the device in a system thread (`IoQueueWorkItem`). At DISPATCH_LEVEL or below.
    ///
    /// # Safety
    ///
    /// The item exists, is not queued, and is not freed before its routine was called.
    pub(crate) unsafe fn queue(self, routine: PIO_WORKITEM_ROUTINE) {
        // SAFETY: by contract.
        unsafe { IoQueueWorkItem(self.0, routine, DelayedWorkQueue, ptr::null_mut()) };
    }
}
