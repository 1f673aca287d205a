//! File objects: an open device, as its driver sees it.

use super::{BOOLEAN, DEVICE_OBJECT, KEVENT, LIST_ENTRY, NTSTATUS, PVOID, UNICODE_STRING, layout};

/// An open file or device.
#[derive(Debug)]
#[repr(C)]
pub struct FILE_OBJECT {
    /// `io_type::FILE`.
    pub Type: i16,
    /// Size of this structure.
    pub Size: i16,
    /// The device that was opened.
    pub DeviceObject: *mut DEVICE_OBJECT,
    /// The mounted volume; none.
    pub Vpb: PVOID,
    /// The driver's own.
    pub FsContext: PVOID,
    /// The driver's own.
    pub FsContext2: PVOID,
    /// The cache manager's; none.
    pub SectionObjectPointer: PVOID,
    /// The cache manager's; none.
    pub PrivateCacheMap: PVOID,
    /// Of the last deferred operation.
    pub FinalStatus: NTSTATUS,
    /// The file that this one was opened relative to, while it is being opened.
    pub RelatedFileObject: *mut FILE_OBJECT,
    /// A byte-range lock was taken.
    pub LockOperation: BOOLEAN,
    /// Marked for deletion.
    pub DeletePending: BOOLEAN,
    /// Opened for reading.
    pub ReadAccess: BOOLEAN,
    /// Opened for writing.
    pub WriteAccess: BOOLEAN,
    /// Opened for deletion.
    pub DeleteAccess: BOOLEAN,
    /// Shares reading.
    pub SharedRead: BOOLEAN,
    /// Shares writing.
    pub SharedWrite: BOOLEAN,
    /// Shares deletion.
    pub SharedDelete: BOOLEAN,
    /// `FO_*`.
    pub Flags: u32,
    /// What follows the device's name in the name that was opened.
    pub FileName: UNICODE_STRING,
    /// Position, for synchronous files.
    pub CurrentByteOffset: i64,
    /// Waiting for the file lock.
    pub Waiters: u32,
    /// The file lock is taken.
    pub Busy: u32,
    /// The last byte-range lock.
    pub LastLock: PVOID,
    /// Signalled when the file lock is free.
    pub Lock: KEVENT,
    /// Signalled when a request on the file completes.
    pub Event: KEVENT,
    /// Of an I/O completion port; none.
    pub CompletionContext: PVOID,
    /// Guards `IrpList`.
    pub IrpListLock: usize,
    /// Requests on the file.
    pub IrpList: LIST_ENTRY,
    /// The system's.
    pub FileObjectExtension: PVOID,
}
layout!(FILE_OBJECT, size 0xD8, DeviceObject @ 0x8, FsContext @ 0x18, FsContext2 @ 0x20, FinalStatus @ 0x38,
    ReadAccess @ 0x4A, Flags @ 0x50, FileName @ 0x58, CurrentByteOffset @ 0x68, Lock @ 0x80, Event @ 0x98,
    FileObjectExtension @ 0xD0);

/// `FO_SYNCHRONOUS_IO`: requests on the file are one after another.
pub const FO_SYNCHRONOUS_IO: u32 = 0x0000_0002;
/// `FO_ALERTABLE_IO`: and their waits are alertable.
pub const FO_ALERTABLE_IO: u32 = 0x0000_0004;
/// `FO_NO_INTERMEDIATE_BUFFERING`.
pub const FO_NO_INTERMEDIATE_BUFFERING: u32 = 0x0000_0008;
/// `FO_WRITE_THROUGH`.
pub const FO_WRITE_THROUGH: u32 = 0x0000_0010;
/// `FO_SEQUENTIAL_ONLY`.
pub const FO_SEQUENTIAL_ONLY: u32 = 0x0000_0020;
/// `FO_RANDOM_ACCESS`.
pub const FO_RANDOM_ACCESS: u32 = 0x0010_0000;
/// `FO_OPENED_CASE_SENSITIVE`.
pub const FO_OPENED_CASE_SENSITIVE: u32 = 0x0002_0000;
/// `FO_CLEANUP_COMPLETE`: the last handle is closed.
pub const FO_CLEANUP_COMPLETE: u32 = 0x0000_4000;
/// `FO_HANDLE_CREATED`: a handle was made for it.
pub const FO_HANDLE_CREATED: u32 = 0x0004_0000;
