//! Stage 2: nothing of the driver's runs any more, nor will it.
//!
//! *Releasing Driver-Allocated Resources*: Unload must see to it that no other routine uses, or will use, what it is about to release. The
//! ISR is gone; here go the timers, then the DPCs that timers and ISR may have queued, then what the DPCs may have set going.

use core::sync::atomic::Ordering;

use crate::{held::Held, nt::dpc};

/// The IoTimer routine is not called again.
pub(super) fn stop_io_timer(held: &mut Held) {
    if let Some(timer) = held.io_timer.take() {
        timer.stop();
    }
}

/// The CustomTimerDpc is not queued again.
pub(super) fn cancel_timer(held: &mut Held) {
    if let Some(timer) = held.watch.take() {
        timer.cancel();
    }
}

/// The CustomDpc is not in the queue. That it was not there (*KeRemoveQueueDpc function*) may mean that it is running just now, on
/// another processor.
pub(super) fn remove_custom_dpc(held: &mut Held) {
    // Queued by the ISR alone; without a card that has interrupted there is nothing, not even an initialized DPC.
    if let Some(device) = held
        .device
        .as_ref()
        .filter(|device| device.extension().arrivals().interrupts.load(Ordering::Relaxed) > 0)
    {
        device.extension().objects().tally.remove();
    }
}

/// No DPC is queued or running, on any processor (*KeFlushQueuedDpcs function*: those that were queued before the call).
///
/// Twice, since one of the first lot may have queued one of the second: a timer's DPC requests the DpcForIsr. That one queues no other.
pub(super) fn flush_dpcs(held: &mut Held) {
    if held.device.is_some() {
        dpc::flush();
        dpc::flush();
    }
}

/// The work item is neither queued nor at work: nobody is left to queue it, and it says when it has done.
pub(super) fn await_work_item(held: &mut Held) {
    if let (Some(item), Some(device)) = (held.saver.take(), &held.device) {
        device.extension().saved.wait();
        item.free();
    }
}

/// The thread has run to its own end: it is told to, let go from its wait, and waited for.
pub(super) fn end_thread(held: &mut Held) {
    if let (Some(thread), Some(device)) = (held.recorder.take(), &held.device) {
        device.extension().stop.set();
        thread.join();
    }
}
