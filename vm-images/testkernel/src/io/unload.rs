//! Unloading a driver.
//!
//! Windows calls Unload only when nothing stands in its way: no handle open, no device of another driver attached. Then no
//! device can be opened any more, Unload runs in a system thread at PASSIVE_LEVEL, and the driver object is given up. Its
//! image goes with the object, unless a device that Unload forgot keeps both.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::answers::Finding;
use squall_testkernel_pure::utf16;

use super::device::{self, InUse};
use super::driver::Loaded;
use crate::ke::call;
use crate::nt::{DRIVER_OBJECT, DriverUnload};
use crate::ob::{self, names};
use crate::vf;

/// Closes the driver to new openers, or says what stands in the way.
pub fn begin(driver: &Loaded) -> Result<DriverUnload, String> {
    let object = core::ptr::with_exposed_provenance_mut::<DRIVER_OBJECT>(driver.object);
    // SAFETY: a loaded driver's object is alive.
    let routine = unsafe { (*object).DriverUnload }.ok_or("the driver has no Unload routine")?;
    // SAFETY: as above.
    unsafe { device::begin_unload(object) }.map_err(|(address, reason)| {
        let name = name_of(address);
        match reason {
            InUse::Open(count) => format!("{name} has {count} open handle(s) or outstanding reference(s)"),
            InUse::Attached => format!("another driver's device is attached to {name}"),
        }
    })?;
    Ok(routine)
}

/// Runs Unload, collects what it left, and gives the driver object up. On a system thread at PASSIVE_LEVEL.
pub fn run(driver: &Loaded, routine: DriverUnload) -> Vec<Finding> {
    let object = core::ptr::with_exposed_provenance_mut::<DRIVER_OBJECT>(driver.object);
    vf::entries::unload_begins(driver.object);
    // SAFETY: the routine is the one that the driver set, and the image is mapped as long as the object lives.
    unsafe { call::unload(routine, object) };
    call::returned(routine as usize, driver.object);
    let findings = vf::unload::after_unload(driver);
    ob::dereference(driver.object);
    findings
}

/// A device's name, or its address where it has none.
pub fn name_of(device: usize) -> String {
    names::with(|names| names.names_of(|object| object == device).next().map(utf16::display))
        .unwrap_or_else(|| format!("device 0x{device:x}"))
}
