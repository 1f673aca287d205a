//! Storms as JSON: one schedule as an object, several as a list of them.
//!
//! A schedule is one flat object, whatever its pace: so a field that is missing or does not belong there is
//! named as such, and one that nobody knows is too.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use squall_model::{Direction, MAX_SCHEDULES, Pace, Schedule, StormError, Trigger};
use squall_registers::Register;

use super::{DescriptionError, check_len, parse, register, show};

/// A schedule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    pace: PaceName,
    // What belongs to one pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    train: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "register::option")]
    register: Option<Register>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<AccessName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ns: Option<u64>,
    // What every schedule has.
    #[serde(default)]
    jitter_ns: u64,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    burst: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    burst_gap_ns: u64,
    #[serde(default)]
    count: u64,
    #[serde(default = "one")]
    seed: u64,
}

/// What a burst waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PaceName {
    /// The guest's acknowledgement of the last one.
    #[default]
    Ack,
    /// The guest's clock.
    Period,
    /// An access to a register.
    Access,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AccessName {
    Read,
    Write,
}

const DEFAULT_GAP_NS: u64 = 20_000;

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

impl PaceName {
    const fn text(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Period => "period",
            Self::Access => "access",
        }
    }
}

impl Document {
    fn new(schedule: Schedule) -> Self {
        let Schedule { pace, jitter_ns, burst, burst_gap_ns, count, seed } = schedule;
        let common = Self { jitter_ns, burst, burst_gap_ns, count, seed, ..Self::default() };
        match pace {
            Pace::Acknowledgement { gap_ns, train } => {
                let train = (train != 1).then_some(train);
                Self { pace: PaceName::Ack, gap_ns: Some(gap_ns), train, ..common }
            }
            Pace::Period { period_ns } => {
                Self { pace: PaceName::Period, period_ns: Some(period_ns), ..common }
            }
            Pace::Access { trigger: Trigger { register, direction, mask, value }, delay_ns } => Self {
                pace: PaceName::Access,
                register: Some(register),
                access: Some(match direction {
                    Direction::Read => AccessName::Read,
                    Direction::Write => AccessName::Write,
                }),
                mask: Some(mask),
                value: Some(value),
                delay_ns: Some(delay_ns),
                ..common
            },
        }
    }

    fn schedule(self) -> Result<Schedule, DescriptionError> {
        self.nothing_misplaced()?;
        let pace = self.pace.text();
        let missing = |field| DescriptionError::Missing { field, pace };
        let pace = match self.pace {
            PaceName::Ack => Pace::Acknowledgement {
                gap_ns: self.gap_ns.unwrap_or(DEFAULT_GAP_NS),
                train: self.train.unwrap_or(1),
            },
            PaceName::Period => {
                Pace::Period { period_ns: self.period_ns.ok_or_else(|| missing("period_ns"))? }
            }
            PaceName::Access => {
                let direction = match self.access.ok_or_else(|| missing("access"))? {
                    AccessName::Read => Direction::Read,
                    AccessName::Write => Direction::Write,
                };
                // A value without a mask is the whole register's; neither is any.
                let mask = self.mask.unwrap_or(if self.value.is_some() { u32::MAX } else { 0 });
                let register = self.register.ok_or_else(|| missing("register"))?;
                let trigger = Trigger { register, direction, mask, value: self.value.unwrap_or(0) };
                Pace::Access { trigger, delay_ns: self.delay_ns.unwrap_or(0) }
            }
        };
        let Self { jitter_ns, burst, burst_gap_ns, count, seed, .. } = self;
        let schedule = Schedule { pace, jitter_ns, burst, burst_gap_ns, count, seed };
        schedule.check().map_err(StormError::Schedule)?;
        Ok(schedule)
    }

    /// Refuses a field that another pace has.
    fn nothing_misplaced(&self) -> Result<(), DescriptionError> {
        let fields = [
            ("gap_ns", PaceName::Ack, self.gap_ns.is_some()),
            ("train", PaceName::Ack, self.train.is_some()),
            ("period_ns", PaceName::Period, self.period_ns.is_some()),
            ("register", PaceName::Access, self.register.is_some()),
            ("access", PaceName::Access, self.access.is_some()),
            ("mask", PaceName::Access, self.mask.is_some()),
            ("value", PaceName::Access, self.value.is_some()),
            ("delay_ns", PaceName::Access, self.delay_ns.is_some()),
        ];
        let misplaced = fields.into_iter().find(|(_, pace, given)| *given && *pace != self.pace);
        misplaced.map_or(Ok(()), |(field, _, _)| {
            Err(DescriptionError::Misplaced { field, pace: self.pace.text() })
        })
    }
}

/// Reads a storm's schedules; none for the empty text, which stops one.
pub(crate) fn parse_storm(text: &str) -> Result<Vec<Schedule>, DescriptionError> {
    if !text.trim_start().starts_with('[') {
        return parse::<Document>(text)?.map(Document::schedule).into_iter().collect();
    }
    check_len(text)?;
    let list: Vec<Value> = serde_json::from_str(text)?;
    if !(1..=MAX_SCHEDULES).contains(&list.len()) {
        return Err(StormError::Schedules(list.len()).into());
    }
    let schedule = |value: Value| {
        if !value.is_object() {
            return Err(DescriptionError::NoObject);
        }
        serde_json::from_value::<Document>(value)?.schedule()
    };
    list.into_iter().map(schedule).collect()
}

/// The storm that [`parse_storm`] reads back.
pub(crate) fn show_storm(schedules: &[Schedule]) -> String {
    match schedules {
        [] => String::new(),
        [schedule] => show(Some(Document::new(*schedule))),
        schedules => {
            let documents: Vec<Document> = schedules.iter().copied().map(Document::new).collect();
            show(Some(documents))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = parse_storm(text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    fn ack(gap_ns: u64) -> Schedule {
        let pace = Pace::Acknowledgement { gap_ns, train: 1 };
        Schedule { pace, jitter_ns: 0, burst: 1, burst_gap_ns: 0, count: 0, seed: 1 }
    }

    #[test]
    fn a_storm_has_defaults() {
        assert_eq!(parse_storm(r#"{"pace":"ack"}"#).unwrap(), [ack(20_000)]);
        assert_eq!(parse_storm("").unwrap(), []);
        let pace = Pace::Period { period_ns: 5000 };
        assert_eq!(
            parse_storm(r#"{"pace":"period","period_ns":5000}"#).unwrap(),
            [Schedule { pace, ..ack(0) }]
        );
        let (register, direction) = (Register::Control, Direction::Write);
        let trigger = Trigger { register, direction, mask: 0, value: 0 };
        let schedule = Schedule { pace: Pace::Access { trigger, delay_ns: 0 }, ..ack(0) };
        let text = r#"{"pace":"access","register":"CONTROL","access":"write"}"#;
        assert_eq!(parse_storm(text).unwrap(), [schedule]);
    }

    #[test]
    fn a_storm_reads_back_as_it_was_shown() {
        let old = Schedule { jitter_ns: 6, count: 7, seed: u64::MAX, ..ack(5) };
        let text = show_storm(&[old]);
        assert_eq!(text, r#"{"pace":"ack","gap_ns":5,"jitter_ns":6,"count":7,"seed":18446744073709551615}"#);
        assert_eq!(parse_storm(&text).unwrap(), [old]);
        assert_eq!(show_storm(&[]), "");

        let trigger = Trigger { register: Register::Status, direction: Direction::Read, mask: 3, value: 1 };
        let storm = [
            old,
            Schedule { pace: Pace::Period { period_ns: 9000 }, burst: 3, burst_gap_ns: 10, ..old },
            Schedule { pace: Pace::Access { trigger, delay_ns: 2000 }, ..old },
        ];
        let text = show_storm(&storm);
        assert_eq!(parse_storm(&text).unwrap(), storm);
        assert!(text.starts_with(r#"[{"pace":"ack","gap_ns":5,"#), "{text}");
        assert!(
            text.contains(r#""register":"STATUS","access":"read","mask":3,"value":1,"delay_ns":2000,"#),
            "{text}"
        );
    }

    #[test]
    fn wrong_storms_are_refused_with_what_is_wrong() {
        assert!(refused(r#"{"pace":"ack","gap":5}"#).contains("unknown field `gap`"));
        assert!(refused(r#"{"gap_ns":5}"#).contains("missing field `pace`"));
        assert!(refused(r#"{"pace":"open"}"#).contains("unknown variant `open`"));
        assert!(refused(r#"{"pace":"ack","gap_ns":-1}"#).contains("-1"));
        assert!(refused(r#"{"pace":"ack","gap_ns":1000000001}"#).contains("gap_ns is 1000000001"));
        assert!(refused("storm!").contains("line 1 column 1"));
        assert!(refused(&"[".repeat(5000)).contains("5000 bytes"));
        assert!(refused(&"[".repeat(4000)).contains("line 1"));
        assert!(refused("[]").contains("0 schedules; a storm has from 1 to 4"));
        let five = format!("[{}]", [r#"{"pace":"ack"}"#; 5].join(","));
        assert!(refused(&five).contains("5 schedules;"));
        assert_eq!(refused(r#"[{"pace":"ack"},["ack"]]"#), "a JSON object is expected, in braces");
        assert!(refused(r#"[{"pace":"ack"},{"pace":"ack","x":1}]"#).contains("unknown field `x`"));
    }

    #[test]
    fn what_does_not_go_with_the_pace_is_refused_by_name() {
        assert_eq!(refused(r#"{"pace":"period"}"#), "the pace period needs period_ns");
        assert_eq!(refused(r#"{"pace":"access","access":"read"}"#), "the pace access needs register");
        assert_eq!(refused(r#"{"pace":"access","register":"STATUS"}"#), "the pace access needs access");
        let text = r#"{"pace":"period","period_ns":5000,"gap_ns":1}"#;
        assert_eq!(refused(text), "gap_ns does not go with the pace period");
        assert_eq!(refused(r#"{"pace":"ack","mask":1}"#), "mask does not go with the pace ack");
        let register = refused(r#"{"pace":"access","register":"STATOS","access":"read"}"#);
        assert!(register.contains("\"STATOS\"") && register.contains("FIFO_LEVEL"), "{register}");
        let mask = refused(r#"{"pace":"access","register":"CONTROL","access":"write","mask":1,"value":2}"#);
        assert!(mask.contains("the mask 0x1 leaves out"), "{mask}");
    }
}
