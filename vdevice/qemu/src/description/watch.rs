//! Watches as JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{DescriptionError, parse, show};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
