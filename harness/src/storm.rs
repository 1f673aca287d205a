//! The storm: when the card raises interrupts.
//!
//! A storm that does not listen to the guest mostly coalesces: the line is still up when the next sample comes, and
//! a hundred thousand samples make a few dozen interrupts. So the storm is paced by acknowledgement: the next sample
//! comes a gap of virtual time after the guest acknowledged the last one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What decides when the next sample comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// No storm: only the interrupts that are asked for one by one.
    None,
    /// A gap after the guest's acknowledgement of the one before.
    Ack,
}

/// A storm, as a scenario states it; its seed is the scenario's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storm {
    /// What paces it.
    pub pace: Pace,
    /// Virtual nanoseconds between an acknowledgement and the next sample.
    pub gap_ns: u64,
    /// At most this much is added to each gap, drawn from the seed.
    pub jitter_ns: u64,
    /// Samples until it ends by itself; 0 is unending.
    pub count: u64,
}

impl Default for Storm {
    fn default() -> Self {
        Self { pace: Pace::Ack, gap_ns: 20_000, jitter_ns: 0, count: 0 }
    }
}

/// The longest gap that the device accepts.
pub const LONGEST_GAP_NS: u64 = 1_000_000_000;

/// A storm that cannot be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StormError {
    /// The first word is no pace.
    #[error("storm {0:?}: the pace is none or ack, as in ack,gap=20us,jitter=5us,count=1000")]
    Pace(String),
    /// Something after the pace that is not understood.
    #[error("storm: {0:?} is not one of gap=TIME, jitter=TIME, count=N")]
    Field(String),
    /// A time without a unit, or not a number.
    #[error("storm: {field}={value:?} is not a time such as 500ns, 20us or 1ms")]
    Time {
        /// Which field.
        field: String,
        /// What was given.
        value: String,
    },
    /// More than the device accepts.
    #[error("storm: {field} is {value} ns; at most {LONGEST_GAP_NS} ns")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// What was given.
        value: u64,
    },
}

impl Storm {
    /// No storm at all.
    pub fn none() -> Self {
        Self { pace: Pace::None, ..Self::default() }
    }

    /// Whether there is anything to start.
    pub fn blows(&self) -> bool {
        self.pace != Pace::None
    }

    /// Refuses what the device would refuse, before anything boots.
    pub fn check(&self) -> Result<(), StormError> {
        for (field, value) in [("gap_ns", self.gap_ns), ("jitter_ns", self.jitter_ns)] {
            if value > LONGEST_GAP_NS {
                return Err(StormError::TooLong { field, value });
            }
        }
        Ok(())
    }
}

impl FromStr for Storm {
    type Err = StormError;

    fn from_str(text: &str) -> Result<Self, StormError> {
        let mut parts = text.split(',');
        let pace = match parts.next().unwrap_or_default() {
            "none" => Pace::None,
            "ack" => Pace::Ack,
            _ => return Err(StormError::Pace(text.to_owned())),
        };
        let mut storm = Self { pace, ..Self::default() };
        for part in parts {
            let field = || StormError::Field(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(field)?;
            match name {
                "gap" => storm.gap_ns = nanoseconds(name, value)?,
                "jitter" => storm.jitter_ns = nanoseconds(name, value)?,
                "count" => storm.count = value.parse().map_err(|_| field())?,
                _ => return Err(field()),
            }
        }
        storm.check()?;
        Ok(storm)
    }
}

fn nanoseconds(field: &str, text: &str) -> Result<u64, StormError> {
    let refuse = || StormError::Time { field: field.to_owned(), value: text.to_owned() };
    let (digits, unit) = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)]
        .into_iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, unit)))
        .ok_or_else(refuse)?;
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(refuse)
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pace {
            Pace::None => f.write_str("none"),
            Pace::Ack => {
                write!(f, "ack,gap={}ns", self.gap_ns)?;
                if self.jitter_ns > 0 {
                    write!(f, ",jitter={}ns", self.jitter_ns)?;
                }
                if self.count > 0 {
                    write!(f, ",count={}", self.count)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_paced_by_acknowledgement() {
        assert_eq!("ack".parse::<Storm>().unwrap(), Storm::default());
        assert_eq!(Storm::default().gap_ns, 20_000);
    }

    #[test]
    fn every_field_is_read_and_written_back() {
        let storm: Storm = "ack,gap=2us,jitter=500ns,count=1000".parse().unwrap();
        assert_eq!(storm, Storm { pace: Pace::Ack, gap_ns: 2_000, jitter_ns: 500, count: 1000 });
        assert_eq!(storm.to_string().parse::<Storm>().unwrap(), storm);
        assert!(!"none".parse::<Storm>().unwrap().blows());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "pace"),
            ("gale", "gale"),
            ("ack,gap", "gap"),
            ("ack,gap=20", "20"),
            ("ack,gap=-1us", "-1us"),
            ("ack,gap=2s", "at most"),
            ("ack,jitter=99999999999999999999ns", "jitter"),
            ("ack,speed=1us", "speed"),
            ("ack,count=x", "count=x"),
        ] {
            let error = text.parse::<Storm>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?} gave {error:?}");
        }
    }
}
