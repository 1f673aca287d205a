//! I/O request packets: one request, with one stack location for each driver that it passes through.
//!
//! An [`IRP`] is followed in memory by its stack locations. `CurrentLocation` counts down from `StackCount + 1`
//! as the packet goes down, and up again as completion unwinds it; `IoGetCurrentIrpStackLocation`,
//! `IoMarkIrpPending` and `IoSetCompletionRoutine` are inline in drivers and read these fields themselves.

use super::{DEVICE_OBJECT, FILE_OBJECT, IO_STATUS_BLOCK, KEVENT, LIST_ENTRY, MDL, NTSTATUS, PVOID, layout};

/// Open.
pub const IRP_MJ_CREATE: u8 = 0x00;
/// Last reference to the file object gone.
pub const IRP_MJ_CLOSE: u8 = 0x02;
/// Read.
pub const IRP_MJ_READ: u8 = 0x03;
/// Write.
pub const IRP_MJ_WRITE: u8 = 0x04;
/// Asks for information about a file.
pub const IRP_MJ_QUERY_INFORMATION: u8 = 0x05;
/// Changes it.
pub const IRP_MJ_SET_INFORMATION: u8 = 0x06;
/// Asks for information about a volume.
pub const IRP_MJ_QUERY_VOLUME_INFORMATION: u8 = 0x0A;
/// A control request of a file system's own.
pub const IRP_MJ_FILE_SYSTEM_CONTROL: u8 = 0x0D;
/// The system is about to go down.
pub const IRP_MJ_SHUTDOWN: u8 = 0x10;
/// Flush.
pub const IRP_MJ_FLUSH_BUFFERS: u8 = 0x09;
/// `DeviceIoControl`.
pub const IRP_MJ_DEVICE_CONTROL: u8 = 0x0E;
/// A control request between drivers.
pub const IRP_MJ_INTERNAL_DEVICE_CONTROL: u8 = 0x0F;
/// Last handle to the file object closed.
pub const IRP_MJ_CLEANUP: u8 = 0x12;
/// Windows Management Instrumentation.
pub const IRP_MJ_SYSTEM_CONTROL: u8 = 0x17;
/// How many major functions there are.
pub const IRP_MJ_COUNT: usize = 0x1C;

/// In `IO_STACK_LOCATION::Control`: `IoMarkIrpPending` was called.
pub const SL_PENDING_RETURNED: u8 = 0x01;
/// In `Control`: the completion routine wants cancelled requests.
pub const SL_INVOKE_ON_CANCEL: u8 = 0x20;
/// In `Control`: the completion routine wants successful requests.
pub const SL_INVOKE_ON_SUCCESS: u8 = 0x40;
/// In `Control`: the completion routine wants failed requests.
pub const SL_INVOKE_ON_ERROR: u8 = 0x80;

/// In `IO_STACK_LOCATION::Flags` of a create: case counts.
pub const SL_CASE_SENSITIVE: u8 = 0x80;
/// In `Flags` of a write: not by way of a cache.
pub const SL_WRITE_THROUGH: u8 = 0x04;

/// In `IRP::Flags`: the issuer waits.
pub const IRP_SYNCHRONOUS_API: u32 = 0x0000_0004;
/// In `IRP::Flags`: a packet that was not marked pending is finished by its issuer.
pub const IRP_DEFER_IO_COMPLETION: u32 = 0x0000_0800;
/// In `IRP::Flags`: `SystemBuffer` carries the data.
pub const IRP_BUFFERED_IO: u32 = 0x0000_0010;
/// In `IRP::Flags`: the I/O manager frees `SystemBuffer`.
pub const IRP_DEALLOCATE_BUFFER: u32 = 0x0000_0020;
/// In `IRP::Flags`: `SystemBuffer` is copied back at completion.
pub const IRP_INPUT_OPERATION: u32 = 0x0000_0040;
/// In `IRP::Flags`: a read.
pub const IRP_READ_OPERATION: u32 = 0x0000_0100;
/// In `IRP::Flags`: a write.
pub const IRP_WRITE_OPERATION: u32 = 0x0000_0200;
/// In `IRP::Flags`: a create.
pub const IRP_CREATE_OPERATION: u32 = 0x0000_0080;
/// In `IRP::Flags`: a close.
pub const IRP_CLOSE_OPERATION: u32 = 0x0000_0400;

/// `DRIVER_CANCEL`; entered with the cancel spin lock held.
pub type DriverCancel = unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, irp: *mut IRP);
/// `IO_COMPLETION_ROUTINE`.
pub type IoCompletionRoutine =
    unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS;

/// An I/O request packet.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct IRP {
    /// `io_type::IRP`.
    pub Type: i16,
    /// Size of the packet with its stack locations.
    pub Size: u16,
    /// Processor whose lookaside list it came from.
    pub AllocationProcessorNumber: u16,
    /// Reserved.
    pub Reserved: u16,
    /// Direct I/O: the pages of the caller's buffer.
    pub MdlAddress: *mut MDL,
    /// `IRP_*` flags.
    pub Flags: u32,
    /// `AssociatedIrp.SystemBuffer`: buffered I/O's system buffer (or the master IRP of an associated one).
    pub SystemBuffer: PVOID,
    /// The requests of one thread.
    pub ThreadListEntry: LIST_ENTRY,
    /// How it ended.
    pub IoStatus: IO_STATUS_BLOCK,
    /// Who asked.
    pub RequestorMode: i8,
    /// While unwinding: the location just left was marked pending.
    pub PendingReturned: u8,
    /// How many stack locations there are.
    pub StackCount: i8,
    /// The current one, counted from 1 at the lowest driver; `StackCount + 1` is the issuer's.
    pub CurrentLocation: i8,
    /// Somebody wants it cancelled.
    pub Cancel: u8,
    /// IRQL at which the cancel spin lock was acquired; what a cancel routine releases it to.
    pub CancelIrql: u8,
    /// Of the completion APC.
    pub ApcEnvironment: i8,
    /// How it was allocated.
    pub AllocationFlags: u8,
    /// The issuer's status block.
    pub UserIosb: *mut IO_STATUS_BLOCK,
    /// Set at completion.
    pub UserEvent: *mut KEVENT,
    /// `Overlay`: the issuer's APC, or the allocation size of a create.
    pub Overlay: [PVOID; 2],
    /// Called to cancel; drivers exchange it atomically.
    pub CancelRoutine: Option<DriverCancel>,
    /// The caller's buffer, for neither-I/O and for the copy at completion.
    pub UserBuffer: PVOID,
    /// `Tail.Overlay`: what the owning driver and the I/O manager keep here while the packet lives.
    pub Tail: IrpTail,
}
layout!(IRP, size 0xD0, MdlAddress @ 0x8, Flags @ 0x10, SystemBuffer @ 0x18, IoStatus @ 0x30,
    RequestorMode @ 0x40, PendingReturned @ 0x41, StackCount @ 0x42, CurrentLocation @ 0x43, Cancel @ 0x44,
    CancelIrql @ 0x45, UserIosb @ 0x48, UserEvent @ 0x50, CancelRoutine @ 0x68, UserBuffer @ 0x70, Tail @ 0x78);

/// `IRP::Tail.Overlay`.
#[derive(Debug)]
#[repr(C)]
pub struct IrpTail {
    /// The driver's own while it owns the packet; also the device queue entry.
    pub DriverContext: [PVOID; 4],
    /// The requesting thread.
    pub Thread: PVOID,
    /// Unused.
    pub AuxiliaryBuffer: PVOID,
    /// The driver's own queue.
    pub ListEntry: LIST_ENTRY,
    /// The current stack location.
    pub CurrentStackLocation: *mut IO_STACK_LOCATION,
    /// The file that the request is about.
    pub OriginalFileObject: *mut FILE_OBJECT,
    /// Unused.
    pub IrpExtension: PVOID,
}
layout!(IrpTail, size 0x58, Thread @ 0x20, ListEntry @ 0x30, CurrentStackLocation @ 0x40);

/// One driver's part of a request.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_STACK_LOCATION {
    /// `IRP_MJ_*`.
    pub MajorFunction: u8,
    /// Depends on the major function.
    pub MinorFunction: u8,
    /// Depends on the major function.
    pub Flags: u8,
    /// `SL_*`.
    pub Control: u8,
    /// By major function; see [`Parameters`].
    pub Parameters: Parameters,
    /// The device that this location is for.
    pub DeviceObject: *mut DEVICE_OBJECT,
    /// The open file.
    pub FileObject: *mut FILE_OBJECT,
    /// Set in the next lower location by the driver above it.
    pub CompletionRoutine: Option<IoCompletionRoutine>,
    /// Its context.
    pub Context: PVOID,
}
layout!(IO_STACK_LOCATION, size 0x48, Parameters @ 0x8, DeviceObject @ 0x28, FileObject @ 0x30,
    CompletionRoutine @ 0x38, Context @ 0x40);

/// `IO_STACK_LOCATION::Parameters`: four words whose meaning the major function gives.
///
/// The headers write it as a union of structures, each 8-byte aligned member by member; as four words it needs
/// no unsafe code to fill in.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Parameters(pub [u64; 4]);
layout!(Parameters, size 0x20);

impl Parameters {
    /// `Parameters.Read` and `Parameters.Write`: Length, Key, ByteOffset.
    pub const fn read_write(length: u32, byte_offset: i64) -> Self {
        Self([length as u64, 0, byte_offset.cast_unsigned(), 0])
    }

    /// `Parameters.DeviceIoControl`: OutputBufferLength, InputBufferLength, IoControlCode, Type3InputBuffer.
    pub fn device_io_control(output: u32, input: u32, code: u32, type3: PVOID) -> Self {
        Self([u64::from(output), u64::from(input), u64::from(code), type3 as u64])
    }
}
