//! From a name to a handle.

use alloc::vec::Vec;

use super::super::device;
use super::super::file::{File, Opening, specific};
use super::{NOT_ALERTED, Referenced};
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, HANDLE, IO_STATUS_BLOCK, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_SUCCESS,
};
use crate::ob;
use crate::ob::handle;
use crate::ob::named;
use crate::ob::types::Kind;

/// `DELETE`; `FILE_DELETE_ON_CLOSE`.
const DELETE: u32 = 0x1_0000;
const DELETE_ON_CLOSE: u32 = 0x1000;
/// `CreateFileTypeNone`.
const PLAIN_FILE: u32 = 0;
/// `OBJ_CASE_INSENSITIVE`.
const CASE_INSENSITIVE: u32 = 0x40;

/// What object attributes name: a whole name, or one relative to an open file, which is referred to meanwhile.
enum Name {
    Whole(Vec<u16>),
    Below(Referenced, Vec<u16>),
}

/// # Safety
/// `attributes` must lead to valid attributes.
unsafe fn name_of(attributes: *const OBJECT_ATTRIBUTES) -> Result<Name, NTSTATUS> {
    // SAFETY: the caller's contract.
    unsafe {
        let given = attributes.as_ref().ok_or(STATUS_INVALID_PARAMETER)?;
        let name = given.ObjectName.as_ref().ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD)?.units();
        if given.RootDirectory.is_null() {
            return Ok(Name::Whole(name.to_vec()));
        }
        let (root, _) = handle::object(given.RootDirectory)?;
        if ob::kind(root) == Some(Kind::Directory) {
            let whole = named::name_of(attributes)?.ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD)?;
            return Ok(Name::Whole(whole));
        }
        // A name behind an open file does not begin with a backslash: *InitializeObjectAttributes macro*.
        if name.first() == Some(&u16::from(b'\\')) {
            return Err(STATUS_OBJECT_NAME_INVALID);
        }
        Ok(Name::Below(Referenced::of(given.RootDirectory)?, name.to_vec()))
    }
}

/// Opens and gives a handle.
///
/// # Safety
/// The pointers must be what ZwCreateFile's are.
pub(super) unsafe fn open(
    to: *mut HANDLE,
    attributes: *const OBJECT_ATTRIBUTES,
    status: *mut IO_STATUS_BLOCK,
    opening: &Opening<'_>,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    let case_sensitive = unsafe { named::flags_of(attributes) } & CASE_INSENSITIVE == 0;
    let opening = Opening { case_sensitive, ..*opening };
    // SAFETY: as above; what a name is relative to is referred to until the file is there.
    let opened = unsafe {
        name_of(attributes).and_then(|name| match name {
            Name::Whole(name) => File::open_for(&name, &opening),
            Name::Below(related, name) => File::open_relative(related.0, &name, &opening),
        })
    };
    let (result, information) = match opened {
        Ok((file, information)) => {
            let file = file.into_raw();
            let address = file.expose_provenance();
            match handle::create_with(address, opening.access) {
                Ok(handle) => {
                    // SAFETY: the caller gives storage for the handle.
                    unsafe { to.write(handle) };
                    (STATUS_SUCCESS, information)
                }
                Err(status) => {
                    // SAFETY: the file was just opened, and its one handle could not be made.
                    unsafe { super::super::file::cleanup(file) };
                    ob::dereference(address);
                    (status, 0)
                }
            }
        }
        Err(status) => (status, 0),
    };
    // SAFETY: the caller gives storage for the status.
    unsafe { status.write(IO_STATUS_BLOCK::new(result, information)) };
    result
}

export! {
    /// *ZwCreateFile function (wdm.h)*: opens a file or device, or makes a file; how much room it is to have at first, and extended
    /// attributes, are the driver's to look at.
    pub unsafe extern "win64" fn ZwCreateFile(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        allocation: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        options: u32,
        extended: PVOID,
        extended_length: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's, each null or valid.
        let (extended, allocation) = unsafe {
            let none = extended.is_null() || extended_length == 0;
            let bytes = extended.cast::<u8>();
            let given = if none { &[] } else { core::slice::from_raw_parts(bytes, extended_length as usize) };
            (given, allocation.as_ref().copied().unwrap_or(0))
        };
        let opening = Opening {
            attributes: file_attributes as u16,
            disposition,
            extended,
            allocation,
            ..Opening::existing(specific(access), share as u16, options)
        };
        // SAFETY: the caller's.
        unsafe { open(handle, attributes, status, &opening) }
    }

    /// *IoCreateFile function (wdm.h)*: as ZwCreateFile. Named pipes and mailslots, which only programs create, are refused with
    /// STATUS_INVALID_PARAMETER; the options change nothing, as access is not checked and parameters are.
    pub unsafe extern "win64" fn IoCreateFile(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        allocation: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        create_options: u32,
        extended: PVOID,
        extended_length: u32,
        kind: u32,
        parameters: PVOID,
        _options: u32,
    ) -> NTSTATUS {
        if kind != PLAIN_FILE || !parameters.is_null() {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the contract is the same.
        unsafe {
            ZwCreateFile(
                handle, access, attributes, status, allocation, file_attributes, share, disposition, create_options,
                extended, extended_length,
            )
        }
    }

    /// *IoCreateFileEx function (ntddk.h)*: as IoCreateFile; extra create parameters and hints of a device are for file systems' filters, of
    /// which there are none.
    pub unsafe extern "win64" fn IoCreateFileEx(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        allocation: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        create_options: u32,
        extended: PVOID,
        extended_length: u32,
        kind: u32,
        parameters: PVOID,
        options: u32,
        _context: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe {
            IoCreateFile(
                handle, access, attributes, status, allocation, file_attributes, share, disposition, create_options,
                extended, extended_length, kind, parameters, options,
            )
        }
    }

    /// *IoCreateFileSpecifyDeviceObjectHint function (ntddk.h)*: as IoCreateFile; STATUS_INVALID_PARAMETER for a device that has not the file's
    /// one in its stack.
    pub unsafe extern "win64" fn IoCreateFileSpecifyDeviceObjectHint(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        allocation: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        create_options: u32,
        extended: PVOID,
        extended_length: u32,
        kind: u32,
        parameters: PVOID,
        options: u32,
        device: *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same; a device that is a hint is the caller's.
        unsafe {
            let opened = IoCreateFile(
                handle, access, attributes, status, allocation, file_attributes, share, disposition, create_options,
                extended, extended_length, kind, parameters, options,
            );
            let is_in_stack = |file: &Referenced| device::top(device) == file.device();
            if opened.is_success() && !device.is_null() && !Referenced::of(*handle).is_ok_and(|file| is_in_stack(&file)) {
                let _ = handle::close(*handle);
                return STATUS_INVALID_PARAMETER;
            }
            opened
        }
    }

    /// *ZwOpenFile function (wdm.h)*: what is there.
    pub unsafe extern "win64" fn ZwOpenFile(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        share: u32,
        options: u32,
    ) -> NTSTATUS {
        let opening = Opening::existing(specific(access), share as u16, options);
        // SAFETY: the caller's.
        unsafe { open(handle, attributes, status, &opening) }
    }

    /// *ZwDeleteFile function (ntifs.h)*: it goes with its last handle.
    pub unsafe extern "win64" fn ZwDeleteFile(attributes: *const OBJECT_ATTRIBUTES) -> NTSTATUS {
        let opening = Opening::existing(DELETE, 7, DELETE_ON_CLOSE | NOT_ALERTED);
        let mut handle = core::ptr::null_mut();
        let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
        // SAFETY: the caller's attributes; the rest are locals.
        let opened = unsafe { open(&raw mut handle, attributes, &raw mut status, &opening) };
        if opened.is_success() { handle::close(handle) } else { opened }
    }
}
