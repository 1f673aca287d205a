//! Serving the interrupt: at once what the hardware needs, a little later what takes time.
//!
//! The ISR runs at the interrupt's IRQL and holds up everything at or below it, so it only acknowledges, which lets the line fall, and
//! queues two DPCs. They run at DISPATCH_LEVEL as soon as the processor has nothing more urgent: the DpcForIsr takes the samples and
//! completes a read, the CustomDpc wakes the thread that records them, which an ISR may not. A sample that arrives in between raises the
//! line again.

use core::sync::atomic::Ordering;

use squall_registers::Status;
use wdk_sys::{BOOLEAN, FALSE, PKDPC, PKINTERRUPT, PVOID, TRUE};

use crate::{extension::Arrivals, nt::device, read};

/// The ISR (`InterruptService`), called with the [`Arrivals`].
pub(crate) unsafe extern "C" fn isr(_interrupt: PKINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: connected with them as its context, and disconnected before they go.
    serve(unsafe { &*context.cast::<Arrivals>() })
}

/// True where it was the card's interrupt.
pub(crate) fn serve(arrivals: &Arrivals) -> BOOLEAN {
    let status = arrivals.card.status();
    if !status.contains(Status::SAMPLE_READY) {
        return FALSE as BOOLEAN;
    }
    arrivals.card.acknowledge(status);
    arrivals.interrupts.fetch_add(1, Ordering::Relaxed);
    if status.contains(Status::OVERRUN) {
        arrivals.overruns.fetch_add(1, Ordering::Relaxed);
    }
    #[cfg(feature = "defects")]
    let _strike = crate::defect::Strike;
    #[cfg(feature = "defects")]
    if crate::defect::is_told_to_rest() {
        return TRUE as BOOLEAN;
    }
    // SAFETY: DriverEntry initialized the DPC before it connected the interrupt, and the device outlives that.
    unsafe { device::request_dpc(arrivals.device) };
    // SAFETY: as above.
    unsafe { device::extension(arrivals.device) }.objects().tally.queue();
    TRUE as BOOLEAN
}

/// The DpcForIsr, called with the device object.
pub(crate) unsafe extern "C" fn dpc(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
    // SAFETY: initialized with the device object as its context, and out of the queue before that is deleted.
    read::deliver(context.cast(), unsafe { device::extension(context.cast()) });
}

/// The CustomDpc, called with the [`Arrivals`].
pub(crate) unsafe extern "C" fn tally(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
    // SAFETY: initialized with them as its context, and neither queued nor running when they go.
    let arrivals = unsafe { &*context.cast::<Arrivals>() };
    // SAFETY: the device outlives them.
    let extension = unsafe { device::extension(arrivals.device) };
    #[cfg(feature = "defects")]
    crate::defect::in_tally(extension);
    let interrupts = arrivals.interrupts.load(Ordering::Relaxed);
    if extension.tallied.swap(interrupts, Ordering::Relaxed) != interrupts {
        extension.activity.set();
    }
}
