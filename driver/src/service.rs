//! Serving the interrupt: at once what the hardware needs, a little later what takes time.
//!
//! The ISR runs at the interrupt's IRQL and holds up everything at or below it, so it only acknowledges, which lets the line fall, and
//! queues the DPC. The DPC runs at DISPATCH_LEVEL as soon as the processor has nothing more urgent: it takes the samples and completes a
//! read. A sample that arrives in between raises the line again.

use core::sync::atomic::Ordering;

use squall_registers::Status;
use wdk_sys::{BOOLEAN, FALSE, PKDPC, PKINTERRUPT, PVOID, TRUE};

use crate::{device, read};

/// The ISR (`InterruptService`), called with the device object.
pub(crate) unsafe extern "C" fn isr(_interrupt: PKINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: connected with the device object as its context, and disconnected before that is deleted.
    let extension = unsafe { device::extension(context.cast()) };
    let status = extension.card.status();
    if !status.contains(Status::SAMPLE_READY) {
        return FALSE as BOOLEAN;
    }
    extension.card.acknowledge(status);
    extension.served.fetch_add(1, Ordering::Relaxed);
    // SAFETY: as above; DriverEntry initialized the DPC before it connected the interrupt.
    unsafe { device::request_dpc(context.cast()) };
    TRUE as BOOLEAN
}

/// The DPC (`DpcForIsr`), called with the device object.
pub(crate) unsafe extern "C" fn dpc(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
    // SAFETY: initialized with the device object as its context, and out of the queue before that is deleted.
    read::deliver(unsafe { device::extension(context.cast()) });
}
