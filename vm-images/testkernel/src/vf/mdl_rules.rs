//! Automatic checks of memory descriptor lists: each is built, locked, mapped, unmapped and unlocked as it says of itself.
//!
//! A list's flags tell what was done with it. A list for nonpaged pool needs no locking and is mapped from the start; one
//! that is a part of another shares the other's lock and mapping; and who unlocks or maps what was never locked works with
//! page frame numbers that nobody has filled in.
//!
//! Source: *Automatic Checks* ("Monitoring Memory Descriptor List (MDL) Usage"), and *Bug Check 0xC4:
//! DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0x70, 0x73 to 0x7F, 0x81, 0x82, 0xB0, 0xB2 to 0xB4 and 0xB8. A list may be mapped a
//! second time for user mode, so that what a mapping asks of it is asked of mappings for the kernel only. MmUnmapIoSpace (0x7B) is let
//! pass at DISPATCH_LEVEL, where its own page allows it and that of the bug check does not.

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::pageable;
use super::stops;
use super::thunk::intercept;
use crate::ke::irql::{self, Irql};
use crate::mm::frame::PAGE_SIZE;
use crate::nt::{
    KERNEL_MODE, KPROCESSOR_MODE, MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, MDL_PARTIAL,
    MDL_SOURCE_IS_NONPAGED_POOL, PHYSICAL_ADDRESS, PVOID,
};
use crate::selftest::{check, kernel_test};

/// `MDL_PARTIAL_HAS_BEEN_MAPPED`.
const MDL_PARTIAL_HAS_BEEN_MAPPED: i16 = 0x20;
/// `MDL_MAPPING_CAN_FAIL`.
const MDL_MAPPING_CAN_FAIL: i16 = 0x2000;

fn stop(parameters: [u64; 4]) -> ! {
    stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, parameters)
}

/// `what` where the level is above `limit`.
fn at_most(limit: Irql, what: u64, third: u64, fourth: u64) {
    let level = irql::current();
    if level > limit {
        stop([what, level.0.into(), third, fourth]);
    }
}

fn bits(flags: i16) -> u64 {
    flags.cast_unsigned().into()
}

/// Where there is a list, its flags.
fn flags_of(mdl: *mut MDL) -> i16 {
    // SAFETY: the driver's list, or null.
    unsafe { mdl.as_ref() }.map_or(0, |mdl| mdl.MdlFlags)
}

/// The highest level at which a list may be mapped, or unmapped, for that mode, and the two values that tell of it.
fn level_of_mapping(mode: KPROCESSOR_MODE, [kernel, user]: [u64; 2]) -> (Irql, u64) {
    if mode == KERNEL_MODE { (Irql::DISPATCH, kernel) } else { (Irql::APC, user) }
}

/// A list that is to be mapped: for the kernel once only, and what is mapped stays where it is.
fn judge_mapping(mdl: *mut MDL, mode: KPROCESSOR_MODE) {
    let flags = flags_of(mdl);
    let address = mdl.addr() as u64;
    let mapped = MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL_HAS_BEEN_MAPPED;
    if mode == KERNEL_MODE && flags & mapped != 0 {
        stop([0xB2, address, bits(flags), bits(flags & mapped)]);
    }
    let stays = MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL;
    if flags & stays == 0 {
        stop([0xB3, address, bits(flags), bits(MDL_PAGES_LOCKED | MDL_PARTIAL)]);
    }
}

/// Whether any page of the list's buffer may be paged out.
fn describes_pageable(mdl: *mut MDL) -> bool {
    // SAFETY: the driver's list, or null.
    let Some(list) = (unsafe { mdl.as_ref() }) else { return false };
    let start = list.StartVa.addr() + list.ByteOffset as usize;
    let end = start.saturating_add((list.ByteCount as usize).max(1));
    let pages = (start & !(PAGE_SIZE - 1)..end).step_by(PAGE_SIZE);
    pages.map(|page| page.max(start)).any(pageable::is)
}

intercept! {
    for Automatic;

    /// 0x70, 0xB0.
    before fn MmProbeAndLockPages(site; mdl: *mut MDL, mode: KPROCESSOR_MODE, operation: u32) {
        at_most(Irql::DISPATCH, 0x70, mdl.addr() as u64, mode as u64);
        let flags = flags_of(mdl);
        let wrong = flags
            & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL);
        if wrong != 0 {
            stop([0xB0, mdl.addr() as u64, bits(flags), bits(wrong)]);
        }
        None
    }

    /// 0x73.
    before fn MmMapIoSpace(site; physical: PHYSICAL_ADDRESS, bytes: usize, cache: u32) -> PVOID {
        at_most(Irql::DISPATCH, 0x73, physical.cast_unsigned(), bytes as u64);
        None
    }

    /// 0x73.
    before fn MmMapIoSpaceEx(site; physical: PHYSICAL_ADDRESS, bytes: usize, protection: u32) -> PVOID {
        at_most(Irql::DISPATCH, 0x73, physical.cast_unsigned(), bytes as u64);
        None
    }

    /// 0x74, 0x75, 0x81, 0xB2, 0xB3: *MmMapLockedPages function (wdm.h)* stops the system where it fails, unless the list says that
    /// it may.
    before fn MmMapLockedPages(site; mdl: *mut MDL, mode: KPROCESSOR_MODE) -> PVOID {
        let (limit, what) = level_of_mapping(mode, [0x74, 0x75]);
        at_most(limit, what, mdl.addr() as u64, mode as u64);
        judge_mapping(mdl, mode);
        let flags = flags_of(mdl);
        if mode == KERNEL_MODE && flags & MDL_MAPPING_CAN_FAIL == 0 {
            stop([0x81, mdl.addr() as u64, bits(flags), 0]);
        }
        None
    }

    /// 0x76, 0x77, 0x82, 0xB2, 0xB3.
    before fn MmMapLockedPagesSpecifyCache(
        site;
        mdl: *mut MDL,
        mode: KPROCESSOR_MODE,
        cache: u32,
        requested: PVOID,
        bug_check_on_failure: u32,
    ) -> PVOID {
        let (limit, what) = level_of_mapping(mode, [0x76, 0x77]);
        at_most(limit, what, mdl.addr() as u64, mode as u64);
        judge_mapping(mdl, mode);
        let flags = flags_of(mdl);
        if mode == KERNEL_MODE && bug_check_on_failure != 0 && flags & MDL_MAPPING_CAN_FAIL == 0 {
            stop([0x82, mdl.addr() as u64, bits(flags), 0]);
        }
        None
    }

    /// 0x78, 0x7C, 0x7D, 0xB4.
    before fn MmUnlockPages(site; mdl: *mut MDL) {
        at_most(Irql::DISPATCH, 0x78, mdl.addr() as u64, 0);
        let flags = flags_of(mdl);
        let address = mdl.addr() as u64;
        if flags & MDL_PARTIAL != 0 {
            stop([0xB4, address, bits(flags), bits(MDL_PARTIAL)]);
        }
        if flags & MDL_SOURCE_IS_NONPAGED_POOL != 0 {
            stop([0x7D, address, bits(flags), 0]);
        }
        if flags & MDL_PAGES_LOCKED == 0 {
            stop([0x7C, address, bits(flags), 0]);
        }
        None
    }

    /// 0x79, 0x7A.
    before fn MmUnmapLockedPages(site; address: PVOID, mdl: *mut MDL) {
        let user = crate::mm::user::contains(address.addr(), 1);
        let (limit, what) = if user { (Irql::APC, 0x7A) } else { (Irql::DISPATCH, 0x79) };
        at_most(limit, what, address.addr() as u64, mdl.addr() as u64);
        None
    }

    /// 0x7B.
    before fn MmUnmapIoSpace(site; address: PVOID, bytes: usize) {
        at_most(Irql::DISPATCH, 0x7B, address.addr() as u64, bytes as u64);
        None
    }

    /// 0x7E.
    before fn MmAllocatePagesForMdl(site; low: PHYSICAL_ADDRESS) -> *mut MDL {
        at_most(Irql::DISPATCH, 0x7E, Irql::DISPATCH.0.into(), 0);
        None
    }

    /// 0x7E.
    before fn MmAllocatePagesForMdlEx(site; low: PHYSICAL_ADDRESS) -> *mut MDL {
        at_most(Irql::DISPATCH, 0x7E, Irql::DISPATCH.0.into(), 0);
        None
    }

    /// 0x7E.
    before fn MmFreePagesFromMdl(site; mdl: *mut MDL) {
        at_most(Irql::DISPATCH, 0x7E, Irql::DISPATCH.0.into(), 0);
        None
    }

    /// 0x7F.
    before fn MmBuildMdlForNonPagedPool(site; mdl: *mut MDL) {
        if describes_pageable(mdl) {
            stop([0x7F, irql::current().0.into(), mdl.addr() as u64, bits(flags_of(mdl))]);
        }
        None
    }

    /// 0xB8: *IoFreeMdl function (wdm.h)* takes the mapping of a part away by itself, and no other.
    before fn IoFreeMdl(site; mdl: *mut MDL) {
        let flags = flags_of(mdl);
        if flags & MDL_MAPPED_TO_SYSTEM_VA != 0 && flags & MDL_PARTIAL == 0 {
            stop([0xB8, mdl.addr() as u64, bits(flags), 0]);
        }
        None
    }
}

/// What the Verifier says, given only automatic checks, to a call of `export` with a list with these flags at that level.
fn stop_of(irql: Irql, export: &'static str, flags: i16, others: [u64; 4]) -> Option<[u64; 4]> {
    use super::rehearsal::Stage;
    type Routine = unsafe extern "win64" fn(*mut MDL, u64, u64, u64, u64) -> u64;
    let stage = Stage::new(super::classes::Class::Rehearsal as u32)?;
    let stop = stage.stop_of(move |driver| {
        // SAFETY: zeros are an empty list.
        let mut list: MDL = unsafe { core::mem::zeroed() };
        list.MdlFlags = flags;
        // SAFETY: what an import leads to is a routine.
        let routine = unsafe { core::mem::transmute::<*const _, Routine>(driver.import(export)) };
        let [second, third, fourth, fifth] = others;
        irql::raise(irql);
        // SAFETY: the routine takes at most as many, and is stopped before it does anything.
        unsafe { routine(&raw mut list, second, third, fourth, fifth) };
        irql::set(Irql::PASSIVE);
    });
    stop.filter(|(code, _)| *code == DRIVER_VERIFIER_DETECTED_VIOLATION).map(|(_, parameters)| parameters)
}

kernel_test! {
    fn lists_at_the_wrong_level_are_stopped() {
        let device = Irql(5);
        let said = |irql, export, others| stop_of(irql, export, MDL_PAGES_LOCKED, others).map(|[what, level, ..]| (what, level));
        for (irql, export, mode, what) in [
            (device, "MmProbeAndLockPages", 0, 0x70),
            (device, "MmMapLockedPages", 0, 0x74),
            (Irql::DISPATCH, "MmMapLockedPages", 1, 0x75),
            (device, "MmMapLockedPagesSpecifyCache", 0, 0x76),
            (Irql::DISPATCH, "MmMapLockedPagesSpecifyCache", 1, 0x77),
            (device, "MmUnlockPages", 0, 0x78),
            (device, "MmUnmapLockedPages", 0, 0x79),
            (device, "MmUnmapIoSpace", 0x20, 0x7B),
            (device, "MmMapIoSpace", 0x20, 0x73),
        ] {
            check!(said(irql, export, [mode, 0, 0, 0]) == Some((what, irql.0.into())));
        }
        for export in ["MmAllocatePagesForMdl", "MmFreePagesFromMdl"] {
            check!(stop_of(device, export, 0, [0; 4]) == Some([0x7E, 5, 2, 0]));
        }
    }

    fn lists_are_used_as_their_flags_say() {
        let locked = MDL_PAGES_LOCKED;
        let pool = MDL_SOURCE_IS_NONPAGED_POOL;
        let mapped = MDL_MAPPED_TO_SYSTEM_VA;
        let cached = [0, 1, 0, 0];
        let or_stop = [0, 1, 0, 1];
        for (export, flags, others, [what, third, fourth]) in [
            ("MmProbeAndLockPages", pool, [0; 4], [0xB0, pool, pool]),
            ("MmProbeAndLockPages", locked | mapped, [0; 4], [0xB0, locked | mapped, locked | mapped]),
            ("MmMapLockedPages", locked, [0; 4], [0x81, locked, 0]),
            ("MmMapLockedPagesSpecifyCache", locked, or_stop, [0x82, locked, 0]),
            ("MmMapLockedPagesSpecifyCache", locked | mapped, cached, [0xB2, locked | mapped, mapped]),
            ("MmMapLockedPagesSpecifyCache", pool, cached, [0xB2, pool, pool]),
            ("MmMapLockedPagesSpecifyCache", 0, cached, [0xB3, 0, locked | MDL_PARTIAL]),
            ("MmUnlockPages", 0, [0; 4], [0x7C, 0, 0]),
            ("MmUnlockPages", pool, [0; 4], [0x7D, pool, 0]),
            ("MmUnlockPages", MDL_PARTIAL, [0; 4], [0xB4, MDL_PARTIAL, MDL_PARTIAL]),
            ("IoFreeMdl", locked | mapped, [0; 4], [0xB8, locked | mapped, 0]),
        ] {
            let said = stop_of(Irql::PASSIVE, export, flags, others).map(|[what, _, third, fourth]| [what, third, fourth]);
            check!(said == Some([what as u64, third as u64, fourth as u64]));
        }
    }

    fn a_list_of_paged_pool_is_locked_and_not_built_as_nonpaged() {
        use super::rehearsal::{Stage, import};
        use crate::ex::pool::{ExAllocatePoolWithTag, ExFreePool};
        use crate::io::mdl::{IoAllocateMdl, IoFreeMdl};
        use crate::mm::mdl::MmBuildMdlForNonPagedPool;
        let Some(stage) = Stage::new(super::classes::Class::Rehearsal as u32) else { check!(false); return Ok(()) };
        for (kind, what) in [(1, Some(0x7F)), (0, None)] {
            // SAFETY: both are freed below.
            let (block, list) = unsafe {
                let block = ExAllocatePoolWithTag(kind, 5000, 7);
                (block, IoAllocateMdl(block.wrapping_byte_add(600), 4000, 0, 0, core::ptr::null_mut()))
            };
            check!(!block.is_null() && !list.is_null());
            let address = list.expose_provenance();
            let stop = stage.stop_of(move |driver| {
                let build = import!(driver, MmBuildMdlForNonPagedPool: fn(*mut MDL));
                // SAFETY: the list is there until the scene is over.
                unsafe { build(core::ptr::with_exposed_provenance_mut(address)) };
            });
            check!(stop.map(|(_, [what, ..])| what) == what);
            // SAFETY: made above, and used no more.
            unsafe {
                IoFreeMdl(list);
                ExFreePool(block);
            }
        }
    }
}
