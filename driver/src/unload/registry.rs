//! Stages 5 and 6: what the registry says about the driver while it is loaded.

use crate::held::Held;

/// Stage 5 of *Releasing Driver-Allocated Resources*: hardware resources claimed in the ResourceMap.
pub(super) fn give_back_claim(held: &mut Held) {
    if let Some(claim) = held.claim.take() {
        claim.give_back();
    }
}

/// Stage 6 of the same page: names stored in the DeviceMap.
pub(super) fn remove_device_map_name(held: &mut Held) {
    if let Some(name) = held.mapped_name.take() {
        name.delete();
    }
}
