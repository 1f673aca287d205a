//! What is still active in memory that is about to go.
//!
//! A timer that runs, a DPC or work item that is queued, a lookaside list or ERESOURCE that was not deleted: the kernel goes
//! on to use each of them, and crashes some time later, somewhere else. So a verified driver's memory is searched when it
//! goes: pool that it frees, devices that it deletes, and its image.
//!
//! Sources: *Automatic Checks* and *Miscellaneous Checks* of Driver Verifier; *Bug Check 0xC4*, values 0x15, 0xCA to 0xCC
//! and 0xD0 to 0xD2; *Bug Check 0xC7: TIMER_OR_DPC_INVALID*; *Bug Check 0xE4: WORKER_INVALID*. What Windows stops with for a
//! list or resource in an image is inferred: as for pool.

use core::ops::Range;

use squall_testkernel_pure::bugcheck::{
    DRIVER_VERIFIER_DETECTED_VIOLATION, TIMER_OR_DPC_INVALID, WORKER_INVALID,
};
use squall_testkernel_pure::pool::Block;

use super::pool_rules::pool_type;
use super::stops::stop;
use super::thunk::intercept;
use super::{object_rules, remove_locks};
use crate::ex::lookaside::{self, Lookaside};
use crate::ex::pool::{self, Known};
use crate::ex::resource::{self, Resource};
use crate::ex::work;
use crate::ke::{dpc, queue, timer};
use crate::nt::{NTSTATUS, PVOID};

/// A timer in pool that is freed.
const FREED_TIMER: u64 = 0x15;
const LOOKASIDE_AGAIN: u64 = 0xCA;
const LOOKASIDE_UNKNOWN: u64 = 0xCB;
const FREED_LOOKASIDE: u64 = 0xCC;
const RESOURCE_AGAIN: u64 = 0xD0;
const RESOURCE_UNKNOWN: u64 = 0xD1;
const FREED_RESOURCE: u64 = 0xD2;

/// Stops the system where something is active in a block of pool.
fn judge_block(block: &Block) {
    let range = block.address..block.address + block.size;
    if let Some(timer) = timer::first_in(&range) {
        let parameters = [FREED_TIMER, timer as u64, pool_type(block), block.address as u64];
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, parameters);
    }
    judge_memory(&range);
}

/// Stops the system where something is active in memory of whatever kind.
pub fn judge_memory(range: &Range<usize>) {
    let (start, end) = (range.start as u64, range.end as u64);
    if let Some(timer) = timer::first_in(range) {
        stop(TIMER_OR_DPC_INVALID, [0, timer as u64, start, end]);
    }
    if let Some(dpc) = timer::first_dpc_in(range).or_else(|| dpc::first_queued_in(range)) {
        stop(TIMER_OR_DPC_INVALID, [1, dpc as u64, start, end]);
    }
    if let Some(item) = work::first_queued_in(range) {
        stop(WORKER_INVALID, [0, item as u64, start, end]);
    }
    if let Some(list) = lookaside::LISTS.first_in(range) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [FREED_LOOKASIDE, list as u64, start, end - start]);
    }
    if let Some(resource) = resource::RESOURCES.first_in(range) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [FREED_RESOURCE, resource as u64, start, end - start]);
    }
}

/// Stops the system where something is active in an image, or is to call into it.
pub fn judge_image(range: &Range<u64>) {
    judge_memory(&(range.start as usize..range.end as usize));
    let (start, end) = (range.start, range.end);
    let routine = timer::leading_into(range).first().map(|(_, routine)| *routine);
    if let Some(routine) = routine.or_else(|| dpc::queued_leading_into(range).first().map(|dpc| dpc.1)) {
        stop(TIMER_OR_DPC_INVALID, [2, routine, start, end]);
    }
}

/// Memory is gone: what was in it is no object any more, whether or not anybody said so.
pub fn forget(range: &Range<usize>) {
    remove_locks::forget(range);
    queue::memory_goes(range);
    lookaside::LISTS.forget(range);
    resource::RESOURCES.forget(range);
}

/// An image is gone, with everything in it.
pub fn forget_image(range: &Range<u64>) {
    forget(&(range.start as usize..range.end as usize));
    lookaside::LISTS.forget_owner(range);
    resource::RESOURCES.forget_owner(range);
}

fn judge_free(address: usize) {
    // What is no block in use is the affair of the pool's rules, which come first.
    if let Known::Live(block) = pool::look_up(address) {
        judge_block(&block);
    }
}

fn judge_new_list(list: *mut Lookaside) {
    if lookaside::LISTS.knows(list.addr()) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [LOOKASIDE_AGAIN, list.addr() as u64, 0, 0]);
    }
}

fn judge_old_list(list: *mut Lookaside) {
    if !lookaside::LISTS.knows(list.addr()) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [LOOKASIDE_UNKNOWN, list.addr() as u64, 0, 0]);
    }
}

intercept! {
    for Miscellaneous;

    /// *ExFreePool function (wdm.h)*: of memory in which nothing is active.
    before fn ExFreePool(site; block: PVOID) {
        judge_free(block.addr());
        None
    }

    /// *ExFreePoolWithTag function (wdm.h)*: likewise.
    before fn ExFreePoolWithTag(site; block: PVOID, tag: u32) {
        judge_free(block.addr());
        None
    }

    /// *ExInitializeNPagedLookasideList function (wdm.h)*: of a list that is not one.
    before fn ExInitializeNPagedLookasideList(
        site; list: *mut Lookaside, allocate: PVOID, free: PVOID, flags: u32, size: usize
    ) {
        judge_new_list(list);
        object_rules::judge_size(list, size);
        None
    }

    /// *ExInitializePagedLookasideList function (wdm.h)*: likewise.
    before fn ExInitializePagedLookasideList(
        site; list: *mut Lookaside, allocate: PVOID, free: PVOID, flags: u32, size: usize
    ) {
        judge_new_list(list);
        object_rules::judge_size(list, size);
        None
    }

    /// *ExInitializeLookasideListEx function (wdm.h)*: likewise.
    before fn ExInitializeLookasideListEx(
        site; list: *mut Lookaside, allocate: PVOID, free: PVOID, kind: u32, flags: u32, size: usize
    ) -> NTSTATUS {
        judge_new_list(list);
        object_rules::judge_size(list, size);
        None
    }

    /// *ExDeleteNPagedLookasideList function (wdm.h)*: of a list that was initialized.
    before fn ExDeleteNPagedLookasideList(site; list: *mut Lookaside) {
        judge_old_list(list);
        None
    }

    /// *ExDeletePagedLookasideList function (wdm.h)*: likewise.
    before fn ExDeletePagedLookasideList(site; list: *mut Lookaside) {
        judge_old_list(list);
        None
    }

    /// *ExDeleteLookasideListEx function (wdm.h)*: likewise.
    before fn ExDeleteLookasideListEx(site; list: *mut Lookaside) {
        judge_old_list(list);
        None
    }

    /// *ExInitializeResourceLite function (wdm.h)*: of a resource that is not one.
    before fn ExInitializeResourceLite(site; resource: *mut Resource) -> NTSTATUS {
        if resource::RESOURCES.knows(resource.addr()) {
            stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [RESOURCE_AGAIN, resource.addr() as u64, 0, 0]);
        }
        None
    }

    /// *ExDeleteResourceLite function (wdm.h)*: of a resource that was initialized.
    before fn ExDeleteResourceLite(site; resource: *mut Resource) -> NTSTATUS {
        if !resource::RESOURCES.knows(resource.addr()) {
            stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [RESOURCE_UNKNOWN, resource.addr() as u64, 0, 0]);
        }
        None
    }
}
