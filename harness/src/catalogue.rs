//! The catalogue of wrong Unloads, and whether a verdict is what one of them must raise.

use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use crate::verdict::{Outcome, Verdict};

const CATALOGUE: &str = include_str!("../defects.toml");

/// A deliberate mistake in the driver's Unload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// Its name.
    pub id: String,
    /// What Unload does wrong, in one line.
    pub does: String,
    /// The stage of *Releasing Driver-Allocated Resources* that it breaks.
    pub stage: u8,
    /// What it must raise without Driver Verifier: any of these.
    pub plain: Vec<Expectation>,
    /// What it must raise with it: any of these.
    pub verifier: Vec<Expectation>,
    /// How sure it is that Windows does the same.
    pub basis: Basis,
}

/// How sure an expectation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Windows' documentation says so.
    Documented,
    /// It follows from what the documentation says.
    Inferred,
    /// Nobody has looked it up.
    Memory,
}

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
        /// The literal parameters; `None` where any value will do.
        parameters: [Option<u64>; 4],
    },
    /// The system lives. A guest that is stricter than Windows may still report a finding.
    Silent,
    /// The watchdog ends the run.
    Hang,
    /// The guest does not let the driver go.
    UnloadRefused,
}

/// A catalogue or a name that is wrong.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// No such defect.
    #[error("defect {name:?} is not in the catalogue; it has: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The compiled-in file is wrong: a bug of the harness.
    #[error("defects.toml: {0}")]
    Invalid(#[from] Box<toml::de::Error>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    defect: Vec<Defect>,
}

/// Every defect, in the catalogue's order.
pub fn all() -> Result<Vec<Defect>, CatalogueError> {
    Ok(toml::from_str::<Catalogue>(CATALOGUE).map_err(Box::new)?.defect)
}

impl Defect {
    /// The defect of that name.
    pub fn named(name: &str) -> Result<Self, CatalogueError> {
        let mut defects = all()?;
        match defects.iter().position(|defect| defect.id == name) {
            Some(index) => Ok(defects.swap_remove(index)),
            None => {
                let known = defects.iter().map(|defect| defect.id.as_str()).collect::<Vec<_>>().join(", ");
                Err(CatalogueError::Unknown { name: name.to_owned(), known })
            }
        }
    }

    /// What it must raise.
    pub fn expected(&self, verifier: bool) -> &[Expectation] {
        if verifier { &self.verifier } else { &self.plain }
    }

    /// Whether a verdict is what it must raise.
    pub fn matches(&self, verdict: &Verdict) -> bool {
        self.expected(verdict.verifier).iter().any(|expectation| expectation.matches(verdict))
    }
}

impl Expectation {
    /// Whether a verdict is this outcome.
    pub fn matches(&self, verdict: &Verdict) -> bool {
        match (self, &verdict.bugcheck) {
            (Self::AnyBugcheck, Some(_)) => true,
            (Self::Bugcheck { code, parameters }, Some(seen)) => {
                let same = |(wanted, seen): (&Option<u64>, _)| wanted.is_none_or(|wanted| wanted == seen);
                seen.code == *code && parameters.iter().zip(seen.parameters.map(|seen| seen.0)).all(same)
            }
            (Self::Silent, None) => matches!(verdict.outcome, Outcome::Clean | Outcome::Finding),
            (Self::Hang, None) => verdict.outcome == Outcome::Hang,
            (Self::UnloadRefused, None) => verdict.outcome == Outcome::UnloadRefused,
            _ => false,
        }
    }
}

impl TryFrom<String> for Expectation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "*" => return Ok(Self::AnyBugcheck),
            "silent" => return Ok(Self::Silent),
            "hang" => return Ok(Self::Hang),
            "unload-refused" => return Ok(Self::UnloadRefused),
            _ => {}
        }
        let wrong =
            || format!("{text:?} is no outcome: CODE, CODE(P,P,P,P), *, silent, hang or unload-refused");
        let (code, list) = match text.split_once('(') {
            None => (text.as_str(), None),
            Some((code, rest)) => (code, Some(rest.strip_suffix(')').ok_or_else(wrong)?)),
        };
        let code = u32::from_str_radix(code, 16).map_err(|_| wrong())?;
        let mut parameters = [None; 4];
        if let Some(list) = list {
            let words: Vec<_> = list.split(',').map(str::trim).collect();
            if words.len() != parameters.len() {
                return Err(wrong());
            }
            for (parameter, word) in parameters.iter_mut().zip(words) {
                *parameter = literal(word).ok_or_else(wrong)?;
            }
        }
        Ok(Self::Bugcheck { code, parameters })
    }
}

/// Capitals and digits are a literal; a word in lower case stands for any value. `None` for neither.
fn literal(word: &str) -> Option<Option<u64>> {
    let any = word == "*" || (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let digits = word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    match (any, digits) {
        (true, _) => Some(None),
        (false, true) => u64::from_str_radix(word, 16).ok().map(Some),
        _ => None,
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
                if parameters.iter().any(Option::is_some) {
                    let words =
                        parameters.map(|word| word.map_or("*".to_owned(), |word| format!("{word:X}")));
                    write!(f, "({})", words.join(","))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expectation, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn the_catalogue_is_valid_and_its_names_are_unique() {
        let mut names: Vec<_> = all().unwrap().into_iter().map(|defect| defect.id).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(Defect::named("interrupts-left-enabled-and-connected").unwrap().expected(false).len() == 1);
    }

    #[test]
    fn an_unknown_defect_is_refused_with_the_known_ones() {
        let error = Defect::named("none-such").unwrap_err().to_string();
        assert!(error.contains("none-such") && error.contains("interrupts-left"), "{error}");
    }

    #[test]
    fn expectations_are_read_and_written() {
        let text = |text| parse(text).unwrap().to_string();
        assert_eq!(text("D1(ip,dirql,8,ip)"), "0xD1(*,*,8,*)");
        assert_eq!(text("C4(2000D,*,*,*)"), "0xC4(2000D,*,*,*)");
        assert_eq!(text("C4(CC,list,start,size)"), "0xC4(CC,*,*,*)");
        assert_eq!(text("CE"), "0xCE");
        assert_eq!(text("*"), "any bugcheck");
        for bad in ["", "nonsense", "D1(8)", "D1(1,2,3,4", "D1(1,2,3,)", "D1(1,2,3,x9)"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
