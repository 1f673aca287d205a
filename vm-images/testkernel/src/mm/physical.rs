//! What memory there is, and where a physical address appears.

use core::arch::naked_asm;

use squall_testkernel_pure::pool::Terms;

use super::frame::{self, PAGE_SIZE};
use super::paging;
use super::region::Window;
use crate::arch::boot::DIRECT_MAP_BASE;
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, PHYSICAL_ADDRESS, PVOID, STATUS_INVALID_PARAMETER_4, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};

/// `STATUS_INVALID_ADDRESS`.
const INVALID_ADDRESS: NTSTATUS = NTSTATUS::from_bits(0xC000_0141);

/// `PHYSICAL_MEMORY_RANGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PHYSICAL_MEMORY_RANGE {
    base: PHYSICAL_ADDRESS,
    bytes: i64,
}

unsafe extern "win64" fn ranges(caller: usize) -> *mut PHYSICAL_MEMORY_RANGE {
    const END: PHYSICAL_MEMORY_RANGE = PHYSICAL_MEMORY_RANGE { base: 0, bytes: 0 };
    let size = (frame::ranges().count() + 1) * size_of::<PHYSICAL_MEMORY_RANGE>();
    let terms = Terms { size, tag: u32::from_le_bytes(*b"hPmM"), caller, ..Terms::default() };
    let Some(block) = pool::allocate(terms, false) else { return core::ptr::null_mut() };
    let block = block.as_ptr().cast::<PHYSICAL_MEMORY_RANGE>();
    let range = |(base, bytes): (u64, u64)| PHYSICAL_MEMORY_RANGE {
        base: base.cast_signed(),
        bytes: bytes.cast_signed(),
    };
    for (index, range) in frame::ranges().map(range).chain([END]).enumerate() {
        // SAFETY: the block has room for each range and the one that ends them.
        unsafe { block.add(index).write(range) };
    }
    block
}

/// Where a page of memory appears: where drivers' memory does, or else in the kernel's own map of all memory.
fn appears_at(physical: u64) -> Option<u64> {
    let page = physical & !(PAGE_SIZE as u64 - 1);
    let mapped = [Window::Dynamic, Window::Images].into_iter().find_map(|window| {
        let mut pages = window.walked().step_by(PAGE_SIZE);
        pages.find(|&address| paging::physical(address) == Some(page))
    });
    let in_map = DIRECT_MAP_BASE + page;
    let found = mapped.or_else(|| (paging::physical(in_map) == Some(page)).then_some(in_map))?;
    Some(found + physical - page)
}

/// Copies from memory that may not be there, page by page; how much it was.
///
/// # Safety
/// `target` has room for `bytes`; `place` gives where a page can be read, or none.
unsafe fn copy(target: *mut u8, source: u64, bytes: usize, place: impl Fn(u64) -> Option<u64>) -> usize {
    let mut copied = 0;
    while copied < bytes {
        let Some(from) = source.checked_add(copied as u64) else { break };
        let Some(readable) = place(from) else { break };
        let count = (PAGE_SIZE - from as usize % PAGE_SIZE).min(bytes - copied);
        let readable = core::ptr::with_exposed_provenance::<u8>(readable as usize);
        // SAFETY: the caller's; the page is memory, and mapped.
        unsafe { target.add(copied).copy_from(readable, count) };
        copied += count;
    }
    copied
}

/// Where the kernel's map of all memory shows an address of memory.
fn in_map(physical: u64) -> Option<u64> {
    let is_memory =
        |(start, bytes): (u64, u64)| physical.checked_sub(start).is_some_and(|offset| offset < bytes);
    frame::ranges().any(is_memory).then_some(DIRECT_MAP_BASE + physical)
}

export! {
    /// *MmCopyMemory function (ntddk.h)*: from virtual or physical addresses, as far as there is memory: STATUS_INVALID_ADDRESS where that ends before
    /// the last byte, and how much was copied in any case. STATUS_INVALID_PARAMETER_4 for flags that say neither or both.
    pub unsafe extern "win64" fn MmCopyMemory(
        target: *mut u8,
        source: u64,
        bytes: usize,
        flags: u32,
        transferred: *mut usize,
    ) -> NTSTATUS {
        const PHYSICAL: u32 = 1;
        const VIRTUAL: u32 = 2;
        // SAFETY: the caller's room, and storage for the count.
        unsafe {
            transferred.write(0);
            let copied = match flags {
                PHYSICAL => copy(target, source, bytes, in_map),
                VIRTUAL => copy(target, source, bytes, |address| paging::is_present(address).then_some(address)),
                _ => return STATUS_INVALID_PARAMETER_4,
            };
            transferred.write(copied);
            if copied == bytes { STATUS_SUCCESS } else { INVALID_ADDRESS }
        }
    }

    /// *MmGetPhysicalMemoryRanges function (ntddk.h)*: the ranges of memory, ended by one of zeros, in pool that the caller frees.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmGetPhysicalMemoryRanges() -> *mut PHYSICAL_MEMORY_RANGE {
        naked_asm!("mov rcx, [rsp]", "jmp {}", sym ranges)
    }

    /// *MmGetVirtualForPhysical function (ntddk.h)*: an address that leads there; null where none does.
    pub unsafe extern "win64" fn MmGetVirtualForPhysical(physical: PHYSICAL_ADDRESS) -> PVOID {
        let found = appears_at(physical.cast_unsigned()).unwrap_or(0);
        core::ptr::with_exposed_provenance_mut(found as usize)
    }

    /// *MmIsRecursiveIoFault function (ntifs.h)*: FALSE: no page is being read in for the calling thread, as none is ever paged out.
    pub unsafe extern "win64" fn MmIsRecursiveIoFault() -> BOOLEAN {
        FALSE
    }
}

kernel_test! {
    /// *MmGetVirtualForPhysical function (ntddk.h)*: the inverse of MmGetPhysicalAddress.
    fn an_address_is_found_by_where_it_leads() {
        let block = pool::allocate_zeroed(5000, *b"Phys");
        let Some(block) = block else { check!(false); return Ok(()) };
        let address = block.as_ptr().addr() as u64 + 4100;
        let found = paging::physical(address).and_then(appears_at);
        pool::free(block.as_ptr().addr(), 0);
        check!(found == Some(address));
        // SAFETY: what is returned is freed below.
        unsafe {
            let ranges = MmGetPhysicalMemoryRanges();
            check!(!ranges.is_null() && (*ranges).bytes > 0);
            let mut last = ranges;
            while (*last).bytes != 0 {
                last = last.add(1);
            }
            check!((*last).base == 0);
            pool::free(ranges.addr(), 0);
        }
    }
}
