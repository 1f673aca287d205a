//! A QEMU that Squall's device can live in.
//!
//! The device is a library that QEMU loads as a plugin and that registers ordinary device types with QEMU's own
//! functions. Two things decide whether a QEMU can take it, and neither can be told from its version: that it was built with
//! plugins, and that it exports its internal functions (which builds with loadable modules do, and static ones do not).
//! So each candidate is *probed*, see [`probe`]. The version still counts: in-memory layouts were checked from 10.0 on.
//!
//! Candidates, in this order: the one the user names (which must do; it is never silently replaced), those on the search
//! path, the one fetched earlier, the one to be fetched now.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::advice::{self, Tool};
use super::apt::{self, Apt, Area, Installed};
use super::cache::{Entry, Recipe};
use super::error::Error;
use super::host::on_path;
use super::libraries;
use super::probe;
use super::progress::Task;
use super::tested::TESTED_QEMUS;
use super::version::Version;
use super::{Found, Origin, Toolbox};

/// The oldest QEMU that the device is tested in.
pub const OLDEST_QEMU: Version = TESTED_QEMUS[0].first();

/// The environment variable that names a QEMU to use, as `--qemu` does.
pub const QEMU_VARIABLE: &str = "SQUALL_QEMU";

pub(super) const PROGRAM: &str = "qemu-system-x86_64";
const THING: &str = "qemu";
pub(super) const PACKAGE: &str = "qemu-system-x86";

/// A QEMU that was probed and found good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qemu {
    /// What to execute: QEMU itself, or the dynamic linker that runs it with its own libraries.
    pub program: PathBuf,
    /// What comes before any argument of ours.
    pub prefix_args: Vec<OsString>,
    /// The file of QEMU's code: the ELF that exports the symbols.
    pub binary: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its version as it prints it, the distribution's part included.
    pub version_text: String,
    /// Whose it is.
    pub origin: Origin,
    /// Where it looks for firmware, in its order.
    pub firmware_dirs: Vec<PathBuf>,
}

impl Qemu {
    /// The beginning of a command line.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.prefix_args);
        command
    }

    /// The whole command line, program first, with these arguments.
    pub fn argv<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Vec<OsString> {
        let own =
            std::iter::once(self.program.clone().into_os_string()).chain(self.prefix_args.iter().cloned());
        own.chain(args.into_iter().map(|arg| arg.as_ref().to_owned())).collect()
    }

    /// The full path of a firmware file such as `qboot.rom`, where this QEMU has it.
    pub fn firmware(&self, name: &str) -> Option<PathBuf> {
        self.firmware_dirs.iter().map(|directory| directory.join(name)).find(|file| file.is_file())
    }
}

/// How to start a QEMU that is yet to be probed.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) program: PathBuf,
    pub(super) prefix_args: Vec<OsString>,
    /// The ELF to look into, where it is known to be another file than the program.
    pub(super) binary: Option<PathBuf>,
    pub(super) origin: Origin,
}

impl Candidate {
    /// A program as it stands.
    pub(super) fn plain(program: PathBuf, origin: Origin) -> Self {
        Self { program, prefix_args: Vec::new(), binary: None, origin }
    }

    /// The QEMU in a tree of unpacked packages: through the tree's own dynamic linker, because its C library may be newer
    /// than the machine's, and with its firmware, because it would look in `/usr/share`.
    pub(super) fn in_tree(root: &Path) -> Result<Self, String> {
        let binary = root.join("usr/bin").join(PROGRAM);
        let linker = libraries::dynamic_linker(root, &binary)?;
        let mut prefix_args: Vec<OsString> = vec!["--library-path".into(), libraries::search_path(root)?];
        prefix_args.extend(["--argv0".into(), PROGRAM.into(), binary.clone().into_os_string()]);
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            prefix_args.extend(["-L".into(), root.join(firmware).into_os_string()]);
        }
        Ok(Self { program: linker, prefix_args, binary: Some(binary), origin: Origin::Cache })
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.prefix_args);
        command
    }
}

impl Toolbox {
    /// A good QEMU: the one named by `--qemu` (`chosen`) or by `SQUALL_QEMU`, the machine's, or one fetched now.
    pub fn qemu(&self, chosen: Option<&Path>) -> Result<Qemu, Error> {
        let found = self.find_qemu(chosen)?;
        let tool = format!("QEMU {OLDEST_QEMU} or newer");
        let wanted = |version| version >= OLDEST_QEMU;
        found.good.map_or_else(|| self.fetch_qemu(&tool, &recipe(), &wanted, &found.refused), Ok)
    }

    /// A good QEMU that is already here, and why each other one here is not good.
    pub fn find_qemu(&self, chosen: Option<&Path>) -> Result<Found<Qemu>, Error> {
        if let Some((origin, path)) = self::chosen(chosen) {
            return match self.probe_chosen(&path) {
                Ok(qemu) => Ok(Found { good: Some(qemu), refused: Vec::new() }),
                Err(problem) => Err(Error::Override {
                    origin,
                    path,
                    problem,
                    advice: "give another, or none to have one fetched".into(),
                }),
            };
        }
        let mut refused = Vec::new();
        // Enterprise distributions keep theirs off the search path.
        for program in on_path(PROGRAM)
            .chain([PathBuf::from("/usr/libexec/qemu-kvm")].into_iter().filter(|path| path.exists()))
        {
            match probe::cached(&self.cache, &Candidate::plain(program.clone(), Origin::System)) {
                Ok(qemu) => return Ok(Found { good: Some(qemu), refused }),
                Err(problem) => refused.push(format!("{}: {problem}", program.display())),
            }
        }
        if let Some(entry) = self.cache.find(&recipe()) {
            match self.probe_entry(&entry) {
                Ok(qemu) => return Ok(Found { good: Some(qemu), refused }),
                Err(problem) => refused.push(format!("{}: {problem}", entry.root.display())),
            }
        }
        Ok(Found { good: None, refused })
    }

    fn probe_chosen(&self, path: &Path) -> Result<Qemu, String> {
        // A bare name means what a shell would take it to mean.
        let program = match path.components().count() {
            1 if !path.exists() => on_path(&path.to_string_lossy()).next().unwrap_or_else(|| path.to_owned()),
            _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        };
        if !program.exists() {
            return Err("no such file".into());
        }
        if program.is_dir() {
            return Err("a directory, not a program".into());
        }
        probe::cached(&self.cache, &Candidate::plain(program, Origin::Chosen))
    }

    fn probe_entry(&self, entry: &Entry) -> Result<Qemu, String> {
        probe::cached(&self.cache, &Candidate::in_tree(&entry.root)?)
    }

    /// Fetches one whose version is wanted, whatever is on the machine.
    pub(super) fn fetch_qemu(
        &self,
        tool: &str,
        recipe: &Recipe,
        wanted: &dyn Fn(Version) -> bool,
        refused: &[String],
    ) -> Result<Qemu, Error> {
        let unavailable = |problem: String| {
            let problem =
                if refused.is_empty() { problem } else { format!("{}; {problem}", refused.join("; ")) };
            Error::Unavailable {
                tool: tool.to_owned(),
                problem,
                advice: format!("{}, or name one with --qemu", advice::sentence(&Tool::Qemu, &self.host)),
            }
        };
        let areas = apt::areas(&self.host).map_err(unavailable)?;
        let entry = self.build(tool, recipe, |content, task| {
            let mut problems = Vec::new();
            for area in &areas {
                match self.fetch_qemu_from(area, wanted, content, task) {
                    Ok(version) => return Ok(version),
                    Err(error @ Error::File { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(release = area.name(), %error, "fetch failed");
                        problems.push(format!("{}: {error}", area.name()));
                    }
                }
            }
            Err(unavailable(problems.join("; ")))
        })?;
        self.probe_entry(&entry).map_err(unavailable)
    }

    /// From the first suite of an area that has a QEMU of a wanted version which also passes the probe.
    fn fetch_qemu_from(
        &self,
        area: &Area,
        wanted: &dyn Fn(Version) -> bool,
        content: &Path,
        task: &mut Task,
    ) -> Result<String, Error> {
        let apt = Apt::open(&self.cache, area, task)?;
        apt.update(task)?;
        let mut problem = "it has no QEMU".to_owned();
        for suite in &area.targets {
            let Ok(packages) = apt.resolve(suite, Installed::Nothing, &[PACKAGE]) else { continue };
            let Some(offered) = packages.iter().find(|package| package.name == PACKAGE) else { continue };
            if !Version::of_debian(&offered.version).is_some_and(wanted) {
                problem = format!("its QEMU is {}", offered.version);
                continue;
            }
            let packages = apt.fetch(suite, Installed::Nothing, &[PACKAGE], content, task)?;
            task.say("probing it");
            match Candidate::in_tree(content).and_then(|candidate| probe::fresh(&candidate)) {
                Ok(_) => {
                    let version = packages.into_iter().find(|package| package.name == PACKAGE);
                    return Ok(version.map_or_else(|| "unknown".to_owned(), |package| package.version));
                }
                Err(reason) => {
                    problem = reason;
                    let clear = std::fs::remove_dir_all(content).and_then(|()| std::fs::create_dir(content));
                    clear.map_err(Error::file("empty", content))?;
                }
            }
        }
        Err(Error::Unsuitable { tool: "QEMU".into(), origin: area.targets.join(", "), problem })
    }
}

/// The QEMU that the user has chosen, and by what: an argument before the environment.
pub(super) fn chosen(argument: Option<&Path>) -> Option<(&'static str, PathBuf)> {
    let variable = || env::var_os(QEMU_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    match argument {
        Some(path) => Some(("--qemu", path.to_owned())),
        None => variable().map(|path| (QEMU_VARIABLE, path)),
    }
}

pub(super) fn recipe() -> Recipe {
    Recipe { thing: THING.into(), ingredients: vec![PACKAGE.into(), "tree 1".into()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu(firmware: &Path) -> Qemu {
        Qemu {
            program: "/tree/ld.so".into(),
            prefix_args: vec!["--argv0".into(), PROGRAM.into()],
            binary: "/tree/qemu".into(),
            version: Version::new(10, 0, 2),
            version_text: "10.0.2".into(),
            origin: Origin::Cache,
            firmware_dirs: vec!["/nonexistent".into(), firmware.to_owned()],
        }
    }

    #[test]
    fn its_own_arguments_come_first() {
        let argv = qemu(Path::new("/x")).argv(["-S"]);
        assert_eq!(argv, ["/tree/ld.so", "--argv0", PROGRAM, "-S"]);
    }

    #[test]
    fn firmware_is_looked_up_in_order() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("qboot.rom"), "").unwrap();
        let qemu = qemu(directory.path());
        assert_eq!(qemu.firmware("qboot.rom"), Some(directory.path().join("qboot.rom")));
        assert_eq!(qemu.firmware("bios.bin"), None);
    }

    #[test]
    fn a_chosen_qemu_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let toolbox = Toolbox::in_directory(directory.path().join("cache"));
        let text = directory.path().join("text");
        std::fs::write(&text, "not a program").unwrap();
        for (path, problem) in [
            (directory.path().join("missing"), "no such file"),
            (directory.path().to_owned(), "a directory, not a program"),
            (text, "cannot run"),
        ] {
            let error = toolbox.qemu(Some(&path)).unwrap_err();
            assert!(matches!(error, Error::Override { origin: "--qemu", .. }));
            let message = error.to_string();
            assert!(message.contains(problem) && message.contains(&*path.to_string_lossy()), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
