//! What the driver keeps for its device.

use core::{cell::UnsafeCell, sync::atomic::AtomicU64};

use crate::{card::Card, claim::Claim, interrupt::Interrupt, link::Link, lock::SpinLock, read::Reads};

/// The device extension: non-paged memory that comes and goes with the device object, and the only state this driver has.
///
/// The ISR reaches it at DIRQL, the DPC at DISPATCH_LEVEL, dispatch routines at or below that, each on any processor. Hence every
/// field is one of three kinds: it never changes, it is atomic, or it says who may touch it.
pub(crate) struct Extension {
    /// Never changes.
    pub(crate) card: Card,
    /// Interrupts that the ISR served.
    pub(crate) served: AtomicU64,
    /// Samples and who waits for them.
    pub(crate) reads: SpinLock<Reads>,
    /// Never changes.
    #[cfg(feature = "defects")]
    pub(crate) defect: Option<crate::defect::Defect>,
    /// Only DriverEntry and Unload, which never run at once.
    held: UnsafeCell<Option<Held>>,
}

/// What has to be given back at Unload.
pub(crate) struct Held {
    /// The ports and the line.
    pub(crate) claim: Claim,
    /// The connected ISR.
    pub(crate) interrupt: Interrupt,
    /// The name that programs open.
    pub(crate) link: Link,
}

impl Extension {
    /// The state of a driver that has found its card and nothing else.
    pub(crate) const fn new(
        card: Card,
        #[cfg(feature = "defects")] defect: Option<crate::defect::Defect>,
    ) -> Self {
        Self {
            card,
            served: AtomicU64::new(0),
            reads: SpinLock::new(Reads::new()),
            #[cfg(feature = "defects")]
            defect,
            held: UnsafeCell::new(None),
        }
    }

    /// Keeps what Unload will need.
    ///
    /// # Safety
    ///
    /// Called by DriverEntry, once.
    pub(crate) unsafe fn hold(&self, held: Held) {
        // SAFETY: nothing else runs that touches it.
        unsafe { *self.held.get() = Some(held) };
    }

    /// Takes what DriverEntry kept.
    ///
    /// # Safety
    ///
    /// Called by Unload, once.
    pub(crate) unsafe fn release(&self) -> Option<Held> {
        // SAFETY: nothing else runs that touches it.
        unsafe { &mut *self.held.get() }.take()
    }
}
