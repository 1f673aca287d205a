//! File objects: a device that somebody has open.
//!
//! Opening sends `IRP_MJ_CREATE`; closing the last handle sends `IRP_MJ_CLEANUP`; when the last reference is gone, which
//! may be later, `IRP_MJ_CLOSE`. Until then the device counts an opener, and its driver cannot be unloaded.

use alloc::vec::Vec;
use core::ffi::c_void;
use core::ops::Range;

use super::request::Failure;
use super::{device, request};
use crate::ex::pool;
use crate::ke::event;
use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, FILE_OBJECT, FO_ALERTABLE_IO, FO_CLEANUP_COMPLETE, FO_HANDLE_CREATED,
    FO_NO_INTERMEDIATE_BUFFERING, FO_OPENED_CASE_SENSITIVE, FO_RANDOM_ACCESS, FO_SEQUENTIAL_ONLY,
    FO_SYNCHRONOUS_IO, FO_WRITE_THROUGH, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, NTSTATUS, Parameters,
    SL_CASE_SENSITIVE, STATUS_INSUFFICIENT_RESOURCES, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
    UNICODE_STRING, io_type, object_type,
};
use crate::ob::types::Kind;
use crate::ob::{self, names};

/// `FILE_OPEN` as a disposition.
const OPEN: u32 = 1;
/// `FILE_SYNCHRONOUS_IO_ALERT` and `FILE_SYNCHRONOUS_IO_NONALERT`: requests come one after another.
pub const SYNCHRONOUS: u32 = 0x30;
/// `FILE_SYNCHRONOUS_IO_NONALERT`.
const NOT_ALERTED: u32 = 0x20;
/// `FILE_SYNCHRONOUS_IO_ALERT`, `FILE_NO_INTERMEDIATE_BUFFERING`, `FILE_WRITE_THROUGH`, `FILE_SEQUENTIAL_ONLY`,
/// `FILE_RANDOM_ACCESS`, `FILE_NON_DIRECTORY_FILE`.
const ALERTED: u32 = 0x10;
const NO_BUFFERING: u32 = 0x8;
const WRITE_THROUGH: u32 = 0x2;
const SEQUENTIAL: u32 = 0x4;
const RANDOM: u32 = 0x800;
const NON_DIRECTORY_FILE: u32 = 0x40;
/// `FILE_READ_DATA` with what goes with it, and the same for writing, as generic rights stand for them.
pub const GENERIC_READ: u32 = 0x0012_0089;
/// See [`GENERIC_READ`].
pub const GENERIC_WRITE: u32 = 0x0012_0116;
/// Readers, writers, and who deletes.
const SHARES_ALL: u16 = 7;

/// What a file is opened for, and how.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The rights, none of them generic.
    pub access: u32,
    /// `FILE_SHARE_*`.
    pub share: u16,
    /// `FILE_ATTRIBUTE_*` of a new file.
    pub attributes: u16,
    /// `FILE_SUPERSEDE` to `FILE_OVERWRITE_IF`.
    pub disposition: u32,
    /// `FILE_*` options of a create.
    pub options: u32,
    /// Case counts in the name.
    pub case_sensitive: bool,
    /// Extended attributes.
    pub extended: &'a [u8],
    /// How much room a new file is to have at first.
    pub allocation: i64,
}

/// Generic rights, which stand for others, made into those.
pub fn specific(access: u32) -> u32 {
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

impl Opening<'static> {
    /// What is there, for these rights, shared with whoever shares so.
    pub const fn existing(access: u32, share: u16, options: u32) -> Self {
        Self {
            access,
            share,
            attributes: 0,
            disposition: OPEN,
            options,
            case_sensitive: false,
            extended: &[],
            allocation: 0,
        }
    }

    /// As a program opens a device.
    const fn plain(read: bool, write: bool) -> Self {
        let access = if read { GENERIC_READ } else { 0 } | if write { GENERIC_WRITE } else { 0 };
        Self::existing(access, SHARES_ALL, NOT_ALERTED)
    }
}

/// `IO_SECURITY_CONTEXT`: which drivers read the rights from that were asked for.
#[repr(C)]
struct SecurityContext {
    quality: usize,
    state: usize,
    desired: u32,
    options: u32,
}

/// An open device. Dropping it closes the handle.
#[derive(Debug)]
pub struct File(*mut FILE_OBJECT);

// SAFETY: a file object belongs to no thread; requests on it are made one at a time by whoever owns this.
unsafe impl Send for File {}

impl File {
    /// Opens what `path` names, as a program would.
    pub fn open(path: &[u16], read: bool, write: bool) -> Result<Self, NTSTATUS> {
        Self::open_for(path, &Opening::plain(read, write)).map(|(file, _)| file)
    }

    /// Opens, or makes, what `path` names; gives also what the driver told of it.
    pub fn open_for(path: &[u16], opening: &Opening<'_>) -> Result<(Self, usize), NTSTATUS> {
        let (address, rest) = names::with(|names| names.resolve(path)).map_err(names::status_of)?;
        if ob::kind(address).is_some_and(|kind| kind != Kind::Device) {
            return Err(STATUS_OBJECT_TYPE_MISMATCH);
        }
        let device = device::open(address)?;
        // SAFETY: the opener just counted in is the file's.
        unsafe { Self::on(device, &rest, core::ptr::null_mut(), opening) }
    }

    /// Opens, or makes, what `name` is on the device of `related`, which the driver sees beside it.
    ///
    /// # Safety
    /// `related` must be an open file, referred to meanwhile.
    pub unsafe fn open_relative(
        related: *mut FILE_OBJECT,
        name: &[u16],
        opening: &Opening<'_>,
    ) -> Result<(Self, usize), NTSTATUS> {
        // SAFETY: the caller's contract; the opener just counted in is the new file's.
        unsafe {
            let device = device::open_relative((*related).DeviceObject.addr())?;
            Self::on(device, name, related, opening)
        }
    }

    /// # Safety
    /// An opener of `device` must have been counted in; it becomes the file's. `related` is null or an open file.
    unsafe fn on(
        device: *mut DEVICE_OBJECT,
        name: &[u16],
        related: *mut FILE_OBJECT,
        opening: &Opening<'_>,
    ) -> Result<(Self, usize), NTSTATUS> {
        // SAFETY: the caller's contract.
        match unsafe { create(device, name, related, opening) } {
            Ok(opened) => Ok(opened),
            // The driver still has the file, which therefore stays, with its opener.
            Err(NotOpened::Abandoned) => Err(Failure::Abandoned.status()),
            Err(NotOpened::Refused(status)) => {
                // SAFETY: counted in above; there is no file to count it out.
                unsafe { device::close(device) };
                Err(status)
            }
        }
    }

    /// The file object; its one handle is the caller's from now on, to be closed by [`cleanup`] and a reference less.
    pub fn into_raw(self) -> *mut FILE_OBJECT {
        let file = self.0;
        core::mem::forget(self);
        file
    }

    /// Reads up to `length` bytes.
    pub fn read(&mut self, length: usize) -> Result<Vec<u8>, NTSTATUS> {
        // SAFETY: the file is open as long as this exists, and nobody else moves its position.
        unsafe {
            let bytes = request::read(self.0, length, (*self.0).CurrentByteOffset)?;
            (*self.0).CurrentByteOffset += bytes.len() as i64;
            Ok(bytes)
        }
    }

    /// Writes `bytes`; gives how many the driver took.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, NTSTATUS> {
        // SAFETY: as for reading.
        unsafe {
            let taken = request::write(self.0, bytes, (*self.0).CurrentByteOffset)?;
            (*self.0).CurrentByteOffset += taken as i64;
            Ok(taken)
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: this is the file's only handle.
        unsafe { close_handle(self.0) };
    }
}

/// Why there is no file.
enum NotOpened {
    /// With this status, and nothing left of it.
    Refused(NTSTATUS),
    /// The driver has not answered, and still has it.
    Abandoned,
}

/// `FO_*` that the options of a create ask for.
fn flags_for(opening: &Opening<'_>) -> u32 {
    let asked = [
        (SYNCHRONOUS, FO_SYNCHRONOUS_IO),
        (ALERTED, FO_ALERTABLE_IO),
        (NO_BUFFERING, FO_NO_INTERMEDIATE_BUFFERING),
        (WRITE_THROUGH, FO_WRITE_THROUGH),
        (SEQUENTIAL, FO_SEQUENTIAL_ONLY),
        (RANDOM, FO_RANDOM_ACCESS),
    ];
    let flags = asked.iter().filter(|(option, _)| opening.options & option != 0).map(|(_, flag)| flag);
    let case = if opening.case_sensitive { FO_OPENED_CASE_SENSITIVE } else { 0 };
    flags.fold(case, |all, flag| all | flag)
}

/// Makes a file object for `device` and asks its driver to open it.
///
/// # Safety
/// An opener must have been counted in; it becomes the file's if there is one in the end.
unsafe fn create(
    device: *mut DEVICE_OBJECT,
    rest: &[u16],
    related: *mut FILE_OBJECT,
    opening: &Opening<'_>,
) -> Result<(File, usize), NotOpened> {
    let no_memory = NotOpened::Refused(STATUS_INSUFFICIENT_RESOURCES);
    let Some(file) = pool::allocate_zeroed(size_of::<FILE_OBJECT>(), *b"File") else { return Err(no_memory) };
    let file = file.as_ptr().cast::<FILE_OBJECT>();
    let address = file.expose_provenance();
    // SAFETY: the block is zeroed, which is valid for a file object, and large enough; nobody else has it.
    unsafe {
        let object = &mut *file;
        object.Type = io_type::FILE;
        object.Size = size_of::<FILE_OBJECT>() as i16;
        object.DeviceObject = device;
        object.ReadAccess = (opening.access & 0x1 != 0).into();
        object.WriteAccess = (opening.access & 0x6 != 0).into();
        object.DeleteAccess = (opening.access & 0x1_0000 != 0).into();
        object.SharedRead = (opening.share & 1 != 0).into();
        object.SharedWrite = (opening.share & 2 != 0).into();
        object.SharedDelete = (opening.share & 4 != 0).into();
        object.RelatedFileObject = related;
        object.Flags = flags_for(opening);
        event::initialize(&raw mut object.Lock, object_type::EVENT_SYNCHRONIZATION, true);
        event::initialize(&raw mut object.Event, object_type::EVENT_NOTIFICATION, false);
        if !rest.is_empty() {
            match pool::allocate_zeroed(rest.len() * 2, *b"IoNm") {
                Some(name) => {
                    let buffer = name.as_ptr().cast::<u16>();
                    rest.as_ptr().copy_to_nonoverlapping(buffer, rest.len());
                    let bytes = (rest.len() * 2) as u16;
                    object.FileName = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: buffer };
                }
                None => {
                    pool::free(address, 0);
                    return Err(no_memory);
                }
            }
        }
        let context =
            SecurityContext { quality: 0, state: 0, desired: opening.access, options: opening.options };
        let extended = opening.extended;
        let request = Parameters([
            (&raw const context).expose_provenance() as u64,
            u64::from(opening.disposition << 24 | opening.options & 0xFF_FFFF),
            u64::from(opening.attributes) | u64::from(opening.share) << 16,
            extended.len() as u64,
        ]);
        let flags = if opening.case_sensitive { SL_CASE_SENSITIVE } else { 0 };
        let answered = request::create(file, request, flags, extended, opening.allocation);
        // Not referred to any longer: valid in the create itself and no more.
        (*file).RelatedFileObject = core::ptr::null_mut();
        match answered {
            Ok(outcome) if outcome.Status.is_success() => {
                (*file).Flags |= FO_HANDLE_CREATED;
                ob::insert(address, Kind::File, close);
                Ok((File(file), outcome.Information))
            }
            Err(Failure::Abandoned) => Err(NotOpened::Abandoned),
            refused => {
                free(file);
                Err(NotOpened::Refused(refused.map_or_else(Failure::status, |outcome| outcome.Status)))
            }
        }
    }
}

/// The last handle is being closed; its reference is the caller's to give up.
///
/// # Safety
/// `file` must be an open file; called once.
pub unsafe fn cleanup(file: *mut FILE_OBJECT) {
    // SAFETY: the caller's contract. A driver that refuses to clean up does not keep the handle open.
    unsafe {
        let _ = request::plain(file, IRP_MJ_CLEANUP, Parameters::default());
        (*file).Flags |= FO_CLEANUP_COMPLETE;
    }
}

/// # Safety
/// `file` must be an open file; called once.
unsafe fn close_handle(file: *mut FILE_OBJECT) {
    // SAFETY: the caller's contract.
    unsafe { cleanup(file) };
    ob::dereference(file.addr());
}

/// The last reference is gone.
fn close(address: usize) {
    HELD.lock().retain(|(file, _)| *file != address);
    let file = core::ptr::with_exposed_provenance_mut::<FILE_OBJECT>(address);
    // SAFETY: the object is the pool's until it is freed here; the opener that it stood for is counted out once.
    unsafe {
        if request::plain(file, IRP_MJ_CLOSE, Parameters::default()) == Err(Failure::Abandoned) {
            // The driver still has it; so it stays, and the driver cannot be unloaded.
            return;
        }
        let device = (*file).DeviceObject;
        free(file);
        device::close(device);
    }
}

/// # Safety
/// Nobody may use `file` any more.
unsafe fn free(file: *mut FILE_OBJECT) {
    // SAFETY: the caller's contract.
    let name = unsafe { (*file).FileName.Buffer };
    if !name.is_null() {
        pool::free(name.addr(), 0);
    }
    pool::free(file.addr(), 0);
}

/// File objects that drivers hold references on, with who asked for each.
static HELD: SpinLock<Vec<(usize, usize)>> = SpinLock::new(Vec::new());

/// The open devices that code in `range` got with IoGetDeviceObjectPointer and that are open still.
pub fn held_by(range: &Range<u64>) -> Vec<usize> {
    let held = HELD.lock();
    held.iter().filter(|(_, caller)| range.contains(&(*caller as u64))).map(|(file, _)| *file).collect()
}

/// # Safety
/// The call must be one of IoGetDeviceObjectPointer's.
unsafe extern "win64" fn get_device_object_pointer(call: &Call<4>) -> NTSTATUS {
    let [name, access, file, device] = call.arguments.map(core::ptr::with_exposed_provenance_mut::<c_void>);
    let opening = Opening::existing(specific(access.addr() as u32), 0, NON_DIRECTORY_FILE);
    // SAFETY: the caller gives a valid name.
    let opened = match File::open_for(unsafe { (*name.cast::<UNICODE_STRING>()).units() }, &opening) {
        Ok((opened, _)) => opened,
        Err(status) => return status,
    };
    let object = opened.0;
    ob::reference(object.addr());
    HELD.lock().push((object.addr(), call.caller));
    drop(opened);
    // SAFETY: the caller gives storage for both; the reference taken keeps the file, and so its device, alive.
    unsafe {
        file.cast::<*mut FILE_OBJECT>().write(object);
        device.cast::<*mut DEVICE_OBJECT>().write(device::top((*object).DeviceObject));
    }
    STATUS_SUCCESS
}

export! {
    /// *IoGetDeviceObjectPointer function (wdm.h)*: opens the device and closes the handle, so that what is left is the
    /// reference on the file object, which the caller gives up with ObDereferenceObject.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoGetDeviceObjectPointer(
        name: *const UNICODE_STRING,
        access: u32,
        file: *mut *mut FILE_OBJECT,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS {
        with_caller!(get_device_object_pointer)
    }
}
