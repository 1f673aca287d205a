//! The configuration manager: one registry, in memory.
//!
//! The agent writes a service's key before the driver is loaded; the driver reads it through the `Zw` routines
//! ([`key`], [`enumerate`]) or by table (`rtl::registry`).

pub mod callback;
pub mod enumerate;
pub mod key;

use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::registry::{KeyId, Registry, RegistryError};
use squall_testkernel_pure::utf16;

use crate::ke::lock::SpinLock;
use crate::ke::shared_data;
use crate::nt::{
    NTSTATUS, STATUS_CANNOT_DELETE, STATUS_INSUFFICIENT_RESOURCES, STATUS_KEY_DELETED,
    STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND,
};

/// Where services have their keys.
pub const SERVICES: &str = r"\Registry\Machine\System\CurrentControlSet\Services";

/// The registry; `None` until it is first used.
static REGISTRY: SpinLock<Option<Registry>> = SpinLock::new(None);

/// Does something with the registry, under its lock.
pub fn with<R>(action: impl FnOnce(&mut Registry) -> R) -> R {
    let mut registry = REGISTRY.lock();
    let registry = registry.get_or_insert_with(initial);
    registry.set_time(shared_data::system_time().cast_signed());
    action(registry)
}

/// Keys that every system has, and in which others are made.
const STANDARD: [&str; 8] = [
    r"\Registry\User\.Default",
    r"\Registry\Machine\Software\Microsoft\Windows NT\CurrentVersion",
    r"\Registry\Machine\System\CurrentControlSet\Control\Class",
    r"\Registry\Machine\System\CurrentControlSet\Control\Session Manager",
    r"\Registry\Machine\System\CurrentControlSet\Enum\Root",
    r"\Registry\Machine\System\CurrentControlSet\Services",
    r"\Registry\Machine\Hardware\DeviceMap",
    r"\Registry\Machine\Hardware\Description\System",
];

fn initial() -> Registry {
    let mut registry = Registry::new();
    registry.set_time(shared_data::system_time().cast_signed());
    for path in STANDARD {
        // A new registry has room for them.
        let _ = registry.create(None, &utf16::encode(path));
    }
    registry
}

/// The path of a service's key.
pub fn service_path(service: &str) -> Vec<u16> {
    let mut path = String::from(SERVICES);
    path.push('\\');
    path.push_str(service);
    utf16::encode(&path)
}

/// The key of a service, made where it is missing.
pub fn service_key(service: &str) -> Result<KeyId, RegistryError> {
    with(|registry| registry.create(None, &service_path(service)).map(|(key, _)| key))
}

/// How a registry error is told to a driver.
pub fn status_of(error: RegistryError) -> NTSTATUS {
    match error {
        RegistryError::Malformed => STATUS_OBJECT_NAME_INVALID,
        RegistryError::NotFound => STATUS_OBJECT_NAME_NOT_FOUND,
        RegistryError::Full => STATUS_INSUFFICIENT_RESOURCES,
        RegistryError::Deleted => STATUS_KEY_DELETED,
        RegistryError::Undeletable => STATUS_CANNOT_DELETE,
    }
}
