//! What one entry of the catalogue expects, as it is written there, and whether a verdict is that.
//!
//! An outcome is a word (`silent`, `hang`, `unload-refused`), `*` for any bugcheck, or a bugcheck's code with its four
//! parameters where they matter: `D1(ip,dirql,8,ip)`. A parameter in digits and capitals is that number. One in lower case
//! says what the number has to *be*, and as much of it as the evidence can tell is checked: see [`Role`].

use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use crate::verdict::{Bugcheck, Outcome, Subject, Verdict};

/// Where the half of the address space begins that is the kernel's.
const KERNEL_SPACE: u64 = 0xFFFF_8000_0000_0000;
/// The card's registers, from the beginning of a page that is mapped for them.
const REGISTER_WINDOW: u64 = 32;
const PAGE: u64 = 0x1000;
/// The IRQLs that x64 gives to devices.
const DEVICE_IRQLS: std::ops::RangeInclusive<u64> = 3..=12;

/// One outcome that will do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Expectation {
    /// Any bugcheck at all.
    AnyBugcheck,
    /// A bugcheck with this code, and these parameters where they are given.
    Bugcheck {
        /// The code.
        code: u32,
        /// The parameters, in the documentation's order.
        parameters: [Parameter; 4],
    },
    /// The system lives. A guest that is stricter than Windows reports a finding that says so.
    Silent,
    /// The watchdog ends the run.
    Hang,
    /// The guest does not let the driver go.
    UnloadRefused,
}

/// What a bugcheck's parameter has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Any number.
    Any,
    /// This number.
    Literal(u64),
    /// A number of this meaning.
    Role(Role),
}

/// What a parameter means, and so what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `ip`: an instruction of the driver; lies in its image, loaded or unloaded.
    Instruction,
    /// `routine`: one of the driver's routines; lies in its image, loaded or unloaded.
    Routine,
    /// `dirql`: the device's IRQL; is one of those that x64 gives to devices, and the one at which the system stopped.
    DeviceIrql,
    /// `va`: a mapped register; lies in the kernel's half, in no image of the driver's, and in the 32 bytes at the beginning
    /// of a page that are the card's registers.
    Register,
    /// `timer`, `dpc`, `item`, `list`: an object of that kind; lies in the kernel's half, and between `start` and `end`, or in
    /// the `size` bytes from `start`, where the outcome has them.
    Object(&'static str),
    /// `start`: the beginning of memory that is going; in the kernel's half.
    Start,
    /// `end`: the end of that memory; behind its beginning.
    End,
    /// `size`: how much memory is going; not nothing, and not beyond the end of the address space.
    Size,
    /// `name`: a pointer to a name; in the kernel's half.
    Name,
    /// `count`: how many; not none, and fewer than 2^32.
    Count,
}

const OBJECTS: [&str; 4] = ["timer", "dpc", "item", "list"];
const ROLES: [(&str, Role); 8] = [
    ("ip", Role::Instruction),
    ("routine", Role::Routine),
    ("dirql", Role::DeviceIrql),
    ("va", Role::Register),
    ("start", Role::Start),
    ("end", Role::End),
    ("size", Role::Size),
    ("name", Role::Name),
];
const COUNT: &str = "count";

/// Text that is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExpectationError {
    /// Neither a word of the catalogue nor a bugcheck's code.
    #[error("{0:?} is no outcome: CODE, CODE(P,P,P,P), *, silent, hang or unload-refused")]
    Outcome(String),
    /// A bugcheck has four parameters.
    #[error("{text:?} has {count} parameters, a bugcheck has 4")]
    Parameters {
        /// The outcome.
        text: String,
        /// How many it has.
        count: usize,
    },
    /// A parameter that says nothing that is known.
    #[error(
        "{text:?}: parameter {parameter:?} is neither *, a number in capitals, nor one of {}",
        known_roles()
    )]
    Parameter {
        /// The outcome.
        text: String,
        /// Its parameter.
        parameter: String,
    },
}

fn known_roles() -> String {
    let names = ROLES.iter().map(|(name, _)| *name).chain(OBJECTS).chain([COUNT]);
    names.collect::<Vec<_>>().join(", ")
}

impl Role {
    fn named(word: &str) -> Option<Self> {
        if word == COUNT {
            return Some(Self::Count);
        }
        let object = OBJECTS.into_iter().find(|name| *name == word).map(Self::Object);
        object.or_else(|| ROLES.iter().find(|(name, _)| *name == word).map(|(_, role)| *role))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Object(name) => name,
            Self::Count => COUNT,
            // Every other role is in the list.
            _ => ROLES.iter().find(|(_, role)| *role == self).map_or("?", |(name, _)| name),
        }
    }
}

/// The numbers of a bugcheck, with what is known about the driver.
struct Seen<'a> {
    wanted: &'a [Parameter; 4],
    bugcheck: &'a Bugcheck,
    driver: &'a Subject,
}

impl Seen<'_> {
    /// The number that has this role, where one has.
    fn of_role(&self, role: Role) -> Option<u64> {
        let index = self.wanted.iter().position(|wanted| *wanted == Parameter::Role(role))?;
        Some(self.bugcheck.parameters[index].0)
    }

    /// The memory that the outcome tells of, where it tells of any; an end may be the last byte or the one behind it.
    fn memory(&self) -> Option<std::ops::RangeInclusive<u64>> {
        let start = self.of_role(Role::Start)?;
        let end = self.of_role(Role::End).or_else(|| start.checked_add(self.of_role(Role::Size)?))?;
        Some(start..=end)
    }

    fn in_driver(&self, address: u64) -> bool {
        self.driver.holds(address)
    }

    fn fits(&self, parameter: Parameter, number: u64) -> bool {
        let role = match parameter {
            Parameter::Any => return true,
            Parameter::Literal(wanted) => return number == wanted,
            Parameter::Role(role) => role,
        };
        match role {
            Role::Instruction | Role::Routine => self.in_driver(number),
            Role::DeviceIrql => DEVICE_IRQLS.contains(&number) && number == u64::from(self.bugcheck.irql),
            Role::Register => {
                number >= KERNEL_SPACE && !self.in_driver(number) && number % PAGE < REGISTER_WINDOW
            }
            Role::Object(_) => {
                number >= KERNEL_SPACE && self.memory().is_none_or(|memory| memory.contains(&number))
            }
            Role::Start | Role::Name => number >= KERNEL_SPACE,
            Role::End => self.of_role(Role::Start).is_none_or(|start| start < number),
            Role::Size => {
                let start = self.of_role(Role::Start).unwrap_or(0);
                number > 0 && start.checked_add(number).is_some()
            }
            Role::Count => number > 0 && number <= u64::from(u32::MAX),
        }
    }
}

impl Expectation {
    /// Whether a verdict is this outcome. `stricter`: the guest reports what Windows would let pass, so that a silent
    /// outcome without such a finding is not what was expected.
    pub fn matches(&self, verdict: &Verdict, stricter: bool) -> bool {
        match (self, &verdict.bugcheck) {
            (Self::AnyBugcheck, Some(_)) => true,
            (Self::Bugcheck { code, parameters }, Some(bugcheck)) => {
                let seen = Seen { wanted: parameters, bugcheck, driver: &verdict.driver };
                let numbers = bugcheck.parameters.map(|number| number.0);
                bugcheck.code == *code
                    && parameters.iter().zip(numbers).all(|(wanted, number)| seen.fits(*wanted, number))
            }
            (Self::Silent, None) if stricter => {
                verdict.outcome == Outcome::Finding
                    && verdict.findings.iter().any(|finding| finding.stricter_than_windows)
            }
            (Self::Silent, None) => matches!(verdict.outcome, Outcome::Clean | Outcome::Finding),
            (Self::Hang, None) => verdict.outcome == Outcome::Hang,
            (Self::UnloadRefused, None) => verdict.outcome == Outcome::UnloadRefused,
            _ => false,
        }
    }
}

impl TryFrom<String> for Expectation {
    type Error = ExpectationError;

    fn try_from(text: String) -> Result<Self, ExpectationError> {
        match text.as_str() {
            "*" => return Ok(Self::AnyBugcheck),
            "silent" => return Ok(Self::Silent),
            "hang" => return Ok(Self::Hang),
            "unload-refused" => return Ok(Self::UnloadRefused),
            _ => {}
        }
        let wrong = || ExpectationError::Outcome(text.clone());
        let (code, list) = match text.split_once('(') {
            None => (text.as_str(), None),
            Some((code, rest)) => (code, Some(rest.strip_suffix(')').ok_or_else(wrong)?)),
        };
        let code = number(code).and_then(|code| u32::try_from(code).ok()).ok_or_else(wrong)?;
        let mut parameters = [Parameter::Any; 4];
        if let Some(list) = list {
            let words: Vec<_> = list.split(',').map(str::trim).collect();
            if words.len() != parameters.len() {
                return Err(ExpectationError::Parameters { text: text.clone(), count: words.len() });
            }
            for (parameter, word) in parameters.iter_mut().zip(words) {
                *parameter = Parameter::parse(word).ok_or_else(|| ExpectationError::Parameter {
                    text: text.clone(),
                    parameter: word.to_owned(),
                })?;
            }
        }
        Ok(Self::Bugcheck { code, parameters })
    }
}

/// Hexadecimal digits, the letters among them in capitals.
fn number(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    if digits { u64::from_str_radix(word, 16).ok() } else { None }
}

impl Parameter {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "*" => Some(Self::Any),
            _ => number(word).map(Self::Literal).or_else(|| Role::named(word).map(Self::Role)),
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Literal(number) => write!(f, "{number:X}"),
            Self::Role(role) => f.write_str(role.name()),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyBugcheck => f.write_str("any bugcheck"),
            Self::Silent => f.write_str("silent"),
            Self::Hang => f.write_str("hang"),
            Self::UnloadRefused => f.write_str("unload-refused"),
            Self::Bugcheck { code, parameters } => {
                write!(f, "0x{code:X}")?;
                if parameters.iter().any(|parameter| *parameter != Parameter::Any) {
                    let [first, second, third, fourth] = parameters;
                    write!(f, "({first},{second},{third},{fourth})")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::verdict::example;

    fn parse(text: &str) -> Result<Expectation, ExpectationError> {
        text.to_owned().try_into()
    }

    /// A verdict on a driver of 0x6000 bytes at 0xffff900000010000 that stopped with these numbers at that IRQL.
    fn stopped(code: u32, parameters: [u64; 4], irql: u8) -> Verdict {
        let mut verdict = example();
        let bugcheck = verdict.bugcheck.as_mut().unwrap();
        (bugcheck.code, bugcheck.irql) = (code, irql);
        bugcheck.parameters = parameters.map(crate::hex::Hex);
        verdict
    }

    const IP: u64 = 0xFFFF_9000_0001_1120;
    const POOL: u64 = 0xFFFF_A000_0000_0000;

    #[test]
    fn what_is_read_is_what_was_written() {
        let text = |text| parse(text).unwrap().to_string();
        assert_eq!(text("D1(ip,dirql,8,ip)"), "0xD1(ip,dirql,8,ip)");
        assert_eq!(text("C4(2000D, *, *, *)"), "0xC4(2000D,*,*,*)");
        assert_eq!(text("C4(CC,list,start,size)"), "0xC4(CC,list,start,size)");
        assert_eq!(text("C4(62,name,*,count)"), "0xC4(62,name,*,count)");
        assert_eq!(text("E4(2,item,routine,0)"), "0xE4(2,item,routine,0)");
        assert_eq!(text("CE"), "0xCE");
        assert_eq!(text("*"), "any bugcheck");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_reason() {
        let why = |text| parse(text).unwrap_err().to_string();
        for bad in ["", "nonsense", "d1", "D1(1,2,3,4", "+D1", "100000000", "D1 "] {
            assert!(why(bad).contains("is no outcome"), "{bad}: {}", why(bad));
        }
        for (bad, count) in
            [("D1(8)", "1 parameters"), ("D1()", "1 parameters"), ("D1(1,2,3,4,5)", "5 parameters")]
        {
            assert!(why(bad).contains(count), "{}", why(bad));
        }
        for bad in ["D1(1,2,3,)", "D1(1,2,3,x9)", "D1(1,2,3,ipp)", "D1(1,2,3,aB)"] {
            assert!(why(bad).contains("neither"), "{}", why(bad));
        }
        assert!(why("D1(1,2,3,nil)").contains("dirql"), "{}", why("D1(1,2,3,nil)"));
    }

    fn fits(text: &str, code: u32, parameters: [u64; 4], irql: u8) -> bool {
        parse(text).unwrap().matches(&stopped(code, parameters, irql), true)
    }

    #[test]
    fn code_and_literal_numbers_have_to_be_the_same() {
        assert!(fits("D1", 0xD1, [1, 2, 3, 4], 2));
        assert!(!fits("D1", 0xA, [1, 2, 3, 4], 2));
        assert!(fits("C2(7,*,*,*)", 0xC2, [7, 0, 0, 0], 0));
        assert!(!fits("C2(7,*,*,*)", 0xC2, [6, 0, 0, 0], 0));
    }

    #[test]
    fn an_instruction_lies_in_the_driver_and_the_irql_is_the_devices() {
        assert!(fits("D1(ip,dirql,8,ip)", 0xD1, [IP, 5, 8, IP], 5));
        assert!(!fits("D1(ip,dirql,8,ip)", 0xD1, [POOL, 5, 8, IP], 5));
        assert!(!fits("D1(ip,dirql,8,ip)", 0xD1, [IP, 2, 8, IP], 2), "DISPATCH_LEVEL is no device's");
        assert!(!fits("D1(ip,dirql,8,ip)", 0xD1, [IP, 6, 8, IP], 5), "not where the system stopped");
        // The image's first byte, its last, and the ones beside it.
        let at = |address| fits("CE(ip,*,ip,0)", 0xCE, [address, 0, address, 0], 0);
        assert!(at(0xFFFF_9000_0001_0000) && at(0xFFFF_9000_0001_5FFF));
        assert!(!at(0xFFFF_9000_0000_FFFF) && !at(0xFFFF_9000_0001_6000));
    }

    #[test]
    fn a_register_is_at_the_beginning_of_a_page_that_is_not_the_drivers() {
        let at = |address| fits("D1(va,dirql,*,*)", 0xD1, [address, 9, 0, IP], 9);
        assert!(at(0xFFFF_B000_0000_3008));
        assert!(!at(0xFFFF_B000_0000_3020) && !at(0x3008) && !at(0xFFFF_9000_0001_1008));
    }

    #[test]
    fn an_object_lies_in_the_memory_that_is_going() {
        let freed = |object| fits("C7(0,timer,start,end)", 0xC7, [0, object, POOL, POOL + 0x40], 0);
        assert!(freed(POOL) && freed(POOL + 0x3F) && !freed(POOL + 0x80) && !freed(POOL - 1) && !freed(8));
        assert!(!fits("C7(0,timer,start,end)", 0xC7, [0, POOL, POOL, POOL], 0), "no memory at all");
        let listed = |list| fits("C4(CC,list,start,size)", 0xC4, [0xCC, list, POOL, 0x100], 0);
        assert!(listed(POOL + 0xFF) && !listed(POOL + 0x101));
        assert!(fits("E4(2,item,routine,0)", 0xE4, [2, POOL, IP, 0], 0));
        assert!(!fits("E4(2,item,routine,0)", 0xE4, [2, POOL, POOL, 0], 0));
        assert!(fits("C4(62,name,*,count)", 0xC4, [0x62, POOL, 0, 3], 0));
        assert!(!fits("C4(62,name,*,count)", 0xC4, [0x62, POOL, 0, 0], 0));
        assert!(!fits("C4(CC,list,start,size)", 0xC4, [0xCC, u64::MAX, u64::MAX, u64::MAX], 0));
    }

    #[test]
    fn a_silent_outcome_needs_its_finding_where_the_guest_is_stricter() {
        let mut verdict = example();
        verdict.bugcheck = None;
        verdict.outcome = Outcome::Finding;
        let silent = parse("silent").unwrap();
        assert!(silent.matches(&verdict, true) && silent.matches(&verdict, false));
        verdict.findings[0].stricter_than_windows = false;
        assert!(!silent.matches(&verdict, true));
        verdict.outcome = Outcome::Clean;
        assert!(silent.matches(&verdict, false) && !silent.matches(&verdict, true));
        verdict.outcome = Outcome::Infrastructure;
        assert!(!silent.matches(&verdict, false));
    }

    #[test]
    fn other_outcomes_are_told_apart() {
        let mut verdict = example();
        assert!(parse("*").unwrap().matches(&verdict, true));
        verdict.bugcheck = None;
        for (outcome, text) in [(Outcome::Hang, "hang"), (Outcome::UnloadRefused, "unload-refused")] {
            verdict.outcome = outcome;
            for other in ["silent", "hang", "unload-refused", "*", "D1"] {
                assert_eq!(parse(other).unwrap().matches(&verdict, true), other == text, "{other} {text}");
            }
        }
    }
}
