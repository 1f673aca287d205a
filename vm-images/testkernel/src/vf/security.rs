//! Security checks: what a driver passes to the kernel's `Zw` routines.
//!
//! By *Security Checks*: such a routine takes its caller for the kernel, and probes nothing. So an address of user mode's
//! among its parameters is 0xC4 with 0xE3, a string that makes no sense 0xE4; of object attributes the name is looked at as
//! well. Parameters 2 and 3 are where the call was made, and the address that is at fault.

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::stops;
use super::thunk::intercept;
use crate::mm::user;
use crate::nt::{HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, UNICODE_STRING};

const USER_ADDRESS: u64 = 0xE3;
const MALFORMED_STRING: u64 = 0xE4;

/// Looks at an address.
fn address(caller: usize, pointer: PVOID) {
    if !pointer.is_null() && user::contains(pointer.addr(), 1) {
        let parameters = [USER_ADDRESS, caller as u64, pointer.addr() as u64, 0];
        stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, parameters);
    }
}

/// Looks at the address of a buffer. One of no bytes may be anywhere: nobody looks there.
fn buffer(caller: usize, pointer: PVOID, length: u32) {
    if length > 0 {
        address(caller, pointer);
    }
}

/// Looks at a string.
fn string(caller: usize, string: *const UNICODE_STRING) {
    address(caller, string.cast_mut().cast());
    // SAFETY: the driver's string, of the system's addresses, or null.
    let Some(text) = (unsafe { string.as_ref() }) else { return };
    address(caller, text.Buffer.cast());
    let (length, room) = (text.Length, text.MaximumLength);
    if room < length || !length.is_multiple_of(2) || !room.is_multiple_of(2) {
        let parameters = [MALFORMED_STRING, caller as u64, string.addr() as u64, 0];
        stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, parameters);
    }
}

/// Looks at object attributes.
fn attributes(caller: usize, attributes: *const OBJECT_ATTRIBUTES) {
    address(caller, attributes.cast_mut().cast());
    // SAFETY: the driver's attributes, of the system's addresses, or null.
    if let Some(attributes) = unsafe { attributes.as_ref() } {
        string(caller, attributes.ObjectName);
        address(caller, attributes.SecurityDescriptor);
    }
}

/// Routines that open or make something: where the handle goes, the rights, the attributes.
macro_rules! openers {
    ($($name:ident;)*) => { intercept! { for Security; $(
        /// *Security Checks*.
        before fn $name(site; to: PVOID, access: u32, named: *const OBJECT_ATTRIBUTES) -> NTSTATUS {
            address(site.caller, to);
            attributes(site.caller, named);
            None
        }
    )* } };
}

openers! {
    ZwCreateDirectoryObject;
    ZwCreateEvent;
    ZwCreateKey;
    ZwCreateSection;
    ZwCreateTimer;
    ZwOpenDirectoryObject;
    ZwOpenEvent;
    ZwOpenKey;
    ZwOpenKeyEx;
    ZwOpenSection;
    ZwOpenSymbolicLinkObject;
    ZwOpenTimer;
}

/// Routines that name a value of a key.
macro_rules! values {
    ($($name:ident;)*) => { intercept! { for Security; $(
        /// *Security Checks*.
        before fn $name(
            site; key: HANDLE, value: *const UNICODE_STRING, third: u32, data: PVOID, length: u32
        ) -> NTSTATUS {
            string(site.caller, value);
            buffer(site.caller, data, length);
            None
        }
    )* } };
}

values! {
    ZwQueryValueKey;
}

intercept! {
    for Security;

    /// *Security Checks*.
    before fn ZwDeleteValueKey(site; key: HANDLE, value: *const UNICODE_STRING) -> NTSTATUS {
        string(site.caller, value);
        None
    }

    /// *Security Checks*.
    before fn ZwSetValueKey(
        site; key: HANDLE, value: *const UNICODE_STRING, index: u32, kind: u32, data: PVOID, length: u32
    ) -> NTSTATUS {
        string(site.caller, value);
        buffer(site.caller, data, length);
        None
    }

    /// *Security Checks*.
    before fn ZwCreateFile(
        site; to: PVOID, access: u32, named: *const OBJECT_ATTRIBUTES, status: PVOID, size: PVOID
    ) -> NTSTATUS {
        address(site.caller, to);
        attributes(site.caller, named);
        address(site.caller, status);
        address(site.caller, size);
        None
    }

    /// *Security Checks*.
    before fn ZwOpenFile(
        site; to: PVOID, access: u32, named: *const OBJECT_ATTRIBUTES, status: PVOID
    ) -> NTSTATUS {
        address(site.caller, to);
        attributes(site.caller, named);
        address(site.caller, status);
        None
    }

    /// *Security Checks*.
    before fn ZwReadFile(
        site; file: HANDLE, event: HANDLE, apc: PVOID, context: PVOID, status: PVOID, data: PVOID, length: u32
    ) -> NTSTATUS {
        address(site.caller, status);
        buffer(site.caller, data, length);
        None
    }

    /// *Security Checks*.
    before fn ZwWriteFile(
        site; file: HANDLE, event: HANDLE, apc: PVOID, context: PVOID, status: PVOID, data: PVOID, length: u32
    ) -> NTSTATUS {
        address(site.caller, status);
        buffer(site.caller, data, length);
        None
    }

    /// *Security Checks*.
    before fn ZwQueryInformationFile(
        site; file: HANDLE, status: PVOID, information: PVOID, length: u32
    ) -> NTSTATUS {
        address(site.caller, status);
        buffer(site.caller, information, length);
        None
    }

    /// *Security Checks*.
    before fn ZwSetInformationFile(
        site; file: HANDLE, status: PVOID, information: PVOID, length: u32
    ) -> NTSTATUS {
        address(site.caller, status);
        buffer(site.caller, information, length);
        None
    }

    /// *Security Checks*.
    before fn ZwDeleteFile(site; named: *const OBJECT_ATTRIBUTES) -> NTSTATUS {
        attributes(site.caller, named);
        None
    }

    /// *Security Checks*.
    before fn ZwLoadDriver(site; path: *const UNICODE_STRING) -> NTSTATUS {
        string(site.caller, path);
        None
    }

    /// *Security Checks*.
    before fn ZwUnloadDriver(site; path: *const UNICODE_STRING) -> NTSTATUS {
        string(site.caller, path);
        None
    }

    /// *Security Checks*.
    before fn ZwWaitForSingleObject(site; handle: HANDLE, alertable: u8, timeout: PVOID) -> NTSTATUS {
        address(site.caller, timeout);
        None
    }
}
