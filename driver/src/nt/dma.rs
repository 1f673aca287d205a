//! Memory that the driver and its device see at once: what the documentation calls a common buffer.
//!
//! It comes from a *DMA adapter*, which stands for the device's reach: how many address bits it has, on which bus. The adapter is a table
//! of routines rather than exports, so its buffers are allocated and freed through it, and it has to outlive them.

use core::{
    marker::PhantomData,
    mem,
    ptr::{self, NonNull},
};

use wdk_sys::{
    _INTERFACE_TYPE::{Isa, PCIBus},
    DEVICE_DESCRIPTION, DEVICE_DESCRIPTION_VERSION, DMA_ADAPTER, DMA_OPERATIONS, FALSE, PDEVICE_OBJECT,
    PHYSICAL_ADDRESS, STATUS_INSUFFICIENT_RESOURCES, TRUE, ULONG,
    ntddk::IoGetDmaAdapter,
};

use super::status::Result;

/// A DMA adapter; given back when dropped.
pub(crate) struct Adapter(NonNull<DMA_ADAPTER>);

impl Adapter {
    /// One for a master of at most a page on `physical`'s bus. Null for a device that belongs to nobody but this driver, as on ISA: only
    /// plug and play drivers have to name a device (*_Kernel_IoGetDmaAdapter_ Annotation*). At PASSIVE_LEVEL.
    ///
    /// # Safety
    ///
    /// `physical` is null or a physical device object that exists.
    pub(crate) unsafe fn get(physical: PDEVICE_OBJECT) -> Result<Self> {
        // SAFETY: plain data, for which zero is a value, and the one that is asked for.
        let mut description: DEVICE_DESCRIPTION = unsafe { mem::zeroed() };
        description.Version = DEVICE_DESCRIPTION_VERSION;
        description.Master = TRUE as u8;
        description.Dma32BitAddresses = TRUE as u8;
        description.InterfaceType = if physical.is_null() { Isa } else { PCIBus };
        description.MaximumLength = 0x1000;
        let mut map_registers = 0;
        // SAFETY: the device by contract; the other two are locals.
        let adapter = unsafe { IoGetDmaAdapter(physical, &mut description, &mut map_registers) };
        NonNull::new(adapter).map(Self).ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }

    /// `PutDmaAdapter`. At PASSIVE_LEVEL.
    pub(crate) fn put(self) {
        drop(self);
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        // SAFETY: the adapter exists.
        if let Some(put) = unsafe { operations(self.0) }.PutDmaAdapter {
            // SAFETY: made by `get`, and given back here alone.
            unsafe { put(self.0.as_ptr()) };
        }
    }
}

/// # Safety
///
/// The adapter exists.
unsafe fn operations<'a>(adapter: NonNull<DMA_ADAPTER>) -> &'a DMA_OPERATIONS {
    // SAFETY: by contract.
    let table = unsafe { (*adapter.as_ptr()).DmaOperations };
    // SAFETY: set by whoever made the adapter, and never changed.
    unsafe { &*table }
}

/// A `T` in a common buffer; freed when dropped.
pub(crate) struct CommonBuffer<T> {
    adapter: NonNull<DMA_ADAPTER>,
    memory: NonNull<T>,
    /// Where the device sees it.
    logical: PHYSICAL_ADDRESS,
}

// SAFETY: memory belongs to no thread.
unsafe impl<T: Sync> Send for CommonBuffer<T> {}

impl<T: Sync> CommonBuffer<T> {
    /// Puts a value where the adapter's device reaches it. At PASSIVE_LEVEL.
    ///
    /// # Safety
    ///
    /// The buffer is dropped before the adapter is.
    pub(crate) unsafe fn allocate(adapter: &Adapter, value: T) -> Result<Self> {
        const { assert!(align_of::<T>() <= 16 && !mem::needs_drop::<T>()) };
        // SAFETY: the adapter exists.
        let allocate =
            unsafe { operations(adapter.0) }.AllocateCommonBuffer.ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        let mut logical = PHYSICAL_ADDRESS { QuadPart: 0 };
        // SAFETY: as above; the address is a local.
        let memory =
            unsafe { allocate(adapter.0.as_ptr(), size_of::<T>() as ULONG, &mut logical, FALSE as u8) };
        let memory = NonNull::new(memory.cast::<T>()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        // SAFETY: that large, aligned to a page, and ours.
        unsafe { memory.write(value) };
        Ok(Self { adapter: adapter.0, memory, logical })
    }

    /// For the routines that use it.
    pub(crate) fn handle(&self) -> Handle<T> {
        Handle(self.memory.as_ptr(), PhantomData)
    }

    /// `FreeCommonBuffer`. At PASSIVE_LEVEL.
    pub(crate) fn free(self) {
        drop(self);
    }
}

impl<T> Drop for CommonBuffer<T> {
    fn drop(&mut self) {
        let (bytes, memory) = (size_of::<T>() as ULONG, self.memory.as_ptr().cast());
        // SAFETY: the adapter exists, by the contract of `allocate`.
        if let Some(free) = unsafe { operations(self.adapter) }.FreeCommonBuffer {
            // SAFETY: allocated with these numbers, and freed here alone.
            unsafe { free(self.adapter.as_ptr(), bytes, self.logical, memory, FALSE as u8) };
        }
    }
}

/// The buffer as the driver's routines know it.
pub(crate) struct Handle<T>(*const T, PhantomData<T>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> Handle<T> {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(ptr::null(), PhantomData)
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// The buffer exists as long as the reference is used.
    pub(crate) unsafe fn get<'a>(self) -> &'a T {
        // SAFETY: by contract.
        unsafe { &*self.0 }
    }
}
