//! Storms, watches and statistics as JSON, which is how they travel through QMP.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use squall_model::{Statistics, StormSpec, StormSpecError};
use thiserror::Error;

use crate::line::Mode;

/// The longest description that is read.
const MAX_LEN: usize = 4096;

/// Why a description is refused.
#[derive(Debug, Error)]
pub(crate) enum DescriptionError {
    #[error("the description is {0} bytes long, more than {MAX_LEN}")]
    Length(usize),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Storm(#[from] StormSpecError),
    #[error("leave is the same address as enter")]
    NoSpan,
}

/// A storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Storm {
    pace: Pace,
    #[serde(default = "default_gap_ns")]
    gap_ns: u64,
    #[serde(default)]
    jitter_ns: u64,
    #[serde(default)]
    count: u64,
    #[serde(default = "default_seed")]
    seed: u64,
}

/// What a storm waits for between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// The guest's acknowledgement of the last one.
    Ack,
}

const fn default_gap_ns() -> u64 {
    20_000
}

const fn default_seed() -> u64 {
    1
}

/// Two guest addresses of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watch {
    /// Unload's first instruction.
    pub(crate) enter: Address,
    /// Where Unload returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leave: Option<Address>,
    /// Take a sample at `enter`.
    #[serde(default)]
    pub(crate) fire_at_enter: bool,
}

/// A guest address: in JSON a string of hexadecimal digits after `0x`, since numbers there are good for 53
/// bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) u64);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| {
            de::Error::invalid_value(de::Unexpected::Str(&text), &"an address like \"0x1000\"")
        })
    }
}

/// Reads a storm; `None` for the empty text, which stops one.
pub(crate) fn parse_storm(text: &str) -> Result<Option<StormSpec>, DescriptionError> {
    let Some(Storm { pace: Pace::Ack, gap_ns, jitter_ns, count, seed }) = parse(text)? else {
        return Ok(None);
    };
    let spec = StormSpec { gap_ns, jitter_ns, count, seed };
    spec.check()?;
    Ok(Some(spec))
}

/// The storm that [`parse_storm`] reads back.
pub(crate) fn show_storm(spec: Option<StormSpec>) -> String {
    let storm = |StormSpec { gap_ns, jitter_ns, count, seed }| Storm {
        pace: Pace::Ack,
        gap_ns,
        jitter_ns,
        count,
        seed,
    };
    show(spec.map(storm))
}

/// Reads a watch; `None` for the empty text, which ends one.
pub(crate) fn parse_watch(text: &str) -> Result<Option<Watch>, DescriptionError> {
    let watch: Option<Watch> = parse(text)?;
    match watch {
        Some(Watch { enter, leave: Some(leave), .. }) if enter == leave => Err(DescriptionError::NoSpan),
        watch => Ok(watch),
    }
}

/// The watch that [`parse_watch`] reads back.
pub(crate) fn show_watch(watch: Option<Watch>) -> String {
    show(watch)
}

/// The statistics of a card, whose interrupts take the form `mode`.
pub(crate) fn show_statistics(statistics: Statistics, mode: Option<Mode>) -> String {
    let Statistics { unload, .. } = statistics;
    show(Some(StatisticsDocument {
        schema: "squall.device-stats/1",
        fired: statistics.fired,
        asserted: statistics.asserted,
        suppressed: statistics.suppressed,
        coalesced: statistics.coalesced,
        serviced: statistics.serviced,
        fifo_level: statistics.fifo_level,
        irq_enabled: statistics.irq_enabled,
        line: statistics.line,
        interrupt: mode.map_or("none", Mode::name),
        reads: statistics.reads,
        writes: statistics.writes,
        unload: UnloadDocument {
            entered: unload.entered,
            left: unload.left,
            asserted: unload.asserted,
            serviced: unload.serviced,
            before_silence: unload.before_silence,
            silenced: unload.silenced,
        },
    }))
}

#[derive(Serialize)]
struct StatisticsDocument {
    schema: &'static str,
    fired: u64,
    asserted: u64,
    suppressed: u64,
    coalesced: u64,
    serviced: u64,
    fifo_level: u32,
    irq_enabled: bool,
    line: bool,
    interrupt: &'static str,
    reads: u64,
    writes: u64,
    unload: UnloadDocument,
}

#[derive(Serialize)]
struct UnloadDocument {
    entered: u64,
    left: u64,
    asserted: u64,
    serviced: u64,
    before_silence: u64,
    silenced: bool,
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<Option<T>, DescriptionError> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_LEN {
        return Err(DescriptionError::Length(text.len()));
    }
    Ok(Some(serde_json::from_str(text)?))
}

/// Numbers, texts and booleans under fixed keys always serialise.
fn show(document: Option<impl Serialize>) -> String {
    document.and_then(|document| serde_json::to_string(&document).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = parse_storm(text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn a_storm_has_defaults() {
        let spec = StormSpec { gap_ns: 20_000, jitter_ns: 0, count: 0, seed: 1 };
        assert_eq!(parse_storm(r#"{"pace":"ack"}"#).unwrap(), Some(spec));
        assert_eq!(parse_storm("").unwrap(), None);
    }

    #[test]
    fn a_storm_reads_back_as_it_was_shown() {
        let spec = StormSpec { gap_ns: 5, jitter_ns: 6, count: 7, seed: u64::MAX };
        let text = show_storm(Some(spec));
        assert_eq!(text, r#"{"pace":"ack","gap_ns":5,"jitter_ns":6,"count":7,"seed":18446744073709551615}"#);
        assert_eq!(parse_storm(&text).unwrap(), Some(spec));
        assert_eq!(show_storm(None), "");
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
    }

    #[test]
    fn a_watch_reads_back_as_it_was_shown() {
        let text = r#"{"enter":"0xfffff80000001000","leave":"0x2000","fire_at_enter":true}"#;
        let watch = parse_watch(text).unwrap();
        let leave = Some(Address(0x2000));
        assert_eq!(watch, Some(Watch { enter: Address(0xffff_f800_0000_1000), leave, fire_at_enter: true }));
        assert_eq!(show_watch(watch), text);
        let short = parse_watch(r#"{"enter":"0x0"}"#).unwrap();
        assert_eq!(show_watch(short), r#"{"enter":"0x0","fire_at_enter":false}"#);
    }

    #[test]
    fn wrong_watches_are_refused_with_what_is_wrong() {
        let refused = |text: &str| parse_watch(text).unwrap_err().to_string();
        for address in ["1000", "0x", "0x1_0", "0x+1", "0x10000000000000000", "0xg"] {
            assert!(refused(&format!(r#"{{"enter":"{address}"}}"#)).contains("an address like"), "{address}");
        }
        assert!(refused(r#"{"enter":4096}"#).contains("invalid type"));
        assert!(refused(r#"{"leave":"0x1"}"#).contains("missing field `enter`"));
        assert!(refused(r#"{"enter":"0x1","leave":"0x01"}"#).contains("same address"));
    }

    #[test]
    fn statistics_are_the_documented_object() {
        let statistics = Statistics { fired: 3, line: true, ..Statistics::default() };
        let text = show_statistics(statistics, Some(Mode::Msix));
        let expected = concat!(
            r#"{"schema":"squall.device-stats/1","fired":3,"asserted":0,"suppressed":0,"coalesced":0,"serviced":0,"#,
            r#""fifo_level":0,"irq_enabled":false,"line":true,"interrupt":"msix","reads":0,"writes":0,"#,
            r#""unload":{"entered":0,"left":0,"asserted":0,"serviced":0,"before_silence":0,"silenced":false}}"#
        );
        assert_eq!(text, expected);
    }
}
