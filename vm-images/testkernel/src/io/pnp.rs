//! The plug and play manager, as far as a driver that detects its own device needs it: which devices there are, and
//! what each of them was given.
//!
//! A device is known by its *physical device object*. Buses add theirs at boot ([`super::pci`]).
//! `IoReportDetectedDevice` makes a physical device object for the hardware that the driver found. It is not the
//! driver's: it belongs to the plug and play manager, stays when the driver is unloaded, and is found again when the
//! same driver reports the same device once more. Through it the driver learns its *translated* resources: the vector
//! and IRQL that its line has on this machine.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::offset_of;

use super::device::{self, Blueprint};
use super::driver;
use super::resource::{self, Listed};
use crate::ke::lock::SpinLock;
use crate::ke::processor;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_PARTIAL_RESOURCE_LIST, CM_RESOURCE_LIST, DEVICE_OBJECT,
    DO_BUS_ENUMERATED_DEVICE, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_DEVICE_CONTROLLER, NTSTATUS, PVOID,
    STATUS_BUFFER_TOO_SMALL, STATUS_CONFLICTING_ADDRESSES, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};
use squall_testkernel_pure::resources::{Claim, Resource, translate_line};
use squall_testkernel_pure::utf16;

/// `DEVICE_REGISTRY_PROPERTY`: those that a device here can have.
mod property {
    pub const HARDWARE_ID: u32 = 1;
    pub const COMPATIBLE_IDS: u32 = 2;
    pub const BOOT_CONFIGURATION: u32 = 3;
    pub const BOOT_CONFIGURATION_TRANSLATED: u32 = 4;
    pub const PHYSICAL_DEVICE_OBJECT_NAME: u32 = 11;
    pub const LEGACY_BUS_TYPE: u32 = 13;
    pub const BUS_NUMBER: u32 = 14;
    pub const ENUMERATOR_NAME: u32 = 15;
    pub const ADDRESS: u32 = 16;
}

/// A device of the tree, as whoever found it describes it.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// `INTERFACE_TYPE`.
    pub bus_type: u32,
    /// Which bus of that type.
    pub bus_number: u32,
    /// Where on the bus: `DevicePropertyAddress`, where the bus has addresses.
    pub address: Option<u32>,
    /// `DevicePropertyHardwareID`, the most exact one first.
    pub hardware_ids: Vec<String>,
    /// `DevicePropertyCompatibleIDs`.
    pub compatible_ids: Vec<String>,
    /// `DevicePropertyEnumeratorName`.
    pub enumerator: &'static str,
    /// What the hardware has.
    pub raw: Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR>,
    /// What the processor sees of it.
    pub translated: Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR>,
}

/// A device of the tree.
struct Node {
    pdo: usize,
    /// Who reported it: the driver's name, as its object does not outlive it. Empty where a bus did.
    driver: Vec<u16>,
    name: Vec<u16>,
    claims: Vec<Claim>,
    description: Description,
}

static NODES: SpinLock<Vec<Node>> = SpinLock::new(Vec::new());

/// The most devices that may be reported; a driver that reports without end must not fill the memory.
const MAX_NODES: usize = 256;

/// Adds a device to the tree and makes its physical device object, of the builtin driver `driver`.
///
/// # Errors
/// That of the device's creation, or STATUS_INSUFFICIENT_RESOURCES where the tree is full.
pub fn add(
    driver: &'static str,
    reporter: Vec<u16>,
    claims: Vec<Claim>,
    description: Description,
) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    let number = NODES.lock().len();
    if number >= MAX_NODES {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let name = utf16::encode(&format!("\\Device\\NTPNP_{}{number:04X}", description.enumerator));
    let plan = Blueprint {
        extension: 0,
        name: Some(&name),
        kind: FILE_DEVICE_CONTROLLER,
        characteristics: 0,
        exclusive: false,
    };
    // SAFETY: a builtin driver is never unloaded.
    let pdo = unsafe { device::create(driver::builtin(driver)?, plan) }?;
    // SAFETY: the device was just made.
    unsafe {
        (*pdo).Flags |= DO_BUS_ENUMERATED_DEVICE;
        (*pdo).Flags &= !DO_DEVICE_INITIALIZING;
    }
    NODES.lock().push(Node { pdo: pdo.addr(), driver: reporter, name, claims, description });
    Ok(pdo)
}

/// What the tree knows of the device whose physical device object is at `pdo`; none where that is no such object.
pub fn description_of(pdo: usize) -> Option<Description> {
    NODES.lock().iter().find(|node| node.pdo == pdo).map(|node| node.description.clone())
}

/// The name of the physical device object at `pdo`; none where that is no such object.
pub fn name_of(pdo: usize) -> Option<Vec<u16>> {
    NODES.lock().iter().find(|node| node.pdo == pdo).map(|node| node.name.clone())
}

/// The PDO of a device that `driver` reported before with these claims.
fn known(driver: &[u16], claims: &[Claim]) -> Option<usize> {
    let nodes = NODES.lock();
    let same = |node: &&Node| node.driver == driver && node.claims == claims;
    nodes.iter().find(same).map(|node| node.pdo)
}

fn report(
    driver: *mut DRIVER_OBJECT,
    bus: (u32, u32),
    listed: &[Listed],
    already_claimed: bool,
) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    // SAFETY: the driver that calls is alive, and its name does not change.
    let name = utf16::upcased(unsafe { (*driver).DriverName.units() });
    let claims: Vec<Claim> = listed.iter().map(|listed| listed.claim).collect();
    if let Some(pdo) = known(&name, &claims) {
        return Ok(core::ptr::with_exposed_provenance_mut(pdo));
    }
    if !already_claimed && !resource::claim(driver.addr(), 0, claims.clone(), None) {
        return Err(STATUS_CONFLICTING_ADDRESSES);
    }
    let description = Description {
        bus_type: bus.0,
        bus_number: bus.1,
        enumerator: "Root",
        raw: listed.iter().map(|listed| listed.raw).collect(),
        translated: listed.iter().map(translated).collect(),
        ..Description::default()
    };
    add(ROOT, name, claims, description)
}

/// The plug and play manager's own driver, which owns the devices that drivers report.
const ROOT: &str = "PnpManager";

/// What the processor sees of an ISA device's resource.
pub fn translated(listed: &Listed) -> CM_PARTIAL_RESOURCE_DESCRIPTOR {
    let CM_PARTIAL_RESOURCE_DESCRIPTOR { ShareDisposition: share, Flags: flags, .. } = listed.raw;
    match listed.claim.resource {
        Resource::Line(line) => match translate_line(line) {
            Some((irql, vector)) => {
                let mask = processor::all_mask();
                CM_PARTIAL_RESOURCE_DESCRIPTOR::interrupt(share, flags, irql.into(), vector.into(), mask)
            }
            None => listed.raw,
        },
        Resource::Ports { .. } | Resource::Memory { .. } => listed.raw,
    }
}

/// A `CM_RESOURCE_LIST` of one bus, as bytes.
pub fn resource_list(description: &Description, descriptors: &[CM_PARTIAL_RESOURCE_DESCRIPTOR]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // One full descriptor: count, bus type, bus number, version and revision 1, count, descriptors.
    let header = [1, description.bus_type, description.bus_number, 1 << 16 | 1, descriptors.len() as u32];
    for word in header {
        bytes.extend(word.to_le_bytes());
    }
    for descriptor in descriptors {
        bytes.extend([descriptor.Type, descriptor.ShareDisposition]);
        bytes.extend(descriptor.Flags.to_le_bytes());
        bytes.extend(descriptor.Data.into_iter().flat_map(u32::to_le_bytes));
    }
    bytes
}

/// Counted text as a property holds it: with a terminator, and one more behind a list.
fn text(strings: &[&str], is_list: bool) -> Vec<u8> {
    let mut units: Vec<u16> = Vec::new();
    for string in strings {
        units.extend(string.encode_utf16());
        units.push(0);
    }
    units.extend(is_list.then_some(0));
    units.into_iter().flat_map(u16::to_le_bytes).collect()
}

impl Node {
    fn property(&self, property: u32) -> Result<Vec<u8>, NTSTATUS> {
        let description = &self.description;
        let missing = STATUS_OBJECT_NAME_NOT_FOUND;
        let ids = |ids: &[String]| {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            if ids.is_empty() { Err(missing) } else { Ok(text(&ids, true)) }
        };
        match property {
            property::BOOT_CONFIGURATION | property::BOOT_CONFIGURATION_TRANSLATED
                if description.raw.is_empty() =>
            {
                Err(missing)
            }
            property::BOOT_CONFIGURATION => Ok(resource_list(description, &description.raw)),
            property::BOOT_CONFIGURATION_TRANSLATED => {
                Ok(resource_list(description, &description.translated))
            }
            property::HARDWARE_ID => ids(&description.hardware_ids),
            property::COMPATIBLE_IDS => ids(&description.compatible_ids),
            property::PHYSICAL_DEVICE_OBJECT_NAME => Ok(text(&[&utf16::display(&self.name)], false)),
            property::ENUMERATOR_NAME => Ok(text(&[description.enumerator], false)),
            property::LEGACY_BUS_TYPE => Ok(description.bus_type.to_le_bytes().to_vec()),
            property::BUS_NUMBER => Ok(description.bus_number.to_le_bytes().to_vec()),
            property::ADDRESS => Ok(description.address.ok_or(missing)?.to_le_bytes().to_vec()),
            _ => Err(missing),
        }
    }
}

// What `list` writes by hand is what the headers lay out.
const _: () = {
    let header =
        offset_of!(CM_RESOURCE_LIST, List) + 8 + offset_of!(CM_PARTIAL_RESOURCE_LIST, PartialDescriptors);
    assert!(header == 20);
};

export! {
    /// *IoReportDetectedDevice function (ntddk.h)*: the same PDO where the driver reports the same resources again.
    pub unsafe extern "win64" fn IoReportDetectedDevice(
        driver: *mut DRIVER_OBJECT,
        bus_type: u32,
        bus_number: u32,
        _slot: u32,
        list: *const CM_RESOURCE_LIST,
        _requirements: PVOID,
        resources_assigned: BOOLEAN,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid list or null.
        let listed = match unsafe { resource::read_list(list) } {
            Ok(listed) => listed,
            Err(status) => return status,
        };
        match report(driver, (bus_type, bus_number), &listed, resources_assigned != 0) {
            Ok(pdo) => {
                // SAFETY: the caller gives storage for the pointer.
                unsafe { device.write(pdo) };
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *IoGetDeviceProperty function (wdm.h)*: the resources, raw and translated, the bus, the place on
    /// it and the names of a device of the tree.
    pub unsafe extern "win64" fn IoGetDeviceProperty(
        device: *mut DEVICE_OBJECT,
        property: u32,
        length: u32,
        buffer: PVOID,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let answer = {
            let nodes = NODES.lock();
            // Any other device has no node in the plug and play manager's tree.
            let found = nodes.iter().find(|node| node.pdo == device.addr());
            found.map_or(Err(STATUS_INVALID_DEVICE_REQUEST), |node| node.property(property))
        };
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(status) => return status,
        };
        // SAFETY: the caller gives storage for the length, and `length` bytes for the property.
        unsafe {
            if result_length.is_null() {
                return STATUS_INVALID_PARAMETER;
            }
            result_length.write(bytes.len() as u32);
            if (length as usize) < bytes.len() {
                return STATUS_BUFFER_TOO_SMALL;
            }
            bytes.as_ptr().copy_to_nonoverlapping(buffer.cast(), bytes.len());
        }
        STATUS_SUCCESS
    }
}
