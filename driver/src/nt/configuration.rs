//! The I/O manager's count of devices.

use wdk_sys::{CONFIGURATION_INFORMATION, ntddk::IoGetConfigurationInformation};

/// One device counted in; counted out when dropped.
///
/// There is no count of sampling cards. This one is counted among the parallel ports, as the cards were that came with a connector of
/// that kind: the number serves drivers to find the next free name, and a number too many does no harm.
pub(crate) struct Counted(());

impl Counted {
    /// Counts one in. At PASSIVE_LEVEL.
    pub(crate) fn in_one() -> Self {
        change(1);
        Self(())
    }

    /// Counts it out.
    pub(crate) fn out(self) {
        drop(self);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        change(u32::MAX);
    }
}

/// Adds to the count, modulo 2^32. Without a lock: the documentation names none, and drivers are loaded one after the other.
fn change(by: u32) {
    // SAFETY: has no requirement.
    let configuration: *mut CONFIGURATION_INFORMATION = unsafe { IoGetConfigurationInformation() };
    // SAFETY: the system's own, and never null.
    let count = unsafe { &raw mut (*configuration).ParallelCount };
    // SAFETY: as above.
    let before = unsafe { count.read() };
    // SAFETY: as above.
    unsafe { count.write(before.wrapping_add(by)) };
}
