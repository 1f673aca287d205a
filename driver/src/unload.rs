//! Unload: everything back, in the documented order.
//!
//! The order is that of the driver documentation's pages *Non-PnP Driver's Unload Routine*, *Releasing Driver-Allocated Resources* and
//! *Releasing Device and Controller Objects*. Its first stage is the one that everything else leans on. Until the device is silent its
//! ISR can be called at any instruction of this routine, and what the ISR queues runs *before this routine goes on*, on this processor
//! or beside it on another.

use core::sync::atomic::Ordering;

use wdk_sys::{DRIVER_OBJECT, ntddk::KeFlushQueuedDpcs};

#[cfg(feature = "defects")]
use crate::defect::Defect;
use crate::{
    device::Device,
    extension::{Extension, Held},
    interrupt::Interrupt,
};

/// Called once by the I/O manager in a system thread at PASSIVE_LEVEL (*Unload Routine Environment*): no file is open, no request is
/// outstanding, nothing is attached. The image is unmapped when it returns.
pub(crate) unsafe extern "C" fn unload(driver: *mut DRIVER_OBJECT) {
    // SAFETY: this is Unload, and it is the only call.
    let Some(device) = (unsafe { Device::of(driver) }) else { return };
    let extension = device.extension();
    // SAFETY: this is Unload, and it is the only call.
    let Some(Held { claim, interrupt, link }) = (unsafe { extension.release() }) else { return };

    // Stages 0 and 1. *Non-PnP Driver's Unload Routine*: the first thing is to disable interrupts at the device. *Releasing
    // Driver-Allocated Resources*: then disconnect, as soon as they are disabled.
    silence_and_disconnect(extension, interrupt);

    // Stage 2, same page: nothing else may still reference what is about to go. The ISR was the only one to queue the DPC, so after
    // this it is not queued (*KeRemoveQueueDpc function*) and, whether or not it was, not running on another processor either
    // (*KeFlushQueuedDpcs function*).
    device.remove_dpc();
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { KeFlushQueuedDpcs() };

    // Stage 3: what the driver allocated. The name first: nobody finds the device any more.
    link.delete();
    wdk::println!(
        "squall: unloading after {} interrupts, {} samples unread for too long",
        extension.served.load(Ordering::Relaxed),
        extension.reads.lock().lost()
    );

    // Stage 4 is empty: of what an extension may point at, only the interrupt object was there, and it went with stage 1.

    // Stage 5: hardware resources. The ports are not ours after this.
    claim.give_back();

    // Stage 6 is empty: no name in the registry's DeviceMap.

    // *Releasing Device and Controller Objects*: last, and with it the extension and the DPC object.
    device.delete();
}

/// Stages 0 and 1.
fn silence_and_disconnect(extension: &Extension, interrupt: Interrupt) {
    #[cfg(feature = "defects")]
    if extension.defect == Some(Defect::InterruptsLeftEnabledAndConnected) {
        return interrupt.leave_connected();
    }
    // At the interrupt's IRQL, so that no ISR is half-way through on another processor when it takes effect.
    interrupt.synchronize(|| extension.card.disable_interrupts());
    interrupt.disconnect();
}
