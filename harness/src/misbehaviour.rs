//! What the card does wrong, where a scenario asks for it.
//!
//! Hardware fails in ways that no register shows, and a driver's Unload has to live with them: a line that is stuck, an
//! interrupt that comes after the write that was to prevent it, a card that was pulled out. Each field has the meaning that
//! the joints page gives to the device's `misbehave`; what is not given goes right.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::storm::{LARGEST_BURST, LONGEST_NS, Register, SHORTEST_PERIOD_NS};

/// The places of the card's FIFO.
const FIFO_PLACES: u64 = 64;

/// Everything that goes wrong; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Misbehaviour {
    /// The line has this level, whatever the registers say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_line: Option<Level>,
    /// The FIFO has only so many places, 0 to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fifo_places: Option<u64>,
    /// Reads are all ones, writes vanish, the line is low.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Clearing IRQ_ENABLE takes effect late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_disable: Option<LateDisable>,
    /// Interrupts with an empty STATUS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spurious: Option<Spurious>,
    /// A register answers late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_register: Option<LateRegister>,
}

/// As on a command line: the fields of a scenario's table, as in `fifo_places = 4, stuck_line = "high"`.
impl FromStr for Misbehaviour {
    type Err = MisbehaviourError;

    fn from_str(text: &str) -> Result<Self, MisbehaviourError> {
        #[derive(Deserialize)]
        struct Line {
            misbehave: Misbehaviour,
        }
        let line = format!("misbehave = {{ {text} }}");
        let Line { misbehave } =
            toml::from_str(&line).map_err(|error| MisbehaviourError::Text(one_line(&error)))?;
        misbehave.check()?;
        Ok(misbehave)
    }
}

/// What the parser says in several lines.
fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(", ")
}

/// A level of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Asserted.
    High,
    /// Not asserted.
    Low,
}

/// An interrupt after disable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateDisable {
    /// Virtual nanoseconds, 1 to 10^9.
    pub delay_ns: u64,
    /// Samples that the card takes as it is written, 0 to 1000.
    #[serde(default = "one_sample")]
    pub samples: u64,
    /// Reading any register has it take effect, as on PCI.
    #[serde(default = "yes")]
    pub read_flushes: bool,
}

const fn one_sample() -> u64 {
    1
}

const fn yes() -> bool {
    true
}

/// Interrupts for no reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spurious {
    /// Virtual nanoseconds from one to the next, 1000 to 10^9.
    pub period_ns: u64,
    /// Virtual nanoseconds for which the line is high, 1 to less than the period.
    pub width_ns: u64,
}

/// A register whose reads show what it was, for a while after it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateRegister {
    /// Which.
    pub register: Register,
    /// Virtual nanoseconds, 0 to 10^9.
    #[serde(default)]
    pub delay_ns: u64,
    /// Reads, 0 to 1000.
    #[serde(default)]
    pub reads: u64,
}

/// A misbehaviour that cannot be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MisbehaviourError {
    /// A value outside of what the device accepts.
    #[error("misbehave: {field} is {value}; it must be from {least} to {most}")]
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
    /// It is not what a scenario's table has.
    #[error("misbehave: {0}; fields are given as in fifo_places = 4, stuck_line = \"high\"")]
    Text(String),
    /// A register that would not be late at all.
    #[error("misbehave: late_register has neither delay_ns nor reads, so that it would not be late")]
    NotLate,
}

impl Misbehaviour {
    /// Whether all goes right.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a driver's write of IRQ_ENABLE may not have reached the card: what the card says of it afterwards is then no
    /// fault of the driver's.
    pub fn hides_writes(&self) -> bool {
        self.removed || self.late_disable.is_some()
    }

    /// Refuses what the device would refuse, before anything boots.
    pub fn check(&self) -> Result<(), MisbehaviourError> {
        let late_disable = self.late_disable.as_ref();
        let spurious = self.spurious.as_ref();
        let late_register = self.late_register.as_ref();
        for (field, value, least, most) in [
            ("fifo_places", self.fifo_places, 0, FIFO_PLACES),
            ("late_disable.delay_ns", late_disable.map(|late| late.delay_ns), 1, LONGEST_NS),
            ("late_disable.samples", late_disable.map(|late| late.samples), 0, LARGEST_BURST),
            ("spurious.period_ns", spurious.map(|pulse| pulse.period_ns), SHORTEST_PERIOD_NS, LONGEST_NS),
            (
                "spurious.width_ns",
                spurious.map(|pulse| pulse.width_ns),
                1,
                spurious.map_or(0, |pulse| pulse.period_ns.saturating_sub(1)),
            ),
            ("late_register.delay_ns", late_register.map(|late| late.delay_ns), 0, LONGEST_NS),
            ("late_register.reads", late_register.map(|late| late.reads), 0, LARGEST_BURST),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return Err(MisbehaviourError::Range { field, value, least, most });
            }
        }
        match late_register {
            Some(LateRegister { delay_ns: 0, reads: 0, .. }) => Err(MisbehaviourError::NotLate),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Misbehaviour {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn it_is_read_as_the_device_takes_it() {
        let all = "stuck_line = 'high'\nfifo_places = 0\nremoved = true\nlate_disable = { delay_ns = 2000 }\n\
                   spurious = { period_ns = 50000, width_ns = 2000 }\n\
                   late_register = { register = 'FIFO_DATA', reads = 2 }";
        let wrong = read(all);
        wrong.check().unwrap();
        assert_eq!(
            serde_json::to_string(&wrong).unwrap(),
            r#"{"stuck_line":"high","fifo_places":0,"removed":true,"late_disable":{"delay_ns":2000,"samples":1,"#
                .to_owned()
                + r#""read_flushes":true},"spurious":{"period_ns":50000,"width_ns":2000},"#
                + r#""late_register":{"register":"FIFO_DATA","delay_ns":0,"reads":2}}"#
        );
        assert_eq!(read(&toml::to_string_pretty(&wrong).unwrap()), wrong);
        assert!(read("").is_nothing() && !wrong.is_nothing());
    }

    #[test]
    fn what_the_device_would_refuse_is_refused_by_field_and_value() {
        for (text, expected) in [
            ("fifo_places = 65", "fifo_places is 65; it must be from 0 to 64"),
            (
                "late_disable = { delay_ns = 0 }",
                "late_disable.delay_ns is 0; it must be from 1 to 1000000000",
            ),
            ("late_disable = { delay_ns = 1, samples = 1001 }", "late_disable.samples is 1001"),
            ("spurious = { period_ns = 999, width_ns = 1 }", "spurious.period_ns is 999"),
            (
                "spurious = { period_ns = 2000, width_ns = 2000 }",
                "width_ns is 2000; it must be from 1 to 1999",
            ),
            ("late_register = { register = 'STATUS' }", "late_register has neither delay_ns nor reads"),
            ("late_register = { register = 'STATUS', reads = 1001 }", "late_register.reads is 1001"),
        ] {
            let error = read(text).check().unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        assert!(toml::from_str::<Misbehaviour>("on_fire = true").is_err());
    }

    #[test]
    fn a_command_line_has_the_same_fields() {
        let wrong: Misbehaviour = "fifo_places = 4, late_disable = { delay_ns = 9 }".parse().unwrap();
        assert_eq!(wrong, read("fifo_places = 4\nlate_disable = { delay_ns = 9 }"));
        for text in ["fifo_places", "on_fire = true", "fifo_places = 65", "} x = {", "removed = 1"] {
            let error = text.parse::<Misbehaviour>().unwrap_err().to_string();
            assert!(error.starts_with("misbehave: ") && !error.contains('\n'), "{error}");
        }
    }
}
