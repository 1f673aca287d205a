//! Stages 0 and 1: no more interrupts.
//!
//! *Non-PnP Driver's Unload Routine*: Unload begins by disabling interrupts at the device. *Releasing Driver-Allocated Resources*: it then
//! disconnects the ISR, as soon as they are disabled.

use crate::held::Held;

/// From here on the card does not interrupt.
pub(super) fn silence(held: &mut Held) {
    let Some(card) = held.card.take() else { return };
    match &held.interrupts {
        // At the interrupt's IRQL, so that no ISR is half-way through on another processor when it takes effect.
        Some(interrupts) => interrupts.synchronize(|| card.disable_interrupts()),
        None => card.disable_interrupts(),
    }
}

/// From here on the ISR is not called: not by this card, nor by another one on the same line.
pub(super) fn disconnect(held: &mut Held) {
    if let Some(interrupts) = held.interrupts.take() {
        interrupts.disconnect();
    }
}
