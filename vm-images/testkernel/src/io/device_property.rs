//! What drivers keep about a device of the plug and play tree: properties of their own, and keys of the registry.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use squall_testkernel_pure::utf16;

use super::pnp;
use crate::cm::{self, key};
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, GUID, HANDLE, NTSTATUS, PVOID, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};
use crate::ob::{self, handle};
use crate::selftest::{check, kernel_test};

/// `DEVPROPKEY`: a property by its category and its number in that.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(clippy::upper_case_acronyms, reason = "the public headers' own name")]
pub struct DEVPROPKEY {
    category: GUID,
    number: u32,
}

/// The device, the property, the language.
type Name = (usize, [u8; 16], u32, u32);

/// By name: `DEVPROPTYPE`, and the bytes.
static PROPERTIES: SpinLock<BTreeMap<Name, (u32, Vec<u8>)>> = SpinLock::new(BTreeMap::new());
/// The most properties, and the most bytes of one.
const MOST: usize = 1024;
const LARGEST: usize = 1 << 16;

/// `PLUGPLAY_REGKEY_DEVICE`, `PLUGPLAY_REGKEY_DRIVER`, and the flag that asks for the hardware profile's.
const DEVICE_KEY: u32 = 1;
const DRIVER_KEY: u32 = 2;
const HARDWARE_PROFILE: u32 = 4;

/// # Safety
/// `key` must be valid.
unsafe fn name_of(device: *const DEVICE_OBJECT, key: *const DEVPROPKEY, language: u32) -> Name {
    // SAFETY: the caller's contract.
    let DEVPROPKEY { category: GUID { Data1: a, Data2: b, Data3: c, Data4: d }, number } = unsafe { *key };
    let mut category = [0; 16];
    category[..4].copy_from_slice(&a.to_le_bytes());
    category[4..6].copy_from_slice(&b.to_le_bytes());
    category[6..8].copy_from_slice(&c.to_le_bytes());
    category[8..].copy_from_slice(&d);
    (device.addr(), category, number, language)
}

/// Where a device has its key: below Enum, by who found it and by its name.
fn path_of(device: usize, which: u32) -> Option<Vec<u16>> {
    let (node, name) = (pnp::description_of(device)?, pnp::name_of(device)?);
    let instance = name.rsplit(|unit| *unit == u16::from(b'\\')).next().unwrap_or(&name);
    let enumerator = if node.enumerator.is_empty() { "Root" } else { node.enumerator };
    let root = if which & HARDWARE_PROFILE != 0 {
        r"\Registry\Machine\System\CurrentControlSet\Hardware Profiles\Current\System\CurrentControlSet\Enum"
    } else {
        r"\Registry\Machine\System\CurrentControlSet\Enum"
    };
    let mut path = utf16::encode(&alloc::format!("{root}\\{enumerator}\\"));
    path.extend_from_slice(instance);
    path.extend(utf16::encode(r"\0000\Device Parameters"));
    Some(path)
}

export! {
    /// *IoOpenDeviceRegistryKey function (wdm.h)*: the device's key, made where it is missing. The driver's key is made when a device is
    /// installed from an INF file, which none here is: STATUS_OBJECT_NAME_NOT_FOUND. STATUS_INVALID_DEVICE_REQUEST for what is no physical
    /// device object.
    pub unsafe extern "win64" fn IoOpenDeviceRegistryKey(
        device: *mut DEVICE_OBJECT,
        which: u32,
        access: u32,
        to: *mut HANDLE,
    ) -> NTSTATUS {
        let kind = which & !HARDWARE_PROFILE;
        if to.is_null() || !matches!(kind, DEVICE_KEY | DRIVER_KEY) {
            return STATUS_INVALID_PARAMETER;
        }
        let Some(path) = path_of(device.addr(), which) else { return STATUS_INVALID_DEVICE_REQUEST };
        if kind == DRIVER_KEY {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        }
        let id = match cm::with(|registry| registry.create(None, &path)) {
            Ok((id, _)) => id,
            Err(error) => return cm::status_of(error),
        };
        let object = key::object_for(id);
        match handle::create_with(object, access) {
            Ok(made) => {
                // SAFETY: the caller gives storage for the handle.
                unsafe { to.write(made) };
                STATUS_SUCCESS
            }
            Err(status) => {
                ob::dereference(object);
                status
            }
        }
    }

    /// *IoSetDevicePropertyData function (wdm.h)*: of any type; without data the property is deleted.
    pub unsafe extern "win64" fn IoSetDevicePropertyData(
        device: *mut DEVICE_OBJECT,
        property: *const DEVPROPKEY,
        language: u32,
        _flags: u32,
        kind: u32,
        size: u32,
        data: PVOID,
    ) -> NTSTATUS {
        if pnp::name_of(device.addr()).is_none() {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        if property.is_null() || size as usize > LARGEST {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller gives a property, and so many bytes or null.
        let (name, bytes) = unsafe {
            let bytes = (!data.is_null())
                .then(|| core::slice::from_raw_parts(data.cast::<u8>(), size as usize).to_vec());
            (name_of(device, property, language), bytes)
        };
        let mut properties = PROPERTIES.lock();
        match bytes {
            None if properties.remove(&name).is_none() => STATUS_OBJECT_NAME_NOT_FOUND,
            None => STATUS_SUCCESS,
            Some(_) if properties.len() == MOST && !properties.contains_key(&name) => STATUS_INSUFFICIENT_RESOURCES,
            Some(bytes) => {
                properties.insert(name, (kind, bytes));
                STATUS_SUCCESS
            }
        }
    }

    /// *IoGetDevicePropertyData function (wdm.h)*: what was set; STATUS_BUFFER_TOO_SMALL with the size that it takes.
    pub unsafe extern "win64" fn IoGetDevicePropertyData(
        device: *mut DEVICE_OBJECT,
        property: *const DEVPROPKEY,
        language: u32,
        _flags: u32,
        size: u32,
        data: PVOID,
        required: *mut u32,
        kind: *mut u32,
    ) -> NTSTATUS {
        if pnp::name_of(device.addr()).is_none() {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        if property.is_null() || required.is_null() || kind.is_null() {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller gives a property, `size` bytes, and storage for size and type.
        unsafe {
            let name = name_of(device, property, language);
            let known = PROPERTIES.lock().get(&name).cloned();
            let Some((of, bytes)) = known else { return STATUS_OBJECT_NAME_NOT_FOUND };
            required.write(bytes.len() as u32);
            if (size as usize) < bytes.len() {
                return STATUS_BUFFER_TOO_SMALL;
            }
            kind.write(of);
            bytes.as_ptr().copy_to_nonoverlapping(data.cast(), bytes.len());
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *IoOpenDeviceRegistryKey function (wdm.h)*: a device that is in no tree has no key.
    fn only_devices_of_the_tree_have_keys_and_properties() {
        let Ok((driver, device)) = super::selftest::start() else { check!(false); return Ok(()) };
        let mut made = core::ptr::null_mut();
        let key = DEVPROPKEY { category: GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] }, number: 2 };
        // SAFETY: locals of the right kind; the device is this test's.
        unsafe {
            check!(IoOpenDeviceRegistryKey(device, DEVICE_KEY, 0, &raw mut made) == STATUS_INVALID_DEVICE_REQUEST);
            check!(IoOpenDeviceRegistryKey(device, 3, 0, &raw mut made) == STATUS_INVALID_PARAMETER);
            let set = IoSetDevicePropertyData(device, &raw const key, 0, 0, 7, 0, core::ptr::null_mut());
            check!(set == STATUS_INVALID_DEVICE_REQUEST);
            super::device::delete(device);
        }
        super::selftest::stop(driver)?;
    }
}
