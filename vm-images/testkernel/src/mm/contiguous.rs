//! Memory for devices: contiguous and non-cached memory, and the addresses that devices see.
//!
//! A run of frames has addresses of its own while it is handed out. Who still uses it afterwards faults: what was freed is found out.

use alloc::collections::BTreeMap;
use core::arch::naked_asm;

use squall_testkernel_pure::bugcheck::{BAD_POOL_CALLER, SYSTEM_PTE_MISUSE};

use super::frame::{self, Frame, PAGE_SIZE};
use super::paging::Protection;
use super::region::Region;
use super::{io, paging};
use crate::ke::bugcheck::bugcheck;
use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, PHYSICAL_ADDRESS, PVOID};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// `MEMORY_CACHING_TYPE::MmCached`.
const CACHED: u32 = 1;
/// `MM_ANY_NODE_OK`.
const ANY_NODE: u32 = 0x8000_0000;
/// `PAGE_NOCACHE` and `PAGE_WRITECOMBINE` of a protection, for MmMapIoSpaceEx.
const UNCACHED_PROTECTION: u32 = 0x200 | 0x400;

/// Frames handed out, and where they are mapped.
struct Run {
    first: Frame,
    count: usize,
    region: Region,
}

/// Runs handed out, by address.
static RUNS: SpinLock<BTreeMap<usize, Run>> = SpinLock::new(BTreeMap::new());

/// Zeroed pages that lie together below the physical address `limit`; null where there are none.
pub fn allocate(bytes: usize, limit: u64) -> PVOID {
    allocate_within(bytes, 0, limit, 0)
}

/// As [`allocate`], from `low` on and across no multiple of `boundary`, where that is not 0.
pub fn allocate_within(bytes: usize, low: u64, limit: u64, boundary: u64) -> PVOID {
    let count = bytes.div_ceil(PAGE_SIZE);
    // A run that begins at a multiple of a power of two that it fits into crosses no larger one.
    let align = if boundary == 0 { 1 } else { count.next_power_of_two() };
    let fits = boundary == 0 || boundary.is_power_of_two() && (align * PAGE_SIZE) as u64 <= boundary;
    if count == 0 || !fits {
        return core::ptr::null_mut();
    }
    let found = frame::allocate_run_from(count, align, low, limit);
    let Some(first) = found else { return core::ptr::null_mut() };
    let Some(region) = Region::map_physical(first.physical(), count, Protection::ReadWrite) else {
        release(first, count);
        return core::ptr::null_mut();
    };
    let address = region.pointer().as_ptr();
    // SAFETY: just mapped, that many pages, and nobody else has them.
    unsafe { address.write_bytes(0, count * PAGE_SIZE) };
    RUNS.lock().insert(address.addr(), Run { first, count, region });
    address.cast()
}

fn release(first: Frame, count: usize) {
    (0..count).map(|index| first.offset(index)).for_each(frame::release);
}

/// Gives back what [`allocate`] gave; false where it did not.
pub fn free(address: PVOID) -> bool {
    let run = RUNS.lock().remove(&address.addr());
    let Some(Run { first, count, region }) = run else { return false };
    // Nobody reaches the frames any more before somebody else has them.
    drop(region);
    release(first, count);
    true
}

/// What drivers allocated here and did not free.
pub static ALLOCATED: Census = Census::new();
/// What drivers mapped with MmMapIoSpace and did not unmap.
pub static MAPPED: Census = Census::new();

/// Notes that `address`, if it is one, is the driver's whose code called from `caller`.
fn noted(census: &Census, address: PVOID, caller: usize) -> PVOID {
    if !address.is_null() {
        census.enter(address.addr(), caller);
    }
    address
}

unsafe extern "win64" fn allocate_below(bytes: usize, highest: PHYSICAL_ADDRESS, caller: usize) -> PVOID {
    noted(&ALLOCATED, allocate(bytes, highest.cast_unsigned().saturating_add(1)), caller)
}

/// # Safety
/// `call` must be one of MmAllocateContiguousMemorySpecifyCache.
unsafe extern "win64" fn allocate_between(call: &Call<5>) -> PVOID {
    let [bytes, lowest, highest, boundary, _cache_type] = call.arguments;
    let limit = (highest as u64).saturating_add(1);
    noted(&ALLOCATED, allocate_within(bytes, lowest as u64, limit, boundary as u64), call.caller)
}

/// # Safety
/// `call` must be one of MmAllocateContiguousMemorySpecifyCacheNode or MmAllocateContiguousNodeMemory.
unsafe extern "win64" fn allocate_on_node(call: &Call<6>) -> PVOID {
    let [bytes, lowest, highest, boundary, kind, node] = call.arguments;
    if !matches!(node as u32, 0 | ANY_NODE) {
        return core::ptr::null_mut();
    }
    let call = Call { caller: call.caller, arguments: [bytes, lowest, highest, boundary, kind] };
    // SAFETY: the contract is the same.
    unsafe { allocate_between(&call) }
}

unsafe extern "win64" fn allocate_noncached(bytes: usize, caller: usize) -> PVOID {
    noted(&ALLOCATED, allocate(bytes, u64::MAX), caller)
}

unsafe extern "win64" fn map(physical: PHYSICAL_ADDRESS, bytes: usize, kind: u32, caller: usize) -> PVOID {
    noted(&MAPPED, io::map(physical.cast_unsigned(), bytes, kind == CACHED).cast(), caller)
}

unsafe extern "win64" fn map_ex(
    physical: PHYSICAL_ADDRESS,
    bytes: usize,
    protect: u32,
    caller: usize,
) -> PVOID {
    // PAGE_READONLY, PAGE_READWRITE, PAGE_EXECUTE, PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE
    let is_protection = matches!(protect & 0xFF, 0x02 | 0x04 | 0x10 | 0x20 | 0x40);
    if !is_protection || protect & UNCACHED_PROTECTION == UNCACHED_PROTECTION {
        return core::ptr::null_mut();
    }
    let cached = protect & UNCACHED_PROTECTION == 0;
    noted(&MAPPED, io::map(physical.cast_unsigned(), bytes, cached).cast(), caller)
}

/// Gives back what a driver allocated; false where it did not.
fn free_drivers(address: PVOID) -> bool {
    ALLOCATED.leave(address.addr());
    free(address)
}

/// *Bug Check 0xC2: BAD_POOL_CALLER*, value 0x60: the address is none of contiguous memory.
fn free_contiguous(address: PVOID) {
    if !free_drivers(address) {
        bugcheck(BAD_POOL_CALLER, [0x60, address.addr() as u64, 0, 0]);
    }
}

export! {
    /// *MmAllocateContiguousMemory function (wdm.h)*: null where there is none below `highest`.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmAllocateContiguousMemory(
        bytes: usize,
        highest: PHYSICAL_ADDRESS,
    ) -> PVOID {
        naked_asm!("mov r8, [rsp]", "jmp {}", sym allocate_below)
    }

    /// *MmAllocateContiguousMemorySpecifyCache function (wdm.h)*: from `lowest` up to `highest`, across no multiple
    /// of `boundary`. (An emulated machine's memory is coherent, whatever the cache type.)
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmAllocateContiguousMemorySpecifyCache(
        bytes: usize,
        lowest: PHYSICAL_ADDRESS,
        highest: PHYSICAL_ADDRESS,
        boundary: PHYSICAL_ADDRESS,
        cache_type: u32,
    ) -> PVOID {
        with_caller!(allocate_between)
    }

    /// *MmAllocateContiguousMemorySpecifyCacheNode function (wdm.h)*: the same from the one node that there is; null for any other but
    /// MM_ANY_NODE_OK.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmAllocateContiguousMemorySpecifyCacheNode(
        bytes: usize,
        lowest: PHYSICAL_ADDRESS,
        highest: PHYSICAL_ADDRESS,
        boundary: PHYSICAL_ADDRESS,
        cache_type: u32,
        node: u32,
    ) -> PVOID {
        with_caller!(allocate_on_node)
    }

    /// *MmAllocateContiguousNodeMemory function (wdm.h)*: the same with a page protection instead of a cache type.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmAllocateContiguousNodeMemory(
        bytes: usize,
        lowest: PHYSICAL_ADDRESS,
        highest: PHYSICAL_ADDRESS,
        boundary: PHYSICAL_ADDRESS,
        protect: u32,
        node: u32,
    ) -> PVOID {
        with_caller!(allocate_on_node)
    }

    /// *MmFreeContiguousMemorySpecifyCache function (wdm.h)*.
    pub unsafe extern "win64" fn MmFreeContiguousMemorySpecifyCache(
        address: PVOID,
        _bytes: usize,
        _cache_type: u32,
    ) {
        free_contiguous(address);
    }

    /// *MmFreeContiguousMemory function (wdm.h)*.
    pub unsafe extern "win64" fn MmFreeContiguousMemory(address: PVOID) {
        free_contiguous(address);
    }

    /// *MmAllocateNonCachedMemory function (wdm.h)*: whole pages. (An emulated machine's memory is coherent:
    /// the pages are ordinary ones.)
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmAllocateNonCachedMemory(bytes: usize) -> PVOID {
        naked_asm!("mov rdx, [rsp]", "jmp {}", sym allocate_noncached)
    }

    /// *MmFreeNonCachedMemory function (wdm.h)*. Of what it did not give: *Bug Check 0xDA: SYSTEM_PTE_MISUSE*, 0x303.
    pub unsafe extern "win64" fn MmFreeNonCachedMemory(address: PVOID, bytes: usize) {
        if !free_drivers(address) {
            bugcheck(SYSTEM_PTE_MISUSE, [0x303, address.addr() as u64, bytes.div_ceil(PAGE_SIZE) as u64, 0]);
        }
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
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmMapIoSpace(
        physical: PHYSICAL_ADDRESS,
        bytes: usize,
        cache_type: u32,
    ) -> PVOID {
        naked_asm!("mov r9, [rsp]", "jmp {}", sym map)
    }

    /// *MmMapIoSpaceEx function (wdm.h)*: with a page protection instead of a cache type; null for what is none, or for PAGE_NOCACHE together with
    /// PAGE_WRITECOMBINE. (Device memory can be written, whatever the protection.)
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmMapIoSpaceEx(
        physical: PHYSICAL_ADDRESS,
        bytes: usize,
        protect: u32,
    ) -> PVOID {
        naked_asm!("mov r9, [rsp]", "jmp {}", sym map_ex)
    }

    /// *MmMapVideoDisplay function (ntddk.h)*, obsolete: as MmMapIoSpace.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmMapVideoDisplay(
        physical: PHYSICAL_ADDRESS,
        bytes: usize,
        cache_type: u32,
    ) -> PVOID {
        naked_asm!("mov r9, [rsp]", "jmp {}", sym map)
    }

    /// *MmUnmapVideoDisplay function (ntddk.h)*, obsolete: as MmUnmapIoSpace.
    pub unsafe extern "win64" fn MmUnmapVideoDisplay(address: PVOID, bytes: usize) {
        // SAFETY: the contract is the same.
        unsafe { MmUnmapIoSpace(address, bytes) };
    }

    /// *MmIsIoSpaceActive function (wdm.h)*: TRUE where some of the range is mapped by MmMapIoSpace or its kin.
    pub unsafe extern "win64" fn MmIsIoSpaceActive(start: PHYSICAL_ADDRESS, bytes: usize) -> u32 {
        u32::from(io::is_mapped(start.cast_unsigned(), bytes as u64))
    }

    /// *MmIsNonPagedSystemAddressValid function (ntddk.h)*, obsolete: whether the address is there just now. (Nothing is paged out.)
    pub unsafe extern "win64" fn MmIsNonPagedSystemAddressValid(address: PVOID) -> BOOLEAN {
        BOOLEAN::from(paging::is_present(address.addr() as u64))
    }

    /// *MmUnmapIoSpace function (wdm.h)*: any access faults afterwards. *Bug Check 0xDA: SYSTEM_PTE_MISUSE*, 0x303, where nothing
    /// is mapped at the address, and 0x305 where it is not as many pages.
    pub unsafe extern "win64" fn MmUnmapIoSpace(address: PVOID, bytes: usize) {
        let pages = (address.addr() % PAGE_SIZE).saturating_add(bytes).div_ceil(PAGE_SIZE) as u64;
        let first = address.addr() as u64;
        match io::pages_at(address.cast()) {
            None => bugcheck(SYSTEM_PTE_MISUSE, [0x303, first, pages, 0]),
            Some(mapped) if mapped as u64 != pages => {
                bugcheck(SYSTEM_PTE_MISUSE, [0x305, first, pages, mapped as u64]);
            }
            Some(_) => {}
        }
        MAPPED.leave(address.addr());
        io::unmap(address.cast());
    }
}

kernel_test! {
    /// *MmAllocateContiguousMemorySpecifyCache function (wdm.h)*: within the limits, across no boundary.
    fn contiguous_memory_keeps_to_its_limits() {
        let below = 32 << 20;
        // SAFETY: plain allocations, freed below.
        unsafe {
            let block =
                MmAllocateContiguousMemorySpecifyCache(3 * PAGE_SIZE, 16 << 20, below - 1, 0x1_0000, CACHED);
            let physical = MmGetPhysicalAddress(block);
            check!(!block.is_null() && physical >= 16 << 20 && physical + 3 * 4096 <= below);
            check!(physical / 0x1_0000 == (physical + 3 * 4096 - 1) / 0x1_0000);
            check!((0..3).all(|page| {
                let address = block.wrapping_byte_add(page * PAGE_SIZE);
                MmGetPhysicalAddress(address) == physical + (page * PAGE_SIZE) as i64
            }));
            MmFreeContiguousMemorySpecifyCache(block, 3 * PAGE_SIZE, CACHED);
            check!(MmIsAddressValid(block) == 0);
            // No such run lies below the first megabyte's end, nor one larger than its boundary anywhere.
            check!(MmAllocateContiguousMemory(PAGE_SIZE, 0xFFFF).is_null());
            check!(MmAllocateContiguousMemorySpecifyCache(0x2000, 0, -1, 0x1000, CACHED).is_null());
        }
    }
}
