//! A storm on the command line: a pace and what belongs to it, and others after a `+`.

use std::{fmt, str::FromStr};

use super::{Access, Pace, Register, Storm, StormError};

/// What can follow a pace.
pub(super) const FIELDS: &str = "gap=TIME (ack), every=TIME (period), read=REGISTER, write=REGISTER:VALUE/MASK, \
                                 delay=TIME (access), jitter=TIME, burst=N, burst-gap=TIME, count=N";

const REGISTERS: [(&str, Register); 6] = [
    ("IDENT", Register::Ident),
    ("CONTROL", Register::Control),
    ("STATUS", Register::Status),
    ("FIFO_DATA", Register::FifoData),
    ("FIFO_LEVEL", Register::FifoLevel),
    ("SEQUENCE", Register::Sequence),
];

impl FromStr for Storm {
    type Err = StormError;

    fn from_str(text: &str) -> Result<Self, StormError> {
        let mut all = text.split('+').map(one);
        let mut storm = all.next().unwrap_or_else(|| one(""))?;
        storm.also = all.collect::<Result<_, _>>()?;
        let storm = storm.filled_in();
        storm.check()?;
        Ok(storm)
    }
}

fn one(text: &str) -> Result<Storm, StormError> {
    let mut parts = text.split(',');
    let pace = match parts.next().unwrap_or_default() {
        "none" => Pace::None,
        "ack" => Pace::Ack,
        "period" => Pace::Period,
        "access" => Pace::Access,
        _ => return Err(StormError::Pace(text.to_owned())),
    };
    let mut storm = Storm::paced(pace);
    for part in parts {
        let field = || StormError::Field(part.to_owned());
        let (name, value) = part.split_once('=').ok_or_else(field)?;
        match name {
            "gap" => storm.gap_ns = Some(nanoseconds(name, value)?),
            "every" => storm.period_ns = Some(nanoseconds(name, value)?),
            "delay" => storm.delay_ns = Some(nanoseconds(name, value)?),
            "jitter" => storm.jitter_ns = nanoseconds(name, value)?,
            "burst-gap" => storm.burst_gap_ns = nanoseconds(name, value)?,
            "train" => storm.train = Some(value.parse().map_err(|_| field())?),
            "burst" => storm.burst = value.parse().map_err(|_| field())?,
            "count" => storm.count = value.parse().map_err(|_| field())?,
            "read" | "write" => {
                storm.access = Some(if name == "read" { Access::Read } else { Access::Write });
                access(&mut storm, value).ok_or_else(|| StormError::Access(part.to_owned()))?;
            }
            _ => return Err(field()),
        }
    }
    Ok(storm)
}

/// `REGISTER`, `REGISTER:VALUE` or `REGISTER:VALUE/MASK`.
fn access(storm: &mut Storm, text: &str) -> Option<()> {
    let (name, bits) = text.split_once(':').map_or((text, None), |(name, bits)| (name, Some(bits)));
    let register = REGISTERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    storm.register = Some(register?.1);
    if let Some(bits) = bits {
        let (value, mask) = bits.split_once('/').map_or((bits, None), |(value, mask)| (value, Some(mask)));
        storm.value = Some(number(value)?);
        storm.mask = mask.map_or(Some(None), |mask| number(mask).map(Some))?;
    }
    Some(())
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
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
        f.write_str(self.pace.text())?;
        if self.pace == Pace::None {
            return Ok(());
        }
        for (name, value) in [("gap", self.gap_ns), ("every", self.period_ns)] {
            if let Some(value) = value {
                write!(f, ",{name}={value}ns")?;
            }
        }
        if let (Some(access), Some(register)) = (self.access, self.register) {
            let name = REGISTERS.iter().find(|(_, known)| *known == register).map_or("", |(name, _)| name);
            write!(f, ",{}={name}", if access == Access::Read { "read" } else { "write" })?;
            if let Some(value) = self.value {
                write!(f, ":{value:#x}")?;
            }
            if let Some(mask) = self.mask {
                write!(f, "/{mask:#x}")?;
            }
        }
        let nonzero = |value: u64| Some(value).filter(|value| *value > 0);
        let times = [
            ("delay", self.delay_ns),
            ("jitter", nonzero(self.jitter_ns)),
            ("burst-gap", nonzero(self.burst_gap_ns)),
        ];
        for (name, value) in times {
            if let Some(value) = value {
                write!(f, ",{name}={value}ns")?;
            }
        }
        if let Some(train) = self.train {
            write!(f, ",train={train}")?;
        }
        if self.burst > 1 {
            write!(f, ",burst={}", self.burst)?;
        }
        if self.count > 0 {
            write!(f, ",count={}", self.count)?;
        }
        self.also.iter().try_for_each(|storm| write!(f, "+{storm}"))
    }
}
