//! Physically contiguous memory.

use core::{ptr::NonNull, slice};

use wdk_sys::{
    PHYSICAL_ADDRESS, SIZE_T, STATUS_INSUFFICIENT_RESOURCES,
    ntddk::{MmAllocateContiguousMemory, MmFreeContiguousMemory},
};

use super::status::Result;

/// Contiguous, non-paged memory that a 32-bit bus master could reach; freed when dropped.
pub(crate) struct Contiguous {
    memory: NonNull<u32>,
    words: usize,
}

// SAFETY: memory belongs to no thread.
unsafe impl Send for Contiguous {}

impl Contiguous {
    /// Allocates zeroed memory. At PASSIVE_LEVEL, and early: contiguous memory becomes rare as a system runs.
    pub(crate) fn allocate(words: usize) -> Result<Self> {
        let highest = PHYSICAL_ADDRESS { QuadPart: u32::MAX.into() };
        // SAFETY: has no requirement that a size could break.
        let memory = unsafe { MmAllocateContiguousMemory((words * size_of::<u32>()) as SIZE_T, highest) };
        let memory = NonNull::new(memory.cast::<u32>()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        // SAFETY: that many words are ours.
        unsafe { memory.write_bytes(0, words) };
        Ok(Self { memory, words })
    }

    /// The memory, for as long as the caller says.
    ///
    /// # Safety
    ///
    /// Called once. The slice is not used after the memory is freed.
    pub(crate) unsafe fn lend(&self) -> &'static mut [u32] {
        // SAFETY: allocated, zeroed, and by contract nobody else's.
        unsafe { slice::from_raw_parts_mut(self.memory.as_ptr(), self.words) }
    }

    /// `MmFreeContiguousMemory`.
    pub(crate) fn free(self) {
        drop(self);
    }
}

impl Drop for Contiguous {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate`, and freed here alone.
        unsafe { MmFreeContiguousMemory(self.memory.as_ptr().cast()) };
    }
}
