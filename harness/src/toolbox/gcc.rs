//! mingw-w64's C compiler, with which people build drivers for Windows on other systems.
//!
//! It is what the guest's conformance suite is written for: drivers in C, compiled against mingw-w64's own headers and linked
//! with its own import libraries. Where the machine has it, that one is used. Otherwise it comes from the machine's own
//! release and brings only the libraries that the machine lacks, because gcc starts programs of its own (the compiler proper,
//! the assembler, the linker) which the machine's dynamic linker has to load.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use super::advice::{self, Tool};
use super::apt::{self, Apt, Area, Installed};
use super::cache::Recipe;
use super::command::run_within;
use super::error::Error;
use super::host::on_path;
use super::libraries;
use super::progress::Task;
use super::version::Version;
use super::{Found, Origin, Toolbox};

/// The oldest gcc that was tested.
pub(super) const OLDEST_GCC: Version = Version::new(12, 0, 0);

/// Its names: Debian's flavours are chosen by a link that only an installation makes.
const PROGRAMS: [&str; 2] = ["x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-gcc-win32"];

/// The flavour without POSIX threads, whose runtime a driver does not use.
const PACKAGE: &str = "gcc-mingw-w64-x86-64-win32";

/// Long enough for a machine whose disk is cold.
const PATIENCE: Duration = Duration::from_secs(20);

/// A C compiler for Windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MingwGcc {
    /// The compiler driver.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// Whose it is.
    pub origin: Origin,
    /// Directories of libraries that it needs and the machine lacks.
    pub library_path: Vec<PathBuf>,
}

impl MingwGcc {
    /// The beginning of a command line.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.environment());
        command
    }

    /// Debian's and Ubuntu's trees: the machine's libraries come after those that it brings.
    fn environment(&self) -> Option<(&'static str, OsString)> {
        let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let own = self.library_path.iter().cloned();
        let all = own.chain(env::split_paths(&before).filter(|path| path.is_absolute()));
        let path = env::join_paths(all).ok().filter(|_| !self.library_path.is_empty())?;
        Some(("LD_LIBRARY_PATH", path))
    }

    /// The folder of the driver kit's headers, `ddk`, which `ntddk.h` needs on the include path by name.
    pub fn driver_kit(&self) -> Result<PathBuf, Error> {
        let fail = |problem: String| Error::Command { program: self.program.display().to_string(), problem };
        let mut command = self.command();
        command.args(["-xc", "-E", "-M", "-include", "ddk/wdm.h", "/dev/null"]);
        // A rule of make: the object, a colon, and every header that was read.
        let output = run_within("gcc -M", &mut command, PATIENCE)?;
        let mut words = output.stdout.split_whitespace().filter(|word| *word != "\\");
        let header = words.find(|word| word.ends_with("ddk/wdm.h"));
        header
            .and_then(|header| fs::canonicalize(header).ok()?.parent().map(Path::to_owned))
            .ok_or_else(|| fail("finds no ddk/wdm.h among its headers".into()))
    }
}

impl Toolbox {
    /// mingw-w64's gcc: the machine's, or fetched now.
    pub fn mingw_gcc(&self) -> Result<MingwGcc, Error> {
        let found = self.find_mingw_gcc();
        found.good.map_or_else(|| self.fetch_mingw_gcc(found.refused), Ok)
    }

    /// One that is already here.
    pub fn find_mingw_gcc(&self) -> Found<MingwGcc> {
        let mut refused = Vec::new();
        for program in PROGRAMS.into_iter().flat_map(on_path) {
            match probe(program.clone(), Origin::System, Vec::new()) {
                Ok(gcc) => return Found { good: Some(gcc), refused },
                Err(problem) => refused.push(format!("{}: {problem}", program.display())),
            }
        }
        let good = self.cache.find(&self.gcc_recipe()).and_then(|entry| match in_tree(&entry.root) {
            Ok(gcc) => Some(gcc),
            Err(problem) => {
                refused.push(format!("{}: {problem}", entry.root.display()));
                None
            }
        });
        Found { good, refused }
    }

    /// From the release that this machine runs: an upgraded machine needs another.
    fn gcc_recipe(&self) -> Recipe {
        let release = self.host.codename.clone().unwrap_or_default();
        Recipe { thing: "mingw-w64-gcc".into(), ingredients: vec![PACKAGE.into(), release] }
    }

    fn fetch_mingw_gcc(&self, mut problems: Vec<String>) -> Result<MingwGcc, Error> {
        match apt::areas(&self.host) {
            Err(problem) => problems.push(problem),
            Ok(areas) => {
                for area in areas.iter().filter(|area| area.native) {
                    let built = self.build("mingw-w64 gcc", &self.gcc_recipe(), |content, task| {
                        self.fetch_gcc_from(area, content, task)
                    });
                    match built.map(|entry| in_tree(&entry.root)) {
                        Ok(Ok(gcc)) => return Ok(gcc),
                        Ok(Err(problem)) => problems.push(problem),
                        Err(error) => problems.push(error.to_string()),
                    }
                }
            }
        }
        Err(Error::Unavailable {
            tool: format!("mingw-w64 gcc {} or newer", OLDEST_GCC.major),
            problem: problems.join("; "),
            advice: advice::sentence(&Tool::MingwGcc, &self.host),
        })
    }

    fn fetch_gcc_from(&self, area: &Area, content: &Path, task: &mut Task) -> Result<String, Error> {
        let apt = Apt::open(&self.cache, area, task)?;
        apt.update(task)?;
        let mut problem = format!("it has no {PACKAGE}");
        for suite in &area.targets {
            if let Err(error) = apt.resolve(suite, Installed::OnThisMachine, &[PACKAGE]) {
                problem = error.to_string();
                continue;
            }
            let packages = apt.fetch(suite, Installed::OnThisMachine, &[PACKAGE], content, task)?;
            match in_tree(content) {
                Ok(_) => {
                    let version = packages.into_iter().find(|package| package.name == PACKAGE);
                    return Ok(version.map_or_else(|| "unknown".to_owned(), |package| package.version));
                }
                Err(reason) => problem = reason,
            }
            let clear = fs::remove_dir_all(content).and_then(|()| fs::create_dir(content));
            clear.map_err(Error::file("empty", content))?;
        }
        Err(Error::Unsuitable { tool: "mingw-w64 gcc".into(), origin: area.targets.join(", "), problem })
    }
}

/// The compiler in a tree of unpacked packages.
fn in_tree(root: &Path) -> Result<MingwGcc, String> {
    let program = PROGRAMS
        .into_iter()
        .map(|name| root.join("usr/bin").join(name))
        .find(|program| program.is_file())
        .ok_or("the package holds no compiler")?;
    let holds_some = |directory: &PathBuf| libraries::holds_library(directory, |_| true);
    let library_path = libraries::directories(root).into_iter().filter(holds_some).collect();
    probe(program, Origin::Cache, library_path)
}

/// Asks a compiler what it is, and whether it runs at all.
fn probe(program: PathBuf, origin: Origin, library_path: Vec<PathBuf>) -> Result<MingwGcc, String> {
    let mut gcc = MingwGcc { program, version: OLDEST_GCC, origin, library_path };
    let mut command = gcc.command();
    let output = run_within("gcc -dumpfullversion", command.arg("-dumpfullversion"), PATIENCE)
        .map_err(|error| error.to_string())?;
    gcc.version = version(&output.stdout).ok_or("does not say its version")?;
    if gcc.version < OLDEST_GCC {
        return Err(format!(
            "gcc {} is older than {}, the oldest that was tested",
            gcc.version, OLDEST_GCC.major
        ));
    }
    Ok(gcc)
}

/// Of what `-dumpfullversion` prints: `13.2.0`, or `12-win32` where the flavour took the place of the rest.
fn version(text: &str) -> Option<Version> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let major = numbers.next()?.ok()?;
    let mut rest = || numbers.next().and_then(Result::ok).unwrap_or(0);
    Some(Version::new(major, rest(), rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_kinds_are_read() {
        assert_eq!(version("13.2.0\n"), Some(Version::new(13, 2, 0)));
        assert_eq!(version("12-win32\n"), Some(Version::new(12, 0, 0)));
        assert_eq!(version(""), None);
        assert_eq!(version("gcc"), None);
    }

    #[test]
    fn a_tree_without_a_compiler_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(in_tree(root.path()).unwrap_err(), "the package holds no compiler");
    }
}
