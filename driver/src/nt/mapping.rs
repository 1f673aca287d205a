//! Device registers in memory, mapped.

use core::ptr::NonNull;

use wdk_sys::{
    PAGE_NOCACHE, PAGE_READWRITE, PHYSICAL_ADDRESS, SIZE_T, STATUS_INSUFFICIENT_RESOURCES,
    ntddk::{MmMapIoSpaceEx, MmUnmapIoSpace},
};

use super::status::Result;

/// Registers in the kernel's address space; unmapped when dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps physical memory, uncached. At DISPATCH_LEVEL or below.
    ///
    /// # Safety
    ///
    /// It is memory of a device, and this driver's.
    pub(crate) unsafe fn map(physical: u64, bytes: usize) -> Result<Self> {
        let address = PHYSICAL_ADDRESS { QuadPart: physical.cast_signed() };
        // SAFETY: by contract.
        let start = unsafe { MmMapIoSpaceEx(address, bytes as SIZE_T, PAGE_READWRITE | PAGE_NOCACHE) };
        let start = NonNull::new(start.cast()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        Ok(Self { start, bytes })
    }

    /// Where the registers are.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// `MmUnmapIoSpace`. At DISPATCH_LEVEL or below.
    pub(crate) fn unmap(self) {
        drop(self);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, that long, and unmapped here alone.
        unsafe { MmUnmapIoSpace(self.start.as_ptr().cast(), self.bytes as SIZE_T) };
    }
}
