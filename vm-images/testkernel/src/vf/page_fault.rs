//! Page faults that the Verifier resolves: pages that it has put out of reach to see who touches them, and when.

use super::{deleted_devices, force_irql};
use crate::ke::irql::{self, Irql};
use crate::ke::processor;
use crate::mm::paging::{self, Absent};

/// Bit of a page fault's error code: the page was there.
const PRESENT: u64 = 1;

/// Makes the page of `address` reachable again, where it was put out of reach and the code at `ip` may touch it now. Called
/// with interrupts off, at whatever IRQL; takes no lock.
pub fn resolve(address: u64, error: u64, ip: u64) -> bool {
    let entry = paging::entry(address);
    let is_there_by_now = || paging::entry(address) & PRESENT != 0;
    match paging::absent(entry) {
        Some(Absent::Trimmed) => {
            if !may_touch_pageable(ip) {
                return false;
            }
            force_irql::paged_in();
            paging::restore(address, Absent::Trimmed) || is_there_by_now()
        }
        Some(Absent::DeletedDevice) => {
            deleted_devices::touched(address, ip);
            paging::restore(address, Absent::DeletedDevice) || is_there_by_now()
        }
        Some(Absent::Freed | Absent::Guard) => false,
        // Another processor's fault was resolved between this one and now.
        None => error & PRESENT == 0 && entry & PRESENT != 0,
    }
}

/// Pageable memory is for code below DISPATCH_LEVEL, and for the kernel while it is the kernel that raised.
fn may_touch_pageable(ip: u64) -> bool {
    let level = irql::current();
    let for_a_lock =
        || level == Irql::DISPATCH && paging::kernel_image().contains(&ip) && processor::is_kernel_raised();
    level < Irql::DISPATCH || for_a_lock()
}
