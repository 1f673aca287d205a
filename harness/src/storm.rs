//! The storm: when the card raises interrupts.
//!
//! A storm that does not listen to the guest mostly coalesces: the line is still up when the next sample comes, and
//! a hundred thousand samples make a few dozen interrupts. So the usual storm is paced by acknowledgement: the next
//! sample comes a gap of virtual time after the guest acknowledged the last one. Others go by the guest's clock, or
//! strike a while after the guest has touched a register; and several can blow at the same time, such as the usual
//! one, and one more interrupt 2 us after IRQ_ENABLE was cleared.

mod spec;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// What decides when the next samples come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// No storm: only the interrupts that are asked for one by one.
    None,
    /// A gap after the guest's acknowledgement of the one before.
    #[default]
    Ack,
    /// The guest's clock.
    Period,
    /// A delay after the guest's access to a register.
    Access,
}

/// A register of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the register map says what each is")]
pub enum Register {
    Ident,
    Control,
    Status,
    FifoData,
    FifoLevel,
    Sequence,
}

/// Which way a register is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It is read.
    Read,
    /// It is written.
    Write,
}

/// A storm, as a scenario states it; its seed is the scenario's. The joints page says what each field means; those
/// that are not given belong to another pace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// What paces it.
    #[serde(default)]
    pub pace: Pace,
    /// With `ack`: virtual nanoseconds between an acknowledgement and the next samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ns: Option<u64>,
    /// With `ack`: so many of them in a row at once, without the gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<u64>,
    /// With `period`: virtual nanoseconds from one to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ns: Option<u64>,
    /// With `access`: which register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    /// With `access`: which way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// With `access`: which bits on the bus are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<u32>,
    /// With `access`: what they have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u32>,
    /// With `access`: virtual nanoseconds from it to the samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ns: Option<u64>,
    /// At most this much is added to each gap, period or delay, drawn from the seed.
    #[serde(default)]
    pub jitter_ns: u64,
    /// Samples taken each time.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub burst: u64,
    /// Virtual nanoseconds between those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub burst_gap_ns: u64,
    /// Samples until it ends by itself; 0 is unending.
    #[serde(default)]
    pub count: u64,
    /// What blows at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Storm>,
}

const fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_one(number: &u64) -> bool {
    *number == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

const DEFAULT_GAP_NS: u64 = 20_000;

impl Default for Storm {
    fn default() -> Self {
        Self::paced(Pace::Ack).filled_in()
    }
}

/// The longest time that the device accepts.
pub const LONGEST_NS: u64 = 1_000_000_000;
/// The shortest period that it accepts.
pub const SHORTEST_PERIOD_NS: u64 = 1_000;
/// The most samples of a burst.
pub const LARGEST_BURST: u64 = 1_000;
/// The most that blows at the same time.
pub const MOST_AT_ONCE: usize = 4;

/// A storm that cannot be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StormError {
    /// The first word is no pace.
    #[error("storm {0:?}: the pace is none, ack, period or access, as in ack,gap=20us,jitter=5us,count=1000")]
    Pace(String),
    /// Something after the pace that is not understood.
    #[error("storm: {0:?} is not one of {known}", known = spec::FIELDS)]
    Field(String),
    /// A time without a unit, or not a number.
    #[error("storm: {field}={value:?} is not a time such as 500ns, 20us or 1ms")]
    Time {
        /// Which field.
        field: String,
        /// What was given.
        value: String,
    },
    /// An access that is not understood.
    #[error("storm: {0:?} is not REGISTER, REGISTER:VALUE or REGISTER:VALUE/MASK, as in write=CONTROL:0/1")]
    Access(String),
    /// A value outside of what the device accepts.
    #[error("storm: {field} is {value}; it must be from {least} to {most}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What was given.
        value: u64,
        /// The least that the device accepts.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A field that another pace has.
    #[error("storm: {field} does not go with the pace {pace}")]
    Misplaced {
        /// Which field.
        field: &'static str,
        /// With which pace.
        pace: &'static str,
    },
    /// A field that the pace needs.
    #[error("storm: the pace {pace} needs {field}")]
    Missing {
        /// Which field.
        field: &'static str,
        /// Which pace.
        pace: &'static str,
    },
    /// Bursts that would run into each other.
    #[error(
        "storm: a burst with its jitter takes {span_ns} ns; it must be shorter than the period of {period_ns} ns"
    )]
    Crowded {
        /// The longest that one can take.
        span_ns: u64,
        /// From one to the next.
        period_ns: u64,
    },
    /// A value that no access has.
    #[error("storm: value {value:#x} has bits that the mask {mask:#x} leaves out")]
    Unmasked {
        /// The value.
        value: u32,
        /// The mask.
        mask: u32,
    },
    /// Too many at the same time, or none among others, or others of others.
    #[error(
        "storm: at most {MOST_AT_ONCE} blow at the same time, side by side, none of them with the pace none"
    )]
    Together,
}

impl Pace {
    const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ack => "ack",
            Self::Period => "period",
            Self::Access => "access",
        }
    }
}

/// Reads a storm whose defaults depend on its pace.
pub(crate) fn filled_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Storm, D::Error> {
    Storm::deserialize(deserializer).map(Storm::filled_in)
}

impl Storm {
    /// No storm at all.
    pub fn none() -> Self {
        Self::paced(Pace::None)
    }

    const fn paced(pace: Pace) -> Self {
        Self {
            pace,
            gap_ns: None,
            train: None,
            period_ns: None,
            register: None,
            access: None,
            mask: None,
            value: None,
            delay_ns: None,
            jitter_ns: 0,
            burst: 1,
            burst_gap_ns: 0,
            count: 0,
            also: Vec::new(),
        }
    }

    /// What the pace has and was not given gets its default.
    fn filled_in(mut self) -> Self {
        match self.pace {
            Pace::Ack => self.gap_ns = self.gap_ns.or(Some(DEFAULT_GAP_NS)),
            Pace::Access => self.delay_ns = self.delay_ns.or(Some(0)),
            Pace::None | Pace::Period => {}
        }
        self.also = self.also.into_iter().map(Self::filled_in).collect();
        self
    }

    /// Whether there is anything to start.
    pub fn blows(&self) -> bool {
        self.pace != Pace::None
    }

    /// Each of those that blow at the same time, by itself.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        let first = Self { also: Vec::new(), ..self.clone() };
        std::iter::once(first).chain(self.also.iter().cloned()).filter(Self::blows)
    }

    /// Refuses what the device would refuse, before anything boots.
    pub fn check(&self) -> Result<(), StormError> {
        let together = self.also.len() < MOST_AT_ONCE
            && (self.also.is_empty() || self.blows())
            && self.also.iter().all(|storm| storm.blows() && storm.also.is_empty());
        if !together {
            return Err(StormError::Together);
        }
        self.check_one()?;
        self.also.iter().try_for_each(Self::check_one)
    }

    fn check_one(&self) -> Result<(), StormError> {
        let pace = self.pace.text();
        let fields = [
            ("gap_ns", Pace::Ack, self.gap_ns.is_some()),
            ("train", Pace::Ack, self.train.is_some()),
            ("period_ns", Pace::Period, self.period_ns.is_some()),
            ("register", Pace::Access, self.register.is_some()),
            ("access", Pace::Access, self.access.is_some()),
            ("mask", Pace::Access, self.mask.is_some()),
            ("value", Pace::Access, self.value.is_some()),
            ("delay_ns", Pace::Access, self.delay_ns.is_some()),
        ];
        if let Some((field, ..)) = fields.into_iter().find(|(_, owner, given)| *given && *owner != self.pace)
        {
            return Err(StormError::Misplaced { field, pace });
        }
        for (field, value, least, most) in [
            ("gap_ns", self.gap_ns, 0, LONGEST_NS),
            ("period_ns", self.period_ns, SHORTEST_PERIOD_NS, LONGEST_NS),
            ("delay_ns", self.delay_ns, 0, LONGEST_NS),
            ("jitter_ns", Some(self.jitter_ns), 0, LONGEST_NS),
            ("burst", Some(self.burst), 1, LARGEST_BURST),
            ("train", self.train, 1, LARGEST_BURST),
            ("burst_gap_ns", Some(self.burst_gap_ns), 0, LONGEST_NS),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return Err(StormError::Range { field, value, least, most });
            }
        }
        match self.pace {
            Pace::None | Pace::Ack => Ok(()),
            Pace::Period => {
                let period_ns = self.period_ns.ok_or(StormError::Missing { field: "period_ns", pace })?;
                let span_ns = self.jitter_ns + (self.burst - 1) * self.burst_gap_ns;
                if span_ns < period_ns { Ok(()) } else { Err(StormError::Crowded { span_ns, period_ns }) }
            }
            Pace::Access => {
                self.register.ok_or(StormError::Missing { field: "register", pace })?;
                self.access.ok_or(StormError::Missing { field: "access", pace })?;
                match (self.value, self.mask) {
                    (Some(value), Some(mask)) if value & !mask != 0 => {
                        Err(StormError::Unmasked { value, mask })
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
