//! The plug and play manager, as far as a driver that detects its own device needs it.
//!
//! `IoReportDetectedDevice` makes a physical device object for the hardware that the driver found. It is not the
//! driver's: it belongs to the plug and play manager, stays when the driver is unloaded, and is found again when the
//! same driver reports the same device once more. Through it the driver learns its *translated* resources: the vector
//! and IRQL that its line has on this machine.

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

/// `DevicePropertyBootConfiguration`.
const BOOT_CONFIGURATION: u32 = 3;
/// `DevicePropertyBootConfigurationTranslated`.
const BOOT_CONFIGURATION_TRANSLATED: u32 = 4;
/// `DevicePropertyLegacyBusType`.
const LEGACY_BUS_TYPE: u32 = 13;
/// `DevicePropertyBusNumber`.
const BUS_NUMBER: u32 = 14;

/// A device that a driver reported.
struct Reported {
    pdo: usize,
    /// Who reported it: the driver's name, as its object does not outlive it.
    driver: Vec<u16>,
    bus_type: u32,
    bus_number: u32,
    resources: Vec<CM_PARTIAL_RESOURCE_DESCRIPTOR>,
    claims: Vec<Claim>,
}

static REPORTED: SpinLock<Vec<Reported>> = SpinLock::new(Vec::new());

/// The most devices that may be reported; a driver that reports without end must not fill the memory.
const MAX_REPORTED: usize = 64;

/// The PDO of a device that `driver` reported before with these claims.
fn known(driver: &[u16], claims: &[Claim]) -> Option<usize> {
    let reported = REPORTED.lock();
    let same = |device: &&Reported| device.driver == driver && device.claims == claims;
    reported.iter().find(same).map(|device| device.pdo)
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
    if !already_claimed && !resource::claim(driver.addr(), 0, claims.clone()) {
        return Err(STATUS_CONFLICTING_ADDRESSES);
    }
    if REPORTED.lock().len() == MAX_REPORTED {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let plan = Blueprint {
        extension: 0,
        name: None,
        kind: FILE_DEVICE_CONTROLLER,
        characteristics: 0,
        exclusive: false,
    };
    // SAFETY: the root driver is never unloaded.
    let pdo = unsafe { device::create(driver::root()?, plan) }?;
    // SAFETY: the device was just made.
    unsafe {
        (*pdo).Flags |= DO_BUS_ENUMERATED_DEVICE;
        (*pdo).Flags &= !DO_DEVICE_INITIALIZING;
    }
    REPORTED.lock().push(Reported {
        pdo: pdo.addr(),
        driver: name,
        bus_type: bus.0,
        bus_number: bus.1,
        resources: listed.iter().map(|listed| listed.raw).collect(),
        claims,
    });
    Ok(pdo)
}

impl Reported {
    /// A resource list with what the hardware has (raw) or what the processor sees of it (translated).
    fn list(&self, translated: bool) -> Vec<u8> {
        let mut descriptors = self.resources.clone();
        if translated {
            for (descriptor, claim) in descriptors.iter_mut().zip(&self.claims) {
                if let Resource::Line(line) = claim.resource
                    && let Some((irql, vector)) = translate_line(line)
                {
                    *descriptor = CM_PARTIAL_RESOURCE_DESCRIPTOR::interrupt(
                        descriptor.ShareDisposition,
                        descriptor.Flags,
                        irql.into(),
                        vector.into(),
                        processor::all_mask(),
                    );
                }
            }
        }
        let mut bytes = Vec::new();
        // One full descriptor: count, bus type, bus number, version and revision 1, count, descriptors.
        for word in [1, self.bus_type, self.bus_number, 1 << 16 | 1, descriptors.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        for descriptor in descriptors {
            bytes.extend([descriptor.Type, descriptor.ShareDisposition]);
            bytes.extend(descriptor.Flags.to_le_bytes());
            bytes.extend(descriptor.Data.into_iter().flat_map(u32::to_le_bytes));
        }
        bytes
    }

    fn property(&self, property: u32) -> Result<Vec<u8>, NTSTATUS> {
        match property {
            BOOT_CONFIGURATION | BOOT_CONFIGURATION_TRANSLATED if self.resources.is_empty() => {
                Err(STATUS_OBJECT_NAME_NOT_FOUND)
            }
            BOOT_CONFIGURATION => Ok(self.list(false)),
            BOOT_CONFIGURATION_TRANSLATED => Ok(self.list(true)),
            LEGACY_BUS_TYPE => Ok(self.bus_type.to_le_bytes().to_vec()),
            BUS_NUMBER => Ok(self.bus_number.to_le_bytes().to_vec()),
            _ => Err(STATUS_OBJECT_NAME_NOT_FOUND),
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

    /// *IoGetDeviceProperty function (wdm.h)*: the resources, raw and translated, and the bus, of a reported device.
    pub unsafe extern "win64" fn IoGetDeviceProperty(
        device: *mut DEVICE_OBJECT,
        property: u32,
        length: u32,
        buffer: PVOID,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let answer = {
            let reported = REPORTED.lock();
            // Any other device has no node in the plug and play manager's tree.
            let found = reported.iter().find(|reported| reported.pdo == device.addr());
            found.map_or(Err(STATUS_INVALID_DEVICE_REQUEST), |reported| reported.property(property))
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
