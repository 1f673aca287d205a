//! Unloading a driver.
//!
//! Windows calls Unload only when nothing stands in its way: no handle open, no device of another driver attached. Then no
//! device can be opened any more, Unload runs in a system thread at PASSIVE_LEVEL, and the driver object is given up. Its
//! image goes with the object, unless a device that Unload forgot keeps both.
//!
//! A work item that is queued or runs holds a reference on its device, and the driver cannot be unloaded while one remains
//! (*Releasing Driver-Allocated Resources*). One that is at its end is waited for; one that goes on is the answer: Unload has run, and
//! the driver is still there.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::answers::Finding;
use squall_testkernel_pure::utf16;

use super::device::{self, InUse};
use super::driver::Loaded;
use crate::ke::{call, thread};
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
///
/// The other thing that is given is what keeps the driver from being unloaded although its Unload has run.
pub fn run(driver: &Loaded, routine: DriverUnload) -> (Vec<Finding>, Option<String>) {
    let object = core::ptr::with_exposed_provenance_mut::<DRIVER_OBJECT>(driver.object);
    vf::entries::unload_begins(driver.object);
    // SAFETY: the routine is the one that the driver set, and the image is mapped as long as the object lives.
    unsafe { call::unload(routine, object) };
    call::returned(routine as usize, driver.object);
    let held = held_back(object);
    let findings = vf::unload::after_unload(driver);
    ob::dereference(driver.object);
    (findings, held)
}

/// What is still referenced once work items at their end have had the time to finish: a device that was deleted, or the driver
/// object. (A device that was forgotten keeps the driver too, and is a finding.)
fn held_back(driver: *mut DRIVER_OBJECT) -> Option<String> {
    const PATIENCE: usize = 100;
    let is_held = || {
        // SAFETY: the driver object is given up later.
        let forgotten = unsafe { device::of_driver(driver) }.len();
        // Each device has one on its driver; the last is the one that `run` gives up.
        ob::references(driver.addr()).is_some_and(|references| references > forgotten + 1)
    };
    for _ in 0..PATIENCE {
        if !is_held() {
            return None;
        }
        thread::sleep_ns(1_000_000);
    }
    is_held().then(|| {
        "Unload has returned, and a device that it deleted is still referenced, as by a work item that is queued or runs: the \
         driver stays in memory"
            .into()
    })
}

/// A device's name, or its address where it has none.
pub fn name_of(device: usize) -> String {
    names::with(|names| names.names_of(|object| object == device).next().map(utf16::display))
        .unwrap_or_else(|| format!("device 0x{device:x}"))
}
