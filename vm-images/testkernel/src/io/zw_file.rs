//! Files behind handles: `ZwCreateFile` and what is done with the handle that it gives.
//!
//! A file is whatever a device makes of the name behind its own: a file on the volume `C:` ([`super::file_system`]), or any
//! driver's device. A handle that was opened for synchronous requests waits for each; on one that was not, a request may be
//! pending when the routine returns, and its end is told by the event and the status block.

use core::ptr::NonNull;

use alloc::vec::Vec;

use squall_testkernel_pure::utf16;

use super::file::{File, GENERIC_READ, GENERIC_WRITE, Opening};
use super::{build, device, irp};
use crate::ke::event;
use crate::ke::wait::KeWaitForSingleObject;
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, FILE_OBJECT, FO_SYNCHRONOUS_IO, HANDLE, IO_STATUS_BLOCK, IRP, IRP_MJ_FLUSH_BUFFERS,
    IRP_MJ_QUERY_INFORMATION, IRP_MJ_READ, IRP_MJ_SET_INFORMATION, IRP_MJ_WRITE, KERNEL_MODE, KEVENT,
    NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_PENDING, STATUS_SUCCESS, object_type,
};
use crate::ob;
use crate::ob::handle::{self, Target};
use crate::ob::types::Kind;

/// `FILE_OPEN`; `FILE_SYNCHRONOUS_IO_NONALERT`; `DELETE`; `FILE_DELETE_ON_CLOSE`.
const OPEN: u32 = 1;
const NOT_ALERTED: u32 = 0x20;
const DELETE: u32 = 0x1_0000;
const DELETE_ON_CLOSE: u32 = 0x1000;
/// `CreateFileTypeNone`.
const PLAIN_FILE: u32 = 0;
/// `FILE_USE_FILE_POINTER_POSITION`, in the low part of an offset whose high part is -1.
const USE_POSITION: u32 = 0xFFFF_FFFE;
/// `FilePositionInformation`.
const POSITION: u32 = 14;

/// Generic rights, which stand for others.
fn specific(access: u32) -> u32 {
    let mut specific = access & 0x0FFF_FFFF;
    if access & 0x8000_0000 != 0 {
        specific |= GENERIC_READ;
    }
    if access & 0x4000_0000 != 0 {
        specific |= GENERIC_WRITE;
    }
    if access & 0x1000_0000 != 0 {
        specific |= 0x001F_01FF;
    }
    specific
}

/// The whole name that object attributes give.
///
/// # Safety
/// `attributes` must lead to valid attributes.
unsafe fn name_of(attributes: *const OBJECT_ATTRIBUTES) -> Result<Vec<u16>, NTSTATUS> {
    // SAFETY: the caller's contract.
    unsafe {
        let attributes = attributes.as_ref().ok_or(STATUS_INVALID_PARAMETER)?;
        let name = attributes.ObjectName.as_ref().ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD)?.units();
        if attributes.RootDirectory.is_null() {
            return Ok(name.to_vec());
        }
        // Relative to an open file: behind its name on its device.
        let (address, _) = handle::object(attributes.RootDirectory)?;
        ob::reference_of_type(address, Kind::File.object_type())?;
        let file = core::ptr::with_exposed_provenance::<FILE_OBJECT>(address);
        let device = (*file).DeviceObject.addr();
        let mut whole = ob::names::with(|names| {
            names.names_of(|object| object == device).next().map(<[u16]>::to_vec).unwrap_or_default()
        });
        whole.extend_from_slice((*file).FileName.units());
        ob::dereference(address);
        if whole.last() != Some(&(b'\\' as u16)) {
            whole.extend(utf16::encode("\\"));
        }
        whole.extend_from_slice(name);
        Ok(whole)
    }
}

/// Opens and gives a handle.
///
/// # Safety
/// The pointers must be what ZwCreateFile's are.
unsafe fn open(
    to: *mut HANDLE,
    attributes: *const OBJECT_ATTRIBUTES,
    status: *mut IO_STATUS_BLOCK,
    opening: &Opening,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    let opened = unsafe { name_of(attributes) }.and_then(|name| {
        // A volume's root is named with a backslash behind the volume.
        let trimmed = name.strip_suffix(&[b'\\' as u16]).filter(|trimmed| !trimmed.is_empty());
        File::open_for(trimmed.unwrap_or(&name), opening)
    });
    let (result, information) = match opened {
        Ok((file, information)) => {
            let file = file.into_raw();
            let address = file.expose_provenance();
            match handle::create_with(Target::Object(address), opening.access) {
                Ok(handle) => {
                    // SAFETY: the caller gives storage for the handle.
                    unsafe { to.write(handle) };
                    (STATUS_SUCCESS, information)
                }
                Err(status) => {
                    // SAFETY: the file was just opened, and its one handle could not be made.
                    unsafe { super::file::cleanup(file) };
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

/// A file behind a handle, referred to while a request is made of it.
struct Referenced(*mut FILE_OBJECT);

impl Referenced {
    fn of(handle: HANDLE) -> Result<Self, NTSTATUS> {
        let (address, _) = handle::object(handle)?;
        ob::reference_of_type(address, Kind::File.object_type())?;
        Ok(Self(core::ptr::with_exposed_provenance_mut(address)))
    }

    /// The device at the top of the stack of the file's.
    fn device(&self) -> *mut DEVICE_OBJECT {
        // SAFETY: the reference keeps the file, and the file its device.
        unsafe { device::top((*self.0).DeviceObject) }
    }

    fn is_synchronous(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).Flags & FO_SYNCHRONOUS_IO != 0 }
    }

    /// Where a read or write is to begin.
    fn offset(&self, given: *const i64) -> Result<i64, NTSTATUS> {
        // SAFETY: the caller of the routine gives an offset or null; the reference keeps the file.
        let (given, current) = unsafe { (given.as_ref().copied(), (*self.0).CurrentByteOffset) };
        match given {
            Some(offset) if offset >> 32 == -1 && offset as u32 == USE_POSITION => Ok(current),
            Some(offset) => Ok(offset),
            None if self.is_synchronous() => Ok(current),
            None => Err(STATUS_INVALID_PARAMETER),
        }
    }
}

impl Drop for Referenced {
    fn drop(&mut self) {
        ob::dereference(self.0.addr());
    }
}

/// The event behind a handle, cleared; null for none.
fn event_of(handle: HANDLE) -> Result<*mut KEVENT, NTSTATUS> {
    if handle.is_null() {
        return Ok(core::ptr::null_mut());
    }
    let (address, _) = handle::object(handle)?;
    ob::reference_of_type(address, Kind::Event.object_type())?;
    let event = core::ptr::with_exposed_provenance_mut::<KEVENT>(address);
    // SAFETY: the handle keeps it, as the caller keeps the handle for as long as the request takes.
    unsafe { event::KeClearEvent(event) };
    ob::dereference(address);
    Ok(event)
}

/// Makes a request of a file: `build` makes its packet, given where its end is to be told.
///
/// # Safety
/// Buffers and `status` must be valid until the request has ended.
unsafe fn request(
    handle: HANDLE,
    event: HANDLE,
    apc: PVOID,
    status: *mut IO_STATUS_BLOCK,
    build: impl FnOnce(&Referenced, *mut KEVENT, *mut IO_STATUS_BLOCK) -> Result<Option<NonNull<IRP>>, NTSTATUS>,
) -> NTSTATUS {
    let prepared = Referenced::of(handle).and_then(|file| Ok((file, event_of(event)?)));
    let (file, event) = match prepared {
        Ok(prepared) => prepared,
        Err(status) => return status,
    };
    // No thread of user mode is there for whose sake a completion would be queued.
    if !apc.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    let waits = file.is_synchronous();
    let mut outcome = IO_STATUS_BLOCK::new(STATUS_PENDING, 0);
    // SAFETY: a local event, initialized before it is used.
    let mut done: KEVENT = unsafe { core::mem::zeroed() };
    // SAFETY: as above; the caller's contract.
    unsafe {
        event::initialize(&raw mut done, object_type::EVENT_NOTIFICATION, false);
        let (tells, block) = if waits { (&raw mut done, &raw mut outcome) } else { (event, status) };
        let packet = match build(&file, tells, block) {
            Ok(Some(packet)) => packet,
            Ok(None) => return STATUS_INSUFFICIENT_RESOURCES,
            Err(status) => return status,
        };
        irp::next_location(packet).FileObject = file.0;
        (*packet.as_ptr()).Tail.OriginalFileObject = file.0;
        let returned = irp::call_driver(file.device(), packet.as_ptr());
        if !waits {
            return returned;
        }
        if returned == STATUS_PENDING {
            let _ = KeWaitForSingleObject((&raw mut done).cast(), 0, KERNEL_MODE, 0, core::ptr::null());
        }
        status.write(outcome);
        if !event.is_null() {
            event::set(event);
        }
        if returned == STATUS_PENDING { outcome.Status } else { returned }
    }
}

/// Reads or writes: without an offset a synchronous file goes on where it was.
///
/// # Safety
/// As of [`request`]; `offset` must be valid or null.
unsafe fn transfer(
    major: u8,
    handle: HANDLE,
    event: HANDLE,
    apc: PVOID,
    status: *mut IO_STATUS_BLOCK,
    data: (PVOID, u32),
    offset: *const i64,
) -> NTSTATUS {
    // SAFETY: the caller's.
    unsafe {
        request(handle, event, apc, status, |file, event, block| {
            let offset = file.offset(offset)?;
            Ok(build::for_file(major, file.device(), data, offset, event, block))
        })
    }
}

export! {
    /// *ZwCreateFile function (wdm.h)*: opens a file or device, or makes a file; how much room it is to have at first, and extended
    /// attributes, are not looked at.
    pub unsafe extern "win64" fn ZwCreateFile(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        _allocation: *const i64,
        file_attributes: u32,
        share: u32,
        disposition: u32,
        options: u32,
        _extended: PVOID,
        _extended_length: u32,
    ) -> NTSTATUS {
        let opening = Opening {
            access: specific(access),
            share: share as u16,
            attributes: file_attributes as u16,
            disposition,
            options,
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

    /// *ZwOpenFile function (wdm.h)*: what is there.
    pub unsafe extern "win64" fn ZwOpenFile(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        status: *mut IO_STATUS_BLOCK,
        share: u32,
        options: u32,
    ) -> NTSTATUS {
        let opening =
            Opening { access: specific(access), share: share as u16, attributes: 0, disposition: OPEN, options };
        // SAFETY: the caller's.
        unsafe { open(handle, attributes, status, &opening) }
    }

    /// *ZwReadFile function (wdm.h)*: without an offset a synchronous file goes on where it was. A completion routine is
    /// refused.
    pub unsafe extern "win64" fn ZwReadFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        buffer: PVOID,
        length: u32,
        offset: *const i64,
        _key: *const u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { transfer(IRP_MJ_READ, handle, event, apc, status, (buffer, length), offset) }
    }

    /// *ZwWriteFile function (wdm.h)*: as ZwReadFile; FILE_WRITE_TO_END_OF_FILE appends.
    pub unsafe extern "win64" fn ZwWriteFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        buffer: PVOID,
        length: u32,
        offset: *const i64,
        _key: *const u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { transfer(IRP_MJ_WRITE, handle, event, apc, status, (buffer, length), offset) }
    }

    /// *ZwDeviceIoControlFile function (ntifs.h)*: buffered, direct or neither, as the code says.
    pub unsafe extern "win64" fn ZwDeviceIoControlFile(
        handle: HANDLE,
        event: HANDLE,
        apc: PVOID,
        _context: PVOID,
        status: *mut IO_STATUS_BLOCK,
        code: u32,
        input: PVOID,
        input_length: u32,
        output: PVOID,
        output_length: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe {
            request(handle, event, apc, status, |file, event, block| {
                let (input, output) = ((input, input_length), (output, output_length));
                Ok(build::control_for_file(code, file.device(), input, output, event, block))
            })
        }
    }

    /// *ZwFlushBuffersFile function (ntifs.h)*.
    pub unsafe extern "win64" fn ZwFlushBuffersFile(handle: HANDLE, status: *mut IO_STATUS_BLOCK) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe {
            request(handle, core::ptr::null_mut(), core::ptr::null_mut(), status, |file, event, block| {
                let nothing = (core::ptr::null_mut(), 0);
                Ok(build::for_file(IRP_MJ_FLUSH_BUFFERS, file.device(), nothing, 0, event, block))
            })
        }
    }

    /// *ZwQueryInformationFile function (wdm.h)*: the position is the I/O manager's own; all else is the driver's to tell.
    pub unsafe extern "win64" fn ZwQueryInformationFile(
        handle: HANDLE,
        status: *mut IO_STATUS_BLOCK,
        information: PVOID,
        length: u32,
        class: u32,
    ) -> NTSTATUS {
        let file = match Referenced::of(handle) {
            Ok(file) => file,
            Err(status) => return status,
        };
        // SAFETY: the caller's.
        unsafe {
            if class == POSITION && length >= 8 && file.is_synchronous() {
                information.cast::<i64>().write_unaligned((*file.0).CurrentByteOffset);
                status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 8));
                return STATUS_SUCCESS;
            }
            inform(&file, IRP_MJ_QUERY_INFORMATION, (information, length), class, status)
        }
    }

    /// *ZwSetInformationFile function (wdm.h)*: the position is the I/O manager's own; all else is the driver's to change.
    pub unsafe extern "win64" fn ZwSetInformationFile(
        handle: HANDLE,
        status: *mut IO_STATUS_BLOCK,
        information: PVOID,
        length: u32,
        class: u32,
    ) -> NTSTATUS {
        let file = match Referenced::of(handle) {
            Ok(file) => file,
            Err(status) => return status,
        };
        // SAFETY: the caller's.
        unsafe {
            if class == POSITION && length >= 8 && file.is_synchronous() {
                let position = information.cast::<i64>().read_unaligned();
                if position < 0 {
                    return STATUS_INVALID_PARAMETER;
                }
                (*file.0).CurrentByteOffset = position;
                status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0));
                return STATUS_SUCCESS;
            }
            inform(&file, IRP_MJ_SET_INFORMATION, (information, length), class, status)
        }
    }

    /// *ZwDeleteFile function (ntifs.h)*: it goes with its last handle.
    pub unsafe extern "win64" fn ZwDeleteFile(attributes: *const OBJECT_ATTRIBUTES) -> NTSTATUS {
        let opening = Opening {
            access: DELETE,
            share: 7,
            attributes: 0,
            disposition: OPEN,
            options: DELETE_ON_CLOSE | NOT_ALERTED,
        };
        let mut handle = core::ptr::null_mut();
        let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
        // SAFETY: the caller's attributes; the rest are locals.
        let opened = unsafe { open(&raw mut handle, attributes, &raw mut status, &opening) };
        if opened.is_success() { handle::close(handle) } else { opened }
    }
}

/// Asks for information, or sets it; waits for it, as such requests do on every handle.
///
/// # Safety
/// As for [`request`].
unsafe fn inform(
    file: &Referenced,
    major: u8,
    data: (PVOID, u32),
    class: u32,
    status: *mut IO_STATUS_BLOCK,
) -> NTSTATUS {
    let mut outcome = IO_STATUS_BLOCK::new(STATUS_PENDING, 0);
    // SAFETY: a local event, initialized before it is used.
    let mut done: KEVENT = unsafe { core::mem::zeroed() };
    // SAFETY: the caller's contract.
    unsafe {
        event::initialize(&raw mut done, object_type::EVENT_NOTIFICATION, false);
        let device = file.device();
        let block = &raw mut outcome;
        let Some(packet) = build::information_for_file(major, device, data, class, &raw mut done, block)
        else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        irp::next_location(packet).FileObject = file.0;
        (*packet.as_ptr()).Tail.OriginalFileObject = file.0;
        let returned = irp::call_driver(device, packet.as_ptr());
        if returned == STATUS_PENDING {
            let _ = KeWaitForSingleObject((&raw mut done).cast(), 0, KERNEL_MODE, 0, core::ptr::null());
        }
        status.write(outcome);
        if returned == STATUS_PENDING { outcome.Status } else { returned }
    }
}
