//! Misbehaviour as JSON: an object with what is to go wrong.

use serde::{Deserialize, Serialize};
use squall_model::{LateDisable, LateRegister, Misbehaviour, Spurious};
use squall_registers::Register;

use super::{DescriptionError, parse, register, show};

/// Everything that goes wrong.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_line: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_disable: Option<LateDisableDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spurious: Option<SpuriousDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fifo_places: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_register: Option<LateRegisterDocument>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    High,
    Low,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LateDisableDocument {
    delay_ns: u64,
    #[serde(default = "one_sample")]
    samples: u64,
    #[serde(default = "yes")]
    read_flushes: bool,
}

const fn one_sample() -> u64 {
    1
}

const fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpuriousDocument {
    period_ns: u64,
    width_ns: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LateRegisterDocument {
    #[serde(with = "register")]
    register: Register,
    #[serde(default)]
    delay_ns: u64,
    #[serde(default)]
    reads: u64,
}

impl Document {
    fn new(wrong: Misbehaviour) -> Self {
        let Misbehaviour { stuck_line, late_disable, spurious, fifo_places, removed, late_register } = wrong;
        Self {
            stuck_line: stuck_line.map(|high| if high { Level::High } else { Level::Low }),
            late_disable: late_disable.map(|LateDisable { delay_ns, samples, read_flushes }| {
                LateDisableDocument { delay_ns, samples, read_flushes }
            }),
            spurious: spurious
                .map(|Spurious { period_ns, width_ns }| SpuriousDocument { period_ns, width_ns }),
            fifo_places,
            removed,
            late_register: late_register.map(|LateRegister { register, delay_ns, reads }| {
                LateRegisterDocument { register, delay_ns, reads }
            }),
        }
    }

    fn misbehaviour(self) -> Misbehaviour {
        let Self { stuck_line, late_disable, spurious, fifo_places, removed, late_register } = self;
        Misbehaviour {
            stuck_line: stuck_line.map(|level| matches!(level, Level::High)),
            late_disable: late_disable.map(|LateDisableDocument { delay_ns, samples, read_flushes }| {
                LateDisable { delay_ns, samples, read_flushes }
            }),
            spurious: spurious
                .map(|SpuriousDocument { period_ns, width_ns }| Spurious { period_ns, width_ns }),
            fifo_places,
            removed,
            late_register: late_register.map(|LateRegisterDocument { register, delay_ns, reads }| {
                LateRegister { register, delay_ns, reads }
            }),
        }
    }
}

/// Reads what is to go wrong; nothing for the empty text.
pub(crate) fn parse_misbehaviour(text: &str) -> Result<Misbehaviour, DescriptionError> {
    let document: Option<Document> = parse(text)?;
    let wrong = document.unwrap_or_default().misbehaviour();
    wrong.check()?;
    Ok(wrong)
}

/// What [`parse_misbehaviour`] reads back.
pub(crate) fn show_misbehaviour(wrong: Misbehaviour) -> String {
    show((wrong != Misbehaviour::default()).then(|| Document::new(wrong)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misbehaviour_reads_back_as_it_was_shown() {
        let text = concat!(
            r#"{"stuck_line":"low","late_disable":{"delay_ns":2000,"samples":1,"read_flushes":true},"#,
            r#""spurious":{"period_ns":100000,"width_ns":500},"fifo_places":0,"removed":true,"#,
            r#""late_register":{"register":"STATUS","delay_ns":0,"reads":2}}"#
        );
        assert_eq!(show_misbehaviour(parse_misbehaviour(text).unwrap()), text);
        let short = parse_misbehaviour(r#"{"late_disable":{"delay_ns":2000}}"#).unwrap();
        assert!(show_misbehaviour(short).contains(r#""samples":1,"read_flushes":true"#));
        for nothing in ["", "{}"] {
            assert_eq!(show_misbehaviour(parse_misbehaviour(nothing).unwrap()), "");
        }
    }

    #[test]
    fn wrong_misbehaviour_is_refused_with_what_is_wrong() {
        let refused = |text: &str| parse_misbehaviour(text).unwrap_err().to_string();
        assert!(refused("{\"on_fire\":true}").contains("unknown field `on_fire`"));
        assert!(refused(r#"{"stuck_line":"up"}"#).contains("unknown variant `up`"));
        assert!(refused(r#"{"late_disable":{}}"#).contains("missing field `delay_ns`"));
        assert!(refused(r#"{"late_disable":{"delay_ns":0}}"#).contains("late_disable.delay_ns is 0;"));
        assert!(refused(r#"{"spurious":{"period_ns":1000,"width_ns":1000}}"#).contains("width_ns is 1000;"));
        assert!(refused(r#"{"fifo_places":65}"#).contains("fifo_places is 65;"));
        assert!(refused(r#"{"late_register":{"register":"STATUS"}}"#).contains("STATUS would not be late"));
        assert!(refused(r#"{"late_register":{"register":"DATA","reads":1}}"#).contains("\"DATA\""));
        assert!(refused("removed").contains("line 1"));
        assert!(refused("[]").contains("a JSON object is expected"));
    }
}
