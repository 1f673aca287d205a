//! DMA: how a driver lets its device read and write memory.
//!
//! A driver describes its device and gets an *adapter*, a table of routines. With it a buffer becomes addresses that the
//! device can use: a *common buffer* is memory that both see all the time; a request's buffer is mapped for one transfer
//! ([`transfer`]) or as a whole list of pieces ([`list`]). Where the device does not reach the buffer (24 address bits on
//! ISA, 32 on many a PCI card), *map registers* stand in: pages that it does reach, copied to before the transfer and
//! from after it. A driver that forgets to flush, or gives its addresses back too early, loses data here as on a real
//! machine.
//!
//! A device that masters no bus has an adapter too: the system's controller transfers for it ([`slave`]), one part of a buffer at
//! a time. Of lists such a device has no use, and gets none.

mod channel;
mod list;
mod slave;
mod tests;
mod transfer;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use squall_testkernel_pure::agent::finding_kind::FindingKind;
use squall_testkernel_pure::dma::{Device, PAGE};

use self::slave::Slave;

use crate::ex::pool;
use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::mm::{contiguous, frame};
use crate::nt::{
    BOOLEAN, DEVICE_DESCRIPTION, DEVICE_DESCRIPTION_VERSION2, DEVICE_OBJECT, DMA_ADAPTER, DMA_OPERATIONS,
    INTERFACE_TYPE_PCI_BUS, PHYSICAL_ADDRESS, PVOID,
};

/// What is kept of an adapter.
#[derive(Clone, Copy, Debug)]
struct Adapter {
    /// One past the last address that its device reaches.
    limit: u64,
    /// How many map registers it may hold at once.
    registers: u32,
    /// Who asked for it, and so for everything that is allocated with it.
    owner: usize,
    /// The channel of a device that masters no bus.
    slave: Option<Slave>,
}

impl Adapter {
    /// Whether the device reaches all of a stretch of memory.
    fn reaches(&self, start: u64, length: u64) -> bool {
        start.checked_add(length).is_some_and(|end| end <= self.limit)
    }

    /// Whether there is memory that the device does not reach.
    fn may_copy(&self) -> bool {
        self.limit < frame::end_of_memory()
    }
}

/// A common buffer.
#[derive(Clone, Copy, Debug)]
struct Common {
    owner: usize,
    physical: u64,
    length: u32,
}

static ADAPTERS: SpinLock<BTreeMap<usize, Adapter>> = SpinLock::new(BTreeMap::new());
static COMMON: SpinLock<BTreeMap<usize, Common>> = SpinLock::new(BTreeMap::new());

/// One past the last address that the system's controller reaches.
const ISA_LIMIT: u64 = 1 << 24;

fn adapter(address: *mut DMA_ADAPTER) -> Option<Adapter> {
    ADAPTERS.lock().get(&address.addr()).copied()
}

static OPERATIONS: DMA_OPERATIONS = OPERATIONS_OF_ALL;

/// The routines behind an adapter's table.
pub const OPERATIONS_OF_ALL: DMA_OPERATIONS = DMA_OPERATIONS {
    Size: size_of::<DMA_OPERATIONS>() as u32,
    PutDmaAdapter: put,
    AllocateCommonBuffer: HalAllocateCommonBuffer,
    FreeCommonBuffer: HalFreeCommonBuffer,
    AllocateAdapterChannel: channel::IoAllocateAdapterChannel,
    FlushAdapterBuffers: transfer::IoFlushAdapterBuffers,
    FreeAdapterChannel: channel::IoFreeAdapterChannel,
    FreeMapRegisters: channel::IoFreeMapRegisters,
    MapTransfer: transfer::IoMapTransfer,
    GetDmaAlignment: alignment,
    ReadDmaCounter: HalReadDmaCounter,
    GetScatterGatherList: list::get,
    PutScatterGatherList: list::put,
    CalculateScatterGatherList: list::calculate,
    BuildScatterGatherList: list::build,
    BuildMdlFromScatterGatherList: list::build_mdl,
};

/// Makes an adapter for whoever calls from `owner`.
fn create(description: &DEVICE_DESCRIPTION, owner: usize) -> Option<(*mut DMA_ADAPTER, u32)> {
    let device = Device {
        master: description.Master != 0,
        has_32_bits: description.Dma32BitAddresses != 0,
        has_64_bits: description.Dma64BitAddresses != 0,
        on_pci: description.InterfaceType == INTERFACE_TYPE_PCI_BUS,
        maximum_length: description.MaximumLength,
    };
    if description.Version > DEVICE_DESCRIPTION_VERSION2 {
        return None;
    }
    let slave = if device.master { None } else { Some(Slave::new(description)?) };
    let made = pool::allocate_zeroed(size_of::<DMA_ADAPTER>(), *b"DmaA")?.as_ptr().cast::<DMA_ADAPTER>();
    // SAFETY: the block is the adapter's.
    unsafe {
        made.write(DMA_ADAPTER {
            Version: 1,
            Size: size_of::<DMA_ADAPTER>() as u16,
            DmaOperations: &raw const OPERATIONS,
        });
    }
    let most = slave.map_or(u32::MAX, |slave| (slave.boundary() / PAGE) as u32);
    let registers = device.map_registers(frame::end_of_memory()).min(most);
    let limit = if slave.is_some() { ISA_LIMIT } else { device.limit() };
    ADAPTERS.lock().insert(made.addr(), Adapter { limit, registers, owner, slave });
    Some((made, registers))
}

/// An adapter for whoever called from `owner`; null where there is none for the device.
///
/// # Safety
/// The description and the storage must be valid.
pub unsafe fn create_for(
    description: *const DEVICE_DESCRIPTION,
    registers: *mut u32,
    owner: usize,
) -> *mut DMA_ADAPTER {
    // SAFETY: the caller's contract; every version is at least as long as the first.
    let description = unsafe { description.read() };
    let Some((made, count)) = create(&description, owner) else { return core::ptr::null_mut() };
    // SAFETY: the caller's contract.
    unsafe { registers.write(count) };
    made
}

/// Whether a common buffer begins at this address.
pub fn is_common_buffer(address: usize) -> bool {
    COMMON.lock().contains_key(&address)
}

unsafe extern "win64" fn get_dma_adapter(call: &Call<3>) -> *mut DMA_ADAPTER {
    let [_device, description, registers] = call.arguments;
    // SAFETY: a driver's call.
    unsafe {
        let description = core::ptr::with_exposed_provenance(description);
        create_for(description, core::ptr::with_exposed_provenance_mut(registers), call.caller)
    }
}

unsafe extern "win64" fn get_adapter(call: &Call<2>) -> *mut DMA_ADAPTER {
    let [description, registers] = call.arguments;
    // SAFETY: a driver's call.
    unsafe {
        let description = core::ptr::with_exposed_provenance(description);
        create_for(description, core::ptr::with_exposed_provenance_mut(registers), call.caller)
    }
}

/// *PPUT_DMA_ADAPTER callback function (wdm.h)*: the adapter is gone; what was allocated with it is not.
unsafe extern "win64" fn put(adapter: *mut DMA_ADAPTER) {
    let removed = ADAPTERS.lock().remove(&adapter.addr());
    if let Some(removed) = removed {
        channel::forget(adapter.addr(), &removed);
        pool::free(adapter.addr(), 0);
    }
}

/// *PGET_DMA_ALIGNMENT callback function (wdm.h)*: any byte will do, but for channels of words.
unsafe extern "win64" fn alignment(adapter: *mut DMA_ADAPTER) -> u32 {
    self::adapter(adapter).and_then(|adapter| adapter.slave).map_or(1, |slave| slave.unit())
}

export! {
    /// *IoGetDmaAdapter function (wdm.h)*: for a device that masters the bus or has a channel of the system's controller, by a
    /// description of version 0 to 2; null for any other.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoGetDmaAdapter(
        device: *mut DEVICE_OBJECT,
        description: *const DEVICE_DESCRIPTION,
        registers: *mut u32,
    ) -> *mut DMA_ADAPTER {
        with_caller!(get_dma_adapter)
    }
}

export! { in HAL;
    /// *HalGetAdapter function (ntddk.h)*: the same without a device. Superseded by IoGetDmaAdapter.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn HalGetAdapter(
        description: *const DEVICE_DESCRIPTION,
        registers: *mut u32,
    ) -> *mut DMA_ADAPTER {
        with_caller!(get_adapter)
    }

    /// *PALLOCATE_COMMON_BUFFER callback function (wdm.h)*: whole pages that lie together where the device reaches them,
    /// zeroed here. (An emulated machine's memory is coherent, whether cached or not.)
    pub unsafe extern "win64" fn HalAllocateCommonBuffer(
        adapter: *mut DMA_ADAPTER,
        length: u32,
        logical: *mut PHYSICAL_ADDRESS,
        _cached: BOOLEAN,
    ) -> PVOID {
        let Some(Adapter { limit, owner, slave, .. }) = self::adapter(adapter) else { return core::ptr::null_mut() };
        let boundary = slave.map_or(0, |slave| slave.boundary());
        let buffer = contiguous::allocate_within(length as usize, 0, limit, boundary);
        if let Some(physical) = crate::mm::paging::physical(buffer.addr() as u64).filter(|_| !buffer.is_null()) {
            COMMON.lock().insert(buffer.addr(), Common { owner, physical, length });
            // SAFETY: the caller gives storage for the address.
            unsafe { logical.write(physical.cast_signed()) };
        }
        buffer
    }

    /// *PFREE_COMMON_BUFFER callback function (wdm.h)*.
    pub unsafe extern "win64" fn HalFreeCommonBuffer(
        _adapter: *mut DMA_ADAPTER,
        _length: u32,
        _logical: PHYSICAL_ADDRESS,
        buffer: PVOID,
        _cached: BOOLEAN,
    ) {
        if COMMON.lock().remove(&buffer.addr()).is_some() {
            contiguous::free(buffer);
        }
    }

    /// *PREAD_DMA_COUNTER callback function (wdm.h)*: how many bytes the system's controller has left to transfer; it has
    /// nothing to do for a device that masters the bus.
    pub unsafe extern "win64" fn HalReadDmaCounter(adapter: *mut DMA_ADAPTER) -> u32 {
        self::adapter(adapter).and_then(|adapter| adapter.slave).map_or(0, |slave| slave.left())
    }
}

/// What a driver holds of DMA.
#[derive(Clone, Debug)]
pub struct Held {
    /// The finding's kind: `common-buffer-left` and so on.
    pub kind: FindingKind,
    /// Which one.
    pub object: String,
    /// What was not called.
    pub detail: String,
}

/// Everything of DMA that code in `range` asked for and has not given back.
pub fn held_by(range: &Range<u64>) -> Vec<Held> {
    let is_its = |owner: usize| range.contains(&(owner as u64));
    let mut held = Vec::new();
    for (address, common) in COMMON.lock().iter().filter(|(_, common)| is_its(common.owner)) {
        held.push(Held {
            kind: FindingKind::CommonBufferLeft,
            object: format!("common buffer 0x{address:x}"),
            detail: format!(
                "{} bytes at physical 0x{:x}: FreeCommonBuffer was not called",
                common.length, common.physical
            ),
        });
    }
    channel::held_by(is_its, &mut held);
    list::held_by(is_its, &mut held);
    for (address, _) in ADAPTERS.lock().iter().filter(|(_, adapter)| is_its(adapter.owner)) {
        held.push(Held {
            kind: FindingKind::DmaAdapterLeft,
            object: format!("DMA adapter 0x{address:x}"),
            detail: "PutDmaAdapter was not called".into(),
        });
    }
    held
}
