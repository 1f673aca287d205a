//! What is needed and what is there: the toolbox's view of a machine, for `doctor`.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::advice::{self, Tool};
use super::command::run_within;
use super::error::Error;
use super::gcc::OLDEST_GCC;
use super::host::{Distribution, Host, on_path};
use super::libclang::{OLDEST_LIBCLANG, wheel_possible};
use super::mingw::OLDEST_MINGW;
use super::rust::{self, DRIVER_TARGET, GUEST_TARGET};
use super::tested::{Series, TESTED_QEMUS};
use super::version::Version;
use super::{Found, Origin, Signer, Toolbox, apt};

/// The oldest Rust that the workspace builds with.
const OLDEST_RUST: Version = Version::new(1, 91, 0);

/// All that Squall needs, and what of it a machine has: `squall.doctor/1`.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    schema: &'static str,
    /// The machine.
    pub host: Host,
    /// What is needed.
    pub needs: Vec<Need>,
}

impl Survey {
    /// Whether everything is there or can be fetched.
    pub fn is_good(&self) -> bool {
        !self.needs.iter().any(Need::is_missing)
    }
}

/// One thing that Squall needs.
#[derive(Debug, Clone, Serialize)]
pub struct Need {
    /// Its name.
    pub name: String,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether it is there.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was looked at before it, and why that will not do.
    pub refused: Vec<String>,
    /// The command that installs it, by distribution.
    pub install: BTreeMap<&'static str, String>,
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

    fn new(name: impl Into<String>, purpose: &'static str, tool: Tool, verdict: Verdict) -> Self {
        let install = Distribution::ALL
            .into_iter()
            .filter_map(|distribution| Some((distribution.name(), advice::command(&tool, distribution)?)));
        Self { name: name.into(), purpose, verdict, refused: Vec::new(), install: install.collect(), tool }
    }

    fn refusing(self, refused: Vec<String>) -> Self {
        Self { refused, ..self }
    }

    /// Whether a run is stopped for want of it.
    pub fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::Missing { .. })
    }
}

/// From which release a tool may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The one that runs here.
    Own,
    /// That, or a newer one.
    Any,
}

impl Toolbox {
    /// Looks at all that is needed. Fetches nothing.
    pub fn survey(&self, qemu: Option<&Path>) -> Survey {
        let mut needs = vec![
            survey_rust(),
            survey_linker(),
            self.survey_qemu(qemu),
            self.survey_libclang(),
            self.survey_mingw(),
            self.survey_mingw_gcc(),
            self.survey_signer(),
            self.survey_target(DRIVER_TARGET, "building drivers"),
            self.survey_target(GUEST_TARGET, "building the embedded guest"),
            self.survey_component("rustfmt"),
            self.survey_component("clippy"),
        ];
        let tested = Self::qemus_to_test(qemu).into_iter().flatten();
        needs.extend(tested.map(|series| self.survey_tested_qemu(series)));
        Survey { schema: "squall.doctor/1", host: self.host.clone(), needs }
    }

    /// Fetches all that is needed, can be fetched and is not there. What could not be had, and why.
    pub fn fetch_all(&self, qemu: Option<&Path>) -> Vec<Error> {
        let tools = [
            self.qemu(qemu).map(drop),
            self.libclang().map(drop),
            self.mingw().map(drop),
            self.mingw_gcc().map(drop),
            self.signer().map(drop),
            self.rust_target(DRIVER_TARGET).map(drop),
            self.rust_target(GUEST_TARGET).map(drop),
            self.rust_component("rustfmt").map(drop),
            self.rust_component("clippy").map(drop),
        ];
        let tested = Self::qemus_to_test(qemu).into_iter().flatten();
        let tested = tested.map(|series| self.tested_qemu(series).map(drop));
        tools.into_iter().chain(tested).filter_map(Result::err).collect()
    }

    fn survey_qemu(&self, chosen: Option<&Path>) -> Need {
        let (verdict, refused) = match self.find_qemu(chosen) {
            Ok(Found { good: Some(qemu), refused }) => {
                (ready(Some(qemu.version), qemu.binary, qemu.origin), refused)
            }
            Ok(Found { good: None, refused }) => (self.by_apt(Release::Any), refused),
            Err(error) => (missing(error.to_string()), Vec::new()),
        };
        let [oldest, .., newest] = TESTED_QEMUS;
        let name = format!("QEMU {oldest}+, tested to {newest}");
        Need::new(name, "running guests", Tool::Qemu, verdict).refusing(refused)
    }

    /// One of the releases that the device is tested in.
    fn survey_tested_qemu(&self, series: Series) -> Need {
        let Found { good, refused } = self.find_tested_qemu(series);
        let verdict = match good {
            Some(qemu) => ready(Some(qemu.version), qemu.binary, qemu.origin),
            None => self.by_apt(Release::Any),
        };
        Need::new(format!("QEMU {series}"), "cargo xtask test", Tool::TestedQemu, verdict).refusing(refused)
    }

    fn survey_libclang(&self) -> Need {
        let (verdict, refused) = match self.find_libclang() {
            Ok(Found { good: Some(libclang), refused }) => {
                (ready(libclang.version, libclang.library, libclang.origin), refused)
            }
            Ok(Found { good: None, refused }) => match self.by_apt(Release::Own) {
                Verdict::Missing { .. } if wheel_possible().is_ok() => {
                    (Verdict::Fetchable { from: "the Python package index".into() }, refused)
                }
                verdict => (verdict, refused),
            },
            Err(error) => (missing(error.to_string()), Vec::new()),
        };
        let name = format!("libclang {}+", OLDEST_LIBCLANG.major);
        Need::new(name, "building drivers", Tool::Libclang, verdict).refusing(refused)
    }

    fn survey_mingw(&self) -> Need {
        let found = self.find_mingw();
        let verdict = match found.good {
            Some(mingw) => ready(Some(mingw.version), mingw.include, mingw.origin),
            None => self.by_apt(Release::Any),
        };
        let name = format!("mingw-w64 headers {}+", OLDEST_MINGW.major);
        Need::new(name, "building drivers", Tool::Mingw, verdict).refusing(found.refused)
    }

    fn survey_mingw_gcc(&self) -> Need {
        let found = self.find_mingw_gcc();
        let verdict = match found.good {
            Some(gcc) => ready(Some(gcc.0.version), gcc.0.program, gcc.0.origin),
            None => self.by_apt(Release::Own),
        };
        let name = format!("mingw-w64 gcc {}+", OLDEST_GCC.major);
        Need::new(name, "cargo xtask test", Tool::MingwGcc, verdict).refusing(found.refused)
    }

    fn survey_signer(&self) -> Need {
        let found = self.find_signer();
        let verdict = match found.good {
            Some(Signer { osslsigncode, .. }) => {
                ready(Some(osslsigncode.version), osslsigncode.program, osslsigncode.origin)
            }
            None => self.by_apt(Release::Own),
        };
        Need::new("osslsigncode, openssl", "signing drivers", Tool::Signer, verdict).refusing(found.refused)
    }

    fn survey_target(&self, target: &str, purpose: &'static str) -> Need {
        let verdict = match self.find_rust_target(target) {
            Some(location) => ready(None, location, Origin::System),
            None => by_rustup(),
        };
        Need::new(target, purpose, Tool::RustTarget(target.to_owned()), verdict)
    }

    fn survey_component(&self, component: &str) -> Need {
        let verdict = match rust::sysroot() {
            Ok(sysroot) if self.find_rust_component(component) => ready(None, sysroot, Origin::System),
            _ => by_rustup(),
        };
        Need::new(component, "cargo xtask test", Tool::RustComponent(component.to_owned()), verdict)
    }

    /// Whether this machine can fetch Debian packages; only its own release's, where they are to mix with the system.
    fn by_apt(&self, release: Release) -> Verdict {
        match apt::areas(&self.host) {
            Ok(areas) => {
                let fitting = areas.iter().filter(|area| area.native || release == Release::Any);
                let names: Vec<&str> = fitting.map(apt::Area::name).collect();
                Verdict::Fetchable { from: format!("Debian packages of {}", names.join(" or ")) }
            }
            Err(problem) => missing(problem),
        }
    }
}

fn survey_rust() -> Need {
    let rustc = env::var_os("RUSTC").map(PathBuf::from).or_else(|| on_path("rustc").next());
    let version = |program: &Path| {
        let output =
            run_within("rustc", Command::new(program).arg("--version"), Duration::from_secs(20)).ok()?;
        Version::in_text(&output.stdout)
    };
    let verdict = match rustc.map(|program| (version(&program), program)) {
        Some((Some(version), location)) if version >= OLDEST_RUST => {
            ready(Some(version), location, Origin::System)
        }
        Some((Some(version), program)) => {
            missing(format!("{} is Rust {version}, older than {OLDEST_RUST}", program.display()))
        }
        Some((None, program)) => missing(format!("{} does not say its version", program.display())),
        None => missing("no rustc on the search path".into()),
    };
    Need::new(format!("Rust {}.{}+", OLDEST_RUST.major, OLDEST_RUST.minor), "everything", Tool::Rust, verdict)
}

fn survey_linker() -> Need {
    let verdict = match ["cc", "gcc", "clang"].iter().find_map(|name| on_path(name).next()) {
        Some(program) => ready(None, program, Origin::System),
        None => missing("no cc on the search path".into()),
    };
    Need::new("C linker", "building the harness", Tool::Linker, verdict)
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
        let survey = Toolbox::in_directory(directory.path().to_owned()).survey(None);
        assert!(survey.needs.len() >= 7);
        for need in &survey.needs {
            assert_eq!(need.install.len(), Distribution::ALL.len(), "{}", need.name);
        }
    }

    #[test]
    fn the_json_form_is_flat() {
        let verdict = ready(Some(Version::new(10, 0, 2)), "/usr/bin/qemu".into(), Origin::System);
        let need = Need::new("QEMU", "running guests", Tool::Qemu, verdict);
        let json = serde_json::to_value(&need).unwrap();
        assert_eq!(json["verdict"], "ready");
        assert_eq!(json["version"], "10.0.2");
        assert_eq!(json["origin"], "system");
        assert_eq!(json["install"]["arch"], "sudo pacman -S qemu-system-x86");
        let json = serde_json::to_value(missing("why".into())).unwrap();
        assert_eq!(json, serde_json::json!({ "verdict": "missing", "problem": "why" }));
    }

    #[test]
    fn a_qemu_named_in_vain_is_missing_and_not_fetchable() {
        let directory = tempfile::tempdir().unwrap();
        let toolbox = Toolbox::in_directory(directory.path().to_owned());
        let need = toolbox.survey_qemu(Some(Path::new("/nonexistent/qemu")));
        assert!(need.is_missing(), "{need:?}");
    }
}
