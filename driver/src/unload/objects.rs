//! The end: *Releasing Device and Controller Objects*.
//!
//! Each is deleted once, when nothing leads to it or from it any more, and the count of devices goes with the device.

use crate::held::Held;

/// `IoDeleteController`.
pub(super) fn delete_controller(held: &mut Held) {
    if let Some(controller) = held.controller.take() {
        controller.delete();
    }
}

/// One device less.
pub(super) fn count_out(held: &mut Held) {
    if let Some(counted) = held.counted.take() {
        counted.out();
    }
}

/// `IoDeleteDevice`: with it goes the extension, and in it the DPC, the timer, the events and the lookaside list.
pub(super) fn delete_device(held: &mut Held) {
    if let Some(device) = held.device.take() {
        device.delete();
    }
}
