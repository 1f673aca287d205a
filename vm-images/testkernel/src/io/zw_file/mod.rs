//! Files behind handles: `ZwCreateFile` and what is done with the handle that it gives.
//!
//! A file is whatever a device makes of the name behind its own: a file on the volume `C:` ([`super::file_system`]), or any
//! driver's device. A handle that was opened for synchronous requests waits for each; on one that was not, a request may be
//! pending when the routine returns, and its end is told by the event and the status block.

mod information;
mod open;
mod request;

pub use self::information::{ZwQueryInformationFile, ZwQueryVolumeInformationFile, ZwSetInformationFile};
pub use self::open::{ZwCreateFile, ZwDeleteFile, ZwOpenFile};
pub use self::request::{ZwDeviceIoControlFile, ZwFsControlFile, ZwReadFile, ZwWriteFile};

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{device, irp, under_way};
use crate::ke::event;
use crate::ke::wait::KeWaitForSingleObject;
use crate::nt::{
    DEVICE_OBJECT, FILE_OBJECT, FO_ALERTABLE_IO, FO_NO_INTERMEDIATE_BUFFERING, FO_SEQUENTIAL_ONLY,
    FO_SYNCHRONOUS_IO, FO_WRITE_THROUGH, HANDLE, IO_STATUS_BLOCK, IRP, IRP_SYNCHRONOUS_API, KERNEL_MODE,
    KEVENT, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_PENDING, object_type,
};
use crate::ob;
use crate::ob::handle;
use crate::ob::types::Kind;

/// `FILE_SYNCHRONOUS_IO_NONALERT`.
const NOT_ALERTED: u32 = 0x20;
/// `FILE_USE_FILE_POINTER_POSITION` and `FILE_WRITE_TO_END_OF_FILE`, in the low part of an offset whose high part is -1.
const USE_POSITION: i64 = -2;
const END_OF_FILE: i64 = -1;

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

/// A request whose issuer waits for it: `build` makes its packet, given where its end is to be told. The status block tells how it ended, whether or
/// not it was pending.
///
/// # Safety
/// `status` must be storage for it, and valid, like the packet's buffers, until the request has ended.
unsafe fn send_and_wait(
    file: &Referenced,
    status: *mut IO_STATUS_BLOCK,
    build: impl FnOnce(*mut KEVENT, *mut IO_STATUS_BLOCK) -> Result<Option<NonNull<IRP>>, NTSTATUS>,
) -> NTSTATUS {
    let mut outcome = IO_STATUS_BLOCK::new(STATUS_PENDING, 0);
    // SAFETY: a local event, initialized before it is used.
    let mut done: KEVENT = unsafe { core::mem::zeroed() };
    // SAFETY: as above; the caller's contract.
    unsafe {
        event::initialize(&raw mut done, object_type::EVENT_NOTIFICATION, false);
        let packet = match build(&raw mut done, &raw mut outcome) {
            Ok(Some(packet)) => packet,
            Ok(None) => return STATUS_INSUFFICIENT_RESOURCES,
            Err(status) => return status,
        };
        hand_over(file, packet, true);
        let returned = irp::call_driver(file.device(), packet.as_ptr());
        if returned == STATUS_PENDING {
            let _ = KeWaitForSingleObject((&raw mut done).cast(), 0, KERNEL_MODE, 0, core::ptr::null());
        }
        status.write(outcome);
        if returned == STATUS_PENDING { outcome.Status } else { returned }
    }
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
