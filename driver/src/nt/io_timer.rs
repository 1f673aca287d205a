//! A device's own timer: the documentation's IoTimer, called about once a second.

use wdk_sys::{
    PDEVICE_OBJECT, PIO_TIMER_ROUTINE,
    ntddk::{IoInitializeTimer, IoStartTimer, IoStopTimer},
};

use super::{
    device::Device,
    status::{Result, check},
};

/// A device's timer that is running; stopped when dropped.
pub(crate) struct IoTimer(PDEVICE_OBJECT);

impl IoTimer {
    /// Has `routine` called with the device, at DISPATCH_LEVEL, about once a second.
    ///
    /// # Safety
    ///
    /// What the routine uses is there. The timer is stopped before any of that goes, and before the device is deleted.
    pub(crate) unsafe fn start(device: &Device, routine: PIO_TIMER_ROUTINE) -> Result<Self> {
        // SAFETY: this driver's device; the routine lives as long as the image.
        check(unsafe { IoInitializeTimer(device.as_ptr(), routine, core::ptr::null_mut()) })?;
        // SAFETY: initialized.
        unsafe { IoStartTimer(device.as_ptr()) };
        Ok(Self(device.as_ptr()))
    }

    /// `IoStopTimer`: the routine is not called again. A call that is under way goes on, which flushing the DPCs ends.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for IoTimer {
    fn drop(&mut self) {
        // SAFETY: started, and the device is there by the contract of `start`.
        unsafe { IoStopTimer(self.0) };
    }
}
