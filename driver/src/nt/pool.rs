//! Memory from pool.

use core::ptr::NonNull;

use wdk_sys::{
    SIZE_T, STATUS_INSUFFICIENT_RESOURCES, ULONG,
    ntddk::{ExAllocatePool2, ExFreePoolWithTag},
};

use super::status::Result;

/// What a debugger shows for this driver's memory.
pub(crate) const TAG: ULONG = u32::from_le_bytes(*b"SqlD");

/// Non-paged, and zeroed, which is what the allocator does where nobody says otherwise.
const POOL_FLAG_NON_PAGED: u64 = 0x40;

/// A value in non-paged pool; freed when dropped. (The value's own `drop` is not called: only plain data is kept like this.)
pub(crate) struct Pooled<T: Copy>(NonNull<T>);

// SAFETY: memory belongs to no thread.
unsafe impl<T: Copy + Send> Send for Pooled<T> {}

impl<T: Copy> Pooled<T> {
    /// Puts a value into pool. At DISPATCH_LEVEL or below.
    pub(crate) fn new(value: T) -> Result<Self> {
        let place = allocate(size_of::<T>())?.cast::<T>();
        const { assert!(align_of::<T>() <= 16, "pool is aligned to 16 bytes") };
        // SAFETY: just allocated, that large, and aligned well enough.
        unsafe { place.write(value) };
        Ok(Self(place))
    }

    /// The value.
    pub(crate) fn get(&self) -> &T {
        // SAFETY: written by `new`, and alive while this is.
        unsafe { self.0.as_ref() }
    }

    /// `ExFreePoolWithTag`.
    pub(crate) fn free(self) {
        drop(self);
    }

    /// The address, for who frees it a second time: a defect.
    #[cfg(feature = "defects")]
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.0.cast()
    }
}

impl<T: Copy> Drop for Pooled<T> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, and freed here alone.
        unsafe { free(self.0.cast()) };
    }
}

/// Zeroed, non-paged memory, aligned to 16 bytes.
pub(crate) fn allocate(bytes: usize) -> Result<NonNull<u8>> {
    // SAFETY: has no requirement that a size could break.
    let memory = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes as SIZE_T, TAG) };
    NonNull::new(memory.cast()).ok_or(STATUS_INSUFFICIENT_RESOURCES)
}

/// Gives memory back.
///
/// # Safety
///
/// It came from [`allocate`], nobody uses it any more, and it was not given back yet.
pub(crate) unsafe fn free(memory: NonNull<u8>) {
    // SAFETY: by contract.
    unsafe { ExFreePoolWithTag(memory.as_ptr().cast(), TAG) };
}
