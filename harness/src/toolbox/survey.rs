//! What is needed and what is there: the toolbox's view of a machine, for `doctor`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::advice::{self, Tool};
use super::command::run_within;
use super::host::{Distribution, Host, on_path};
use super::libclang::OLDEST_LIBCLANG;
use super::mingw::OLDEST_MINGW;
use super::qemu::OLDEST_QEMU;
use super::rust::{DRIVER_TARGET, GUEST_TARGET};
use super::version::Version;
use super::{Origin, Toolbox, apt};

/// The oldest Rust that the workspace builds with.
const OLDEST_RUST: Version = Version::new(1, 90, 0);

/// One thing that Squall needs.
#[derive(Debug, Clone, Serialize)]
pub struct Need {
    /// Its name.
    pub name: String,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether it is there.
    pub verdict: Verdict,
    /// What was looked at before it, and why that will not do.
    pub refused: Vec<String>,
    #[serde(skip)]
    tool: Tool,
}

/// Whether a needed thing is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It is, and it is good.
    Ready {
        /// Its version, where it has one.
        version: Option<String>,
        /// Where it is.
        location: PathBuf,
        /// Whose it is.
        origin: Origin,
    },
    /// It is not, and the first command that needs it (or `setup`) will fetch it.
    Fetchable {
        /// From where.
        from: String,
    },
    /// It is not, and it cannot be fetched.
    Missing {
        /// Why not.
        problem: String,
    },
}

impl Need {
    /// The command that installs it on a machine.
    pub fn install_here(&self, host: &Host) -> Option<String> {
        advice::command_here(&self.tool, host)
    }

    /// The command that installs it on a distribution.
    pub fn install_on(&self, distribution: Distribution) -> Option<String> {
        advice::command(&self.tool, distribution)
    }

    /// Whether a run is stopped for want of it.
    pub fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::Missing { .. })
    }
}

impl Toolbox {
    /// Looks at all that is needed. Fetches nothing.
    pub fn survey(&self, qemu: Option<&Path>) -> Vec<Need> {
        let mut needs = vec![
            self.rust(),
            self.linker(),
            self.survey_qemu(qemu),
            self.survey_libclang(),
            self.survey_mingw(),
        ];
        needs.push(self.survey_target(DRIVER_TARGET, "building drivers"));
        needs.push(self.survey_target(GUEST_TARGET, "building the embedded guest"));
        needs.push(self.survey_component("rustfmt", "cargo xtask test"));
        needs.push(self.survey_component("clippy", "cargo xtask test"));
        needs
    }

    /// Fetches all that can be fetched and is not there: what is needed, and how each went.
    pub fn fetch_all(&self, qemu: Option<&Path>) -> Vec<(&'static str, Result<(), super::Error>)> {
        vec![
            ("QEMU", self.qemu(qemu).map(drop)),
            ("libclang", self.libclang().map(drop)),
            ("mingw-w64 headers", self.mingw().map(drop)),
            (DRIVER_TARGET, self.rust_target(DRIVER_TARGET).map(drop)),
            (GUEST_TARGET, self.rust_target(GUEST_TARGET).map(drop)),
            ("rustfmt", self.rust_component("rustfmt").map(drop)),
            ("clippy", self.rust_component("clippy").map(drop)),
        ]
    }

    fn rust(&self) -> Need {
        let rustc = env::var_os("RUSTC").map(PathBuf::from).or_else(|| on_path("rustc").next());
        let version = |program: &PathBuf| {
            let output =
                run_within("rustc", Command::new(program).arg("--version"), Duration::from_secs(20)).ok()?;
            Version::in_text(&output.stdout)
        };
        let verdict = match rustc.map(|program| (version(&program), program)) {
            Some((Some(version), location)) if version >= OLDEST_RUST => {
                ready(Some(version), location, Origin::System)
            }
            Some((version, program)) => missing(format!(
                "{} is Rust {}, older than {OLDEST_RUST}",
                program.display(),
                version.map_or("of unknown version".into(), |version| version.to_string())
            )),
            None => missing("no rustc on the search path".into()),
        };
        Need {
            name: format!("Rust {}.{}+", OLDEST_RUST.major, OLDEST_RUST.minor),
            purpose: "everything",
            verdict,
            refused: vec![],
            tool: Tool::Rust,
        }
    }

    fn linker(&self) -> Need {
        let verdict = match ["cc", "gcc", "clang"].iter().find_map(|name| on_path(name).next()) {
            Some(program) => ready(None, program, Origin::System),
            None => missing("no cc on the search path".into()),
        };
        Need {
            name: "C linker".into(),
            purpose: "building the harness",
            verdict,
            refused: vec![],
            tool: Tool::Linker,
        }
    }

    fn survey_qemu(&self, chosen: Option<&Path>) -> Need {
        let (verdict, refused) = match self.find_qemu(chosen) {
            Ok(found) => match found.good {
                Some(qemu) => (
                    Verdict::Ready {
                        version: Some(qemu.version_text),
                        location: qemu.binary,
                        origin: qemu.origin,
                    },
                    found.refused,
                ),
                None => (self.by_apt(), found.refused),
            },
            Err(error) => (missing(error.to_string()), Vec::new()),
        };
        Need {
            name: format!("QEMU {}.{}+", OLDEST_QEMU.major, OLDEST_QEMU.minor),
            purpose: "running guests",
            verdict,
            refused,
            tool: Tool::Qemu,
        }
    }

    fn survey_libclang(&self) -> Need {
        let (verdict, refused) = match self.find_libclang() {
            Ok(found) => match found.good {
                Some(libclang) => (ready(libclang.version, libclang.library, libclang.origin), found.refused),
                None => match (self.by_apt(), super::libclang::wheel_possible()) {
                    (Verdict::Missing { .. }, Ok(_)) => {
                        (Verdict::Fetchable { from: "the Python package index".into() }, found.refused)
                    }
                    (verdict, _) => (verdict, found.refused),
                },
            },
            Err(error) => (missing(error.to_string()), Vec::new()),
        };
        Need {
            name: format!("libclang {}+", OLDEST_LIBCLANG.major),
            purpose: "building drivers",
            verdict,
            refused,
            tool: Tool::Libclang,
        }
    }

    fn survey_mingw(&self) -> Need {
        let found = self.find_mingw();
        let verdict = match found.good {
            Some(mingw) => ready(Some(mingw.version), mingw.include, mingw.origin),
            None => self.by_apt(),
        };
        Need {
            name: format!("mingw-w64 headers {}+", OLDEST_MINGW.major),
            purpose: "building drivers",
            verdict,
            refused: found.refused,
            tool: Tool::Mingw,
        }
    }

    fn survey_target(&self, target: &str, purpose: &'static str) -> Need {
        let verdict = match self.find_rust_target(target) {
            Some(location) => ready(None, location, Origin::System),
            None => by_rustup(),
        };
        let tool = Tool::RustTarget(target.to_owned());
        Need { name: target.to_owned(), purpose, verdict, refused: vec![], tool }
    }

    fn survey_component(&self, component: &str, purpose: &'static str) -> Need {
        let verdict = match super::rust::sysroot() {
            Ok(sysroot) if self.find_rust_component(component) => ready(None, sysroot, Origin::System),
            _ => by_rustup(),
        };
        let tool = Tool::RustComponent(component.to_owned());
        Need { name: component.to_owned(), purpose, verdict, refused: vec![], tool }
    }

    /// Whether this machine can fetch Debian packages.
    fn by_apt(&self) -> Verdict {
        match apt::areas(&self.host) {
            Ok(areas) => {
                let names: Vec<&str> = areas.iter().map(apt::Area::name).collect();
                Verdict::Fetchable { from: format!("Debian packages of {}", names.join(" or ")) }
            }
            Err(problem) => missing(problem),
        }
    }
}

fn by_rustup() -> Verdict {
    match on_path("rustup").next() {
        Some(_) => Verdict::Fetchable { from: "rustup".into() },
        None => missing("this Rust toolchain lacks it, and there is no rustup to add it".into()),
    }
}

fn ready(version: Option<Version>, location: PathBuf, origin: Origin) -> Verdict {
    Verdict::Ready { version: version.map(|version| version.to_string()), location, origin }
}

fn missing(problem: String) -> Verdict {
    Verdict::Missing { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_says_how_to_get_it_everywhere() {
        let directory = tempfile::tempdir().unwrap();
        let needs = Toolbox::in_directory(directory.path().to_owned()).survey(None);
        assert!(needs.len() >= 7);
        for need in needs {
            for distribution in Distribution::ALL {
                assert!(need.install_on(distribution).is_some(), "{} on {distribution:?}", need.name);
            }
        }
    }

    #[test]
    fn a_qemu_named_in_vain_is_missing_and_not_fetchable() {
        let directory = tempfile::tempdir().unwrap();
        let toolbox = Toolbox::in_directory(directory.path().to_owned());
        let need = toolbox.survey_qemu(Some(Path::new("/nonexistent/qemu")));
        assert!(need.is_missing(), "{need:?}");
    }
}
