//! Files behind handles: `ZwCreateFile` and what is done with the handle that it gives.
//!
//! A file is whatever a device makes of the name behind its own: a file on the volume `C:` ([`super::file_system`]), or any
//! driver's device. A handle that was opened for synchronous requests waits for each; on one that was not, a request may be
//! pending when the routine returns, and its end is told by the event and the status block.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use alloc::vec::Vec;

use super::file::{File, Opening, specific};
use super::{build, device, irp, under_way};
use crate::ke::event;
use crate::ke::wait::KeWaitForSingleObject;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, FILE_OBJECT, FO_ALERTABLE_IO, FO_NO_INTERMEDIATE_BUFFERING, FO_SEQUENTIAL_ONLY,
    FO_SYNCHRONOUS_IO, FO_WRITE_THROUGH, HANDLE, IO_STATUS_BLOCK, IRP, IRP_MJ_FILE_SYSTEM_CONTROL,
    IRP_MJ_FLUSH_BUFFERS, IRP_MJ_QUERY_INFORMATION, IRP_MJ_QUERY_VOLUME_INFORMATION, IRP_MJ_READ,
    IRP_MJ_SET_INFORMATION, IRP_MJ_WRITE, IRP_SYNCHRONOUS_API, KERNEL_MODE, KEVENT, NTSTATUS,
    OBJECT_ATTRIBUTES, PVOID, SL_WRITE_THROUGH, STATUS_INFO_LENGTH_MISMATCH, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_INVALID,
    STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_PENDING, STATUS_SUCCESS, TRUE, object_type,
};
use crate::ob;
use crate::ob::handle;
use crate::ob::named;
use crate::ob::types::Kind;

/// `FILE_SYNCHRONOUS_IO_NONALERT`; `DELETE`; `FILE_DELETE_ON_CLOSE`.
const NOT_ALERTED: u32 = 0x20;
const DELETE: u32 = 0x1_0000;
const DELETE_ON_CLOSE: u32 = 0x1000;
/// `CreateFileTypeNone`.
const PLAIN_FILE: u32 = 0;
/// `FILE_USE_FILE_POINTER_POSITION` and `FILE_WRITE_TO_END_OF_FILE`, in the low part of an offset whose high part is -1.
const USE_POSITION: i64 = -2;
const END_OF_FILE: i64 = -1;
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
unsafe fn open(
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

/// Classes of information, and how many bytes each takes at least.
mod class {
    use super::{NTSTATUS, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS};

    pub const ACCESS: u32 = 8;
    pub const POSITION: u32 = 14;
    pub const MODE: u32 = 16;
    pub const ALIGNMENT: u32 = 17;
    /// With its size.
    pub const NETWORK_OPEN: (u32, u32) = (34, 56);

    /// Basic, standard, internal, EA, access, name, position, mode, alignment, all, alternate name, stream, pipe and mailslot ones,
    /// compression, object id, reparse point, network open, attribute tag.
    pub const QUERIED: &[(u32, u32)] = &[
        (4, 40),
        (5, 24),
        (6, 8),
        (7, 4),
        (ACCESS, 4),
        (9, 8),
        (POSITION, 8),
        (MODE, 4),
        (ALIGNMENT, 4),
        (18, 104),
        (21, 8),
        (22, 32),
        (23, 8),
        (24, 40),
        (25, 16),
        (26, 24),
        (28, 16),
        (29, 72),
        (33, 16),
        (34, 56),
        (35, 8),
    ];
    /// Basic, rename, link, disposition, position, mode, allocation, end of file, pipe and mailslot ones, object id, completion, move
    /// cluster, quota, reparse point, valid data length, short name.
    pub const SET: &[(u32, u32)] = &[
        (4, 40),
        (10, 24),
        (11, 24),
        (13, 1),
        (POSITION, 8),
        (MODE, 4),
        (19, 8),
        (20, 8),
        (23, 8),
        (25, 16),
        (27, 8),
        (29, 72),
        (30, 16),
        (31, 24),
        (39, 8),
        (40, 8),
    ];

    /// Whether so many bytes will do.
    pub fn has_room(classes: &[(u32, u32)], class: u32, length: u32) -> Result<(), NTSTATUS> {
        match classes.iter().find(|(known, _)| *known == class) {
            None => Err(STATUS_INVALID_INFO_CLASS),
            Some((_, least)) if length < *least => Err(STATUS_INFO_LENGTH_MISMATCH),
            Some(_) => Ok(()),
        }
    }
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

    /// `FILE_MODE_INFORMATION`: options of its create.
    fn mode(&self) -> u32 {
        let options = [
            (FO_WRITE_THROUGH, 0x2),
            (FO_SEQUENTIAL_ONLY, 0x4),
            (FO_NO_INTERMEDIATE_BUFFERING, 0x8),
            (FO_SYNCHRONOUS_IO, NOT_ALERTED),
        ];
        // SAFETY: as above.
        let flags = unsafe { (*self.0).Flags };
        let mode =
            options.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |mode, (_, option)| mode | option);
        // FILE_SYNCHRONOUS_IO_ALERT in place of the other.
        if flags & FO_ALERTABLE_IO != 0 { mode & !NOT_ALERTED | 0x10 } else { mode }
    }

    /// Where a read or write is to begin: nowhere before the beginning, but a write may be one at the end.
    fn offset(&self, given: *const i64, writes: bool) -> Result<i64, NTSTATUS> {
        // SAFETY: the caller of the routine gives an offset or null; the reference keeps the file.
        let (given, current) = unsafe { (given.as_ref().copied(), (*self.0).CurrentByteOffset) };
        match given {
            Some(offset) if offset == USE_POSITION && self.is_synchronous() => Ok(current),
            Some(offset) if offset < 0 && !(writes && offset == END_OF_FILE) => Err(STATUS_INVALID_PARAMETER),
            Some(offset) => Ok(offset),
            None if self.is_synchronous() => Ok(current),
            None => Err(STATUS_INVALID_PARAMETER),
        }
    }
}

/// A file's own lock: requests on a synchronous file are one after another, from whichever threads they come.
struct Turn(*mut FILE_OBJECT);

impl Turn {
    /// Waits for its turn; nothing where requests on the file may be side by side.
    fn take(file: &Referenced) -> Option<Self> {
        if !file.is_synchronous() {
            return None;
        }
        // SAFETY: the reference keeps the file.
        unsafe {
            let waiters = AtomicU32::from_ptr(&raw mut (*file.0).Waiters);
            waiters.fetch_add(1, Ordering::Relaxed);
            let lock = (&raw mut (*file.0).Lock).cast();
            let _ = KeWaitForSingleObject(lock, 0, KERNEL_MODE, 0, core::ptr::null());
            waiters.fetch_sub(1, Ordering::Relaxed);
            AtomicU32::from_ptr(&raw mut (*file.0).Busy).store(1, Ordering::Relaxed);
        }
        Some(Self(file.0))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // SAFETY: whoever has the turn refers to the file.
        unsafe {
            AtomicU32::from_ptr(&raw mut (*self.0).Busy).store(0, Ordering::Relaxed);
            event::set(&raw mut (*self.0).Lock);
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

/// Makes a packet one of the file's: it refers to the file until it is complete, so that its driver is told of the close no
/// sooner, and the file is not signaled before.
///
/// # Safety
/// The packet must be new.
unsafe fn hand_over(file: &Referenced, packet: NonNull<IRP>, waits: bool) {
    // SAFETY: the caller's contract; the reference keeps the file.
    unsafe {
        event::KeClearEvent(&raw mut (*file.0).Event);
        ob::reference(file.0.addr());
        under_way::begin(packet.as_ptr(), file.0.addr());
        irp::next_location(packet).FileObject = file.0;
        let packet = &mut *packet.as_ptr();
        packet.Tail.OriginalFileObject = file.0;
        if waits {
            packet.Flags |= IRP_SYNCHRONOUS_API;
        }
    }
}

/// `FastIoDeviceControl` of a driver that has one: most control requests need no packet then. Nothing where the driver would rather
/// have one.
///
/// # Safety
/// The arguments must be those of ZwDeviceIoControlFile.
unsafe fn fast_control(
    file: &Referenced,
    code: u32,
    input: (PVOID, u32),
    output: (PVOID, u32),
) -> Option<IO_STATUS_BLOCK> {
    type FastIoDeviceControl = unsafe extern "win64" fn(
        file: *mut FILE_OBJECT,
        wait: BOOLEAN,
        input: PVOID,
        input_length: u32,
        output: PVOID,
        output_length: u32,
        code: u32,
        status: *mut IO_STATUS_BLOCK,
        device: *mut DEVICE_OBJECT,
    ) -> BOOLEAN;
    /// `FAST_IO_DISPATCH::FastIoDeviceControl`, behind the structure's size.
    const AT: usize = 0x50;
    let device = file.device();
    let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
    // SAFETY: the file keeps its device, and that its driver; a table is as long as it says, and what is not null in it is of its
    // type.
    unsafe {
        let table = (*(*device).DriverObject).FastIoDispatch.cast::<u8>();
        if table.is_null() || (table.cast::<u32>().read() as usize) < AT + 8 {
            return None;
        }
        let routine = table.add(AT).cast::<Option<FastIoDeviceControl>>().read()?;
        let (from, to) = (input, output);
        (routine(file.0, TRUE, from.0, from.1, to.0, to.1, code, &raw mut status, device) != 0)
            .then_some(status)
    }
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
    let _turn = Turn::take(&file);
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
        hand_over(&file, packet, waits);
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
/// As of [`request`]; offset and key must each be valid or null.
unsafe fn transfer(
    major: u8,
    handle: HANDLE,
    event: HANDLE,
    apc: PVOID,
    status: *mut IO_STATUS_BLOCK,
    data: (PVOID, u32),
    (offset, key): (*const i64, *const u32),
) -> NTSTATUS {
    // SAFETY: the caller's.
    unsafe {
        request(handle, event, apc, status, |file, event, block| {
            let writes = major == IRP_MJ_WRITE;
            let offset = file.offset(offset, writes)?;
            let packet = build::for_file(major, file.device(), data, offset, event, block);
            if let Some(packet) = packet {
                let location = irp::next_location(packet);
                location.Parameters.0[1] = key.as_ref().copied().unwrap_or(0).into();
                if writes && (*file.0).Flags & FO_WRITE_THROUGH != 0 {
                    location.Flags |= SL_WRITE_THROUGH;
                }
            }
            Ok(packet)
        })
    }
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
        key: *const u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { transfer(IRP_MJ_READ, handle, event, apc, status, (buffer, length), (offset, key)) }
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
        key: *const u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { transfer(IRP_MJ_WRITE, handle, event, apc, status, (buffer, length), (offset, key)) }
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
            let (input, output) = ((input, input_length), (output, output_length));
            if let Ok(file) = Referenced::of(handle) {
                let _turn = Turn::take(&file);
                if let Some(answer) = fast_control(&file, code, input, output) {
                    status.write(answer);
                    if let Ok(event) = event_of(event)
                        && !event.is_null()
                    {
                        event::set(event);
                    }
                    return answer.Status;
                }
            }
            request(handle, event, apc, status, |file, event, block| {
                Ok(build::control_for_file(code, file.device(), input, output, event, block))
            })
        }
    }

    /// *ZwFsControlFile function (ntifs.h)*: as ZwDeviceIoControlFile, for file systems: IRP_MJ_FILE_SYSTEM_CONTROL.
    pub unsafe extern "win64" fn ZwFsControlFile(
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
        // SAFETY: the caller's; the packet is new.
        unsafe {
            request(handle, event, apc, status, |file, event, block| {
                let (input, output) = ((input, input_length), (output, output_length));
                let packet = build::control_for_file(code, file.device(), input, output, event, block);
                if let Some(packet) = packet {
                    irp::next_location(packet).MajorFunction = IRP_MJ_FILE_SYSTEM_CONTROL;
                }
                Ok(packet)
            })
        }
    }

    /// *ZwQueryVolumeInformationFile function (ntifs.h)*: what kind of device it is the I/O manager tells itself; all else is the driver's.
    pub unsafe extern "win64" fn ZwQueryVolumeInformationFile(
        handle: HANDLE,
        status: *mut IO_STATUS_BLOCK,
        information: PVOID,
        length: u32,
        class: u32,
    ) -> NTSTATUS {
        /// `FileFsDeviceInformation`, and the bytes that it takes.
        const DEVICE: u32 = 4;
        const DEVICE_SIZE: u32 = 8;
        let file = match Referenced::of(handle) {
            Ok(file) => file,
            Err(status) => return status,
        };
        let _turn = Turn::take(&file);
        // SAFETY: the caller's; there is room for the class.
        unsafe {
            if class != DEVICE {
                return inform(&file, IRP_MJ_QUERY_VOLUME_INFORMATION, (information, length), class, status);
            }
            if length < DEVICE_SIZE {
                return STATUS_INFO_LENGTH_MISMATCH;
            }
            let device = &*(*file.0).DeviceObject;
            information.cast::<[u32; 2]>().write_unaligned([device.DeviceType, device.Characteristics]);
            status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, DEVICE_SIZE as usize));
            STATUS_SUCCESS
        }
    }

    /// *ZwQueryFullAttributesFile function (wdm.h)*: FILE_NETWORK_OPEN_INFORMATION of a file by its name.
    pub unsafe extern "win64" fn ZwQueryFullAttributesFile(
        attributes: *const OBJECT_ATTRIBUTES,
        information: PVOID,
    ) -> NTSTATUS {
        /// `FILE_READ_ATTRIBUTES`.
        const READ_ATTRIBUTES: u32 = 0x80;
        let opening = Opening::existing(READ_ATTRIBUTES, 7, NOT_ALERTED);
        let mut handle = core::ptr::null_mut();
        let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
        // SAFETY: the caller's attributes and storage; the rest are locals.
        unsafe {
            let opened = open(&raw mut handle, attributes, &raw mut status, &opening);
            if !opened.is_success() {
                return opened;
            }
            let (class, size) = class::NETWORK_OPEN;
            let told = ZwQueryInformationFile(handle, &raw mut status, information, size, class);
            let _ = handle::close(handle);
            told
        }
    }

    /// *IoQueryFileInformation function (ntifs.h)*: as ZwQueryInformationFile, of a file object.
    pub unsafe extern "win64" fn IoQueryFileInformation(
        file: *mut FILE_OBJECT,
        class: u32,
        length: u32,
        information: PVOID,
        returned: *mut u32,
    ) -> NTSTATUS {
        if let Err(status) = class::has_room(class::QUERIED, class, length) {
            return status;
        }
        let mut status = IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0);
        ob::reference(file.addr());
        let file = Referenced(file);
        let _turn = Turn::take(&file);
        // SAFETY: the caller refers to the file, and gives a buffer of that length and storage for the length.
        unsafe {
            let told = inform(&file, IRP_MJ_QUERY_INFORMATION, (information, length), class, &raw mut status);
            returned.write(status.Information as u32);
            told
        }
    }

    /// *NtCancelIoFile function*: cancels what the calling thread has asked of the file, and waits for its end.
    pub unsafe extern "win64" fn ZwCancelIoFile(handle: HANDLE, status: *mut IO_STATUS_BLOCK) -> NTSTATUS {
        match Referenced::of(handle) {
            Ok(file) => {
                under_way::cancel_all(file.0.addr());
                // SAFETY: the caller gives storage for the status.
                unsafe { status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 0)) };
                STATUS_SUCCESS
            }
            Err(status) => status,
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

    /// *ZwQueryInformationFile function (wdm.h)*: position, mode, access and alignment are the I/O manager's own to tell; all else is
    /// the driver's. STATUS_INFO_LENGTH_MISMATCH where the buffer is too short for the class.
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
        if let Err(status) = class::has_room(class::QUERIED, class, length) {
            return status;
        }
        let granted = handle::object(handle).map_or(0, |(_, granted)| granted);
        let _turn = Turn::take(&file);
        // SAFETY: the caller's; there is room for the class.
        unsafe {
            let number = match class {
                class::POSITION if file.is_synchronous() => {
                    information.cast::<i64>().write_unaligned((*file.0).CurrentByteOffset);
                    status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 8));
                    return STATUS_SUCCESS;
                }
                class::ACCESS => granted,
                class::MODE => file.mode(),
                class::ALIGNMENT => (*file.device()).AlignmentRequirement,
                _ => return inform(&file, IRP_MJ_QUERY_INFORMATION, (information, length), class, status),
            };
            information.cast::<u32>().write_unaligned(number);
            status.write(IO_STATUS_BLOCK::new(STATUS_SUCCESS, 4));
            STATUS_SUCCESS
        }
    }

    /// *ZwSetInformationFile function (wdm.h)*: the position is the I/O manager's own; all else is the driver's to change.
    /// STATUS_INFO_LENGTH_MISMATCH where there is too little for the class.
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
        if let Err(status) = class::has_room(class::SET, class, length) {
            return status;
        }
        let _turn = Turn::take(&file);
        // SAFETY: the caller's; there are as many bytes as the class takes.
        unsafe {
            if class == class::POSITION && file.is_synchronous() {
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
        let opening = Opening::existing(DELETE, 7, DELETE_ON_CLOSE | NOT_ALERTED);
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
        hand_over(file, packet, true);
        let returned = irp::call_driver(device, packet.as_ptr());
        if returned == STATUS_PENDING {
            let _ = KeWaitForSingleObject((&raw mut done).cast(), 0, KERNEL_MODE, 0, core::ptr::null());
        }
        status.write(outcome);
        if returned == STATUS_PENDING { outcome.Status } else { returned }
    }
}
