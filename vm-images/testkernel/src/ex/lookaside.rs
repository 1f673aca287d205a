//! Lookaside lists: blocks of one size, kept for the next who asks.
//!
//! The headers do the work inline, on the structure's own fields: allocate pops the list or calls `Allocate`,
//! free pushes to it or calls `Free` where the list is deep enough. What is left to the kernel is to fill the
//! structure in, to empty it, and the two routines that most drivers leave to the system.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr;

use super::pool;
use super::slist::{ExpInterlockedFlushSList, InitializeSListHead};
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    LIST_ENTRY, NTSTATUS, PVOID, SLIST_ENTRY, SLIST_HEADER, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// `EX_MAXIMUM_LOOKASIDE_DEPTH_BASE`.
const MAXIMUM_DEPTH: u16 = 256;
/// The system keeps at least this many.
const MINIMUM_DEPTH: u16 = 4;
/// `LOOKASIDE_MINIMUM_BLOCK_SIZE`: a kept block holds the list's link.
const MINIMUM_SIZE: u32 = size_of::<usize>() as u32;
/// `POOL_RAISE_IF_ALLOCATION_FAILURE`.
const RAISE: u32 = pool::RAISE_ON_FAILURE;
/// `EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL`.
const EX_RAISE: u32 = 1;
/// `EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE`: for quota, which nobody has here.
const EX_NO_RAISE: u32 = 2;
const PAGED_POOL: u32 = 1;

/// `GENERAL_LOOKASIDE`, the part that every kind of list begins with. The headers align the kinds of old to a
/// cache line, which changes their size and nothing else.
#[derive(Debug)]
#[repr(C)]
pub struct Lookaside {
    list: SLIST_HEADER,
    depth: u16,
    maximum_depth: u16,
    total_allocates: u32,
    allocate_misses: u32,
    total_frees: u32,
    free_misses: u32,
    kind: u32,
    tag: u32,
    size: u32,
    allocate: *const (),
    free: *const (),
    entry: LIST_ENTRY,
    last_total_allocates: u32,
    last_allocate_misses: u32,
    future: [u32; 2],
}

/// Lists that were initialized and not deleted.
pub static LISTS: Census = Census::new();

const _: () = {
    assert!(size_of::<Lookaside>() == 0x60);
    assert!(offset_of!(Lookaside, depth) == 0x10);
    assert!(offset_of!(Lookaside, total_frees) == 0x1C);
    assert!(offset_of!(Lookaside, kind) == 0x24);
    assert!(offset_of!(Lookaside, tag) == 0x28);
    assert!(offset_of!(Lookaside, size) == 0x2C);
    assert!(offset_of!(Lookaside, allocate) == 0x30);
    assert!(offset_of!(Lookaside, free) == 0x38);
    assert!(offset_of!(Lookaside, entry) == 0x40);
};

type Free = unsafe extern "win64" fn(block: PVOID);
type FreeEx = unsafe extern "win64" fn(block: PVOID, lookaside: *mut Lookaside);

/// The system's `AllocateEx`: its caller, the driver's inline code, is who the block belongs to.
#[unsafe(naked)]
unsafe extern "win64" fn allocate_ex(kind: u32, bytes: usize, tag: u32, lookaside: *mut Lookaside) -> PVOID {
    naked_asm!("jmp {}", sym pool::ExAllocatePoolWithTag)
}

unsafe extern "win64" fn free_ex(block: PVOID, _lookaside: *mut Lookaside) {
    pool::free(block.addr(), 0);
}

/// # Safety
/// `lookaside` is writable.
unsafe fn initialize(
    lookaside: *mut Lookaside,
    allocate: *const (),
    free: *const (),
    kind: u32,
    size: usize,
    tag: u32,
) {
    // SAFETY: the caller's storage.
    unsafe {
        lookaside.write(Lookaside {
            list: SLIST_HEADER { Alignment: 0, Region: 0 },
            depth: MINIMUM_DEPTH,
            maximum_depth: MAXIMUM_DEPTH,
            total_allocates: 0,
            allocate_misses: 0,
            total_frees: 0,
            free_misses: 0,
            kind,
            tag,
            size: u32::try_from(size).unwrap_or(u32::MAX).max(MINIMUM_SIZE),
            allocate,
            free,
            entry: crate::ke::list::UNLINKED,
            last_total_allocates: 0,
            last_allocate_misses: 0,
            future: [0; 2],
        });
        InitializeSListHead(&raw mut (*lookaside).list);
    }
}

/// Fills in a list of the kind of old, of paged pool or not, with the system's routines where the driver has none of its own.
///
/// # Safety
/// As above; `call` must be one of ExInitializeNPagedLookasideList or its paged kin.
unsafe fn initialize_old(call: &Call<7>, paged: bool) {
    let [lookaside, allocate, free, flags, size, tag, _depth] = call.arguments;
    let lookaside = ptr::with_exposed_provenance_mut::<Lookaside>(lookaside);
    let routine = ptr::with_exposed_provenance::<()>;
    let (allocate, free) = (routine(allocate), routine(free));
    let kind = if paged { flags as u32 | PAGED_POOL } else { flags as u32 & !PAGED_POOL };
    let allocate = if allocate.is_null() { pool::ExAllocatePoolWithTag as *const () } else { allocate };
    let free = if free.is_null() { pool::ExFreePool as *const () } else { free };
    // SAFETY: the caller's.
    unsafe { initialize(lookaside, allocate, free, kind, size, tag as u32) };
    LISTS.enter(lookaside.addr(), call.caller);
}

/// # Safety
/// As for [`initialize_old`].
unsafe extern "win64" fn initialize_nonpaged(call: &Call<7>) {
    // SAFETY: the caller's.
    unsafe { initialize_old(call, false) };
}

/// # Safety
/// As for [`initialize_old`].
unsafe extern "win64" fn initialize_paged(call: &Call<7>) {
    // SAFETY: the caller's.
    unsafe { initialize_old(call, true) };
}

/// # Safety
/// `call` must be one of ExInitializeLookasideListEx.
unsafe extern "win64" fn initialize_ex(call: &Call<8>) -> NTSTATUS {
    let [lookaside, allocate, free, kind, flags, size, tag, depth] = call.arguments;
    let lookaside = ptr::with_exposed_provenance_mut::<Lookaside>(lookaside);
    let routine = ptr::with_exposed_provenance::<()>;
    let (allocate, free) = (routine(allocate), routine(free));
    let (kind, flags) = (kind as u32, flags as u32);
    let both = EX_RAISE | EX_NO_RAISE;
    if flags & !both != 0 || flags & both == both || depth as u16 != 0 || size > u32::MAX as usize {
        return STATUS_INVALID_PARAMETER;
    }
    let allocate = if allocate.is_null() { allocate_ex as *const () } else { allocate };
    let free = if free.is_null() { free_ex as *const () } else { free };
    let kind = if flags & EX_RAISE != 0 { kind | RAISE } else { kind };
    // SAFETY: the caller's storage and routines.
    unsafe { initialize(lookaside, allocate, free, kind, size, tag as u32) };
    LISTS.enter(lookaside.addr(), call.caller);
    STATUS_SUCCESS
}

/// Gives back every block that the list keeps.
///
/// # Safety
/// `lookaside` was initialized; `release` frees what its `Allocate` returned.
unsafe fn flush(lookaside: *mut Lookaside, release: impl Fn(PVOID)) {
    // SAFETY: the caller's; the entries taken are nobody else's any more.
    unsafe {
        let mut entry: *mut SLIST_ENTRY = ExpInterlockedFlushSList(&raw mut (*lookaside).list);
        while !entry.is_null() {
            let next = (*entry).Next;
            release(entry.cast());
            entry = next;
        }
    }
}

/// # Safety
/// As above; the list is of the kind of old.
unsafe fn flush_old(lookaside: *mut Lookaside) {
    // SAFETY: the caller's: the field holds what `initialize_old` put there.
    unsafe {
        let free = core::mem::transmute::<*const (), Free>((*lookaside).free);
        flush(lookaside, |block| free(block));
    }
}

export! {
    /// *ExInitializeNPagedLookasideList function (wdm.h)*: the system chooses the depth.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExInitializeNPagedLookasideList(
        lookaside: *mut Lookaside,
        allocate: *const (),
        free: *const (),
        flags: u32,
        size: usize,
        tag: u32,
        depth: u16,
    ) {
        with_caller!(initialize_nonpaged)
    }

    /// *ExDeleteNPagedLookasideList function (wdm.h)*: frees what it keeps.
    pub unsafe extern "win64" fn ExDeleteNPagedLookasideList(lookaside: *mut Lookaside) {
        LISTS.leave(lookaside.addr());
        // SAFETY: the caller's list.
        unsafe { flush_old(lookaside) };
    }

    /// *ExInitializePagedLookasideList function (wdm.h)*: as the nonpaged one, of paged pool.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExInitializePagedLookasideList(
        lookaside: *mut Lookaside,
        allocate: *const (),
        free: *const (),
        flags: u32,
        size: usize,
        tag: u32,
        depth: u16,
    ) {
        with_caller!(initialize_paged)
    }

    /// *ExDeletePagedLookasideList function (wdm.h)*: frees what it keeps.
    pub unsafe extern "win64" fn ExDeletePagedLookasideList(lookaside: *mut Lookaside) {
        LISTS.leave(lookaside.addr());
        // SAFETY: the caller's list.
        unsafe { flush_old(lookaside) };
    }

    /// *ExInitializeLookasideListEx function (wdm.h)*: flags that it does not know are refused, and so is a depth.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExInitializeLookasideListEx(
        lookaside: *mut Lookaside,
        allocate: *const (),
        free: *const (),
        kind: u32,
        flags: u32,
        size: usize,
        tag: u32,
        depth: u16,
    ) -> NTSTATUS {
        with_caller!(initialize_ex)
    }

    /// *ExFlushLookasideListEx function (wdm.h)*: frees what it keeps; the list is used on.
    pub unsafe extern "win64" fn ExFlushLookasideListEx(lookaside: *mut Lookaside) {
        // SAFETY: the caller's list: the field holds what ExInitializeLookasideListEx put there.
        unsafe {
            let free = core::mem::transmute::<*const (), FreeEx>((*lookaside).free);
            flush(lookaside, |block| free(block, lookaside));
        }
    }

    /// *ExDeleteLookasideListEx function (wdm.h)*: frees what it keeps.
    pub unsafe extern "win64" fn ExDeleteLookasideListEx(lookaside: *mut Lookaside) {
        LISTS.leave(lookaside.addr());
        // SAFETY: the caller's list.
        unsafe { ExFlushLookasideListEx(lookaside) };
    }
}

kernel_test! {
    /// *Using Lookaside Lists*: what is freed is kept for the next allocation, and freed with the list.
    fn a_lookaside_list_keeps_blocks_and_frees_them_in_the_end() {
        use super::slist::{ExpInterlockedPopEntrySList, ExpInterlockedPushEntrySList};
        type AllocateEx = unsafe extern "win64" fn(u32, usize, u32, *mut Lookaside) -> PVOID;
        let mut storage = core::mem::MaybeUninit::<Lookaside>::uninit();
        let list = storage.as_mut_ptr();
        let (none, tag) = (core::ptr::null(), u32::from_le_bytes(*b"Look"));
        let kept = || pool::allocated_by(&crate::mm::paging::kernel_text()).iter().any(|block| block.tag == tag);
        // SAFETY: the list lives until it is deleted; what follows is what the headers' inline code does.
        unsafe {
            check!(ExInitializeLookasideListEx(list, none, none, 512, 4, 64, tag, 0) == STATUS_INVALID_PARAMETER);
            check!(ExInitializeLookasideListEx(list, none, none, 512, 0, 2, tag, 0) == STATUS_SUCCESS);
            check!((*list).size == 8);
            let allocate = core::mem::transmute::<*const (), AllocateEx>((*list).allocate);
            check!(ExpInterlockedPopEntrySList(&raw mut (*list).list).is_null());
            let block = allocate((*list).kind, (*list).size as usize, (*list).tag, list);
            check!(!block.is_null() && kept());
            ExpInterlockedPushEntrySList(&raw mut (*list).list, block.cast());
            check!(ExpInterlockedPopEntrySList(&raw mut (*list).list) == block.cast());
            ExpInterlockedPushEntrySList(&raw mut (*list).list, block.cast());
            ExDeleteLookasideListEx(list);
            check!(!kept());

            ExInitializeNPagedLookasideList(list, none, none, 0, 64, tag, 0);
            check!((*list).size == 64 && (*list).depth == MINIMUM_DEPTH && (*list).kind == 0);
            let block = pool::ExAllocatePoolWithTag((*list).kind, 64, tag);
            ExpInterlockedPushEntrySList(&raw mut (*list).list, block.cast());
            check!(kept());
            ExDeleteNPagedLookasideList(list);
            check!(!kept());
        }
    }
}
