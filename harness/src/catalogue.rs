//! The catalogue: every deliberate mistake that the built driver can be asked to make, and what each must raise.
//!
//! It is the driver's own data, `driver/defects.toml`, and is read when it is needed: the harness knows nothing of the
//! driver when it is built. A file that says anything that is not understood is refused as a whole, since an expectation
//! that nobody checks is worse than none.

pub mod expectation;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

pub use self::expectation::{Expectation, ExpectationError, Parameter, Role};
use crate::{
    scenario::Bus,
    verdict::{Outcome, Verdict},
};

/// The largest catalogue that is read.
const LARGEST: u64 = 1 << 20;
/// The last stage that the documentation of Unload has.
const LAST_STAGE: u8 = 7;

/// Every defect, in the file's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    /// The defects.
    pub defects: Vec<Defect>,
}

/// A deliberate mistake in the driver's Unload.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// What it must raise, with and without Verifier, where the line is none that stays up until it is served: on every
    /// bus but PCI's INTx.
    #[serde(default)]
    pub edge: Option<Vec<Expectation>>,
    /// The buses on which the mistake can be made; every one where nothing is said.
    #[serde(default)]
    pub buses: Option<Vec<Bus>>,
    /// The fewest processors on which it can show.
    #[serde(default = "one")]
    pub processors: u8,
    /// How sure it is that Windows does the same.
    pub basis: Basis,
}

fn one() -> u8 {
    1
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
    /// The file cannot be read.
    #[error("catalogue {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any catalogue.
    #[error("catalogue {}: larger than {LARGEST} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file is no catalogue.
    #[error("catalogue {}: {}", path.display(), in_one_line(.source, .text))]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
        /// The file's content.
        text: String,
    },
    /// An entry that cannot be.
    #[error("catalogue {}: defect {id:?}: {why}", path.display())]
    Defect {
        /// Of which file.
        path: PathBuf,
        /// Which entry.
        id: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The parser's message with the line that it is about.
fn in_one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defect: Vec<Defect>,
}

impl Catalogue {
    /// Reads a catalogue.
    pub fn read(path: &Path) -> Result<Self, CatalogueError> {
        let unreadable = |source| CatalogueError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST {
            return Err(CatalogueError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(unreadable)?, path)
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, CatalogueError> {
        let file: File = toml::from_str(text).map_err(|source| CatalogueError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
            text: text.to_owned(),
        })?;
        let mut names = BTreeSet::new();
        for defect in &file.defect {
            let wrong = defect.mistake().or((!names.insert(&defect.id)).then_some("there are two of it"));
            if let Some(why) = wrong {
                return Err(CatalogueError::Defect { path: path.to_owned(), id: defect.id.clone(), why });
            }
        }
        Ok(Self { defects: file.defect })
    }

    /// The defect of that name.
    pub fn named(&self, name: &str) -> Result<&Defect, CatalogueError> {
        self.defects.iter().find(|defect| defect.id == name).ok_or_else(|| {
            let known: Vec<_> = self.defects.iter().map(|defect| defect.id.as_str()).collect();
            CatalogueError::Unknown { name: name.to_owned(), known: known.join(", ") }
        })
    }
}

impl Defect {
    /// What is wrong with the entry.
    fn mistake(&self) -> Option<&'static str> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let lists = [Some(&self.plain), Some(&self.verifier), self.edge.as_ref()];
        let checks = [
            (
                !self.id.is_empty() && self.id.bytes().all(plain),
                "an id is lower-case letters, digits and '-'",
            ),
            (!self.does.is_empty(), "it does not say what Unload does"),
            (self.stage <= LAST_STAGE, "Unload has stages 0 to 7"),
            (
                lists.into_iter().flatten().all(|list| !list.is_empty()),
                "an outcome is expected, or \"silent\"",
            ),
            (self.buses.as_ref().is_none_or(|buses| !buses.is_empty()), "it is for no bus"),
            (self.processors >= 1, "it is for no processor"),
        ];
        checks.into_iter().find(|(right, _)| !right).map(|(_, why)| why)
    }

    /// Whether it can show in such a machine.
    pub fn applies(&self, bus: Bus, processors: u8) -> bool {
        processors >= self.processors && self.buses.as_ref().is_none_or(|buses| buses.contains(&bus))
    }

    /// What it must raise.
    pub fn expected(&self, bus: Bus, verifier: bool) -> &[Expectation] {
        match &self.edge {
            Some(edge) if !bus.is_level() => edge,
            _ if verifier => &self.verifier,
            _ => &self.plain,
        }
    }

    /// What a verdict is to it. `stricter`: see [`Expectation::matches`].
    pub fn compare(&self, verdict: &Verdict, bus: Bus, stricter: bool) -> Match {
        let expected = self.expected(bus, verdict.verifier);
        match expected.iter().find(|expectation| expectation.matches(verdict, stricter)) {
            Some(Expectation::Silent) => Match::Silent,
            Some(_) => Match::Shown,
            None => match verdict.outcome {
                Outcome::Infrastructure | Outcome::Unsupported => Match::Infrastructure,
                // A race that was not won this time: the same run with another seed may.
                Outcome::Clean => Match::NotShown,
                Outcome::Finding if verdict.findings.iter().all(|finding| finding.stricter_than_windows) => {
                    Match::NotShown
                }
                _ => Match::Wrong,
            },
        }
    }
}

/// What a verdict is to a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// What it must raise.
    Shown,
    /// Nothing was raised, which is one of the outcomes that will do.
    Silent,
    /// Nothing was raised, which will not do.
    NotShown,
    /// Something else was raised.
    Wrong,
    /// It says nothing about the driver.
    Infrastructure,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::verdict::example;

    const ENTRY: &str = r#"
        [[defect]]
        id = "a-1"
        does = "something"
        stage = 7
        plain = ["D1(ip,dirql,8,ip)", "silent"]
        verifier = ["C4(62,name,*,count)"]
        basis = "documented"
    "#;

    fn parse(text: &str) -> Result<Catalogue, CatalogueError> {
        Catalogue::parse(text, Path::new("c.toml"))
    }

    #[test]
    fn an_entry_is_read_with_what_it_leaves_out() {
        let catalogue = parse(ENTRY).unwrap();
        let defect = catalogue.named("a-1").unwrap();
        assert_eq!(defect.expected(Bus::Isa, false).len(), 2);
        assert_eq!(defect.expected(Bus::PciIntx, true)[0].to_string(), "0xC4(62,name,*,count)");
        assert!(defect.applies(Bus::Isa, 1) && defect.applies(Bus::PciMsix, 8));
        let error = catalogue.named("b").unwrap_err().to_string();
        assert!(error.contains("\"b\"") && error.contains("a-1"), "{error}");
    }

    #[test]
    fn a_defect_may_need_a_bus_processors_or_a_level() {
        let text = format!("{ENTRY}\nedge = [\"silent\"]\nbuses = [\"isa\", \"pci-intx\"]\nprocessors = 2");
        let catalogue = parse(&text).unwrap();
        let defect = &catalogue.defects[0];
        assert!(
            defect.applies(Bus::Isa, 2) && !defect.applies(Bus::Isa, 1) && !defect.applies(Bus::PciMsi, 2)
        );
        for verifier in [false, true] {
            assert_eq!(defect.expected(Bus::Isa, verifier), [Expectation::Silent]);
        }
        assert_eq!(defect.expected(Bus::PciIntx, false).len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let why = |text: &str| parse(text).unwrap_err().to_string();
        let changed = |from, to| why(&ENTRY.replace(from, to));
        assert!(
            changed("62,name", "62,nmae").contains("line 7")
                && changed("62,name", "62,nmae").contains("nmae")
        );
        assert!(changed("basis", "bases").contains("line 8"), "{}", changed("basis", "bases"));
        assert!(changed("\"documented\"", "\"hearsay\"").contains("hearsay"));
        assert!(changed("stage = 7", "stage = 8").contains("stages 0 to 7"));
        assert!(changed("a-1", "A 1").contains("lower-case"));
        assert!(changed("[\"C4(62,name,*,count)\"]", "[]").contains("expected"));
        assert!(why(&format!("{ENTRY}{ENTRY}")).contains("two of it"));
        assert!(why(&format!("{ENTRY}\nbuses = []")).contains("no bus"));
        assert!(why(&format!("{ENTRY}\nprocessors = 0")).contains("no processor"));
        assert!(why(&format!("{ENTRY}\nbuses = [\"vme\"]")).contains("vme"));
        assert!(why("[[effect]]").contains("effect"));
        let missing = Catalogue::read(Path::new("/nonexistent/c.toml")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/c.toml") && !missing.contains('\n'), "{missing}");
    }

    #[test]
    fn a_verdict_is_compared() {
        let catalogue = parse(ENTRY).unwrap();
        let defect = &catalogue.defects[0];
        let compare = |verdict: &Verdict| defect.compare(verdict, Bus::Isa, true);
        let mut verdict = example();
        assert_eq!(compare(&verdict), Match::Shown);
        if let Some(bugcheck) = &mut verdict.bugcheck {
            bugcheck.code = 0x0A;
        }
        assert_eq!(compare(&verdict), Match::Wrong);
        verdict.bugcheck = None;
        verdict.outcome = Outcome::Finding;
        assert_eq!(compare(&verdict), Match::Silent);
        verdict.verifier = true;
        assert_eq!(compare(&verdict), Match::NotShown);
        verdict.findings[0].stricter_than_windows = false;
        assert_eq!(compare(&verdict), Match::Wrong);
        for (outcome, expected) in [
            (Outcome::Clean, Match::NotShown),
            (Outcome::Hang, Match::Wrong),
            (Outcome::Reset, Match::Wrong),
            (Outcome::LoadFailed, Match::Wrong),
            (Outcome::Infrastructure, Match::Infrastructure),
            (Outcome::Unsupported, Match::Infrastructure),
        ] {
            verdict.outcome = outcome;
            assert_eq!(compare(&verdict), expected, "{outcome:?}");
        }
    }
}
