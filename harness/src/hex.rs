//! Numbers that travel as `0x` text.
//!
//! JSON's numbers are doubles to many readers, and an address of 64 bits does not survive one. So addresses,
//! statuses and bugcheck parameters cross every joint as hexadecimal strings.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A 64-bit number written as `0x` and lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads `0x` text; `None` for anything else.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    // `from_str_radix` would accept a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        parse(&text)
            .map(Hex)
            .ok_or_else(|| D::Error::custom("expected a number of up to 64 bits written 0x..."))
    }
}

/// An NTSTATUS, written as `0x` and eight upper-case digits, as Windows' own headers write it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// What `NT_SUCCESS` tests: the two severity bits say success or informational.
    pub fn is_success(self) -> bool {
        self.0 < 0x8000_0000
    }

    /// The header's name for the statuses that a load or an unload commonly ends with.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x0000_0000 => "STATUS_SUCCESS",
            0x0000_0103 => "STATUS_PENDING",
            0xC000_0001 => "STATUS_UNSUCCESSFUL",
            0xC000_0002 => "STATUS_NOT_IMPLEMENTED",
            0xC000_0005 => "STATUS_ACCESS_VIOLATION",
            0xC000_000D => "STATUS_INVALID_PARAMETER",
            0xC000_000E => "STATUS_NO_SUCH_DEVICE",
            0xC000_0010 => "STATUS_INVALID_DEVICE_REQUEST",
            0xC000_0018 => "STATUS_CONFLICTING_ADDRESSES",
            0xC000_0022 => "STATUS_ACCESS_DENIED",
            0xC000_0034 => "STATUS_OBJECT_NAME_NOT_FOUND",
            0xC000_0035 => "STATUS_OBJECT_NAME_COLLISION",
            0xC000_007B => "STATUS_INVALID_IMAGE_FORMAT",
            0xC000_009A => "STATUS_INSUFFICIENT_RESOURCES",
            0xC000_00BB => "STATUS_NOT_SUPPORTED",
            0xC000_010E => "STATUS_IMAGE_ALREADY_LOADED",
            0xC000_0182 => "STATUS_DEVICE_CONFIGURATION_ERROR",
            0xC000_0225 => "STATUS_NOT_FOUND",
            0xC000_0263 => "STATUS_DRIVER_ENTRYPOINT_NOT_FOUND",
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        parse(&text)
            .and_then(|value| u32::try_from(value).ok())
            .map(Status)
            .ok_or_else(|| D::Error::custom("expected a status of 32 bits written 0x..."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_is_read_strictly() {
        assert_eq!(parse("0xffff800000000000"), Some(0xffff_8000_0000_0000));
        for bad in ["", "0x", "12", "0x+1", "0x-1", "0x1_0", "0x10000000000000000", " 0x1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_survive_a_round_trip_as_text() {
        let json = serde_json::to_string(&(Hex(u64::MAX), Status(0xC000_0263))).unwrap();
        assert_eq!(json, r#"["0xffffffffffffffff","0xC0000263"]"#);
        assert_eq!(
            serde_json::from_str::<(Hex, Status)>(&json).unwrap(),
            (Hex(u64::MAX), Status(0xC000_0263))
        );
    }

    #[test]
    fn a_status_of_more_than_32_bits_is_refused() {
        assert!(serde_json::from_str::<Status>(r#""0x100000000""#).is_err());
        assert!(serde_json::from_str::<Status>("3221225473").is_err());
    }

    #[test]
    fn severity_decides_success() {
        assert!(Status(0).is_success());
        assert!(Status(0x4000_0000).is_success());
        assert!(!Status(0x8000_0005).is_success());
        assert!(!Status(0xC000_0001).is_success());
    }
}
