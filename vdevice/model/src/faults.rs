//! The misbehaviour that is on, with what it remembers.

use serde::{Deserialize, Serialize};
use squall_registers::FIFO_DEPTH;

use crate::misbehaviour::{LateDisable, LateRegister, Misbehaviour, Spurious};
use crate::saved;

/// What a card does wrong.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Faults {
    pub(crate) stuck_line: Option<bool>,
    pub(crate) posted: Option<Posted>,
    pub(crate) pulses: Option<Pulses>,
    #[serde(deserialize_with = "saved::places")]
    fifo_places: Option<u32>,
    pub(crate) removed: bool,
    pub(crate) latch: Option<Latch>,
}

impl Faults {
    /// Begins to do `wanted` wrong. `value_of` a register is what it holds.
    pub(crate) fn new(wanted: Misbehaviour, now: u64, value_of: impl Fn(LateRegister) -> u32) -> Self {
        Self {
            stuck_line: wanted.stuck_line,
            posted: wanted.late_disable.map(|spec| Posted { spec, due: None }),
            pulses: wanted.spurious.map(|spec| Pulses::new(spec, now)),
            fifo_places: wanted.fifo_places,
            removed: wanted.removed,
            latch: wanted.late_register.map(|spec| Latch::new(spec, value_of(spec))),
        }
    }

    /// What was asked for.
    pub(crate) fn wanted(&self) -> Misbehaviour {
        Misbehaviour {
            stuck_line: self.stuck_line,
            late_disable: self.posted.as_ref().map(|posted| posted.spec),
            spurious: self.pulses.as_ref().map(|pulses| pulses.spec),
            fifo_places: self.fifo_places,
            removed: self.removed,
            late_register: self.latch.as_ref().map(|latch| latch.spec),
        }
    }

    /// How many samples the FIFO takes.
    pub(crate) fn places(&self) -> u32 {
        self.fifo_places.unwrap_or(FIFO_DEPTH as u32)
    }

    /// Whether `IRQ_ENABLE` was cleared and is still in effect.
    pub(crate) fn disable_is_late(&self) -> bool {
        self.disable_due().is_some()
    }

    /// When the clearing of `IRQ_ENABLE` takes effect, where one is under way.
    pub(crate) fn disable_due(&self) -> Option<u64> {
        self.posted.as_ref()?.due
    }

    /// There is no clearing of `IRQ_ENABLE` under way any more.
    pub(crate) fn settle_disable(&mut self) {
        if let Some(posted) = &mut self.posted {
            posted.due = None;
        }
    }

    /// Whether the line is held high for no reason.
    pub(crate) fn pulse_is_high(&self) -> bool {
        self.pulses.as_ref().is_some_and(|pulses| pulses.high)
    }
}

/// The clearing of `IRQ_ENABLE` on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Posted {
    #[serde(deserialize_with = "saved::late_disable")]
    pub(crate) spec: LateDisable,
    pub(crate) due: Option<u64>,
}

/// Spurious interrupts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pulses {
    #[serde(deserialize_with = "saved::spurious")]
    spec: Spurious,
    high: bool,
    /// Where this one begins, or the next one if it is low.
    begins: u64,
}

impl Pulses {
    const fn new(spec: Spurious, now: u64) -> Self {
        Self { spec, high: false, begins: now.saturating_add(spec.period_ns) }
    }

    /// When the line is to rise or fall.
    pub(crate) const fn due(&self) -> u64 {
        if self.high { self.begins.saturating_add(self.spec.width_ns) } else { self.begins }
    }

    /// That time has come. Where interrupts do not `pass`, none begins. Returns whether one has begun.
    pub(crate) fn turn(&mut self, now: u64, pass: bool) -> bool {
        if !self.high && pass {
            self.high = true;
            return true;
        }
        self.high = false;
        let behind = now.saturating_sub(self.begins) / self.spec.period_ns;
        let next = self.spec.period_ns.saturating_mul(behind + 1);
        self.begins = self.begins.saturating_add(next);
        false
    }
}

/// The register that answers late.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Latch {
    #[serde(deserialize_with = "saved::late_register")]
    pub(crate) spec: LateRegister,
    /// What reads show.
    shown: u32,
    /// Since when the register has been something else, and how often it was read since.
    stale: Option<(u64, u64)>,
}

impl Latch {
    const fn new(spec: LateRegister, value: u32) -> Self {
        Self { spec, shown: value, stale: None }
    }

    /// The register holds `value` now.
    pub(crate) fn follow(&mut self, value: u32, now: u64) {
        if value == self.shown {
            self.stale = None;
        } else if self.stale.is_none() {
            self.stale = Some((now, 0));
        }
    }

    /// What a read of the register shows, which holds `value`.
    pub(crate) fn read(&mut self, value: u32, now: u64) -> u32 {
        if let Some((since, reads)) = &mut self.stale {
            let late = now < since.saturating_add(self.spec.delay_ns) || *reads < self.spec.reads;
            *reads += 1;
            if late {
                return self.shown;
            }
        }
        self.shown = value;
        self.stale = None;
        value
    }
}
