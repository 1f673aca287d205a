//! Pool tracking: a driver that goes has freed what it allocated.
//!
//! Source: *Pool Tracking* of Driver Verifier. As on Windows, allocations of a page or more are not tracked: those left
//! are findings like everybody's.

use core::ops::Range;

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::stops::stop;
use super::verified::Verified;
use crate::ex::pool;
use crate::mm::frame::PAGE_SIZE;

/// *Bug Check 0xC4*, value 0x62: the driver's name (UTF-16, with its terminator), reserved, and how many allocations it
/// left.
pub fn before_image_goes(driver: &'static Verified, range: &Range<u64>) {
    let left = pool::allocated_by(range).iter().filter(|block| block.size < PAGE_SIZE).count() as u64;
    if left > 0 {
        let name = driver.wide_name().as_ptr().expose_provenance() as u64;
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0x62, name, 0, left]);
    }
}
