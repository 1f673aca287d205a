//! What a card can do wrong, as it is asked for.

use serde::{Deserialize, Serialize};
use squall_registers::{FIFO_DEPTH, Register};
use thiserror::Error;

use crate::range::{MAX_BURST, MAX_DELAY_NS, MIN_PERIOD_NS, OutOfRange, check};
use crate::saved;

/// Everything that a card does wrong; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misbehaviour {
    /// The line is stuck at this level, whatever the registers say.
    pub stuck_line: Option<bool>,
    /// Clearing `IRQ_ENABLE` takes effect late.
    pub late_disable: Option<LateDisable>,
    /// The card interrupts for no reason.
    pub spurious: Option<Spurious>,
    /// The FIFO has only so many places, at most [`FIFO_DEPTH`]. With none, every sample overruns.
    pub fifo_places: Option<u32>,
    /// The card is gone: every register reads all ones, what is written vanishes, the line is low.
    pub removed: bool,
    /// A register answers late.
    pub late_register: Option<LateRegister>,
}

/// The interrupt after disable. A write that clears `IRQ_ENABLE` is seen in `CONTROL` at once, and takes effect
/// after a delay, as posted writes do: until then the card interrupts as if nothing had been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateDisable {
    /// Virtual nanoseconds, 1 to [`MAX_DELAY_NS`].
    pub delay_ns: u64,
    /// Samples that the card takes as it is written, 0 to [`MAX_BURST`], so that there is an interrupt.
    pub samples: u64,
    /// Reading any register has the write take effect, as on PCI.
    pub read_flushes: bool,
}

/// Interrupts with an empty `STATUS`: the line is high for a while, where interrupts pass, and nothing is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spurious {
    /// Virtual nanoseconds from one to the next, [`MIN_PERIOD_NS`] to [`MAX_DELAY_NS`]; the first comes after
    /// as many.
    pub period_ns: u64,
    /// Virtual nanoseconds for which the line is high, at least 1 and less than the period.
    pub width_ns: u64,
}

/// A register that answers late: once it has changed, reads of it go on to show what it was, until `delay_ns`
/// have passed and `reads` of them have shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateRegister {
    /// Which register.
    #[serde(with = "saved::register")]
    pub register: Register,
    /// Virtual nanoseconds since the change, at most [`MAX_DELAY_NS`].
    pub delay_ns: u64,
    /// Reads that show what it was, at most [`MAX_BURST`].
    pub reads: u64,
}

/// Why a card cannot misbehave like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MisbehaviourError {
    /// A value is out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A register that would not be late at all.
    #[error("late_register: delay_ns and reads are both 0, so {} would not be late", .0.name())]
    NotLate(Register),
}

impl Misbehaviour {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`MisbehaviourError`] names the first value that cannot be.
    pub fn check(&self) -> Result<(), MisbehaviourError> {
        if let Some(late) = &self.late_disable {
            late.check()?;
        }
        if let Some(spurious) = &self.spurious {
            spurious.check()?;
        }
        if let Some(places) = self.fifo_places {
            check_places(places)?;
        }
        if let Some(late) = &self.late_register {
            late.check()?;
        }
        Ok(())
    }

    /// Which of them are on: one bit each, in the order of the fields.
    pub(crate) fn bits(&self) -> u64 {
        let on = [
            self.stuck_line.is_some(),
            self.late_disable.is_some(),
            self.spurious.is_some(),
            self.fifo_places.is_some(),
            self.removed,
            self.late_register.is_some(),
        ];
        on.iter().rev().fold(0, |bits, on| bits << 1 | u64::from(*on))
    }
}

impl LateDisable {
    pub(crate) fn check(&self) -> Result<(), MisbehaviourError> {
        check("late_disable.delay_ns", self.delay_ns, 1, MAX_DELAY_NS)?;
        Ok(check("late_disable.samples", self.samples, 0, MAX_BURST)?)
    }
}

impl Spurious {
    pub(crate) fn check(&self) -> Result<(), MisbehaviourError> {
        check("spurious.period_ns", self.period_ns, MIN_PERIOD_NS, MAX_DELAY_NS)?;
        Ok(check("spurious.width_ns", self.width_ns, 1, self.period_ns - 1)?)
    }
}

impl LateRegister {
    pub(crate) fn check(&self) -> Result<(), MisbehaviourError> {
        check("late_register.delay_ns", self.delay_ns, 0, MAX_DELAY_NS)?;
        check("late_register.reads", self.reads, 0, MAX_BURST)?;
        if self.delay_ns == 0 && self.reads == 0 {
            return Err(MisbehaviourError::NotLate(self.register));
        }
        Ok(())
    }
}

pub(crate) fn check_places(places: u32) -> Result<(), MisbehaviourError> {
    Ok(check("fifo_places", u64::from(places), 0, FIFO_DEPTH as u64)?)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};

    use super::*;

    #[test]
    fn what_cannot_be_is_named_with_its_range() {
        let refused = |misbehaviour: Misbehaviour| misbehaviour.check().unwrap_err().to_string();
        let late_disable = |delay_ns, samples| -> String {
            let late = LateDisable { delay_ns, samples, read_flushes: true };
            refused(Misbehaviour { late_disable: Some(late), ..Misbehaviour::default() })
        };
        assert_eq!(late_disable(0, 0), "late_disable.delay_ns is 0; it must be from 1 to 1000000000");
        assert_eq!(late_disable(1, 1001), "late_disable.samples is 1001; it must be from 0 to 1000");
        let spurious = |period_ns, width_ns| -> String {
            let spurious = Spurious { period_ns, width_ns };
            refused(Misbehaviour { spurious: Some(spurious), ..Misbehaviour::default() })
        };
        assert_eq!(spurious(0, 1), "spurious.period_ns is 0; it must be from 1000 to 1000000000");
        assert_eq!(spurious(1000, 1000), "spurious.width_ns is 1000; it must be from 1 to 999");
        let late = |delay_ns, reads| -> String {
            let late = LateRegister { register: Register::Status, delay_ns, reads };
            refused(Misbehaviour { late_register: Some(late), ..Misbehaviour::default() })
        };
        assert!(late(MAX_DELAY_NS + 1, 0).starts_with("late_register.delay_ns is"));
        assert!(late(0, 1001).starts_with("late_register.reads is 1001;"));
        assert!(late(0, 0).ends_with("so STATUS would not be late"));
        let places = Misbehaviour { fifo_places: Some(65), ..Misbehaviour::default() };
        assert_eq!(refused(places), "fifo_places is 65; it must be from 0 to 64");
    }

    #[test]
    fn each_has_its_bit() {
        let all = Misbehaviour {
            stuck_line: Some(false),
            late_disable: Some(LateDisable { delay_ns: 1, samples: 0, read_flushes: true }),
            spurious: Some(Spurious { period_ns: 1000, width_ns: 1 }),
            fifo_places: Some(0),
            removed: true,
            late_register: Some(LateRegister { register: Register::Status, delay_ns: 1, reads: 0 }),
        };
        assert_eq!((all.check(), all.bits()), (Ok(()), 0b11_1111));
        let removed = Misbehaviour { removed: true, ..Misbehaviour::default() };
        assert_eq!((removed.bits(), Misbehaviour::default().bits()), (16, 0));
    }
}
