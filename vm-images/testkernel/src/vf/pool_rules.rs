//! The rules of allocating pool, which every verified driver is held to.
//!
//! Source: *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0x00 to 0x02.

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::stops::stop;
use super::thunk::intercept;
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

intercept! {
    for Automatic;

    /// *ExAllocatePool2 function (wdm.h)*: the type of pool is told as the flags.
    before fn ExAllocatePool2(site; flags: u64, bytes: usize, tag: u32) -> PVOID {
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
