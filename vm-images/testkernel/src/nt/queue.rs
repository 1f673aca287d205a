//! Cancel-safe queues and remove locks: structures that lie in a driver's own memory and that the I/O manager works on.

use super::{BOOLEAN, IRP, KEVENT, KIRQL, NTSTATUS, PVOID, layout};

/// A context for one packet in a cancel-safe queue.
pub const IO_TYPE_CSQ_IRP_CONTEXT: u32 = 1;
/// A cancel-safe queue.
pub const IO_TYPE_CSQ: u32 = 2;
/// One whose insert routine may refuse.
pub const IO_TYPE_CSQ_EX: u32 = 3;

/// `IO_CSQ_INSERT_IRP_EX`; `IO_CSQ_INSERT_IRP` is the same without the context and the status.
pub type CsqInsertIrpEx =
    unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP, context: PVOID) -> NTSTATUS;
/// `IO_CSQ_REMOVE_IRP`, and `IO_CSQ_COMPLETE_CANCELED_IRP`.
pub type CsqRemoveIrp = unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP);
/// `IO_CSQ_PEEK_NEXT_IRP`: the packet after `irp`, or the first for null.
pub type CsqPeekNextIrp =
    unsafe extern "win64" fn(csq: *mut IO_CSQ, irp: *mut IRP, context: PVOID) -> *mut IRP;
/// `IO_CSQ_ACQUIRE_LOCK`.
pub type CsqAcquireLock = unsafe extern "win64" fn(csq: *mut IO_CSQ, irql: *mut KIRQL);
/// `IO_CSQ_RELEASE_LOCK`.
pub type CsqReleaseLock = unsafe extern "win64" fn(csq: *mut IO_CSQ, irql: KIRQL);

/// A cancel-safe queue.
#[derive(Debug)]
#[repr(C)]
pub struct IO_CSQ {
    /// [`IO_TYPE_CSQ`] or [`IO_TYPE_CSQ_EX`].
    pub Type: u32,
    /// Queues a packet.
    pub CsqInsertIrp: CsqInsertIrpEx,
    /// Takes a packet out.
    pub CsqRemoveIrp: CsqRemoveIrp,
    /// Finds a packet.
    pub CsqPeekNextIrp: CsqPeekNextIrp,
    /// Takes the queue's lock.
    pub CsqAcquireLock: CsqAcquireLock,
    /// Gives it back.
    pub CsqReleaseLock: CsqReleaseLock,
    /// Completes a packet that was cancelled.
    pub CsqCompleteCanceledIrp: CsqRemoveIrp,
    /// Reserved.
    pub ReservePointer: PVOID,
}
layout!(IO_CSQ, size 0x40, CsqInsertIrp @ 0x8, CsqAcquireLock @ 0x20, CsqCompleteCanceledIrp @ 0x30);

/// Stands for one packet in a cancel-safe queue.
#[derive(Debug)]
#[repr(C)]
pub struct IO_CSQ_IRP_CONTEXT {
    /// [`IO_TYPE_CSQ_IRP_CONTEXT`].
    pub Type: u32,
    /// The packet, null once it has left the queue.
    pub Irp: *mut IRP,
    /// The queue.
    pub Csq: *mut IO_CSQ,
}
layout!(IO_CSQ_IRP_CONTEXT, size 0x18, Irp @ 0x8, Csq @ 0x10);

/// A remove lock of a free build; one of a checked build begins like this.
#[derive(Debug)]
#[repr(C)]
pub struct IO_REMOVE_LOCK {
    /// Nobody may acquire it any more.
    pub Removed: BOOLEAN,
    /// Reserved.
    pub Reserved: [BOOLEAN; 3],
    /// Holders, and one for the device itself.
    pub IoCount: i32,
    /// Set with the last release.
    pub RemoveEvent: KEVENT,
}
layout!(IO_REMOVE_LOCK, size 0x20, IoCount @ 0x4, RemoveEvent @ 0x8);
