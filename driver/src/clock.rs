//! What happens once a second: the IoTimer routine.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use wdk_sys::{PDEVICE_OBJECT, PVOID};

use crate::{extension::Extension, nt::device, read};

/// What the card could read of its driver: a page that both see all the time.
///
/// A card that is a bus master looks here before it asks for service: where the beats have stopped, nobody would answer. This one masters
/// no bus and never looks, but its driver keeps the page as such drivers do.
#[repr(C)]
pub(crate) struct Heartbeat {
    /// Seconds that the driver has lived.
    beats: AtomicU32,
    /// Interrupts that it has served by then.
    interrupts: AtomicU64,
}

impl Heartbeat {
    /// Before the first beat.
    pub(crate) const fn new() -> Self {
        Self { beats: AtomicU32::new(0), interrupts: AtomicU64::new(0) }
    }

    fn beat(&self, interrupts: u64) {
        self.interrupts.store(interrupts, Ordering::Relaxed);
        // The count last: who sees it sees what belongs to it.
        self.beats.fetch_add(1, Ordering::Release);
    }
}

/// IoTimer, about once a second, at DISPATCH_LEVEL.
pub(crate) unsafe extern "C" fn each_second(device: PDEVICE_OBJECT, _context: PVOID) {
    // SAFETY: the I/O manager calls with this driver's device.
    let extension = unsafe { device::extension(device) };
    beat(extension);
    read::look_at_the_clock(device, extension);
}

fn beat(extension: &Extension) {
    let interrupts = extension.arrivals().interrupts.load(Ordering::Relaxed);
    // SAFETY: freed when this timer has stopped, and not before.
    unsafe { extension.set_up.get().heartbeat.get() }.beat(interrupts);
}
