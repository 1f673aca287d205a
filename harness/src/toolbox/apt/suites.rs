//! Which suites are asked, in which order.
//!
//! First the release that this machine runs, with its backports: fewest surprises, and likely in the mirror's memory.
//! Then newer releases of the same distribution, of which a tool may be run beside the system with its own libraries.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::sources::Source;
use crate::toolbox::host::{Distribution, Host};

/// A set of suites that apt looks at together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::toolbox) struct Area {
    /// A directory name: the release's code name.
    pub(super) name: String,
    archives: Vec<Archive>,
    /// The suites to install from, the preferred first.
    pub(in crate::toolbox) targets: Vec<String>,
    /// Whether its packages are those of the running system, so that the two may be mixed.
    pub(in crate::toolbox) native: bool,
}

/// One suite of one mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Archive {
    uri: String,
    suite: String,
    components: Vec<String>,
    keyrings: Vec<PathBuf>,
    check_valid_until: bool,
    /// Not asked for by the machine's administrator, so that it need not exist.
    supposed: bool,
}

/// What is known of a distribution that apt serves.
struct Family {
    /// Releases known to have a QEMU in the tested range, in the order in which they are tried.
    newer: &'static [&'static str],
    /// Where its keyring may be, in the package that every installation has.
    keyrings: &'static [&'static str],
    /// Where the packages are that the toolbox asks for.
    components: &'static [&'static str],
}

const DEBIAN: Family = Family {
    newer: &["trixie"],
    keyrings: &[
        "/usr/share/keyrings/debian-archive-keyring.pgp",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ],
    components: &["main"],
};

const UBUNTU: Family = Family {
    newer: &["resolute", "questing"],
    keyrings: &["/usr/share/keyrings/ubuntu-archive-keyring.gpg"],
    components: &["main", "universe"],
};

/// The areas for a machine, the preferred first. None where its sources do not tell its distribution's mirror.
pub(super) fn areas(host: &Host, sources: &[Source]) -> Vec<Area> {
    let family = match host.distribution {
        Distribution::Debian => DEBIAN,
        Distribution::Ubuntu => UBUNTU,
        _ => return Vec::new(),
    };
    let Some(codename) = host.codename.as_deref() else { return Vec::new() };
    let of_release = |suite: &str| {
        suite == codename || suite.strip_prefix(codename).is_some_and(|rest| rest.starts_with('-'))
    };
    let Some(base) = base_source(sources, codename) else { return Vec::new() };
    let backports = format!("{codename}-backports");

    let mut native: Vec<Archive> = Vec::new();
    for source in sources {
        for suite in source.suites.iter().filter(|suite| of_release(suite) || **suite == base.1) {
            if !native.iter().any(|archive| archive.suite == *suite) {
                native.extend(archive(source, suite, &family, false));
            }
        }
    }
    if !native.iter().any(|archive| archive.suite == backports) {
        native.extend(archive(base.0, &backports, &family, true));
    }
    let mut areas = vec![Area {
        name: codename.to_owned(),
        archives: native,
        targets: vec![base.1.to_owned(), backports],
        native: true,
    }];
    for &release in family.newer.iter().filter(|release| **release != codename) {
        let backports = format!("{release}-backports");
        let archives = archive(base.0, release, &family, false)
            .into_iter()
            .chain(archive(base.0, &backports, &family, true));
        areas.push(Area {
            name: release.to_owned(),
            archives: archives.collect(),
            targets: vec![release.to_owned(), backports],
            native: false,
        });
    }
    areas
}

/// The archive that the release itself comes from, and the name it has there: its code name, or the moving name of a
/// machine that follows one.
fn base_source<'a>(sources: &'a [Source], codename: &'a str) -> Option<(&'a Source, &'a str)> {
    [codename, "stable", "testing", "unstable", "sid"].into_iter().find_map(|suite| {
        let source = sources
            .iter()
            .find(|source| source.suites.iter().any(|name| name == suite) && mirror(source).is_some());
        source.map(|source| (source, suite))
    })
}

/// The first address that can be fetched from at any time.
fn mirror(source: &Source) -> Option<&String> {
    source.uris.iter().find(|uri| !uri.starts_with("cdrom:"))
}

fn archive(source: &Source, suite: &str, family: &Family, supposed: bool) -> Option<Archive> {
    let uri = mirror(source)?.clone();
    let mut components = source.components.clone();
    components.retain(|component| family.components.contains(&component.as_str()));
    if components.is_empty() {
        components = family.components.iter().map(|&component| component.to_owned()).collect();
    }
    let mut keyrings = source.signed_by.clone();
    keyrings.extend(family.keyrings.iter().map(PathBuf::from));
    keyrings.dedup();
    Some(Archive {
        uri,
        suite: suite.to_owned(),
        components,
        keyrings,
        check_valid_until: source.check_valid_until,
        supposed,
    })
}

impl Area {
    /// The release's code name.
    pub(in crate::toolbox) fn name(&self) -> &str {
        &self.name
    }

    /// The lists of sources to try, in apt's one-line format: all; without what we suppose to exist; the release alone,
    /// should one of its other archives be out of reach.
    pub(super) fn lists(&self, exists: impl Fn(&Path) -> bool) -> Vec<String> {
        let list = |takes: &dyn Fn(&Archive) -> bool| {
            self.archives.iter().filter(|archive| takes(archive)).fold(String::new(), |mut text, archive| {
                let _ = writeln!(text, "{}", archive.line(&exists));
                text
            })
        };
        let mut lists = vec![
            list(&|_| true),
            list(&|archive| !archive.supposed),
            list(&|archive| Some(&archive.suite) == self.targets.first()),
        ];
        lists.dedup();
        lists
    }
}

impl Archive {
    fn line(&self, exists: impl Fn(&Path) -> bool) -> String {
        let mut options = Vec::new();
        let keyrings: Vec<String> = self
            .keyrings
            .iter()
            .filter(|keyring| exists(keyring))
            .map(|keyring| keyring.display().to_string())
            .collect();
        // Without a keyring of its own an archive is checked against all that apt trusts on this machine.
        if !keyrings.is_empty() {
            options.push(format!("signed-by={}", keyrings.join(",")));
        }
        if !self.check_valid_until {
            options.push("check-valid-until=no".to_owned());
        }
        let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
        format!("deb {options}{} {} {}", self.uri, self.suite, self.components.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(distribution: Distribution, codename: &str) -> Host {
        Host { distribution, name: String::new(), codename: Some(codename.to_owned()) }
    }

    fn source(uri: &str, suites: &[&str]) -> Source {
        Source {
            uris: vec![uri.to_owned()],
            suites: suites.iter().map(|&suite| suite.to_owned()).collect(),
            components: vec!["main".into(), "non-free".into()],
            signed_by: vec![],
            check_valid_until: true,
        }
    }

    fn names(areas: &[Area]) -> Vec<(&str, Vec<&str>)> {
        areas
            .iter()
            .map(|area| (area.name.as_str(), area.targets.iter().map(String::as_str).collect()))
            .collect()
    }

    #[test]
    fn an_older_debian_asks_its_own_release_first() {
        let sources = [
            source("http://third.example/", &["nodistro"]),
            source("http://mirror.example/debian", &["bookworm", "bookworm-updates"]),
            source("http://security.example/debian-security", &["bookworm-security"]),
        ];
        let areas = areas(&host(Distribution::Debian, "bookworm"), &sources);
        assert_eq!(
            names(&areas),
            [
                ("bookworm", vec!["bookworm", "bookworm-backports"]),
                ("trixie", vec!["trixie", "trixie-backports"])
            ]
        );
        assert!(areas[0].native && !areas[1].native);
        let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
        let lists = areas[0].lists(|path| path == keyring);
        let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        assert_eq!(
            lists[0].lines().collect::<Vec<_>>(),
            [
                format!("deb {signed} http://mirror.example/debian bookworm main"),
                format!("deb {signed} http://mirror.example/debian bookworm-updates main"),
                format!("deb {signed} http://security.example/debian-security bookworm-security main"),
                format!("deb {signed} http://mirror.example/debian bookworm-backports main"),
            ]
        );
        assert_eq!(lists[1].lines().count(), 3, "without the suite that nobody promised");
        assert_eq!(lists[2], format!("deb {signed} http://mirror.example/debian bookworm main\n"));
        let newer = areas[1].lists(|_| false);
        assert_eq!(newer[1], "deb http://mirror.example/debian trixie main\n");
        assert_eq!(newer.len(), 2);
    }

    #[test]
    fn a_machine_on_the_newest_release_or_a_moving_name() {
        let trixie =
            areas(&host(Distribution::Debian, "trixie"), &[source("http://m.example/", &["trixie"])]);
        assert_eq!(names(&trixie), [("trixie", vec!["trixie", "trixie-backports"])]);
        let moving = areas(&host(Distribution::Debian, "forky"), &[source("http://m.example/", &["sid"])]);
        assert_eq!(names(&moving)[0], ("forky", vec!["sid", "forky-backports"]));
    }

    #[test]
    fn ubuntu_needs_universe() {
        let areas =
            areas(&host(Distribution::Ubuntu, "noble"), &[source("http://u.example/ubuntu", &["noble"])]);
        assert!(areas[0].lists(|_| false)[0].starts_with("deb http://u.example/ubuntu noble main\n"));
        let mut bare = source("http://u.example/ubuntu", &["noble"]);
        bare.components.clear();
        let areas = super::areas(&host(Distribution::Ubuntu, "noble"), &[bare]);
        assert!(
            areas[0].lists(|_| false)[0].starts_with("deb http://u.example/ubuntu noble main universe\n")
        );
    }

    #[test]
    fn options_of_the_machine_are_kept() {
        let mut snapshot = source("http://s.example/debian", &["bookworm"]);
        snapshot.check_valid_until = false;
        snapshot.signed_by = vec!["/etc/apt/keyrings/own.gpg".into()];
        let areas = areas(&host(Distribution::Debian, "bookworm"), &[snapshot]);
        assert!(
            areas[0].lists(|_| true)[1]
                .starts_with("deb [signed-by=/etc/apt/keyrings/own.gpg,/usr/share/keyrings/"),
            "{areas:?}"
        );
        assert!(areas[0].lists(|_| true)[1].contains(" check-valid-until=no] "));
    }

    #[test]
    fn where_nothing_is_known_nothing_is_asked() {
        let mirror = [source("http://m.example/debian", &["bookworm"])];
        assert!(areas(&host(Distribution::Fedora, "bookworm"), &mirror).is_empty());
        assert!(areas(&host(Distribution::Debian, "bullseye"), &mirror).is_empty());
        assert!(
            areas(&host(Distribution::Debian, "bookworm"), &[source("cdrom:[x]/", &["bookworm"])]).is_empty()
        );
        let nameless = Host { distribution: Distribution::Debian, name: String::new(), codename: None };
        assert!(areas(&nameless, &mirror).is_empty());
    }
}
