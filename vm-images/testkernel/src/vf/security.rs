//! Security checks: what a driver passes to the kernel's `Zw` routines.
//!
//! By *Security Checks*: such a routine takes its caller for the kernel, and probes nothing. So an address of user mode's
//! among its parameters is 0xC4 with 0xE3, a string that makes no sense 0xE4; of object attributes the name is looked at as
//! well. Nor may it be called above PASSIVE_LEVEL or in a guarded region (0xE6). A packet that says it is the kernel's holds no address
//! of user mode's (0xE2). Of the first two parameters 2 and 3 are where the call was made, and the address that is at fault.

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::stops;
use super::thunk::intercept;
use crate::ke::apc;
use crate::ke::irql::{self, Irql};
use crate::mm::user;
use crate::nt::{
    DEVICE_OBJECT, HANDLE, IRP, KERNEL_MODE, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, UNICODE_STRING, io_type,
};

const USER_ADDRESS: u64 = 0xE3;
const MALFORMED_STRING: u64 = 0xE4;
/// No address of user mode's lies below; what does is a number that a driver keeps there.
const LOWEST_USER: usize = 0x1_0000;
const WRONG_LEVEL: u64 = 0xE6;
const USER_ADDRESS_IN_PACKET: u64 = 0xE2;

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

/// 0xE6: the call is made at PASSIVE_LEVEL, where the thread takes special kernel APCs.
fn level(caller: usize) {
    let irql = irql::current();
    if irql != Irql::PASSIVE || apc::guarded_regions() > 0 {
        let off = u64::from(apc::guarded_regions() > 0);
        stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [WRONG_LEVEL, caller as u64, irql.0.into(), off]);
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
            level(site.caller);
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
            level(site.caller);
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
        level(site.caller);
        string(site.caller, value);
        None
    }

    /// *Security Checks*.
    before fn ZwSetValueKey(
        site; key: HANDLE, value: *const UNICODE_STRING, index: u32, kind: u32, data: PVOID, length: u32
    ) -> NTSTATUS {
        level(site.caller);
        string(site.caller, value);
        buffer(site.caller, data, length);
        None
    }

    /// *Security Checks*.
    before fn ZwCreateFile(
        site; to: PVOID, access: u32, named: *const OBJECT_ATTRIBUTES, status: PVOID, size: PVOID
    ) -> NTSTATUS {
        level(site.caller);
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
        level(site.caller);
        address(site.caller, to);
        attributes(site.caller, named);
        address(site.caller, status);
        None
    }

    /// *Security Checks*.
    before fn ZwReadFile(
        site; file: HANDLE, event: HANDLE, apc: PVOID, context: PVOID, status: PVOID, data: PVOID, length: u32
    ) -> NTSTATUS {
        level(site.caller);
        address(site.caller, status);
        buffer(site.caller, data, length);
        None
    }

    /// *Security Checks*.
    before fn ZwWriteFile(
        site; file: HANDLE, event: HANDLE, apc: PVOID, context: PVOID, status: PVOID, data: PVOID, length: u32
    ) -> NTSTATUS {
        level(site.caller);
        address(site.caller, status);
        buffer(site.caller, data, length);
        None
    }

    /// *Security Checks*.
    before fn ZwQueryInformationFile(
        site; file: HANDLE, status: PVOID, information: PVOID, length: u32
    ) -> NTSTATUS {
        level(site.caller);
        address(site.caller, status);
        buffer(site.caller, information, length);
        None
    }

    /// *Security Checks*.
    before fn ZwSetInformationFile(
        site; file: HANDLE, status: PVOID, information: PVOID, length: u32
    ) -> NTSTATUS {
        level(site.caller);
        address(site.caller, status);
        buffer(site.caller, information, length);
        None
    }

    /// *Security Checks*.
    before fn ZwDeleteFile(site; named: *const OBJECT_ATTRIBUTES) -> NTSTATUS {
        level(site.caller);
        attributes(site.caller, named);
        None
    }

    /// *Security Checks*.
    before fn ZwLoadDriver(site; path: *const UNICODE_STRING) -> NTSTATUS {
        level(site.caller);
        string(site.caller, path);
        None
    }

    /// *Security Checks*.
    before fn ZwUnloadDriver(site; path: *const UNICODE_STRING) -> NTSTATUS {
        level(site.caller);
        string(site.caller, path);
        None
    }

    /// *Security Checks*.
    before fn ZwWaitForSingleObject(site; handle: HANDLE, alertable: u8, timeout: PVOID) -> NTSTATUS {
        level(site.caller);
        address(site.caller, timeout);
        None
    }

    /// 0xE2.
    before fn IofCallDriver(site; device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the driver's packet, whose type says whether it is one.
        if let Some(irp) = unsafe { irp.as_ref() }
            && irp.Type == io_type::IRP
            && irp.RequestorMode == KERNEL_MODE
        {
            let buffers = [irp.SystemBuffer, irp.UserBuffer].map(|buffer| buffer.addr());
            let users = buffers.into_iter().find(|&buffer| buffer >= LOWEST_USER && user::contains(buffer, 1));
            if let Some(address) = users {
                let packet = core::ptr::from_ref(irp).addr() as u64;
                stops::stop(
                    DRIVER_VERIFIER_DETECTED_VIOLATION,
                    [USER_ADDRESS_IN_PACKET, packet, address as u64, 0],
                );
            }
        }
        None
    }
}
