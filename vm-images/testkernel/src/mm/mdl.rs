//! Memory descriptor lists: the page frames of a buffer, so that somebody else can get at it.
//!
//! A list is built for memory that stays where it is ([`MmBuildMdlForNonPagedPool`]), for a buffer that is
//! locked in place first, or for frames taken from the system as they are. Its frames can then be made to appear
//! at an address of their own. Nothing here is ever paged out, so that locking has only to look whether there is
//! memory at all; that, however, it does.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ptr;

use squall_testkernel_pure::bugcheck::{PFN_LIST_CORRUPT, SYSTEM_PTE_MISUSE};

use super::frame::{self, Frame, PAGE_SIZE};
use super::paging::{self, Protection};
use super::region::{Region, Window};
use super::user;
use crate::ex::pool;
use crate::ke::bugcheck::bugcheck;
use crate::ke::lock::SpinLock;
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::ldr::raising::may_raise;
use crate::nt::{
    KERNEL_MODE, KPROCESSOR_MODE, MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_PARTIAL,
    MDL_SOURCE_IS_NONPAGED_POOL, NTSTATUS, PHYSICAL_ADDRESS, PVOID, STATUS_ACCESS_VIOLATION,
    STATUS_CONFLICTING_ADDRESSES, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PAGE_PROTECTION,
    STATUS_INVALID_PARAMETER_2, STATUS_NOT_MAPPED_VIEW, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// `MDL_PARTIAL_HAS_BEEN_MAPPED`.
const MDL_PARTIAL_HAS_BEEN_MAPPED: i16 = 0x0020;
/// `MDL_WRITE_OPERATION`.
const MDL_WRITE_OPERATION: i16 = 0x0080;
/// `PAGE_*` protections.
const PAGE_READONLY: u32 = 0x02;
const PAGE_READWRITE: u32 = 0x04;
const PAGE_EXECUTE: u32 = 0x10;
const PAGE_EXECUTE_READ: u32 = 0x20;
const NO_MORE_SYSTEM_PTES: u32 = 0x3F;
/// `MmCached`.
const CACHED: usize = 1;
/// `LOCK_OPERATION`: the device only reads the memory.
const IO_READ_ACCESS: u32 = 0;
/// `MmNonCached` and `MmWriteCombined`.
const NON_CACHED: u32 = 0;
const WRITE_COMBINED: u32 = 2;
/// `MM_DONT_ZERO_ALLOCATION`, `MM_ALLOCATE_FULLY_REQUIRED`.
const DONT_ZERO: u32 = 0x1;
const FULLY_REQUIRED: u32 = 0x4;
/// `MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS`.
const CONTIGUOUS_CHUNKS: u32 = 0x20;
/// A list's size in bytes is a 16-bit number.
const MAX_PAGES: usize = (i16::MAX as usize - size_of::<MDL>()) / size_of::<usize>();

/// Lists' frames that appear at an address of their own, by that address's page.
static MAPPED: SpinLock<BTreeMap<usize, Region>> = SpinLock::new(BTreeMap::new());

/// Mappings that drivers asked for and did not take away, by their page.
pub static LEFT_MAPPED: Census = Census::new();

fn pages_spanned(address: usize, bytes: usize) -> usize {
    (address % PAGE_SIZE).saturating_add(bytes).div_ceil(PAGE_SIZE)
}

/// Bytes that a list for that buffer takes.
pub fn size_of_list(address: usize, bytes: usize) -> usize {
    size_of::<MDL>() + pages_spanned(address, bytes) * size_of::<usize>()
}

/// The list's page frame numbers.
///
/// # Safety
/// Everywhere below: `mdl` is a list with as many numbers as its buffer spans pages.
pub unsafe fn frames<'a>(mdl: *mut MDL) -> &'a mut [usize] {
    // SAFETY: the caller's.
    unsafe {
        let count = pages_spanned((*mdl).ByteOffset as usize, (*mdl).ByteCount as usize);
        core::slice::from_raw_parts_mut(mdl.add(1).cast(), count)
    }
}

/// Locks the pages of a list's buffer; fails where one is missing, or may not be written though it is to be.
///
/// # Safety
/// As above.
pub unsafe fn lock(mdl: *mut MDL, write: bool) -> Result<(), NTSTATUS> {
    // SAFETY: the caller's.
    unsafe {
        let (start, pages) = ((*mdl).StartVa.addr(), frames(mdl).len());
        let writable = |index| paging::is_writable((start + index * PAGE_SIZE) as u64);
        if !look_up(mdl) || (write && !(0..pages).all(writable)) {
            return Err(STATUS_ACCESS_VIOLATION);
        }
        (*mdl).Process = ptr::null_mut();
        (*mdl).MdlFlags |= MDL_PAGES_LOCKED;
        if write {
            (*mdl).MdlFlags |= MDL_WRITE_OPERATION;
        }
    }
    Ok(())
}

/// Unlocks them, and takes away what was mapped of them.
///
/// # Safety
/// As above.
pub unsafe fn unlock(mdl: *mut MDL) {
    // SAFETY: the caller's.
    unsafe {
        if (*mdl).MdlFlags & (MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL) == 0 {
            let page = frames(mdl).first().map_or(0, |&page| page as u64);
            bugcheck(PFN_LIST_CORRUPT, [7, page, 1, 0]);
        }
        if (*mdl).MdlFlags & MDL_MAPPED_TO_SYSTEM_VA != 0 && !shares_mapping(mdl) {
            unmap((*mdl).MappedSystemVa, mdl);
        }
        (*mdl).MdlFlags &= !(MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
    }
}

/// Fills the numbers in from the page tables; false where a page is missing.
///
/// # Safety
/// As above.
unsafe fn look_up(mdl: *mut MDL) -> bool {
    // SAFETY: the caller's.
    let (start, frames) = unsafe { ((*mdl).StartVa.addr(), frames(mdl)) };
    frames.iter_mut().enumerate().all(|(index, number)| {
        let found = paging::physical((start.wrapping_add(index * PAGE_SIZE)) as u64);
        *number = found.unwrap_or(0) as usize / PAGE_SIZE;
        found.is_some()
    })
}

/// What a mapping of this `MEMORY_CACHING_TYPE` lets be done.
pub fn protection(cache: u32) -> Protection {
    if matches!(cache, NON_CACHED | WRITE_COMBINED) { Protection::Device } else { Protection::ReadWrite }
}

/// # Safety
/// As above; the frames are locked.
unsafe fn map(mdl: *mut MDL, cache: u32) -> PVOID {
    let protection = protection(cache);
    // SAFETY: the caller's.
    unsafe {
        let physical = frames(mdl).iter().map(|&number| (number * PAGE_SIZE) as u64);
        let Some(region) = Region::map_frames(physical, protection) else { return ptr::null_mut() };
        let base = region.pointer().as_ptr();
        MAPPED.lock().insert(base.addr(), region);
        (*mdl).MappedSystemVa = base.wrapping_add((*mdl).ByteOffset as usize).cast();
        (*mdl).MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
        if (*mdl).MdlFlags & MDL_PARTIAL != 0 {
            // What MmPrepareMdlForReuse, a macro, undoes the mapping by.
            (*mdl).MdlFlags |= MDL_PARTIAL_HAS_BEEN_MAPPED;
        }
        (*mdl).MappedSystemVa
    }
}

/// Whether a list's system address is another list's, of which it is a part.
///
/// # Safety
/// As above.
unsafe fn shares_mapping(mdl: *const MDL) -> bool {
    // SAFETY: the caller's.
    unsafe { (*mdl).MdlFlags & (MDL_PARTIAL | MDL_PARTIAL_HAS_BEEN_MAPPED) == MDL_PARTIAL }
}

/// Takes away what was mapped of a partial list.
///
/// # Safety
/// As above.
pub unsafe fn unmap_part(mdl: *mut MDL) {
    // SAFETY: the caller's.
    unsafe {
        if (*mdl).MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED != 0 {
            unmap((*mdl).MappedSystemVa, mdl);
        }
    }
}

/// Among the system's process's addresses of user mode, wherever there is room: which the list does not tell of.
///
/// # Safety
/// As above.
unsafe fn map_for_user(mdl: *mut MDL, cache: u32, requested: usize) -> Result<PVOID, NTSTATUS> {
    if requested != 0 {
        return Err(STATUS_CONFLICTING_ADDRESSES);
    }
    // SAFETY: the caller's.
    unsafe {
        let physical = frames(mdl).iter().map(|&number| (number * PAGE_SIZE) as u64);
        let region = Region::map_frames_in(Window::Views, physical, protection(cache));
        let region = region.ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        let base = region.pointer().as_ptr();
        MAPPED.lock().insert(base.addr(), region);
        Ok(base.wrapping_add((*mdl).ByteOffset as usize).cast())
    }
}

/// # Safety
/// As above.
unsafe fn unmap(address: PVOID, mdl: *mut MDL) {
    LEFT_MAPPED.leave(address.addr() & !(PAGE_SIZE - 1));
    let region = MAPPED.lock().remove(&(address.addr() & !(PAGE_SIZE - 1)));
    if region.is_none() {
        // SAFETY: the caller's.
        let pages = unsafe { frames(mdl).len() };
        bugcheck(SYSTEM_PTE_MISUSE, [6, mdl.addr() as u64, address.addr() as u64, pages as u64]);
    }
    if user::contains(address.addr(), 0) {
        // The list does not tell of a mapping among user mode's addresses.
        return;
    }
    // SAFETY: the caller's.
    unsafe { (*mdl).MdlFlags &= !(MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED) };
}

/// Frames between two physical addresses, as many as there are up to `count`.
fn take_frames(low: u64, high: u64, count: usize) -> Vec<Frame> {
    let next = || frame::allocate_run_from(1, 1, low, high.saturating_add(1));
    core::iter::from_fn(next).take(count).collect()
}

/// # Safety
/// The call must be one of MmProbeAndLockPages'.
unsafe extern "win64" fn probe_and_lock(call: &Call<3>, raised: &mut NTSTATUS) {
    let [mdl, mode, operation] = call.arguments;
    let mdl = ptr::with_exposed_provenance_mut::<MDL>(mdl);
    // SAFETY: the caller's list.
    unsafe {
        let start = (*mdl).StartVa.addr() + (*mdl).ByteOffset as usize;
        let user = mode as KPROCESSOR_MODE != KERNEL_MODE;
        let locked = if user && !user::contains(start, (*mdl).ByteCount as usize) {
            Err(STATUS_ACCESS_VIOLATION)
        } else {
            lock(mdl, operation as u32 != IO_READ_ACCESS)
        };
        if let Err(status) = locked {
            *raised = status;
        }
    }
}

/// # Safety
/// The call must be one of MmProbeAndLockProcessPages'.
unsafe extern "win64" fn probe_and_lock_of_process(call: &Call<4>, raised: &mut NTSTATUS) {
    let [mdl, _process, mode, operation] = call.arguments;
    // SAFETY: the rest is MmProbeAndLockPages'.
    unsafe { probe_and_lock(&Call { caller: call.caller, arguments: [mdl, mode, operation] }, raised) }
}

/// # Safety
/// The call must be one of MmMapLockedPagesSpecifyCache's.
unsafe extern "win64" fn map_locked(call: &Call<6>, raised: &mut NTSTATUS) -> PVOID {
    let [mdl, mode, cache, requested, ..] = call.arguments;
    let mdl = ptr::with_exposed_provenance_mut(mdl);
    let user = mode as KPROCESSOR_MODE != KERNEL_MODE;
    // SAFETY: the caller's list.
    let mapped =
        unsafe { if user { map_for_user(mdl, cache as u32, requested) } else { Ok(map(mdl, cache as u32)) } };
    match mapped {
        Ok(address) => {
            if !address.is_null() {
                LEFT_MAPPED.enter(address.addr() & !(PAGE_SIZE - 1), call.caller);
            }
            address
        }
        Err(status) => {
            *raised = status;
            ptr::null_mut()
        }
    }
}

/// # Safety
/// The call must be one of MmMapLockedPages'.
unsafe extern "win64" fn map_locked_or_stop(call: &Call<2>, raised: &mut NTSTATUS) -> PVOID {
    let [mdl, mode] = call.arguments;
    let call = Call { caller: call.caller, arguments: [mdl, mode, CACHED, 0, 1, 0] };
    // SAFETY: the caller's list.
    let mapped = unsafe { map_locked(&call, raised) };
    if mapped.is_null() && *raised == STATUS_SUCCESS {
        bugcheck(NO_MORE_SYSTEM_PTES, [0; 4]);
    }
    mapped
}

/// As many pages as there are up to `wanted`, from the range, and from the ranges that lie `skip` bytes further each.
fn take_frames_skipping(low: u64, high: u64, skip: u64, wanted: usize) -> Vec<Frame> {
    let mut taken = take_frames(low, high, wanted);
    let (mut low, mut high) = (low, high);
    while skip > 0 && taken.len() < wanted {
        (low, high) = (low.saturating_add(skip), high.saturating_add(skip));
        if low >= frame::end_of_memory() {
            break;
        }
        taken.append(&mut take_frames(low, high, wanted - taken.len()));
    }
    taken
}

/// As many pages as there are up to `wanted`, each `chunk` bytes of them contiguous and aligned to their size; all together where `chunk` is 0. None where
/// the chunks cannot be.
fn take_chunks(low: u64, high: u64, chunk: u64, wanted: usize) -> Vec<Frame> {
    let pages = if chunk == 0 { wanted } else { chunk as usize / PAGE_SIZE };
    if chunk != 0 && (pages == 0 || !chunk.is_power_of_two() || !wanted.is_multiple_of(pages)) {
        return Vec::new();
    }
    let align = if chunk == 0 { 1 } else { pages };
    let next = || frame::allocate_run_from(pages, align, low, high.saturating_add(1));
    let runs = core::iter::from_fn(next).take(wanted / pages);
    runs.flat_map(|first| (0..pages).map(move |index| first.offset(index))).collect()
}

fn allocate_pages(low: u64, high: u64, skip: u64, bytes: usize, flags: u32) -> *mut MDL {
    let wanted = bytes.div_ceil(PAGE_SIZE);
    if wanted == 0 || wanted > MAX_PAGES {
        return ptr::null_mut();
    }
    let taken = if flags & CONTIGUOUS_CHUNKS != 0 {
        take_chunks(low, high, skip, wanted)
    } else {
        take_frames_skipping(low, high, skip, wanted)
    };
    let refused = taken.is_empty() || (flags & FULLY_REQUIRED != 0 && taken.len() < wanted);
    let length = taken.len() * PAGE_SIZE;
    let list = if refused { None } else { pool::allocate_zeroed(size_of_list(0, length), *b"Mdl ") };
    let Some(list) = list else {
        taken.into_iter().for_each(frame::release);
        return ptr::null_mut();
    };
    let mdl = list.as_ptr().cast::<MDL>();
    // SAFETY: the block is that large, zeroed and nobody else's; the frames were free until now.
    unsafe {
        (*mdl).Size = size_of_list(0, length) as i16;
        (*mdl).MdlFlags = MDL_PAGES_LOCKED;
        (*mdl).ByteCount = length as u32;
        for (number, found) in frames(mdl).iter_mut().zip(&taken) {
            *number = found.physical() as usize / PAGE_SIZE;
            if flags & DONT_ZERO == 0 {
                found.direct().write_bytes(0, PAGE_SIZE);
            }
        }
    }
    mdl
}

export! {
    /// *MmSizeOfMdl function (wdm.h)*.
    pub unsafe extern "win64" fn MmSizeOfMdl(base: PVOID, bytes: usize) -> usize {
        size_of_list(base.addr(), bytes)
    }

    /// *MmBuildMdlForNonPagedPool function (wdm.h)*: for memory that needs no locking; its own address is the
    /// system address.
    pub unsafe extern "win64" fn MmBuildMdlForNonPagedPool(mdl: *mut MDL) {
        // SAFETY: the caller's list.
        unsafe {
            look_up(mdl);
            (*mdl).Process = ptr::null_mut();
            (*mdl).MappedSystemVa = (*mdl).StartVa.wrapping_byte_add((*mdl).ByteOffset as usize);
            (*mdl).MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
        }
    }

    /// *MmProbeAndLockPages function (wdm.h)*: raises STATUS_ACCESS_VIOLATION where a page is missing, or is to be written and may
    /// not be, or where a buffer of user mode's does not lie there.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmProbeAndLockPages(mdl: *mut MDL, mode: KPROCESSOR_MODE, operation: u32) {
        may_raise!(probe_and_lock)
    }

    /// *MmProbeAndLockProcessPages function (wdm.h)*: as MmProbeAndLockPages, in the one process that there is.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmProbeAndLockProcessPages(
        mdl: *mut MDL,
        process: PVOID,
        mode: KPROCESSOR_MODE,
        operation: u32,
    ) {
        may_raise!(probe_and_lock_of_process)
    }

    /// *MmUnlockPages function (wdm.h)*: also takes away what was mapped of them. Of pages that the list has not locked: *Bug
    /// Check 0x4E: PFN_LIST_CORRUPT*, value 7.
    pub unsafe extern "win64" fn MmUnlockPages(mdl: *mut MDL) {
        // SAFETY: the caller's list.
        unsafe { unlock(mdl) };
    }

    /// *MmMapLockedPagesSpecifyCache function (wdm.h)*: an address of the system's for the list's pages; null
    /// where none is left. For user mode among its addresses in the system's process; a failure raises.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmMapLockedPagesSpecifyCache(
        mdl: *mut MDL,
        mode: KPROCESSOR_MODE,
        cache: u32,
        requested: PVOID,
        bug_check_on_failure: u32,
        priority: u32,
    ) -> PVOID {
        may_raise!(map_locked)
    }

    /// *MmMapLockedPages function (wdm.h)*, obsolete: cached, at any address; a failure is a bug check.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmMapLockedPages(mdl: *mut MDL, mode: KPROCESSOR_MODE) -> PVOID {
        may_raise!(map_locked_or_stop)
    }

    /// *MmUnmapLockedPages function (wdm.h)*: any access faults afterwards. Of what is not mapped: *Bug
    /// Check 0xDA: SYSTEM_PTE_MISUSE*, value 6.
    pub unsafe extern "win64" fn MmUnmapLockedPages(address: PVOID, mdl: *mut MDL) {
        // SAFETY: the caller's list.
        unsafe { unmap(address, mdl) };
    }

    /// *MmAdvanceMdl function (wdm.h)*: the list begins so many bytes further; the pages before that are no more the list's. STATUS_INVALID_PARAMETER_2
    /// where it is not that long.
    pub unsafe extern "win64" fn MmAdvanceMdl(mdl: *mut MDL, bytes: u32) -> NTSTATUS {
        // SAFETY: the caller's list.
        unsafe {
            if bytes > (*mdl).ByteCount {
                return STATUS_INVALID_PARAMETER_2;
            }
            let offset = (*mdl).ByteOffset as usize + bytes as usize;
            let passed = offset / PAGE_SIZE;
            let numbers = frames(mdl);
            let passed_of_these = passed.min(numbers.len());
            numbers.copy_within(passed_of_these.., 0);
            (*mdl).StartVa = (*mdl).StartVa.wrapping_byte_add(passed * PAGE_SIZE);
            (*mdl).ByteOffset = (offset % PAGE_SIZE) as u32;
            (*mdl).ByteCount -= bytes;
            if (*mdl).MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0 {
                let before = (*mdl).MappedSystemVa;
                (*mdl).MappedSystemVa = before.wrapping_byte_add(bytes as usize);
                // Unmapping goes by the address that the list has then.
                let page_of = |address: PVOID| address.addr() & !(PAGE_SIZE - 1);
                if !shares_mapping(mdl) {
                    let (from, to) = (page_of(before), page_of((*mdl).MappedSystemVa));
                    let mut mapped = MAPPED.lock();
                    if let Some(region) = mapped.remove(&from) {
                        mapped.insert(to, region);
                        LEFT_MAPPED.moves(from, to);
                    }
                }
            }
        }
        STATUS_SUCCESS
    }

    /// *MmProtectMdlSystemAddress function (wdm.h)*: read only, writable, or executable and not both. STATUS_NOT_MAPPED_VIEW for a list that is not mapped to
    /// addresses of its own; STATUS_INVALID_PAGE_PROTECTION for any other protection (PAGE_NOACCESS too).
    pub unsafe extern "win64" fn MmProtectMdlSystemAddress(mdl: *mut MDL, protect: u32) -> NTSTATUS {
        let protection = match protect {
            PAGE_READONLY => Protection::Read,
            PAGE_READWRITE => Protection::ReadWrite,
            PAGE_EXECUTE | PAGE_EXECUTE_READ => Protection::ReadExecute,
            _ => return STATUS_INVALID_PAGE_PROTECTION,
        };
        // SAFETY: the caller's list.
        let address = unsafe {
            if (*mdl).MdlFlags & MDL_MAPPED_TO_SYSTEM_VA == 0 {
                return STATUS_NOT_MAPPED_VIEW;
            }
            (*mdl).MappedSystemVa.addr() & !(PAGE_SIZE - 1)
        };
        match MAPPED.lock().get(&address) {
            Some(region) => region.protect(0, region.bytes(), protection),
            None => return STATUS_NOT_MAPPED_VIEW,
        }
        STATUS_SUCCESS
    }

    /// *MmAllocateNodePagesForMdlEx function (wdm.h)*: as MmAllocatePagesForMdlEx, from the one node that there is.
    pub unsafe extern "win64" fn MmAllocateNodePagesForMdlEx(
        low: PHYSICAL_ADDRESS,
        high: PHYSICAL_ADDRESS,
        skip: PHYSICAL_ADDRESS,
        bytes: usize,
        _cache: u32,
        node: u32,
        flags: u32,
    ) -> *mut MDL {
        if node != 0 {
            return ptr::null_mut();
        }
        allocate_pages(low.cast_unsigned(), high.cast_unsigned(), skip.max(0).cast_unsigned(), bytes, flags)
    }

    /// *MmAllocatePagesForMdl function (wdm.h)*: zeroed pages between two physical addresses, perhaps fewer than
    /// asked for. Where the range has too few, the one `skip` bytes further is looked through, and so on.
    pub unsafe extern "win64" fn MmAllocatePagesForMdl(
        low: PHYSICAL_ADDRESS,
        high: PHYSICAL_ADDRESS,
        skip: PHYSICAL_ADDRESS,
        bytes: usize,
    ) -> *mut MDL {
        allocate_pages(low.cast_unsigned(), high.cast_unsigned(), skip.max(0).cast_unsigned(), bytes, 0)
    }

    /// *MmAllocatePagesForMdlEx function (wdm.h)*: as MmAllocatePagesForMdl, not zeroed or not fewer where the
    /// flags say so; with MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS in chunks of `skip` bytes, a power of two that the length is a multiple of, or in
    /// one.
    pub unsafe extern "win64" fn MmAllocatePagesForMdlEx(
        low: PHYSICAL_ADDRESS,
        high: PHYSICAL_ADDRESS,
        skip: PHYSICAL_ADDRESS,
        bytes: usize,
        _cache: u32,
        flags: u32,
    ) -> *mut MDL {
        allocate_pages(low.cast_unsigned(), high.cast_unsigned(), skip.max(0).cast_unsigned(), bytes, flags)
    }

    /// *MmFreePagesFromMdl function (wdm.h)*: the pages; the list itself is the caller's to free.
    pub unsafe extern "win64" fn MmFreePagesFromMdl(mdl: *mut MDL) {
        // SAFETY: the caller's list, from MmAllocatePagesForMdl.
        unsafe {
            let numbers = frames(mdl);
            numbers.iter().map(|&number| Frame::containing((number * PAGE_SIZE) as u64)).for_each(frame::release);
            (*mdl).ByteCount = 0;
            (*mdl).MdlFlags &= !MDL_PAGES_LOCKED;
        }
    }
}

kernel_test! {
    /// *MmMapLockedPagesSpecifyCache function (wdm.h)*: the mapping shows the same pages, at the same offset.
    fn a_mapping_shows_the_buffer_until_it_is_taken_away() {
        let Some(block) = pool::allocate_zeroed(3 * PAGE_SIZE, *b"MdlT") else { return Ok(()) };
        let buffer = block.as_ptr().wrapping_add(0x123);
        let mut storage = [0_usize; 16];
        let mdl = storage.as_mut_ptr().cast::<MDL>();
        // SAFETY: buffer and list live until the end of the test; the list is laid out as the headers do it.
        unsafe {
            (*mdl).StartVa = ptr::with_exposed_provenance_mut(buffer.expose_provenance() & !(PAGE_SIZE - 1));
            (*mdl).ByteOffset = (buffer.addr() % PAGE_SIZE) as u32;
            (*mdl).ByteCount = PAGE_SIZE as u32;
            check!(MmSizeOfMdl(buffer.cast(), PAGE_SIZE) == size_of::<MDL>() + 16);
            MmProbeAndLockPages(mdl, KERNEL_MODE, 1);
            check!((*mdl).MdlFlags == MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
            let mapped = MmMapLockedPagesSpecifyCache(mdl, KERNEL_MODE, 1, ptr::null_mut(), 0, 16).cast::<u8>();
            check!(!mapped.is_null() && mapped.addr() % PAGE_SIZE == buffer.addr() % PAGE_SIZE);
            for offset in [0, PAGE_SIZE / 2, PAGE_SIZE - 1] {
                mapped.add(offset).write_volatile(0xA5);
                check!(buffer.add(offset).read_volatile() == 0xA5);
            }
            MmUnlockPages(mdl);
            check!(!paging::is_present(mapped.addr() as u64) && (*mdl).MdlFlags == 0);
            MmBuildMdlForNonPagedPool(mdl);
            check!((*mdl).MappedSystemVa == buffer.cast());
            let first = frames(mdl)[0] * PAGE_SIZE;
            check!(paging::physical((*mdl).StartVa.addr() as u64) == Some(first as u64));
            pool::free(block.addr().get(), u32::from_le_bytes(*b"MdlT"));
        }
    }

    /// *MmAllocatePagesForMdlEx function (wdm.h)*: pages of the range only, all of them freed again.
    fn pages_for_a_list_come_from_the_range_and_go_back() {
        let low = 24 << 20;
        let before = frame::free_count();
        // SAFETY: the list is used and freed as its documentation says.
        unsafe {
            let mdl = MmAllocatePagesForMdlEx(low, i64::MAX, 0, 5 * PAGE_SIZE, 1, FULLY_REQUIRED);
            check!(!mdl.is_null() && (*mdl).ByteCount as usize == 5 * PAGE_SIZE);
            check!(frames(mdl).iter().all(|&number| number * PAGE_SIZE >= low as usize));
            let mapped = MmMapLockedPagesSpecifyCache(mdl, KERNEL_MODE, 1, ptr::null_mut(), 0, 16);
            check!((0..5 * PAGE_SIZE).all(|index| mapped.cast::<u8>().add(index).read_volatile() == 0));
            MmUnmapLockedPages(mapped, mdl);
            MmFreePagesFromMdl(mdl);
            pool::free(mdl.addr(), 0);
            check!(MmAllocatePagesForMdlEx(0, 0xFFF, 0, PAGE_SIZE, 1, FULLY_REQUIRED).is_null());
            // Every 4 MiB one page at most: three of them lie that far apart.
            let (first, skip) = (24 << 20, 4 << 20);
            let mdl = MmAllocatePagesForMdl(first, first + 0xFFF, skip, 3 * PAGE_SIZE);
            check!(!mdl.is_null() && (*mdl).ByteCount as usize == 3 * PAGE_SIZE);
            let apart = |number: &usize| (number * PAGE_SIZE - first as usize).is_multiple_of(skip as usize);
            check!(frames(mdl).iter().all(apart));
            MmFreePagesFromMdl(mdl);
            pool::free(mdl.addr(), 0);
        }
        // Page tables, heap and pool may have grown by a little; the five pages are back all the same.
        check!(frame::free_count() + 70 > before);
    }
}
