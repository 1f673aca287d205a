//! The recorder: a thread of the driver's own, which keeps the newest samples for who asks later.
//!
//! What takes its time, or has to wait, is no work for a DPC. The thread waits for two dispatcher objects, the event that says that
//! something has come in and the one that says that it is enough.

use core::sync::atomic::Ordering;

use squall_driver_pure::{Chart, Statistics};
use wdk_sys::{PVOID, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST, STATUS_SUCCESS};

use crate::{
    extension::Extension,
    nt::{contiguous::Contiguous, device, event::Event, irp::Irp, thread},
};

/// Samples that are kept: 16 KiB of them, in memory that a bus master of the card's family could write to itself.
pub(crate) const KEPT: usize = 4096;

/// `CTL_CODE(FILE_DEVICE_UNKNOWN, FUNCTION, METHOD_BUFFERED, FILE_READ_ACCESS)`.
const fn read_code(function: u32) -> u32 {
    0x22 << 16 | 1 << 14 | function << 2
}

/// What the driver has counted: a [`Statistics`].
pub(crate) const IOCTL_GET_STATISTICS: u32 = read_code(0x800);
/// The newest samples, four bytes each, the oldest of them first.
pub(crate) const IOCTL_GET_RECORDING: u32 = read_code(0x801);

/// Where the samples are kept, while there is memory for them.
pub(crate) struct Recording(Option<Chart<'static>>);

impl Recording {
    /// No memory yet, or no more.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// From now on in that memory.
    ///
    /// # Safety
    ///
    /// It is replaced by [`none`](Self::none) before the memory is freed.
    pub(crate) unsafe fn to(memory: &Contiguous) -> Self {
        // SAFETY: by contract; DriverEntry calls this once.
        Self(Some(Chart::new(unsafe { memory.lend() })))
    }
}

/// The thread, called with the device object.
pub(crate) unsafe extern "C" fn record(context: PVOID) {
    // SAFETY: begun with the device object as its context, which is not deleted before the thread has terminated.
    let extension = unsafe { device::extension(context.cast()) };
    #[cfg(feature = "defects")]
    let defect = extension.defect;
    while !Event::wait_for_first(&extension.stop, &extension.activity) {
        take_down(extension);
    }
    #[cfg(feature = "defects")]
    crate::defect::dawdle(defect, crate::defect::Where::Thread);
    // SAFETY: this is the thread's routine, and has nothing to drop.
    unsafe { thread::terminate() };
}

/// Moves what is fresh to the chart.
fn take_down(extension: &Extension) {
    let mut samples = [0; 64];
    // One lock at a time, and each no longer than it takes to copy: a DPC may be waiting for it.
    let mut reads = extension.reads.lock();
    let mut taken = 0;
    for place in &mut samples {
        let Some(sample) = reads.fresh.pop() else { break };
        *place = sample;
        taken += 1;
    }
    drop(reads);
    if let (Some(chart), Some(taken)) = (&mut extension.recording.lock().0, samples.get(..taken)) {
        chart.append(taken);
    }
}

/// `IRP_MJ_DEVICE_CONTROL`: what a program may ask for.
pub(crate) fn answer(extension: &Extension, mut irp: Irp) -> wdk_sys::NTSTATUS {
    let (code, room) = irp.control();
    // SAFETY: the room that the request says there is.
    let buffer = unsafe { irp.buffer(room) };
    let (status, bytes) = match code {
        IOCTL_GET_STATISTICS => match buffer.get_mut(..Statistics::LEN) {
            Some(place) => {
                place.copy_from_slice(&statistics(extension).to_bytes());
                (STATUS_SUCCESS, Statistics::LEN)
            }
            None => (STATUS_BUFFER_TOO_SMALL, 0),
        },
        IOCTL_GET_RECORDING => {
            let chart = extension.recording.lock();
            (STATUS_SUCCESS, chart.0.as_ref().map_or(0, |chart| chart.newest_into(buffer)))
        }
        _ => (STATUS_INVALID_DEVICE_REQUEST, 0),
    };
    irp.complete(status, bytes)
}

/// Everything that was counted so far.
pub(crate) fn statistics(extension: &Extension) -> Statistics {
    let arrivals = extension.arrivals();
    Statistics {
        interrupts: arrivals.interrupts.load(Ordering::Relaxed),
        overruns: arrivals.overruns.load(Ordering::Relaxed),
        delivered: extension.delivered.load(Ordering::Relaxed),
        lost: extension.reads.lock().lost(),
        recovered: extension.watch.recovered(),
        timed_out: extension.timed_out.load(Ordering::Relaxed),
    }
}
