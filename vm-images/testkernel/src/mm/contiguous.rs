//! Memory for devices: contiguous and non-cached memory, and the addresses that devices see.

use alloc::collections::BTreeMap;

use super::frame::{self, Frame, PAGE_SIZE};
use super::{io, paging};
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, PHYSICAL_ADDRESS, PVOID};

/// `MEMORY_CACHING_TYPE::MmCached`.
const CACHED: u32 = 1;
/// `PAGE_NOCACHE` and `PAGE_WRITECOMBINE` of a protection, for MmMapIoSpaceEx.
const UNCACHED_PROTECTION: u32 = 0x200 | 0x400;

/// Runs of frames handed out, by their address in the direct map.
static RUNS: SpinLock<BTreeMap<usize, (Frame, usize)>> = SpinLock::new(BTreeMap::new());

fn allocate(bytes: usize, limit: u64) -> PVOID {
    let count = bytes.div_ceil(PAGE_SIZE);
    let Some(first) = frame::allocate_run(count, 1, limit) else { return core::ptr::null_mut() };
    let address = first.direct();
    // SAFETY: the frames were free until now and neighbour each other in the direct map.
    unsafe { address.write_bytes(0, count * PAGE_SIZE) };
    RUNS.lock().insert(address.addr(), (first, count));
    address.cast()
}

fn free(address: PVOID) {
    let run = RUNS.lock().remove(&address.addr());
    if let Some((first, count)) = run {
        (0..count).map(|index| first.offset(index)).for_each(frame::release);
    }
}

export! {
    /// *MmAllocateContiguousMemory function (wdm.h)*: null where there is none below `highest`.
    pub unsafe extern "win64" fn MmAllocateContiguousMemory(
        bytes: usize,
        highest: PHYSICAL_ADDRESS,
    ) -> PVOID {
        allocate(bytes, highest.cast_unsigned().saturating_add(1))
    }

    /// *MmFreeContiguousMemory function (wdm.h)*.
    pub unsafe extern "win64" fn MmFreeContiguousMemory(address: PVOID) {
        free(address);
    }

    /// *MmAllocateNonCachedMemory function (wdm.h)*: whole pages. (An emulated machine's memory is coherent:
    /// the pages are ordinary ones.)
    pub unsafe extern "win64" fn MmAllocateNonCachedMemory(bytes: usize) -> PVOID {
        allocate(bytes, u64::MAX)
    }

    /// *MmFreeNonCachedMemory function (wdm.h)*.
    pub unsafe extern "win64" fn MmFreeNonCachedMemory(address: PVOID, _bytes: usize) {
        free(address);
    }

    /// *MmGetPhysicalAddress function (wdm.h)*: 0 for an address without memory.
    pub unsafe extern "win64" fn MmGetPhysicalAddress(address: PVOID) -> PHYSICAL_ADDRESS {
        paging::physical(address.addr() as u64).unwrap_or(0).cast_signed()
    }

    /// *MmIsAddressValid function (ntddk.h)*: whether reading it would fault just now.
    pub unsafe extern "win64" fn MmIsAddressValid(address: PVOID) -> BOOLEAN {
        BOOLEAN::from(paging::is_present(address.addr() as u64))
    }

    /// *MmMapIoSpace function (wdm.h)*: null where it cannot.
    pub unsafe extern "win64" fn MmMapIoSpace(
        physical: PHYSICAL_ADDRESS,
        bytes: usize,
        cache_type: u32,
    ) -> PVOID {
        io::map(physical.cast_unsigned(), bytes, cache_type == CACHED).cast()
    }

    /// *MmMapIoSpaceEx function (wdm.h)*: with a page protection instead of a cache type.
    pub unsafe extern "win64" fn MmMapIoSpaceEx(
        physical: PHYSICAL_ADDRESS,
        bytes: usize,
        protect: u32,
    ) -> PVOID {
        io::map(physical.cast_unsigned(), bytes, protect & UNCACHED_PROTECTION == 0).cast()
    }

    /// *MmUnmapIoSpace function (wdm.h)*: any access faults afterwards. Of an address that is not mapped, NT
    /// stops with 0xDA (inferred).
    pub unsafe extern "win64" fn MmUnmapIoSpace(address: PVOID, bytes: usize) {
        use squall_testkernel_pure::bugcheck::SYSTEM_PTE_MISUSE;
        if !io::unmap(address.cast()) {
            crate::ke::bugcheck::bugcheck(SYSTEM_PTE_MISUSE, [0x300, address.addr() as u64, bytes as u64, 0]);
        }
    }
}
