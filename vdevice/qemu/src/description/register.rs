//! Registers by their names.

use serde::{Deserialize, Deserializer, Serializer, de};
use squall_registers::Register;

/// What is written where a name that no register has was read.
struct Names;

impl de::Expected for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "one of {}", Register::ALL.map(Register::name).join(", "))
    }
}

pub(super) fn serialize<S: Serializer>(register: &Register, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(register.name())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Register, D::Error> {
    let name = String::deserialize(deserializer)?;
    Register::named(&name).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&name), &Names))
}

/// A register that need not be given.
pub(super) mod option {
    use serde::{Deserializer, Serializer};
    use squall_registers::Register;

    pub(in crate::description) fn serialize<S: Serializer>(
        register: &Option<Register>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match register {
            Some(register) => super::serialize(register, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::description) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Register>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}
