//! The registry's account of who claims what: `\Registry\Machine\Hardware\ResourceMap`.
//!
//! Under the class of the driver (`OtherDrivers` without one) and the driver's own name stand two values for the driver and
//! for each of its devices, `.Raw` and `.Translated`, behind the device's name. They come and go with the claims.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::utf16;

use super::Listed;
use crate::cm;
use crate::io::pnp::{self, Description};
use crate::io::unload;
use crate::nt::{CM_PARTIAL_RESOURCE_DESCRIPTOR, DRIVER_OBJECT};

const MAP: &str = r"\Registry\Machine\Hardware\ResourceMap";
const NO_CLASS: &str = "OtherDrivers";
const REG_RESOURCE_LIST: u32 = 8;

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    key: Vec<u16>,
    /// The values' names without their endings.
    name: String,
}

/// Where the claim of a driver, or of a device of its (not 0), belongs.
///
/// # Safety
/// `driver` must be alive.
pub unsafe fn entry(driver: *mut DRIVER_OBJECT, class: Option<&[u16]>, device: usize) -> Entry {
    // SAFETY: the caller's contract; the name does not change.
    let driver = utf16::display(unsafe { (*driver).DriverName.units() });
    let driver = driver.rsplit('\\').next().unwrap_or_default();
    let class = class.map_or_else(|| NO_CLASS.into(), utf16::display);
    let name = if device == 0 { String::new() } else { unload::name_of(device) };
    Entry { key: utf16::encode(&format!("{MAP}\\{class}\\{driver}")), name }
}

impl Entry {
    fn values(&self) -> [Vec<u16>; 2] {
        [".Raw", ".Translated"].map(|ending| utf16::encode(&format!("{}{ending}", self.name)))
    }

    /// Writes the claim down. (A registry that is full does not keep a driver from its resources.)
    pub fn write(&self, bus: (u32, u32), listed: &[Listed]) {
        let raw: Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR> = listed.iter().map(|listed| listed.raw).collect();
        let translated: Vec<_> = listed.iter().map(pnp::translated).collect();
        let description = Description { bus_type: bus.0, bus_number: bus.1, ..Description::default() };
        let lists = [&raw, &translated].map(|list| pnp::resource_list(&description, list));
        cm::with(|registry| {
            let Ok((key, _)) = registry.create(None, &self.key) else { return };
            for (name, list) in self.values().iter().zip(&lists) {
                let _ = registry.set_value(key, name, REG_RESOURCE_LIST, list);
            }
        });
    }

    /// Strikes it out.
    pub fn delete(&self) {
        cm::with(|registry| {
            let Ok(key) = registry.open(None, &self.key) else { return };
            for name in self.values() {
                registry.delete_value(key, &name);
            }
        });
    }

    /// Whether it is written down.
    pub fn is_written(&self) -> bool {
        cm::with(|registry| {
            let key = registry.open(None, &self.key);
            key.is_ok_and(|key| self.values().iter().all(|name| registry.value(key, name).is_some()))
        })
    }
}
