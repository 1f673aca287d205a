//! Pool tracking: a driver that goes has freed what it allocated.
//!
//! Source: *Pool Tracking* of Driver Verifier. As on Windows, allocations of a page or more are not tracked, and neither are
//! objects of the I/O manager's but packets and memory descriptor lists: those left are findings like everybody's.

use core::ops::Range;
use core::sync::atomic::Ordering;

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;
use squall_testkernel_pure::pool::Block;

use super::stops::stop;
use super::thunk::intercept;
use super::verified::Verified;
use crate::ex::pool;
use crate::ke::processor;
use crate::mm::frame::PAGE_SIZE;
use crate::nt::PVOID;

/// *Bug Check 0xC4*, value 0x62: the driver's name (UTF-16, with its terminator), reserved, and how many allocations it
/// left.
pub fn before_image_goes(driver: &'static Verified, range: &Range<u64>) {
    let is_tracked = |block: &&Block| block.size < PAGE_SIZE && block.kind.is_verified();
    let left = pool::allocated_by(range).iter().filter(is_tracked).count() as u64;
    if left > 0 {
        let name = driver.wide_name().as_ptr().expose_provenance() as u64;
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0x62, name, 0, left]);
    }
}

/// *Bug Check 0xC4*, value 0x10B: a DPC runs in whatever process it interrupts, which is not to be charged for it.
fn judge_quota() {
    if processor::current().dpc_active.load(Ordering::Relaxed) != 0 {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0x10B, 0, 0, 0]);
    }
}

intercept! {
    for PoolTracking;

    /// *ExAllocatePoolWithQuotaTag function (wdm.h)*: not from a DPC.
    before fn ExAllocatePoolWithQuotaTag(site; kind: u32, bytes: usize, tag: u32) -> PVOID {
        judge_quota();
        None
    }

    /// *ExAllocatePoolWithQuota function (wdm.h)*: likewise.
    before fn ExAllocatePoolWithQuota(site; kind: u32, bytes: usize) -> PVOID {
        judge_quota();
        None
    }
}
