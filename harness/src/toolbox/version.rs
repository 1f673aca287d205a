//! Version numbers as programs and packages print them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An upstream version: up to three numbers. What a distribution adds to it (epoch, revision, suffix) is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number, 0 where there is none.
    pub minor: u32,
    /// Third number, 0 where there is none.
    pub patch: u32,
}

impl Version {
    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The first version in a sentence such as `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`: the first word
    /// that begins with a digit.
    pub fn in_text(text: &str) -> Option<Self> {
        text.split(|c: char| c.is_whitespace() || c == '(')
            .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .find_map(Self::leading)
    }

    /// The upstream version inside a Debian version: without the epoch, up to the first character that belongs to the
    /// packaging. `1:10.0.2+ds-2+deb13u1~bpo12+1` is 10.0.2.
    pub fn of_debian(version: &str) -> Option<Self> {
        Self::leading(version.split_once(':').map_or(version, |(_epoch, rest)| rest))
    }

    /// Numbers and dots at the beginning of a word.
    fn leading(word: &str) -> Option<Self> {
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        word[..end].trim_end_matches('.').parse().ok()
    }
}

/// Not a version number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version number such as 10.0.2")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let refuse = || VersionError(text.to_owned());
        let mut numbers = [0; 3];
        // A fourth number and what follows it never decides whether a tool is good enough.
        for (place, part) in text.split('.').take(3).enumerate() {
            numbers[place] = part.parse().map_err(|_| refuse())?;
        }
        let [major, minor, patch] = numbers;
        Ok(Self { major, minor, patch })
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_print_versions_in_many_ways() {
        let cases = [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", Version::new(10, 0, 2)),
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", Version::new(7, 2, 22)),
            ("QEMU emulator version 10.1.50 (v10.1.0-123-gabcdef)", Version::new(10, 1, 50)),
            ("rustc 1.95.0 (f2d3ce0bd 2026-03-21)", Version::new(1, 95, 0)),
            ("rustc 1.96.0-nightly (abc)", Version::new(1, 96, 0)),
            ("tool 9", Version::new(9, 0, 0)),
            ("13.2.0\n", Version::new(13, 2, 0)),
            ("12-win32\n", Version::new(12, 0, 0)),
            ("osslsigncode 2.9, using:\n\tOpenSSL 3.0.13", Version::new(2, 9, 0)),
            ("OpenSSL 3.0.13 30 Jan 2024 (Library: x)", Version::new(3, 0, 13)),
        ];
        for (text, version) in cases {
            assert_eq!(Version::in_text(text), Some(version), "{text}");
        }
        assert_eq!(Version::in_text("no number here"), None);
        assert_eq!(Version::in_text(""), None);
    }

    #[test]
    fn packaging_is_not_part_of_the_upstream_version() {
        let cases = [
            ("1:10.0.2+ds-2+deb13u1~bpo12+1", Some(Version::new(10, 0, 2))),
            ("1:7.2+dfsg-7+deb12u18", Some(Version::new(7, 2, 0))),
            ("1:14.0.6-12", Some(Version::new(14, 0, 6))),
            ("11.1.3+ds-1~bpo13+1", Some(Version::new(11, 1, 3))),
            ("1.0.0+git-20190125.36a4c85-5.1", Some(Version::new(1, 0, 0))),
            ("1:", None),
            ("99999999999.1", None),
        ];
        for (text, version) in cases {
            assert_eq!(Version::of_debian(text), version, "{text}");
        }
    }

    #[test]
    fn order_is_numeric() {
        assert!(Version::new(9, 2, 0) < Version::new(10, 0, 0));
        assert!("10.0".parse::<Version>().unwrap() < "10.0.1".parse().unwrap());
    }

    #[test]
    fn json_form_is_the_printed_form() {
        let version = Version::new(10, 0, 2);
        assert_eq!(serde_json::to_string(&version).unwrap(), "\"10.0.2\"");
        assert_eq!(serde_json::from_str::<Version>("\"10.0.2\"").unwrap(), version);
        assert!(serde_json::from_str::<Version>("\"ten\"").is_err());
    }
}
