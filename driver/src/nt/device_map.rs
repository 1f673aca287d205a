//! A name in the registry's DeviceMap, where programs look up which devices there are.

use wdk_sys::{
    REG_SZ, RTL_REGISTRY_DEVICEMAP, ULONG,
    ntddk::{RtlDeleteRegistryValue, RtlWriteRegistryValue},
};

use super::{
    device,
    status::{Result, check},
    text::text,
};

/// The value that says which device there is; deleted when dropped.
pub(crate) struct MappedName(());

impl MappedName {
    /// Writes `DeviceMap\Squall`: the kernel's name of the device, and as its data the one that programs use. At PASSIVE_LEVEL.
    pub(crate) fn write() -> Result<Self> {
        let data = text!("Squall0\0");
        // SAFETY: the names end in a zero; the data are as long as said.
        check(unsafe {
            RtlWriteRegistryValue(
                RTL_REGISTRY_DEVICEMAP,
                text!("Squall\0").as_ptr(),
                text!(concat!(device::name!(), "\0")).as_ptr(),
                REG_SZ,
                data.as_ptr().cast_mut().cast(),
                data.bytes() as ULONG,
            )
        })?;
        Ok(Self(()))
    }

    /// Deletes the value.
    pub(crate) fn delete(self) {
        drop(self);
    }
}

impl Drop for MappedName {
    fn drop(&mut self) {
        // SAFETY: the names end in a zero. Fails only where somebody else deleted it, which changes nothing.
        let _ = unsafe {
            RtlDeleteRegistryValue(
                RTL_REGISTRY_DEVICEMAP,
                text!("Squall\0").as_ptr(),
                text!(concat!(device::name!(), "\0")).as_ptr(),
            )
        };
    }
}
