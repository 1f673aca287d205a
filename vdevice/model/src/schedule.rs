//! When samples are taken: the schedules that a storm consists of, as they are asked for.

use serde::{Deserialize, Serialize};
use squall_registers::Register;
use thiserror::Error;

use crate::access::Access;
use crate::range::{MAX_BURST, MAX_DELAY_NS, MIN_PERIOD_NS, OutOfRange, check};
use crate::saved;

/// The most schedules of one storm.
pub const MAX_SCHEDULES: usize = 4;

/// A schedule: a pure function of this and of when the guest accesses which register.
///
/// It takes its samples in bursts. The pace says when a burst begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What the beginning of a burst waits for.
    pub pace: Pace,
    /// At most so many nanoseconds more, drawn for each burst but the first, at most [`MAX_DELAY_NS`].
    pub jitter_ns: u64,
    /// Samples of a burst, 1 to [`MAX_BURST`].
    pub burst: u64,
    /// Virtual nanoseconds between two samples of a burst, at most [`MAX_DELAY_NS`].
    pub burst_gap_ns: u64,
    /// Samples in all; 0 for no end.
    pub count: u64,
    /// Seed of the jitter.
    pub seed: u64,
}

/// What the beginning of a burst waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// The first begins at once, each next one when the guest has acknowledged a sample: as long as a train is under way at
    /// once, without jitter; a gap later where a new train begins. So a guest is kept at it, and has time for something else.
    Acknowledgement {
        /// Virtual nanoseconds, at most [`MAX_DELAY_NS`].
        gap_ns: u64,
        /// Acknowledgements from the begin of a train to that of the next, 1 to [`MAX_BURST`].
        train: u64,
    },
    /// The first begins at once, the others when so many periods have passed since. One whose time has passed
    /// when its turn comes is missed.
    Period {
        /// Virtual nanoseconds, [`MIN_PERIOD_NS`] to [`MAX_DELAY_NS`]. A burst with its jitter is shorter.
        period_ns: u64,
    },
    /// Each begins a delay after the guest has accessed a register. What it accesses until the burst is over
    /// begins none.
    Access {
        /// Which accesses.
        trigger: Trigger,
        /// Virtual nanoseconds, at most [`MAX_DELAY_NS`].
        delay_ns: u64,
    },
}

/// Which way an access goes, seen from the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The register is read.
    Read,
    /// The register is written.
    Write,
}

/// Accesses of interest: of one register, one way, with some bits on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The register.
    #[serde(with = "saved::register")]
    pub register: Register,
    /// Whether it is read or written.
    pub direction: Direction,
    /// The bits that are looked at. A narrow access that leaves one of them out is none of interest; 0 takes
    /// every access.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

impl Trigger {
    /// Whether an access that transfers `value` is one.
    pub(crate) fn matches(&self, direction: Direction, access: Access, value: u32) -> bool {
        direction == self.direction
            && access.register() == Some(self.register)
            && access.mask() & self.mask == self.mask
            && access.place(value) & self.mask == self.value
    }
}

/// Why a schedule cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// A value is out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// Bursts would run into each other.
    #[error(
        "a burst with its jitter takes {span_ns} ns; it must be shorter than the period of {period_ns} ns"
    )]
    Crowded {
        /// The longest that a burst can take, from where its period begins.
        span_ns: u64,
        /// The period.
        period_ns: u64,
    },
    /// No access transfers such bits.
    #[error("value is {value:#x}, which has bits that the mask {mask:#x} leaves out")]
    Unmasked {
        /// The value.
        value: u32,
        /// The mask.
        mask: u32,
    },
}

/// Why a storm cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StormError {
    /// None, or more than [`MAX_SCHEDULES`].
    #[error("{0} schedules; a storm has from 1 to {MAX_SCHEDULES}")]
    Schedules(usize),
    /// One of them cannot be.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

impl Schedule {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ScheduleError`] names the first value that cannot be.
    pub fn check(&self) -> Result<(), ScheduleError> {
        match self.pace {
            Pace::Acknowledgement { gap_ns, train } => {
                check("gap_ns", gap_ns, 0, MAX_DELAY_NS)?;
                check("train", train, 1, MAX_BURST)?;
            }
            Pace::Period { period_ns } => check("period_ns", period_ns, MIN_PERIOD_NS, MAX_DELAY_NS)?,
            Pace::Access { delay_ns, .. } => check("delay_ns", delay_ns, 0, MAX_DELAY_NS)?,
        }
        check("jitter_ns", self.jitter_ns, 0, MAX_DELAY_NS)?;
        check("burst", self.burst, 1, MAX_BURST)?;
        check("burst_gap_ns", self.burst_gap_ns, 0, MAX_DELAY_NS)?;
        match self.pace {
            Pace::Period { period_ns } => {
                let span_ns = self.jitter_ns + (self.burst - 1) * self.burst_gap_ns;
                if span_ns >= period_ns {
                    return Err(ScheduleError::Crowded { span_ns, period_ns });
                }
            }
            Pace::Access { trigger: Trigger { mask, value, .. }, .. } if value & !mask != 0 => {
                return Err(ScheduleError::Unmasked { value, mask });
            }
            Pace::Acknowledgement { .. } | Pace::Access { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pace: Pace) -> Schedule {
        Schedule { pace, jitter_ns: 0, burst: 1, burst_gap_ns: 0, count: 0, seed: 0 }
    }

    fn refused(schedule: Schedule) -> std::string::String {
        std::string::ToString::to_string(&schedule.check().unwrap_err())
    }

    #[test]
    fn the_ends_of_every_range_are_inside() {
        for gap_ns in [0, MAX_DELAY_NS] {
            let pace = Pace::Acknowledgement { gap_ns, train: MAX_BURST };
            let schedule = Schedule { jitter_ns: MAX_DELAY_NS, burst: MAX_BURST, ..with(pace) };
            assert_eq!(Schedule { burst_gap_ns: MAX_DELAY_NS, ..schedule }.check(), Ok(()));
        }
        for period_ns in [MIN_PERIOD_NS, MAX_DELAY_NS] {
            assert_eq!(with(Pace::Period { period_ns }).check(), Ok(()));
        }
    }

    #[test]
    fn what_is_outside_is_named_with_its_range() {
        let ack = with(Pace::Acknowledgement { gap_ns: 0, train: 1 });
        let gap = with(Pace::Acknowledgement { gap_ns: MAX_DELAY_NS + 1, train: 1 });
        let train = with(Pace::Acknowledgement { gap_ns: 0, train: 0 });
        assert_eq!(refused(train), "train is 0; it must be from 1 to 1000");
        assert_eq!(refused(gap), "gap_ns is 1000000001; it must be from 0 to 1000000000");
        let period = with(Pace::Period { period_ns: 999 });
        assert_eq!(refused(period), "period_ns is 999; it must be from 1000 to 1000000000");
        assert!(refused(Schedule { jitter_ns: u64::MAX, ..ack }).starts_with("jitter_ns is"));
        assert!(refused(Schedule { burst: 0, ..ack }).starts_with("burst is 0;"));
        assert!(refused(Schedule { burst: 1001, ..ack }).starts_with("burst is 1001;"));
        assert!(refused(Schedule { burst_gap_ns: u64::MAX, ..ack }).starts_with("burst_gap_ns is"));
    }

    #[test]
    fn a_burst_fits_into_its_period() {
        let schedule = Schedule {
            burst: 10,
            burst_gap_ns: 100,
            jitter_ns: 99,
            ..with(Pace::Period { period_ns: 1000 })
        };
        assert_eq!(schedule.check(), Ok(()));
        let text = refused(Schedule { jitter_ns: 100, ..schedule });
        assert!(text.contains("takes 1000 ns") && text.contains("the period of 1000 ns"), "{text}");
    }

    #[test]
    fn a_trigger_looks_at_the_bits_of_its_mask_and_wants_them_all() {
        let (register, direction) = (Register::Control, Direction::Write);
        let trigger = Trigger { register, direction, mask: 0x0001_0001, value: 0x0001_0000 };
        let whole = Access::new(4, 4).unwrap();
        assert!(trigger.matches(Direction::Write, whole, 0xFFFF_FFFE));
        assert!(!trigger.matches(Direction::Write, whole, 0x0001_0001));
        assert!(!trigger.matches(Direction::Read, whole, 0x0001_0000));
        assert!(!trigger.matches(Direction::Write, Access::new(8, 4).unwrap(), 0x0001_0000));
        assert!(!trigger.matches(Direction::Write, Access::new(6, 2).unwrap(), 1), "a bit is left out");
        let any = Trigger { mask: 0, value: 0, ..trigger };
        assert!(any.matches(Direction::Write, Access::new(7, 1).unwrap(), 0x12));
        let pace = Pace::Access { trigger: Trigger { value: 2, ..trigger }, delay_ns: 0 };
        assert!(refused(with(pace)).contains("0x2, which has bits that the mask 0x10001"));
    }

    extern crate std;
}
