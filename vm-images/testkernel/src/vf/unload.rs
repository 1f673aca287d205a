//! The hooks on an image's way in and out, for what no call can tell the Verifier.

use super::classes::Class;
use super::verified::{self, Verified};
use super::{ddi_locks, deadlock, dma, force_irql, freed_memory, noted, pool_tracking, tracing};
use crate::etw;
use crate::ex::timer;
use crate::io::driver::Loaded;
use crate::io::wmi;
use crate::mm::{contiguous, mdl, reserved, section_object};
use crate::ps;
use crate::se::subject;
use squall_testkernel_pure::agent::answers::Finding;

use alloc::vec::Vec;
use core::ops::Range;

/// Unload has returned, and the driver object still stands: what was left behind.
pub fn after_unload(driver: &Loaded) -> Vec<Finding> {
    super::findings::left_behind(driver)
}

/// The last reference to the driver object is gone and its image is about to go: the last look. In a system thread at
/// PASSIVE_LEVEL; also after a DriverEntry that failed.
pub fn before_image_goes(range: &Range<u64>) {
    let Some(driver) = verified::at(range.start as usize) else { return };
    if driver.is_for(Class::Miscellaneous) {
        freed_memory::judge_image(range);
        tracing::before_image_goes(range);
    }
    if driver.is_for(Class::Dma) {
        dma::before_image_goes(range);
    }
    if driver.is_for(Class::Deadlock) {
        deadlock::memory_goes(range.start as usize..range.end as usize, true);
    }
    if driver.is_for(Class::PoolTracking) {
        pool_tracking::before_image_goes(driver, range);
    }
}

/// The image in `range` is gone.
pub fn image_is_gone(range: &Range<u64>) {
    noted::image_is_gone(range);
    verified::end_load(range.start);
    force_irql::image_is_gone(range.start);
    freed_memory::forget_image(range);
    ddi_locks::forget(&(range.start as usize..range.end as usize));
    etw::forget(range);
    wmi::forget(range);
    for census in [
        &contiguous::ALLOCATED,
        &contiguous::MAPPED,
        &mdl::LEFT_MAPPED,
        &timer::TIMERS,
        &reserved::HELD,
        &section_object::MAPPED,
        &ps::thread::RUNNING,
        &subject::CAPTURED,
    ] {
        census.forget_owner(range);
    }
}

/// The image of a verified driver is laid out; these of its sections may be paged.
pub fn image_is_ready(driver: &Verified, range: &Range<u64>, pageable: impl Iterator<Item = Range<u64>>) {
    force_irql::image_is_ready(driver, range.start, pageable);
}

/// A device, extension and all, is about to go; its driver's image begins at `image`.
pub fn before_device_goes(device: Range<usize>, image: usize) {
    let driver = verified::at(image);
    if driver.is_some_and(|driver| driver.is_for(Class::Deadlock)) {
        deadlock::memory_goes(device.clone(), true);
    }
    if driver.is_some_and(|driver| driver.is_for(Class::Miscellaneous)) {
        freed_memory::judge_memory(&device);
    }
    freed_memory::forget(&device);
}
