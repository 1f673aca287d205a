//! What `IoGetDmaAdapter` takes and gives.

use super::{BOOLEAN, DEVICE_OBJECT, DriverControl, IRP, MDL, NTSTATUS, PHYSICAL_ADDRESS, PVOID, layout};

/// `DEVICE_DESCRIPTION_VERSION2`, the highest whose table of operations is given here.
pub const DEVICE_DESCRIPTION_VERSION2: u32 = 2;

/// `KeepObject` of `IO_ALLOCATION_ACTION`: the adapter stays the device's.
pub const KEEP_OBJECT: u32 = 1;
/// `DeallocateObjectKeepRegisters`: the adapter is given back, the map registers are not.
pub const DEALLOCATE_OBJECT_KEEP_REGISTERS: u32 = 3;

/// What a device can do on its bus. (Later versions are longer; the beginning is the same.)
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DEVICE_DESCRIPTION {
    /// 0 to 3.
    pub Version: u32,
    /// Masters the bus.
    pub Master: BOOLEAN,
    /// Takes a list of pieces.
    pub ScatterGather: BOOLEAN,
    /// Of the system's controller.
    pub DemandMode: BOOLEAN,
    /// Of the system's controller.
    pub AutoInitialize: BOOLEAN,
    /// Has 32 address bits.
    pub Dma32BitAddresses: BOOLEAN,
    /// Of the system's controller.
    pub IgnoreCount: BOOLEAN,
    /// Must be false.
    pub Reserved1: BOOLEAN,
    /// Has 64 address bits.
    pub Dma64BitAddresses: BOOLEAN,
    /// Which bus.
    pub BusNumber: u32,
    /// Of the system's controller.
    pub DmaChannel: u32,
    /// `INTERFACE_TYPE`.
    pub InterfaceType: u32,
    /// Of the system's controller.
    pub DmaWidth: u32,
    /// Of the system's controller.
    pub DmaSpeed: u32,
    /// The longest transfer.
    pub MaximumLength: u32,
    /// Of the system's controller.
    pub DmaPort: u32,
}
layout!(DEVICE_DESCRIPTION, size 40, Master @ 4, Dma64BitAddresses @ 11, InterfaceType @ 20, MaximumLength @ 32);

/// A device's way to memory; what the system keeps of it is elsewhere.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DMA_ADAPTER {
    /// 1.
    pub Version: u16,
    /// Size of this structure.
    pub Size: u16,
    /// What can be done with it.
    pub DmaOperations: *const DMA_OPERATIONS,
}
layout!(DMA_ADAPTER, size 16, DmaOperations @ 8);

/// One piece of a transfer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SCATTER_GATHER_ELEMENT {
    /// Where the device finds it.
    pub Address: PHYSICAL_ADDRESS,
    /// How long it is.
    pub Length: u32,
    /// The system's.
    pub Reserved: usize,
}
layout!(SCATTER_GATHER_ELEMENT, size 24, Length @ 8, Reserved @ 16);

/// The pieces of a transfer; the elements follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SCATTER_GATHER_LIST {
    /// How many elements.
    pub NumberOfElements: u32,
    /// The system's.
    pub Reserved: usize,
}
layout!(SCATTER_GATHER_LIST, size 16, Reserved @ 8);

/// `DRIVER_LIST_CONTROL`.
pub type DriverListControl = unsafe extern "win64" fn(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    list: *mut SCATTER_GATHER_LIST,
    context: PVOID,
);

type Adapter = *mut DMA_ADAPTER;
type List = *mut SCATTER_GATHER_LIST;
type Routine<T> = Option<T>;

/// What can be done with an adapter, in the order of its version 2.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "each member is the routine of that name, which has a page of its own")]
pub struct DMA_OPERATIONS {
    pub Size: u32,
    pub PutDmaAdapter: unsafe extern "win64" fn(Adapter),
    pub AllocateCommonBuffer: unsafe extern "win64" fn(Adapter, u32, *mut PHYSICAL_ADDRESS, BOOLEAN) -> PVOID,
    pub FreeCommonBuffer: unsafe extern "win64" fn(Adapter, u32, PHYSICAL_ADDRESS, PVOID, BOOLEAN),
    pub AllocateAdapterChannel:
        unsafe extern "win64" fn(Adapter, *mut DEVICE_OBJECT, u32, Routine<DriverControl>, PVOID) -> NTSTATUS,
    pub FlushAdapterBuffers:
        unsafe extern "win64" fn(Adapter, *mut MDL, PVOID, PVOID, u32, BOOLEAN) -> BOOLEAN,
    pub FreeAdapterChannel: unsafe extern "win64" fn(Adapter),
    pub FreeMapRegisters: unsafe extern "win64" fn(Adapter, PVOID, u32),
    pub MapTransfer:
        unsafe extern "win64" fn(Adapter, *mut MDL, PVOID, PVOID, *mut u32, BOOLEAN) -> PHYSICAL_ADDRESS,
    pub GetDmaAlignment: unsafe extern "win64" fn(Adapter) -> u32,
    pub ReadDmaCounter: unsafe extern "win64" fn(Adapter) -> u32,
    pub GetScatterGatherList: unsafe extern "win64" fn(
        Adapter,
        *mut DEVICE_OBJECT,
        *mut MDL,
        PVOID,
        u32,
        Routine<DriverListControl>,
        PVOID,
        BOOLEAN,
    ) -> NTSTATUS,
    pub PutScatterGatherList: unsafe extern "win64" fn(Adapter, List, BOOLEAN),
    pub CalculateScatterGatherList:
        unsafe extern "win64" fn(Adapter, *mut MDL, PVOID, u32, *mut u32, *mut u32) -> NTSTATUS,
    pub BuildScatterGatherList: unsafe extern "win64" fn(
        Adapter,
        *mut DEVICE_OBJECT,
        *mut MDL,
        PVOID,
        u32,
        Routine<DriverListControl>,
        PVOID,
        BOOLEAN,
        PVOID,
        u32,
    ) -> NTSTATUS,
    pub BuildMdlFromScatterGatherList:
        unsafe extern "win64" fn(Adapter, List, *mut MDL, *mut *mut MDL) -> NTSTATUS,
}
layout!(DMA_OPERATIONS, size 0x80, AllocateCommonBuffer @ 0x10, MapTransfer @ 0x40, GetScatterGatherList @ 0x58);
