//! Stage 4: what the extension points at and is not the driver's.
//!
//! *Releasing Driver-Allocated Resources*: the device that this driver's is attached to, and the file object that holds it open.

use crate::held::Held;

/// Ours is not on top of another driver's device any more.
pub(super) fn detach_lower_device(held: &mut Held) {
    if let Some(lower) = held.lower.take() {
        lower.detach();
    }
}

/// The other driver's device is not held open any more: it may be unloaded.
pub(super) fn dereference_file_object(held: &mut Held) {
    if let Some(opened) = held.opened.take() {
        opened.dereference();
    }
}
