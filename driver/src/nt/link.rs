//! The name under which programs open the device: `\\.\Squall0`.

use wdk_sys::ntddk::{IoCreateSymbolicLink, IoDeleteSymbolicLink};

use super::{
    device,
    status::{Result, check},
    text::text,
};

/// The symbolic link to the device; deleted when dropped.
pub(crate) struct Link(());

impl Link {
    /// Makes the link.
    pub(crate) fn create() -> Result<Self> {
        let mut link = text!("\\DosDevices\\Squall0").counted();
        let mut device = text!(device::name!()).counted();
        // SAFETY: both names are valid for the call, and copied.
        check(unsafe { IoCreateSymbolicLink(&mut link, &mut device) })?;
        Ok(Self(()))
    }

    /// `IoDeleteSymbolicLink`: nobody finds the device by this name any more.
    pub(crate) fn delete(self) {
        drop(self);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut link = text!("\\DosDevices\\Squall0").counted();
        // SAFETY: valid for the call. Fails only where somebody else deleted it, which changes nothing.
        let _ = unsafe { IoDeleteSymbolicLink(&mut link) };
    }
}
