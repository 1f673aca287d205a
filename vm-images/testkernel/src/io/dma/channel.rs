//! Who may use an adapter just now, and the map registers that come with it.
//!
//! One device at a time has the adapter; others wait in order. Its execution routine says whether it keeps the adapter
//! until FreeAdapterChannel, gives it back at once, or gives it back and keeps the map registers until FreeMapRegisters,
//! as a device does that masters the bus.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use super::{ADAPTERS, Adapter, Held, adapter};
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::mm::frame::{self, Frame};
use crate::nt::{
    DEALLOCATE_OBJECT, DEALLOCATE_OBJECT_KEEP_REGISTERS, DEVICE_OBJECT, DMA_ADAPTER, DriverControl, NTSTATUS,
    PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use squall_testkernel_pure::agent::finding_kind::FindingKind;

/// Map registers are known by numbers that look like addresses at which there never is anything.
const BASE: usize = 0xFFFF_DA00_0000_0000;

/// A part of a transfer that goes through map registers.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// The memory that is meant.
    pub original: u64,
    /// What the device sees instead.
    pub stand_in: u64,
    /// How much.
    pub length: u64,
}

/// Map registers that a device holds.
#[derive(Debug)]
pub struct Registers {
    owner: usize,
    pub count: u32,
    /// Pages that the device reaches, one for each register, where it may need them.
    pub pages: Option<Frame>,
    /// How many of them are in use.
    pub used: u32,
    /// What was copied, and is to be copied back.
    pub copied: Vec<Copied>,
}

impl Drop for Registers {
    fn drop(&mut self) {
        if let Some(first) = self.pages {
            (0..self.count as usize).for_each(|index| frame::release(first.offset(index)));
        }
    }
}

static REGISTERS: SpinLock<BTreeMap<usize, Registers>> = SpinLock::new(BTreeMap::new());

/// Does something with the registers behind a MapRegisterBase; none where there are none.
pub fn with_registers<T>(base: PVOID, action: impl FnOnce(&mut Registers) -> T) -> Option<T> {
    REGISTERS.lock().get_mut(&base.addr()).map(action)
}

/// A device that waits for its turn, registers in hand.
struct Waiting {
    device: usize,
    routine: DriverControl,
    context: usize,
    base: usize,
}

// SAFETY (of what the addresses stand for): a waiting device and its context are the driver's, which keeps them.
#[derive(Default)]
struct Channel {
    /// The registers of the device whose turn it is.
    holder: Option<usize>,
    waiting: VecDeque<Waiting>,
}

static CHANNELS: SpinLock<BTreeMap<usize, Channel>> = SpinLock::new(BTreeMap::new());

/// What turns are taken at: an adapter, or the one channel that adapters of it share. (No adapter lies at so low an address.)
fn turns_at(address: usize, adapter: &Adapter) -> usize {
    adapter.slave.map_or(address, |slave| slave.number().into())
}

fn reserve(adapter: &Adapter, count: u32) -> Option<usize> {
    static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
    // A run that begins at a multiple of a power of two that it fits into crosses no boundary of a channel's.
    let align = if adapter.slave.is_some() { count.next_power_of_two() as usize } else { 1 };
    let pages = if adapter.may_copy() && count > 0 {
        Some(frame::allocate_run(count as usize, align, adapter.limit)?)
    } else {
        None
    };
    let base = BASE + 16 * NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    let owner = adapter.owner;
    REGISTERS.lock().insert(base, Registers { owner, count, pages, used: 0, copied: Vec::new() });
    Some(base)
}

fn release(base: usize) {
    // Dropped outside the lock.
    let registers = REGISTERS.lock().remove(&base);
    drop(registers);
}

/// Gives the adapter to one device after the other, until one keeps it or nobody waits. The first one's turn has come.
unsafe fn run(turns: usize, first: Waiting) {
    let mut next = Some(first);
    while let Some(Waiting { device, routine, context, base }) = next {
        let device = core::ptr::with_exposed_provenance_mut::<DEVICE_OBJECT>(device);
        let pointer = core::ptr::with_exposed_provenance_mut;
        // SAFETY: the driver's device and routine; it asked for the call.
        let action = unsafe { routine(device, (*device).CurrentIrp, pointer(base), pointer(context)) };
        match action {
            DEALLOCATE_OBJECT => release(base),
            DEALLOCATE_OBJECT_KEEP_REGISTERS => {}
            _ => return,
        }
        next = pass_on(turns);
    }
}

/// The holder is done: whose turn it is now.
fn pass_on(turns: usize) -> Option<Waiting> {
    let mut channels = CHANNELS.lock();
    let channel = channels.get_mut(&turns)?;
    let next = channel.waiting.pop_front();
    channel.holder = next.as_ref().map(|next| next.base);
    next
}

/// The adapter is gone: whoever holds or waits for it keeps its registers, and gets no turn. A channel that others have adapters of
/// stays as it is.
pub(super) fn forget(address: usize, adapter: &Adapter) {
    let turns = turns_at(address, adapter);
    let is_shared = ADAPTERS.lock().iter().any(|(&other, adapter)| turns_at(other, adapter) == turns);
    if !is_shared {
        let gone = CHANNELS.lock().remove(&turns);
        drop(gone);
    }
}

export! {
    /// *PALLOCATE_ADAPTER_CHANNEL callback function (wdm.h)*: at DISPATCH_LEVEL; the routine is called at once, or when
    /// the devices before are done. More map registers than IoGetDmaAdapter said there are, or than there is memory
    /// for: STATUS_INSUFFICIENT_RESOURCES.
    pub unsafe extern "win64" fn IoAllocateAdapterChannel(
        adapter: *mut DMA_ADAPTER,
        device: *mut DEVICE_OBJECT,
        registers: u32,
        routine: Option<DriverControl>,
        context: PVOID,
    ) -> NTSTATUS {
        let (Some(known), Some(routine)) = (self::adapter(adapter), routine) else { return STATUS_INVALID_PARAMETER };
        if registers > known.registers {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        let Some(base) = reserve(&known, registers) else { return STATUS_INSUFFICIENT_RESOURCES };
        let turns = turns_at(adapter.addr(), &known);
        let turn = Waiting {
            device: device.expose_provenance(), routine, context: context.expose_provenance(), base,
        };
        let now = {
            let mut channels = CHANNELS.lock();
            let channel = channels.entry(turns).or_default();
            if channel.holder.is_some() {
                channel.waiting.push_back(turn);
                None
            } else {
                channel.holder = Some(base);
                Some(turn)
            }
        };
        if let Some(turn) = now {
            // SAFETY: as promised by the caller.
            unsafe { run(turns, turn) };
        }
        STATUS_SUCCESS
    }
}

export! { in HAL;
    /// *PFREE_ADAPTER_CHANNEL callback function (wdm.h)*: the adapter and the map registers of the device that kept it.
    pub unsafe extern "win64" fn IoFreeAdapterChannel(adapter: *mut DMA_ADAPTER) {
        let Some(known) = self::adapter(adapter) else { return };
        let turns = turns_at(adapter.addr(), &known);
        let holder = CHANNELS.lock().get(&turns).and_then(|channel| channel.holder);
        let Some(base) = holder else { return };
        if let Some(slave) = known.slave {
            slave.stop();
        }
        release(base);
        if let Some(next) = pass_on(turns) {
            // SAFETY: the next device asked for it.
            unsafe { run(turns, next) };
        }
    }

    /// *PFREE_MAP_REGISTERS callback function (wdm.h)*: of a device that kept them and not the adapter.
    pub unsafe extern "win64" fn IoFreeMapRegisters(_adapter: *mut DMA_ADAPTER, base: PVOID, _count: u32) {
        release(base.addr());
    }
}

/// Map registers of drivers that still hold them.
pub(super) fn held_by(is_its: impl Fn(usize) -> bool, held: &mut Vec<Held>) {
    for (base, registers) in REGISTERS.lock().iter().filter(|(_, registers)| is_its(registers.owner)) {
        held.push(Held {
            kind: FindingKind::MapRegistersLeft,
            object: format!("{} map registers at 0x{base:x}", registers.count),
            detail: "neither FreeMapRegisters nor FreeAdapterChannel was called".into(),
        });
    }
}
