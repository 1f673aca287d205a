//! Reading samples: one request at a time, and the others wait for their turn.
//!
//! A request goes the way of a driver with a StartIo routine. The dispatch routine puts it into the device's queue; [StartIo](start_io)
//! gets it when the device has done with the one before, and asks for the controller, without which nobody touches the card's data; with
//! that, it [waits](begin) for samples. Whatever ends it, samples, a cancellation, the closing of its file or a time-out, the DPC
//! [completes](deliver) it: in one place, at DISPATCH_LEVEL, and then lets the next one begin.
//!
//! While it waits, whoever clears its cancel routine decides what becomes of it; whoever finds it cleared leaves it alone.

use core::sync::atomic::Ordering;

use squall_driver_pure::SampleRing;
use wdk_sys::{
    _IO_ALLOCATION_ACTION::KeepObject, IO_ALLOCATION_ACTION, NTSTATUS, PDEVICE_OBJECT, PIRP, PVOID,
    STATUS_BUFFER_TOO_SMALL, STATUS_CANCELLED, STATUS_IO_TIMEOUT, STATUS_PENDING, STATUS_SUCCESS,
};

use crate::{
    extension::Extension,
    nt::{
        device,
        irp::{self, Cancelled, Irp},
    },
};

/// Samples that wait for a reader, and the reader that waits for samples.
pub(crate) struct Reads {
    /// Four times what the card itself keeps.
    ring: SampleRing<256>,
    /// The same samples, until the recorder has taken them.
    pub(crate) fresh: SampleRing<64>,
    waiting: Option<Waiting>,
    /// The file is closed: what still comes through the queue is not wanted any more.
    closed: bool,
}

/// The request that has the controller.
struct Waiting {
    irp: Irp,
    seconds: u32,
    /// What it ends with, where that is no samples. Its cancel routine is cleared then.
    outcome: Option<NTSTATUS>,
}

impl Waiting {
    /// Has it end with `status`, unless it is too late for that.
    fn end_with(&mut self, status: NTSTATUS) -> bool {
        let ends = self.outcome.is_none() && self.irp.make_uncancellable();
        if ends {
            self.outcome = Some(status);
        }
        ends
    }
}

impl Reads {
    /// Neither samples nor readers.
    pub(crate) const fn new() -> Self {
        Self { ring: SampleRing::new(), fresh: SampleRing::new(), waiting: None, closed: false }
    }

    /// Samples that came too late for the ring.
    pub(crate) fn lost(&self) -> u64 {
        self.ring.lost()
    }
}

/// `IRP_MJ_READ`: as many samples as there are and fit, four bytes each; waits where there are none.
pub(crate) fn read(device: PDEVICE_OBJECT, mut irp: Irp) -> NTSTATUS {
    match irp.read_length() {
        0 => return irp.complete(STATUS_SUCCESS, 0),
        1..4 => return irp.complete(STATUS_BUFFER_TOO_SMALL, 0),
        _ => {}
    }
    irp.mark_pending();
    // SAFETY: marked, and sent to this device; the routine does what it has to.
    unsafe { irp.start(device, cancel_queued) };
    STATUS_PENDING
}

/// StartIo: the request is the device's current one, and cannot be cancelled for the moment.
pub(crate) unsafe extern "C" fn start_io(device: PDEVICE_OBJECT, _irp: PIRP) {
    // SAFETY: the I/O manager calls with this driver's device.
    let controller = unsafe { device::extension(device) }.set_up.get().controller;
    // SAFETY: made in DriverEntry; the device had done with its last request, so it does not wait.
    unsafe { controller.allocate(device, Some(begin)) };
}

/// ControllerControl: the request has the controller, and keeps it until it is completed.
unsafe extern "C" fn begin(
    device: PDEVICE_OBJECT,
    irp: PIRP,
    _map_registers: PVOID,
    _context: PVOID,
) -> IO_ALLOCATION_ACTION {
    // SAFETY: the I/O manager calls with this driver's device.
    let extension = unsafe { device::extension(device) };
    let mut reads = extension.reads.lock();
    // SAFETY: and with its current request, which nobody else completes.
    let mut waiting = Waiting { irp: unsafe { Irp::new(irp) }, seconds: 0, outcome: None };
    waiting.irp.make_cancellable(cancel_waiting);
    if waiting.irp.is_cancelled() || reads.closed {
        // Where its cancel routine is on the way already, that waits for the lock and finds it here.
        waiting.end_with(STATUS_CANCELLED);
    }
    let due = waiting.outcome.is_some() || !reads.ring.is_empty();
    reads.waiting = Some(waiting);
    drop(reads);
    if due {
        // SAFETY: this driver's device.
        unsafe { device::request_dpc(device) };
    }
    KeepObject
}

/// The part of the DPC that is about reading: takes the card's samples, and completes the request that they, or anything else, end.
pub(crate) fn deliver(device: PDEVICE_OBJECT, extension: &Extension) {
    let mut guard = extension.reads.lock();
    let reads = &mut *guard;
    // Under the lock, as the DPC may run on two processors at once: it leaves the queue before it runs.
    extension.arrivals().card.drain(|sample| {
        reads.ring.push(sample);
        reads.fresh.push(sample);
    });
    let ring = &mut reads.ring;
    let ended = |waiting: &mut Waiting| {
        waiting.outcome.is_some() || (!ring.is_empty() && waiting.irp.make_uncancellable())
    };
    let Some(Waiting { mut irp, outcome, .. }) = reads.waiting.take_if(ended) else { return };
    let bytes = match outcome {
        Some(_) => 0,
        None => {
            let length = irp.read_length();
            // SAFETY: a read.
            ring.drain_into(unsafe { irp.buffer(length) })
        }
    };
    drop(guard);
    extension.delivered.fetch_add((bytes / size_of::<u32>()) as u64, Ordering::Relaxed);
    irp.complete(outcome.unwrap_or(STATUS_SUCCESS), bytes);
    // SAFETY: the request had it, and is gone.
    unsafe { extension.set_up.get().controller.free() };
    // SAFETY: this driver's device, whose current request that was.
    unsafe { irp::start_next(device) };
}

/// A second has passed: no read waits longer than its time. At DISPATCH_LEVEL.
pub(crate) fn look_at_the_clock(device: PDEVICE_OBJECT, extension: &Extension) {
    if extension.read_timeout == 0 {
        return;
    }
    let mut reads = extension.reads.lock();
    let Some(waiting) = &mut reads.waiting else { return };
    waiting.seconds = waiting.seconds.saturating_add(1);
    if waiting.seconds > extension.read_timeout && waiting.end_with(STATUS_IO_TIMEOUT) {
        drop(reads);
        extension.timed_out.fetch_add(1, Ordering::Relaxed);
        // SAFETY: this driver's device.
        unsafe { device::request_dpc(device) };
    }
}

/// A file is opened: reads are wanted.
pub(crate) fn admit(extension: &Extension) {
    extension.reads.lock().closed = false;
}

/// The file is closed: the request that waits is not wanted any more, nor are those behind it, which come through StartIo one by one.
pub(crate) fn abandon(extension: &Extension) {
    let mut reads = extension.reads.lock();
    reads.closed = true;
    if reads.waiting.as_mut().is_some_and(|waiting| waiting.end_with(STATUS_CANCELLED)) {
        drop(reads);
        // SAFETY: this driver's device.
        unsafe { device::request_dpc(extension.arrivals().device) };
    }
}

/// Cancel, of a request that waits in the device's queue.
unsafe extern "C" fn cancel_queued(device: PDEVICE_OBJECT, irp: PIRP) {
    // SAFETY: called by the I/O manager to cancel it.
    let cancelled = unsafe { Cancelled::new(irp) };
    // SAFETY: the device it was sent to.
    unsafe { cancelled.leave_queue(device) };
}

/// Cancel, of the request that waits for samples.
unsafe extern "C" fn cancel_waiting(device: PDEVICE_OBJECT, irp: PIRP) {
    // SAFETY: called by the I/O manager to cancel it.
    let irp = unsafe { Cancelled::new(irp) }.release();
    // SAFETY: this driver's device, which stays while it has a request.
    let extension = unsafe { device::extension(device) };
    let mut reads = extension.reads.lock();
    // It is still there: with its cancel routine cleared, as it is now, nobody completes it who has not been told to.
    if let Some(waiting) = reads.waiting.as_mut().filter(|waiting| waiting.irp.is(irp)) {
        waiting.outcome = Some(STATUS_CANCELLED);
    }
    drop(reads);
    // SAFETY: this driver's device.
    unsafe { device::request_dpc(device) };
}
