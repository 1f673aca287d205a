//! The QEMU releases that the device is tested in: the one place that says which.
//!
//! The device lives on QEMU's internals, which no release promises to keep. `cargo xtask test` runs the device's tests in
//! each of these, fetching what the machine does not have; `doctor` and `setup` name them. A QEMU older than the first is
//! refused. A newer one than the last is taken, and the device itself checks, when it is loaded, what it relies on.

use std::fmt;
use std::path::Path;

use super::cache::Recipe;
use super::error::Error;
use super::host::on_path;
use super::qemu::{Candidate, PACKAGE, PROGRAM, Qemu};
use super::version::Version;
use super::{Found, Origin, Toolbox, probe, qemu};

/// The releases, the oldest first.
pub const TESTED_QEMUS: [Series; 2] = [Series { major: 10, minor: 0 }, Series { major: 11, minor: 1 }];

/// A release of QEMU with its bug-fix releases: what has the same first two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl Series {
    /// Its first release.
    pub const fn first(self) -> Version {
        Version::new(self.major, self.minor, 0)
    }

    /// Whether a version is one of its.
    pub const fn has(self, version: Version) -> bool {
        version.major == self.major && version.minor == self.minor
    }
}

/// The note for a version that is newer than all that were tested, as QMP tells it.
pub fn newer_than_tested(version: &str) -> Option<String> {
    let mut numbers = version.split(|other: char| !other.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    let newest = *TESTED_QEMUS.last()?;
    let newer = (major, minor) > (newest.major, newest.minor);
    newer.then(|| format!("QEMU {version} is newer than {newest}, the newest that the card is tested in"))
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Toolbox {
    /// A good QEMU of a tested release: the machine's, one fetched earlier, or one fetched now.
    pub fn tested_qemu(&self, series: Series) -> Result<Qemu, Error> {
        let Found { good, refused } = self.find_tested_qemu(series);
        let recipe = recipe(series);
        good.map_or_else(
            || self.fetch_qemu(&format!("QEMU {series}"), &recipe, &|version| series.has(version), &refused),
            Ok,
        )
    }

    /// A good QEMU of a tested release that is here.
    pub fn find_tested_qemu(&self, series: Series) -> Found<Qemu> {
        let entries = [qemu::recipe(), recipe(series)];
        let trees = entries.iter().filter_map(|recipe| self.cache.find(recipe));
        let candidates = on_path(PROGRAM)
            .map(|program| Ok(Candidate::plain(program, Origin::System)))
            .chain(trees.map(|entry| Candidate::in_tree(&entry.root)));
        let mut refused = Vec::new();
        for candidate in candidates {
            match candidate.and_then(|candidate| probe::cached(&self.cache, &candidate)) {
                Ok(qemu) if series.has(qemu.version) => return Found { good: Some(qemu), refused },
                Ok(_) => {}
                Err(problem) => refused.push(problem),
            }
        }
        Found { good: None, refused }
    }

    /// What the device is to be tested in: every tested release, or `None` alone where the user has chosen a QEMU.
    pub fn qemus_to_test(chosen: Option<&Path>) -> Vec<Option<Series>> {
        match qemu::chosen(chosen) {
            Some(_) => vec![None],
            None => TESTED_QEMUS.map(Some).into(),
        }
    }

    /// A QEMU of [`qemus_to_test`](Self::qemus_to_test), fetched where it is not here.
    pub fn qemu_to_test(&self, series: Option<Series>, chosen: Option<&Path>) -> Result<Qemu, Error> {
        series.map_or_else(|| self.qemu(chosen), |series| self.tested_qemu(series))
    }
}

fn recipe(series: Series) -> Recipe {
    Recipe { thing: format!("qemu-{series}"), ingredients: vec![PACKAGE.into(), "tree 1".into()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tested_is_the_oldest_taken() {
        assert_eq!(TESTED_QEMUS[0].first(), crate::toolbox::OLDEST_QEMU);
        assert!(TESTED_QEMUS.windows(2).all(|pair| pair[0].first() < pair[1].first()));
    }

    #[test]
    fn a_series_is_its_first_two_numbers() {
        let series = Series { major: 11, minor: 1 };
        assert!(series.has(Version::new(11, 1, 3)) && !series.has(Version::new(11, 2, 0)));
        assert_eq!(series.to_string(), "11.1");
    }

    #[test]
    fn a_newer_one_is_told_in_one_line() {
        let [first, last] = [TESTED_QEMUS.first(), TESTED_QEMUS.last()].map(Option::unwrap);
        for tested in [format!("{first}.0"), format!("{last}.3"), format!("{last}.99 (Debian 1:{last})")] {
            assert_eq!(newer_than_tested(&tested), None);
        }
        for newer in [format!("{}.{}.0", last.major, last.minor + 1), format!("{}.0.50", last.major + 1)] {
            let note = newer_than_tested(&newer).unwrap();
            assert_eq!(
                note,
                format!("QEMU {newer} is newer than {last}, the newest that the card is tested in")
            );
        }
        assert_eq!(newer_than_tested("unknown"), None);
    }

    /// What people read says the same.
    #[test]
    fn the_readme_names_the_tested_range() {
        let readme = include_str!("../../../README.md");
        let [first, last] = [TESTED_QEMUS.first(), TESTED_QEMUS.last()].map(Option::unwrap);
        assert!(readme.contains(&format!("QEMU {first} and {last}")), "{first} and {last}");
    }
}
