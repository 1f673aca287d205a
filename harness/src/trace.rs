//! The flight recorder for people: which records are wanted, and one line for each.
//!
//! A trace is read a record at a time, so a ring of any size is filtered and printed in constant memory.

use std::str::FromStr;

use thiserror::Error;

use crate::flight::{Flight, FlightError, Kind, Record};

/// The card's registers, by offset: for people's eyes.
const REGISTERS: [&str; 8] =
    ["IDENT", "CONTROL", "STATUS", "FIFO_DATA", "FIFO_LEVEL", "SEQUENCE", "reserved", "reserved"];

/// Which records are wanted; all of them by default.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these kinds, if any are named.
    pub kinds: Vec<KindName>,
    /// Only accesses to this register.
    pub register: Option<RegisterName>,
    /// Only what this processor did.
    pub processor: Option<u16>,
    /// Only from an UNLOAD_ENTER to the UNLOAD_LEAVE after it.
    pub unload: bool,
}

impl Filter {
    /// The wanted records that the ring still holds, oldest first.
    ///
    /// # Errors
    /// [`FlightError`] where the file cannot be read.
    pub fn apply<'a>(
        &'a self,
        flight: &'a Flight,
    ) -> Result<impl Iterator<Item = Result<Record, FlightError>> + 'a, FlightError> {
        let mut inside = false;
        Ok(flight.records()?.filter(move |record| match record {
            // An error is for whoever reads on, never filtered out.
            Err(_) => true,
            Ok(record) => {
                inside |= record.kind == Kind::UnloadEnter;
                let wanted = (inside || !self.unload) && self.wants(record);
                inside &= record.kind != Kind::UnloadLeave;
                wanted
            }
        }))
    }

    fn wants(&self, record: &Record) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&KindName(record.kind)))
            && self.register.is_none_or(|register| record.size > 0 && record.offset / 4 == register.0)
            && self.processor.is_none_or(|processor| record.processor == Some(processor))
    }
}

/// A word that names nothing in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{word:?} is no {what} of a trace; it has {known}")]
pub struct UnknownName {
    word: String,
    what: &'static str,
    known: String,
}

/// A [`Kind`], by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName(Kind);

impl FromStr for KindName {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        let name = word.to_ascii_uppercase().replace('-', "_");
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(Self(kind));
        }
        let mut known = Kind::ALL.map(Kind::name);
        known.sort();
        Err(UnknownName { word: word.to_owned(), what: "kind", known: known.join(", ") })
    }
}

/// A register of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterName(u32);

impl FromStr for RegisterName {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        let known = &REGISTERS[..6];
        let number = known.iter().position(|name| name.eq_ignore_ascii_case(word));
        number.and_then(|number| u32::try_from(number).ok()).map(Self).ok_or_else(|| UnknownName {
            word: word.to_owned(),
            what: "register",
            known: known.join(", "),
        })
    }
}

/// One record as a line of a table, its time as the distance to `reference`, in guest nanoseconds.
pub fn line(record: &Record, reference: u64) -> String {
    let distance = i128::from(record.virtual_ns) - i128::from(reference);
    let sign = if distance < 0 { "-" } else { "+" };
    let distance = distance.unsigned_abs();
    let time = format!("{sign}{}.{:03} us", distance / 1_000, distance % 1_000);
    let processor = record.processor.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let what = match (record.kind, record.size) {
        (Kind::Fire, _) => ["on demand", "by the storm", "at Unload", "by a late disable"]
            .get(usize::try_from(record.value).unwrap_or(usize::MAX))
            .map_or_else(|| record.value.to_string(), |word| (*word).to_owned()),
        (Kind::Storm, _) => (if record.value == 0 { "stopped" } else { "started" }).to_owned(),
        (Kind::Misbehave, _) => misdeeds(record.value),
        (Kind::Posted, _) => format!("for {} ns", record.value),
        (Kind::Stale, _) => format!("it holds {:#x}", record.value),
        (Kind::UnloadEnter | Kind::UnloadLeave, _) => format!("{:#x}", record.value),
        (_, 0) => String::new(),
        _ => {
            let register = REGISTERS.get(record.offset as usize / 4).copied().unwrap_or("outside");
            format!("{register} {:#x}", record.value)
        }
    };
    let level = if record.level { "line up" } else { "line down" };
    format!("{time:>16}  cpu {processor:<2} {:<13} {what:<22} {level}", record.kind.name())
}

/// What the bits of a MISBEHAVE record stand for.
fn misdeeds(bits: u64) -> String {
    let names = ["stuck line", "late disable", "spurious", "fewer places", "removed", "late register"];
    let on: Vec<&str> =
        names.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0).map(|(_, name)| name).collect();
    if on.is_empty() { "no more".to_owned() } else { on.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, offset: u32, size: u8) -> Record {
        Record {
            sequence: 9,
            virtual_ns: 1_000_500,
            host_ns: 0,
            value: 1,
            offset,
            kind,
            processor: Some(1),
            size,
            level: false,
        }
    }

    #[test]
    fn an_event_is_one_line_of_a_table() {
        let line = |reference| line(&record(Kind::Write, 8, 4), reference);
        for part in ["-2.500 us", "WRITE", "STATUS 0x1", "cpu 1", "line down"] {
            assert!(line(1_003_000).contains(part), "{}", line(1_003_000));
        }
        assert!(line(0).contains("+1000.500 us"), "{}", line(0));
    }

    #[test]
    fn misbehaviour_is_told_in_words() {
        let line = |kind, value| line(&Record { value, ..record(kind, 0, 0) }, 0);
        assert!(line(Kind::Misbehave, 0b1_0010).contains("late disable, removed"));
        assert!(line(Kind::Misbehave, 0).contains("no more"));
        assert!(line(Kind::Posted, 2000).contains("for 2000 ns"));
        assert!(line(Kind::Fire, 3).contains("by a late disable"));
    }

    #[test]
    fn names_are_those_of_the_joints_page_in_any_case() {
        assert_eq!("unload-enter".parse(), Ok(KindName(Kind::UnloadEnter)));
        assert_eq!("status".parse(), Ok(RegisterName(2)));
        let error = "statos".parse::<RegisterName>().unwrap_err().to_string();
        assert!(error.contains("\"statos\" is no register") && error.contains("FIFO_DATA"), "{error}");
        assert!("reserved".parse::<RegisterName>().is_err());
        assert!("kind_77".parse::<KindName>().is_err());
    }

    #[test]
    fn each_condition_of_a_filter_narrows_it() {
        let write = record(Kind::Write, 8, 4);
        assert!(Filter::default().wants(&write));
        let kinds = vec!["write".parse().unwrap(), "serviced".parse().unwrap()];
        let filter = Filter { kinds, register: "STATUS".parse().ok(), processor: Some(1), unload: false };
        assert!(filter.wants(&write));
        assert!(!filter.wants(&record(Kind::Read, 8, 4)));
        assert!(!filter.wants(&record(Kind::Write, 4, 4)));
        // SERVICED has no register, whatever its offset says.
        assert!(!filter.wants(&record(Kind::Serviced, 8, 0)));
        assert!(!filter.wants(&Record { processor: None, ..write }));
    }
}
