//! Holding the window open: the interrupt that a mistake is about falls into it.
//!
//! Between the mistake and the write that silences the card lie some microseconds, and a storm hits them now and then. Here Unload waits
//! at that very place until it was hit: what happens once in a thousand unloads in the field happens in each.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use wdk_sys::{
    KAFFINITY,
    ntddk::{KeRevertToUserAffinityThreadEx, KeSetSystemAffinityThreadEx, KeStallExecutionProcessor},
};

/// Interrupts that were served.
static STRIKES: AtomicU32 = AtomicU32::new(0);
/// The ISR is to do nothing but acknowledge, and the timer's routine nothing at all.
static RESTS: AtomicBool = AtomicBool::new(false);

/// The ISR runs; when this is dropped it has done all that it does.
pub(crate) struct Strike;

impl Drop for Strike {
    fn drop(&mut self) {
        STRIKES.fetch_add(1, Ordering::Release);
    }
}

/// Returns when the ISR has run once more, or when no interrupt came for some milliseconds: there may be no storm. In a thread at
/// PASSIVE_LEVEL.
pub(super) fn wait() {
    // A time slice begins: its end, when the clock has every DPC run, is as far away as can be.
    super::sleep(1);
    /// In microseconds, as short as a stall should be.
    const LOOK: u32 = 10;
    const LOOKS: u32 = 500;
    let before = STRIKES.load(Ordering::Acquire);
    for _ in 0..LOOKS {
        if STRIKES.load(Ordering::Acquire) != before {
            return;
        }
        // SAFETY: has no requirement, but that it be short.
        unsafe { KeStallExecutionProcessor(LOOK) };
    }
}

/// Tells them to rest: "they look at this flag, so nothing more can come of it".
pub(super) fn tell_to_rest() {
    RESTS.store(true, Ordering::Release);
}

/// Whether they were told to.
pub(crate) fn is_told_to_rest() -> bool {
    RESTS.load(Ordering::Acquire)
}

/// Where Unload runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// On the processor that takes the interrupts. A DPC of low importance waits there as long as that has something better to do. There
    /// has to be something, or it is run at once: on a busy machine there always is, here it is Unload.
    There,
    /// On another one, so that it runs beside the ISR and its DPCs.
    Another,
}

/// This thread, kept on a processor; where it was before when dropped.
pub(super) struct Standing(KAFFINITY);

impl Standing {
    /// Goes there. At PASSIVE_LEVEL.
    pub(super) fn on(stand: Stand) -> Self {
        // Interrupts are taken by the first processor that may.
        let affinity = match stand {
            Stand::There => 1,
            Stand::Another => 2,
        };
        // SAFETY: has no requirement; processors that are not there are left out.
        Self(unsafe { KeSetSystemAffinityThreadEx(affinity) })
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // SAFETY: what the other call gave.
        unsafe { KeRevertToUserAffinityThreadEx(self.0) };
    }
}
