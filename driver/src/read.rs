//! Reading samples: at once where there are some, later where there are none.
//!
//! At most one read waits. It can be completed by three parties: the DPC when samples come, its cancel routine, and cleanup when its
//! file is closed. Whoever clears the cancel routine owns the request; whoever finds it cleared leaves it alone.

use squall_driver_pure::SampleRing;
use wdk_sys::{
    KIRQL, NTSTATUS, PDEVICE_OBJECT, PFILE_OBJECT, PIRP, STATUS_BUFFER_TOO_SMALL, STATUS_CANCELLED,
    STATUS_DEVICE_BUSY, STATUS_PENDING, STATUS_SUCCESS, ntddk::IoReleaseCancelSpinLock,
};

use crate::{device, extension::Extension, irp::Irp};

/// Samples that wait for a reader, and the reader that waits for samples.
pub(crate) struct Reads {
    /// Four times what the card itself keeps.
    ring: SampleRing<256>,
    waiting: Option<Irp>,
}

impl Reads {
    /// Neither samples nor readers.
    pub(crate) const fn new() -> Self {
        Self { ring: SampleRing::new(), waiting: None }
    }

    /// Samples that came too late for the ring.
    pub(crate) fn lost(&self) -> u64 {
        self.ring.lost()
    }
}

/// `IRP_MJ_READ`: as many samples as there are and fit, four bytes each; waits where there are none.
pub(crate) unsafe extern "C" fn read(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager calls with this driver's device.
    let extension = unsafe { device::extension(device) };
    // SAFETY: and with a request for it.
    let mut irp = unsafe { Irp::new(irp) };
    match irp.read_length() {
        0 => return irp.complete(STATUS_SUCCESS, 0),
        1..4 => return irp.complete(STATUS_BUFFER_TOO_SMALL, 0),
        _ => {}
    }
    let mut reads = extension.reads.lock();
    if !reads.ring.is_empty() {
        let bytes = reads.ring.drain_into(irp.read_buffer());
        drop(reads);
        return irp.complete(STATUS_SUCCESS, bytes);
    }
    if reads.waiting.is_some() {
        drop(reads);
        return irp.complete(STATUS_DEVICE_BUSY, 0);
    }
    irp.mark_pending();
    irp.make_cancellable(cancel);
    if irp.is_cancelled() && irp.make_uncancellable() {
        // Cancelled before it could be: nobody called the routine, and nobody will.
        drop(reads);
        irp.complete(STATUS_CANCELLED, 0);
    } else {
        // Where its cancel routine is on the way already, that waits for the lock and finds it here.
        reads.waiting = Some(irp);
    }
    STATUS_PENDING
}

/// The part of the DPC that is about reading: takes the card's samples, and satisfies who waits for them.
pub(crate) fn deliver(extension: &Extension) {
    let mut reads = extension.reads.lock();
    // Under the lock, as the DPC may run on two processors at once: it leaves the queue before it runs.
    extension.card.drain(|sample| reads.ring.push(sample));
    if reads.ring.is_empty() {
        return;
    }
    let Some(mut irp) = reads.waiting.take() else { return };
    if irp.make_uncancellable() {
        let bytes = reads.ring.drain_into(irp.read_buffer());
        drop(reads);
        irp.complete(STATUS_SUCCESS, bytes);
    }
}

/// The part of cleanup that is about reading: nobody waits for samples through a file that is being closed.
pub(crate) fn abandon(extension: &Extension, file: PFILE_OBJECT) {
    let mut reads = extension.reads.lock();
    let Some(mut irp) = reads.waiting.take_if(|irp| irp.file() == file) else { return };
    drop(reads);
    if irp.make_uncancellable() {
        irp.complete(STATUS_CANCELLED, 0);
    }
}

/// Called by `IoCancelIrp` for a request that waits, at DISPATCH_LEVEL, with the cancel spin lock held.
unsafe extern "C" fn cancel(device: PDEVICE_OBJECT, irp: PIRP) {
    // SAFETY: the kernel called this routine for that request, so it is this routine's to complete.
    let before: KIRQL = unsafe { (*irp).CancelIrql };
    // SAFETY: held since `IoCancelIrp`, which left the IRQL to go back to in the request.
    unsafe { IoReleaseCancelSpinLock(before) };
    // SAFETY: this driver's device, which stays while it has a request.
    let extension = unsafe { device::extension(device) };
    extension.reads.lock().waiting.take_if(|waiting| waiting.is(irp));
    // SAFETY: out of everybody else's reach now.
    unsafe { Irp::new(irp) }.complete(STATUS_CANCELLED, 0);
}
