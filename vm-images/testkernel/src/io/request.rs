//! Requests that the guest itself makes of a device: open, read, write, close.
//!
//! The issuer waits; the driver may complete at once or much later, from its DPC. Where it takes too long the request is
//! cancelled, and where even that does not bring it back, the issuer goes on without it: the packet, its buffer and its
//! reference to the file then stay until the driver does complete it, as they would on Windows.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;

use super::mdl::Access;
use super::{build, cancel, device, irp, mdl, under_way};
use crate::ex::pool;
use crate::ke::event::{self, Event};
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::nt::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DO_DIRECT_IO, FILE_OBJECT, FO_SYNCHRONOUS_IO, IO_STACK_LOCATION,
    IO_STATUS_BLOCK, IRP, IRP_BUFFERED_IO, IRP_CLOSE_OPERATION, IRP_CREATE_OPERATION,
    IRP_DEFER_IO_COMPLETION, IRP_INPUT_OPERATION, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_READ,
    IRP_MJ_SYSTEM_CONTROL, IRP_MJ_WRITE, IRP_READ_OPERATION, IRP_SYNCHRONOUS_API, IRP_WRITE_OPERATION,
    KERNEL_MODE, MDL, NTSTATUS, Parameters, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_IO_TIMEOUT, STATUS_NOT_SUPPORTED,
};
use crate::ob;

/// How long a driver may take over a request.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How long it may take to give back a cancelled one.
const CANCEL_PATIENCE_NS: u64 = 1_000_000_000;

/// A packet that is under way, and what must outlive it.
struct Packet {
    irp: NonNull<IRP>,
    buffer: Option<NonNull<u8>>,
    mdl: Option<NonNull<MDL>>,
    /// Address of the file object; a reference on it is held where `file_referenced`.
    file: usize,
    file_referenced: bool,
}

// SAFETY: the packet is memory of the pool's; which thread gives it back does not matter.
unsafe impl Send for Packet {}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: the packet is complete, or was never sent: nobody uses it any more.
        unsafe { irp::free(self.irp) };
        if let Some(mdl) = self.mdl {
            // SAFETY: as above.
            unsafe { mdl::release(mdl.as_ptr()) };
        }
        if let Some(buffer) = self.buffer {
            pool::free(buffer.as_ptr().addr(), 0);
        }
        if self.file_referenced {
            ob::dereference(self.file);
        }
    }
}

/// Why a request has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No memory to make it of; nothing was sent.
    NoMemory,
    /// The driver has not completed it, and still has the packet and the file.
    Abandoned,
}

impl Failure {
    /// How it is told to whoever asked.
    pub fn status(self) -> NTSTATUS {
        match self {
            Self::NoMemory => STATUS_INSUFFICIENT_RESOURCES,
            Self::Abandoned => STATUS_IO_TIMEOUT,
        }
    }
}

/// How far a request is.
enum Progress {
    /// Somebody waits for it.
    Awaited(Arc<Event>),
    /// Complete.
    Done(IO_STATUS_BLOCK),
    /// Nobody waits any more; completion frees it.
    Abandoned(Packet),
}

/// Requests under way, by their packets' addresses.
static UNDER_WAY: SpinLock<BTreeMap<usize, Progress>> = SpinLock::new(BTreeMap::new());

/// A packet has come back up to its issuer, whose priority is raised by `boost` if it waits. At DISPATCH_LEVEL or below.
///
/// # Safety
/// `irp` must be a packet whose completion has reached the top.
pub unsafe fn completed(irp: *mut IRP, boost: i32) {
    // SAFETY: the caller's contract.
    let outcome = unsafe { (*irp).IoStatus };
    let mut under_way = UNDER_WAY.lock();
    match under_way.remove(&irp.addr()) {
        Some(Progress::Awaited(event)) => {
            under_way.insert(irp.addr(), Progress::Done(outcome));
            drop(under_way);
            event.set();
        }
        Some(Progress::Abandoned(packet)) => {
            drop(under_way);
            drop(packet);
        }
        Some(Progress::Done(before)) => {
            under_way.insert(irp.addr(), Progress::Done(before));
        }
        None => {
            drop(under_way);
            // A driver's own packet: whoever waits for it said how it wants to know.
            // SAFETY: a packet's status block and event are the issuer's, valid until it is told.
            unsafe {
                let is_the_managers = build::before_the_issuer_is_told(irp);
                let file =
                    if is_the_managers { (*irp).Tail.OriginalFileObject } else { core::ptr::null_mut() };
                if let Some(block) = (*irp).UserIosb.as_mut() {
                    *block = outcome;
                }
                // *Using events with files*: without an event of the issuer's it is the file that is signaled.
                if !file.is_null() && ((*irp).UserEvent.is_null() || (*file).Flags & FO_SYNCHRONOUS_IO != 0) {
                    event::set_with(&raw mut (*file).Event, boost, 0);
                }
                if !(*irp).UserEvent.is_null() {
                    event::set_with((*irp).UserEvent, boost, 0);
                }
                if is_the_managers && (file.is_null() || under_way::end(irp)) {
                    irp::free(NonNull::new_unchecked(irp));
                }
                if !file.is_null() {
                    ob::dereference(file.addr());
                }
            }
        }
    }
}

/// Where a request's data are.
enum Data<'a> {
    None,
    /// Bytes for the driver to read.
    Write(&'a [u8]),
    /// So many bytes for the driver to write.
    Read(usize),
    /// Extended attributes of a create.
    Extended(&'a [u8]),
}

impl Data<'_> {
    fn room(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Write(bytes) | Self::Extended(bytes) => bytes.len(),
            Self::Read(bytes) => *bytes,
        }
    }
}

/// A request that came back: how it ended, and its data.
struct Finished {
    outcome: IO_STATUS_BLOCK,
    data: Vec<u8>,
}

/// Sends `location` to the file's device and waits for it.
///
/// # Safety
/// `file` must be an open file, or one that is just being opened or closed and not yet or no more an object.
unsafe fn send(
    file: *mut FILE_OBJECT,
    location: IO_STACK_LOCATION,
    data: Data<'_>,
) -> Result<Finished, Failure> {
    // SAFETY: the caller's contract.
    unsafe { send_with(file, location, data, 0) }
}

/// The same with the allocation size of a create.
///
/// # Safety
/// As for [`send`].
unsafe fn send_with(
    file: *mut FILE_OBJECT,
    location: IO_STACK_LOCATION,
    data: Data<'_>,
    allocation: i64,
) -> Result<Finished, Failure> {
    // SAFETY: the file keeps its device alive.
    let (device, flags, stack_size) = unsafe {
        let device = device::top((*file).DeviceObject);
        (device, (*device).Flags, (*device).StackSize)
    };
    let irp = irp::allocate(stack_size).ok_or(Failure::NoMemory)?;
    let mut packet = Packet {
        irp,
        buffer: None,
        mdl: None,
        file: file.addr(),
        file_referenced: ob::reference(file.addr()),
    };
    let room = data.room();
    if room > 0 {
        let buffer = pool::allocate_zeroed(room, *b"IoSb").ok_or(Failure::NoMemory)?;
        packet.buffer = Some(buffer);
        if let Data::Write(bytes) | Data::Extended(bytes) = data {
            // SAFETY: the buffer is at least that large.
            unsafe { bytes.as_ptr().copy_to_nonoverlapping(buffer.as_ptr(), bytes.len()) };
        }
    }
    // SAFETY: the packet is new, so it is all the issuer's, and has a location left.
    unsafe {
        attach(&mut packet, &data, flags, room)?;
        let object = &mut *irp.as_ptr();
        object.RequestorMode = KERNEL_MODE;
        object.Tail.OriginalFileObject = file;
        object.Overlay[0] = core::ptr::without_provenance_mut(allocation as usize);
        object.Tail.Thread = thread::current().as_ptr().cast();
        object.Flags |= match location.MajorFunction {
            IRP_MJ_CREATE => IRP_CREATE_OPERATION | IRP_SYNCHRONOUS_API | IRP_DEFER_IO_COMPLETION,
            IRP_MJ_CLOSE => IRP_CLOSE_OPERATION | IRP_SYNCHRONOUS_API,
            _ => IRP_SYNCHRONOUS_API,
        };
        *irp::next_location(irp) = IO_STACK_LOCATION { DeviceObject: device, FileObject: file, ..location };
    }
    let event = Arc::new(Event::new_notification());
    UNDER_WAY.lock().insert(irp.as_ptr().addr(), Progress::Awaited(event.clone()));
    // SAFETY: the device is alive and the location filled in. What the driver returns says nothing that the completion
    // does not: a packet that it has not completed is waited for, whether it was marked pending or not.
    let _ = unsafe { irp::call_driver(device, irp.as_ptr()) };
    let outcome = wait(packet, &event)?;
    let filled = match data {
        Data::Read(_) if outcome.status.Status.is_success() => outcome.status.Information.min(room),
        _ => 0,
    };
    let data = outcome.packet.buffer.map_or_else(Vec::new, |buffer| {
        // SAFETY: the buffer holds `room` bytes, all of them initialized, and the driver is done with it.
        unsafe { core::slice::from_raw_parts(buffer.as_ptr(), filled) }.to_vec()
    });
    Ok(Finished { outcome: outcome.status, data })
}

struct Completed {
    status: IO_STATUS_BLOCK,
    packet: Packet,
}

/// Waits for the packet, with patience; abandons it at the end of that.
fn wait(packet: Packet, event: &Event) -> Result<Completed, Failure> {
    let irp = packet.irp.as_ptr();
    if !event.wait(Some(PATIENCE_NS)) {
        // SAFETY: the packet is this function's, so it stays one even if it completes meanwhile.
        unsafe { cancel::cancel(irp) };
        event.wait(Some(CANCEL_PATIENCE_NS));
    }
    let mut under_way = UNDER_WAY.lock();
    if let Some(Progress::Done(status)) = under_way.get(&irp.addr()) {
        let status = *status;
        under_way.remove(&irp.addr());
        drop(under_way);
        return Ok(Completed { status, packet });
    }
    under_way.insert(irp.addr(), Progress::Abandoned(packet));
    Err(Failure::Abandoned)
}

/// Puts the buffer where the device, or the kind of request, wants it.
///
/// # Safety
/// The packet must not have been sent.
unsafe fn attach(packet: &mut Packet, data: &Data<'_>, flags: u32, room: usize) -> Result<(), Failure> {
    let Some(buffer) = packet.buffer else { return Ok(()) };
    // SAFETY: the caller's contract.
    let object = unsafe { &mut *packet.irp.as_ptr() };
    if matches!(data, Data::Extended(_)) {
        object.SystemBuffer = buffer.as_ptr().cast();
        return Ok(());
    }
    object.UserBuffer = buffer.as_ptr().cast();
    if flags & DO_BUFFERED_IO != 0 {
        object.SystemBuffer = buffer.as_ptr().cast();
        object.Flags |= IRP_BUFFERED_IO;
    } else if flags & DO_DIRECT_IO != 0 {
        let access = if matches!(data, Data::Read(_)) { Access::Write } else { Access::Read };
        let mdl = mdl::describe(buffer.as_ptr().addr(), room, access, 0).ok_or(Failure::NoMemory)?;
        packet.mdl = Some(mdl);
        object.MdlAddress = mdl.as_ptr();
    }
    object.Flags |= match data {
        Data::Read(_) => IRP_READ_OPERATION | IRP_INPUT_OPERATION,
        Data::Write(_) => IRP_WRITE_OPERATION,
        Data::None | Data::Extended(_) => 0,
    };
    Ok(())
}

/// A request without file or data, to a device.
///
/// # Safety
/// `device` must be alive until the driver has completed it.
pub unsafe fn to_device(device: *mut DEVICE_OBJECT, major: u8) -> Result<NTSTATUS, Failure> {
    // SAFETY: the caller's contract; the packet is new, so it is all the issuer's, and has a location left.
    unsafe {
        let irp = irp::allocate((*device).StackSize).ok_or(Failure::NoMemory)?;
        let packet = Packet { irp, buffer: None, mdl: None, file: 0, file_referenced: false };
        (*irp.as_ptr()).RequestorMode = KERNEL_MODE;
        (*irp.as_ptr()).Tail.Thread = thread::current().as_ptr().cast();
        *irp::next_location(irp) =
            IO_STACK_LOCATION { DeviceObject: device, ..location(major, Parameters::default()) };
        let event = Arc::new(Event::new_notification());
        UNDER_WAY.lock().insert(irp.as_ptr().addr(), Progress::Awaited(event.clone()));
        let _ = irp::call_driver(device, irp.as_ptr());
        wait(packet, &event).map(|completed| completed.status.Status)
    }
}

/// IRP_MN_REGINFO_EX: asks the driver of `device` which data blocks `provider` has. Asked again where it wants more room.
///
/// # Safety
/// As for [`to_device`].
pub unsafe fn registration_info(
    device: *mut DEVICE_OBJECT,
    provider: usize,
    why: usize,
) -> Result<NTSTATUS, Failure> {
    const MINOR: u8 = 0x0B;
    const ROOM: usize = 4096;
    const MOST: usize = 1 << 16;
    let mut room = ROOM;
    loop {
        // SAFETY: the caller's contract; the packet is new, so it is all the issuer's, and has a location left.
        let completed = unsafe {
            let irp = irp::allocate((*device).StackSize).ok_or(Failure::NoMemory)?;
            let mut packet = Packet { irp, buffer: None, mdl: None, file: 0, file_referenced: false };
            let buffer = pool::allocate_zeroed(room, *b"IoSb").ok_or(Failure::NoMemory)?;
            packet.buffer = Some(buffer);
            (*irp.as_ptr()).RequestorMode = KERNEL_MODE;
            (*irp.as_ptr()).Tail.Thread = thread::current().as_ptr().cast();
            // Until a driver says otherwise nobody supports it.
            (*irp.as_ptr()).IoStatus.Status = STATUS_NOT_SUPPORTED;
            let words = [provider, why, room, buffer.as_ptr().addr()].map(|word| word as u64);
            let location = location(IRP_MJ_SYSTEM_CONTROL, Parameters(words));
            *irp::next_location(irp) =
                IO_STACK_LOCATION { MinorFunction: MINOR, DeviceObject: device, ..location };
            let event = Arc::new(Event::new_notification());
            UNDER_WAY.lock().insert(irp.as_ptr().addr(), Progress::Awaited(event.clone()));
            let _ = irp::call_driver(device, irp.as_ptr());
            wait(packet, &event)?
        };
        let wanted = completed.packet.buffer.map_or(0, |buffer| {
            // SAFETY: the buffer begins with a number of 32 bits, of which all are initialized.
            unsafe { buffer.cast::<u32>().read() as usize }
        });
        let too_small =
            completed.status.Status == STATUS_BUFFER_TOO_SMALL && completed.status.Information == 4;
        if !too_small || wanted <= room || wanted > MOST {
            return Ok(completed.status.Status);
        }
        room = wanted;
    }
}

/// A location for `major`.
fn location(major: u8, parameters: Parameters) -> IO_STACK_LOCATION {
    IO_STACK_LOCATION {
        MajorFunction: major,
        MinorFunction: 0,
        Flags: 0,
        Control: 0,
        Parameters: parameters,
        DeviceObject: core::ptr::null_mut(),
        FileObject: core::ptr::null_mut(),
        CompletionRoutine: None,
        Context: core::ptr::null_mut(),
    }
}

/// A request without data: create, cleanup, close, flush.
///
/// # Safety
/// As for [`send`].
pub unsafe fn plain(file: *mut FILE_OBJECT, major: u8, parameters: Parameters) -> Result<NTSTATUS, Failure> {
    // SAFETY: the caller's contract.
    let finished = unsafe { send(file, location(major, parameters), Data::None) };
    finished.map(|finished| finished.outcome.Status)
}

/// Asks the driver to open the file; `flags` are those of its stack location, `extended` the extended attributes.
///
/// # Safety
/// As for [`send`].
pub unsafe fn create(
    file: *mut FILE_OBJECT,
    parameters: Parameters,
    flags: u8,
    extended: &[u8],
    allocation: i64,
) -> Result<IO_STATUS_BLOCK, Failure> {
    let location = IO_STACK_LOCATION { Flags: flags, ..location(IRP_MJ_CREATE, parameters) };
    let data = if extended.is_empty() { Data::None } else { Data::Extended(extended) };
    // SAFETY: the caller's contract.
    let finished = unsafe { send_with(file, location, data, allocation) };
    finished.map(|finished| finished.outcome)
}

/// Reads up to `length` bytes.
///
/// # Safety
/// `file` must be an open file.
pub unsafe fn read(file: *mut FILE_OBJECT, length: usize, offset: i64) -> Result<Vec<u8>, NTSTATUS> {
    let parameters = Parameters::read_write(length as u32, offset);
    // SAFETY: the caller's contract.
    let finished = unsafe { send(file, location(IRP_MJ_READ, parameters), Data::Read(length)) }
        .map_err(Failure::status)?;
    let status = finished.outcome.Status;
    if status.is_success() { Ok(finished.data) } else { Err(status) }
}

/// Writes `bytes`; gives how many the driver took.
///
/// # Safety
/// `file` must be an open file.
pub unsafe fn write(file: *mut FILE_OBJECT, bytes: &[u8], offset: i64) -> Result<usize, NTSTATUS> {
    let parameters = Parameters::read_write(bytes.len() as u32, offset);
    // SAFETY: the caller's contract.
    let finished = unsafe { send(file, location(IRP_MJ_WRITE, parameters), Data::Write(bytes)) }
        .map_err(Failure::status)?;
    let status = finished.outcome.Status;
    if status.is_success() { Ok(finished.outcome.Information.min(bytes.len())) } else { Err(status) }
}
