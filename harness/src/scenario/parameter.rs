//! Values under a service's `Parameters` key, as scenarios and the command line state them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ScenarioError;

/// A registry value: a number is a REG_DWORD, text is a REG_SZ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    /// REG_DWORD.
    Dword(u32),
    /// REG_SZ.
    Text(String),
}

impl Parameter {
    /// The agent's way to write it.
    pub fn to_argument(&self, name: &str) -> String {
        match self {
            Self::Dword(value) => format!("{name}=dword:{value}"),
            Self::Text(text) => format!("{name}=sz:{text}"),
        }
    }
}

/// A `NAME=VALUE` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceParameter {
    /// The value's name.
    pub name: String,
    /// Its content.
    pub value: Parameter,
}

impl FromStr for ServiceParameter {
    type Err = ScenarioError;

    /// `NAME=VALUE`: decimal or `0x` numbers become REG_DWORD; `sz:` in front makes anything text.
    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let (name, value) =
            text.split_once('=').filter(|(name, _)| is_value_name(name)).ok_or_else(|| {
                ScenarioError::Parameter { text: text.to_owned(), why: "NAME=VALUE is expected" }
            })?;
        let number = match value.strip_prefix("0x") {
            Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
            _ if value.bytes().all(|byte| byte.is_ascii_digit()) => value.parse().ok(),
            _ => None,
        };
        let value = match (value.strip_prefix("sz:"), number) {
            (Some(text), _) => Parameter::Text(text.to_owned()),
            (None, Some(number)) => {
                Parameter::Dword(u32::try_from(number).map_err(|_| ScenarioError::Parameter {
                    text: text.to_owned(),
                    why: "the number does not fit into 32 bits",
                })?)
            }
            (None, None) => Parameter::Text(value.to_owned()),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

pub(super) fn is_value_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_parameters_are_numbers_where_they_look_like_numbers() {
        let parse = |text: &str| text.parse::<ServiceParameter>().map(|p| p.value.to_argument(&p.name));
        assert_eq!(parse("Depth=16").unwrap(), "Depth=dword:16");
        assert_eq!(parse("Depth=0x10").unwrap(), "Depth=dword:16");
        assert_eq!(parse("Label=sz:16").unwrap(), "Label=sz:16");
        assert_eq!(parse("Label=a=b").unwrap(), "Label=sz:a=b");
        assert_eq!(parse("Label=").unwrap(), "Label=sz:");
        for bad in ["Depth", "=1", "a b=1", "Depth=4294967296"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
