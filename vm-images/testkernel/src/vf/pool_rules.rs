//! The rules of allocating and freeing pool, which every verified driver is held to.
//!
//! Source: *Automatic Checks* of Driver Verifier, and *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0x00 to
//! 0x02, 0x10 to 0x13, 0x16 and 0x105.

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;
use squall_testkernel_pure::pool::{Block, Kind};

use super::stops::stop;
use super::thunk::intercept;
use crate::ex::pool::{self, Known};
use crate::ke::irql::{self, Irql};
use crate::nt::{POOL_FLAG_PAGED, PVOID};

/// `PagedPool`: the odd pool types.
const PAGED: u32 = 1;

/// Stops the system where nobody may allocate this.
fn judge(kind: u64, paged: bool, bytes: usize) {
    let level = irql::current();
    let highest = if paged { Irql::APC } else { Irql::DISPATCH };
    let broken = if bytes == 0 {
        Some(0)
    } else if level > highest {
        Some(if paged { 1 } else { 2 })
    } else {
        None
    };
    if let Some(rule) = broken {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [rule, level.0.into(), kind, bytes as u64]);
    }
}

fn judge_type(kind: u32, bytes: usize) {
    judge(kind.into(), kind & PAGED != 0, bytes);
}

/// `POOL_TYPE` of a block, as stops tell it.
pub fn pool_type(block: &Block) -> u64 {
    u64::from(block.paged)
}

/// Stops the system where nobody may free what is at `address`.
fn judge_free(address: usize) {
    let level = irql::current();
    let violation = |parameters| stop(DRIVER_VERIFIER_DETECTED_VIOLATION, parameters);
    let freed = address as u64;
    if level > Irql::DISPATCH {
        violation([0x12, level.0.into(), 0, freed]);
    }
    if address < pool::SYSTEM_START {
        violation([0x16, 0, freed, 0]);
    }
    match pool::look_up(address) {
        Known::Never => violation([0x10, freed, 0, 0]),
        // Windows' header lies before the block.
        Known::Freed(block) => violation([0x13, 0, freed - 16, pool::pool_header(&block)]),
        Known::Live(block) if block.paged && level > Irql::APC => {
            violation([0x11, level.0.into(), pool_type(&block), freed]);
        }
        Known::Live(block) if block.kind == Kind::Irp => violation([0x105, freed, 0, 0]),
        Known::Live(_) => {}
    }
}

intercept! {
    for Automatic;

    /// *ExFreePool function (wdm.h)*: a block that is in use, at an IRQL at which it may be freed.
    before fn ExFreePool(site; block: PVOID) {
        judge_free(block.addr());
        None
    }

    /// *ExFreePoolWithTag function (wdm.h)*.
    before fn ExFreePoolWithTag(site; block: PVOID, tag: u32) {
        judge_free(block.addr());
        None
    }

    /// *ExAllocatePool2 function (wdm.h)*: the type of pool is told as the flags.
    before fn ExAllocatePool2(site; flags: u64, bytes: usize, tag: u32) -> PVOID {
        judge(flags, flags & POOL_FLAG_PAGED != 0, bytes);
        None
    }

    /// *ExAllocatePool3 function (wdm.h)*: likewise.
    before fn ExAllocatePool3(site; flags: u64, bytes: usize, tag: u32, parameters: PVOID, count: u32) -> PVOID {
        judge(flags, flags & POOL_FLAG_PAGED != 0, bytes);
        None
    }

    /// *ExAllocatePoolWithTag function (wdm.h)*.
    before fn ExAllocatePoolWithTag(site; kind: u32, bytes: usize, tag: u32) -> PVOID {
        judge_type(kind, bytes);
        None
    }

    /// *ExAllocatePool function (wdm.h)*.
    before fn ExAllocatePool(site; kind: u32, bytes: usize) -> PVOID {
        judge_type(kind, bytes);
        None
    }

    /// *ExAllocatePoolWithQuotaTag function (wdm.h)*.
    before fn ExAllocatePoolWithQuotaTag(site; kind: u32, bytes: usize, tag: u32) -> PVOID {
        judge_type(kind, bytes);
        None
    }

    /// *ExAllocatePoolWithQuota function (wdm.h)*.
    before fn ExAllocatePoolWithQuota(site; kind: u32, bytes: usize) -> PVOID {
        judge_type(kind, bytes);
        None
    }

    /// *ExAllocatePoolWithTagPriority function (wdm.h)*.
    before fn ExAllocatePoolWithTagPriority(site; kind: u32, bytes: usize, tag: u32, priority: u32) -> PVOID {
        judge_type(kind, bytes);
        None
    }
}
