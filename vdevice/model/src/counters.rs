//! What the bench counts. No guest can see or reset it.

use serde::{Deserialize, Serialize};

/// What the card has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Samples asked for.
    pub fired: u64,
    /// Rising edges of the line.
    pub asserted: u64,
    /// Samples taken while `IRQ_ENABLE` was 0, or the card removed.
    pub suppressed: u64,
    /// Samples taken while `SAMPLE_READY` was already set.
    pub coalesced: u64,
    /// Assertions that the guest acknowledged, by writing 1 to `SAMPLE_READY`, whether or not the line had
    /// been disabled since.
    pub serviced: u64,
    /// Bursts that a schedule has missed, because virtual time had passed them when their turn came.
    pub missed: u64,
    /// Samples waiting now.
    pub fifo_level: u32,
    /// `IRQ_ENABLE` now, as far as it is in effect.
    pub irq_enabled: bool,
    /// The line now.
    pub line: bool,
    /// Reads that the window answered.
    pub reads: u64,
    /// Writes that the window answered.
    pub writes: u64,
    /// What fell into Unload.
    pub unload: UnloadWindow,
    /// What the card has done wrong.
    pub misbehaviour: Misdeeds,
}

/// How often the card has misbehaved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misdeeds {
    /// Clearings of `IRQ_ENABLE` that were to take effect late.
    pub late_disables: u64,
    /// Times that the line was held high for no reason.
    pub spurious: u64,
    /// Reads that showed what the register had been.
    pub stale_reads: u64,
    /// Accesses that did not reach the card.
    pub vanished: u64,
}

/// What happened in and around the last Unload.
///
/// Two spans begin at its entry. The first ends when Unload returns: `asserted` and `serviced` count in it.
/// The second ends when the driver silences the card by clearing `IRQ_ENABLE`, and may be longer or shorter:
/// `before_silence` counts in it, and says whether the storm was on when Unload ran, which is the whole point
/// of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnloadWindow {
    /// How often Unload was entered.
    pub entered: u64,
    /// How often Unload was left.
    pub left: u64,
    /// Rising edges from the last entry until it was left.
    pub asserted: u64,
    /// Acknowledged assertions from the last entry until it was left.
    pub serviced: u64,
    /// Interrupts whose span from assertion to acknowledgement overlaps the time from the last entry until
    /// `IRQ_ENABLE` was cleared, or until now.
    pub before_silence: u64,
    /// Whether `IRQ_ENABLE` has been 0 at or since the last entry.
    pub silenced: bool,
    /// Whether Unload is running.
    pub inside: bool,
}

impl UnloadWindow {
    pub(crate) fn enter(&mut self, enabled: bool, outstanding: bool) {
        self.entered += 1;
        self.inside = true;
        self.asserted = 0;
        self.serviced = 0;
        self.silenced = !enabled;
        self.before_silence = u64::from(enabled && outstanding);
    }

    /// `false` where there was nothing to leave.
    pub(crate) fn leave(&mut self) -> bool {
        let was_inside = core::mem::take(&mut self.inside);
        self.left += u64::from(was_inside);
        was_inside
    }

    pub(crate) fn on_assert(&mut self) {
        self.asserted += u64::from(self.inside);
        self.before_silence += u64::from(self.entered > 0 && !self.silenced);
    }

    pub(crate) fn on_service(&mut self) {
        self.serviced += u64::from(self.inside);
    }

    pub(crate) fn on_silence(&mut self) {
        self.silenced |= self.entered > 0;
    }
}
