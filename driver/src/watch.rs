//! The watch: a periodic timer that finds samples which no interrupt has announced.
//!
//! Hardware loses an interrupt now and then: an edge that comes while the line is masked, a message to a processor that is being
//! started. A driver that only ever waits for the next one then waits for ever.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use wdk_sys::{PKDPC, PVOID};

use crate::{nt::device, saver};

/// Milliseconds between two looks.
pub(crate) const PERIOD: i32 = 10;

/// Looks between two times that the counts are saved: a second's worth. The first time, as soon as there is something to save.
const SAVE_EVERY: u32 = 100;

/// What the watch remembers.
pub(crate) struct Watch {
    /// Interrupts served when it last looked.
    seen: AtomicU64,
    recovered: AtomicU64,
    /// Looks since the counts were last saved.
    unsaved: AtomicU32,
}

impl Watch {
    /// Has not looked yet.
    pub(crate) const fn new() -> Self {
        Self { seen: AtomicU64::new(0), recovered: AtomicU64::new(0), unsaved: AtomicU32::new(SAVE_EVERY) }
    }

    /// Samples that it found.
    pub(crate) fn recovered(&self) -> u64 {
        self.recovered.load(Ordering::Relaxed)
    }
}

/// CustomTimerDpc, called with the device object.
pub(crate) unsafe extern "C" fn look(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
    #[cfg(feature = "defects")]
    if crate::defect::is_told_to_rest() {
        return;
    }
    // SAFETY: started with the device object as its context, and cancelled before that is deleted.
    let extension = unsafe { device::extension(context.cast()) };
    let watch = &extension.watch;
    let arrivals = extension.arrivals();
    let interrupts = arrivals.interrupts.load(Ordering::Relaxed);
    let waiting = arrivals.card.level();
    if watch.seen.swap(interrupts, Ordering::Relaxed) == interrupts && waiting > 0 {
        watch.recovered.fetch_add(waiting.into(), Ordering::Relaxed);
        // SAFETY: this driver's device, whose DPC was initialized before the timer was set.
        unsafe { device::request_dpc(arrivals.device) };
    }
    let due = watch.unsaved.fetch_add(1, Ordering::Relaxed) >= SAVE_EVERY;
    if due && interrupts > 0 {
        watch.unsaved.store(0, Ordering::Relaxed);
        saver::save(extension);
    }
}
