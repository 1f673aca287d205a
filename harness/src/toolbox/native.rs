//! Programs of the machine's own release.
//!
//! Some tools start programs of their own, or are only of use with the machine's other files, so that the machine's dynamic linker has
//! to load them. Where the machine has one, that is used. Otherwise it comes from the machine's own release and brings
//! only the libraries that the machine lacks.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::advice::{self, Tool};
use super::apt::{self, Apt, Area, Installed};
use super::cache::Recipe;
use super::error::Error;
use super::host::on_path;
use super::libraries;
use super::progress::Task;
use super::version::Version;
use super::{Found, Origin, Toolbox};

/// A program that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeProgram {
    /// The file.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// Whose it is.
    pub origin: Origin,
    /// Directories of libraries that it needs and the machine lacks.
    pub library_path: Vec<PathBuf>,
}

impl NativeProgram {
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
}

/// What is wanted.
pub(super) struct Native {
    /// What it is called in the cache.
    pub(super) thing: &'static str,
    /// And to people.
    pub(super) title: &'static str,
    /// Its package.
    pub(super) package: &'static str,
    /// Its names, the best first.
    pub(super) programs: &'static [&'static str],
    /// How people get it.
    pub(super) tool: Tool,
    /// Asks it for its version, which must do.
    pub(super) version: fn(&NativeProgram) -> Result<Version, String>,
}

impl Native {
    fn recipe(&self, toolbox: &Toolbox) -> Recipe {
        // From the release that this machine runs: an upgraded machine needs another.
        let release = toolbox.host.codename.clone().unwrap_or_default();
        Recipe { thing: self.thing.into(), ingredients: vec![self.package.into(), release] }
    }

    /// The program in a tree of unpacked packages.
    fn in_tree(&self, root: &Path) -> Result<NativeProgram, String> {
        let program = self
            .programs
            .iter()
            .map(|name| root.join("usr/bin").join(name))
            .find(|program| program.is_file())
            .ok_or_else(|| format!("the package holds no {}", self.title))?;
        let holds_some = |directory: &PathBuf| libraries::holds_library(directory, |_| true);
        let library_path = libraries::directories(root).into_iter().filter(holds_some).collect();
        self.probe(program, Origin::Cache, library_path)
    }

    /// Asks a program what it is, and whether it runs at all.
    fn probe(
        &self,
        program: PathBuf,
        origin: Origin,
        library_path: Vec<PathBuf>,
    ) -> Result<NativeProgram, String> {
        let program = NativeProgram { program, version: Version::new(0, 0, 0), origin, library_path };
        Ok(NativeProgram { version: (self.version)(&program)?, ..program })
    }
}

impl Toolbox {
    /// The machine's, or one that is fetched now.
    pub(super) fn native(&self, wanted: &Native) -> Result<NativeProgram, Error> {
        let found = self.find_native(wanted);
        found.good.map_or_else(|| self.fetch_native(wanted, found.refused), Ok)
    }

    /// One that is already here.
    pub(super) fn find_native(&self, wanted: &Native) -> Found<NativeProgram> {
        let mut refused = Vec::new();
        for program in wanted.programs.iter().flat_map(|name| on_path(name)) {
            match wanted.probe(program.clone(), Origin::System, Vec::new()) {
                Ok(program) => return Found { good: Some(program), refused },
                Err(problem) => refused.push(format!("{}: {problem}", program.display())),
            }
        }
        let good = self.cache.find(&wanted.recipe(self)).and_then(|entry| {
            let refuse = |problem| refused.push(format!("{}: {problem}", entry.root.display()));
            wanted.in_tree(&entry.root).map_err(refuse).ok()
        });
        Found { good, refused }
    }

    fn fetch_native(&self, wanted: &Native, mut problems: Vec<String>) -> Result<NativeProgram, Error> {
        match apt::areas(&self.host) {
            Err(problem) => problems.push(problem),
            Ok(areas) => {
                for area in areas.iter().filter(|area| area.native) {
                    let built = self.build(wanted.title, &wanted.recipe(self), |content, task| {
                        self.fetch_native_from(wanted, area, content, task)
                    });
                    match built.map(|entry| wanted.in_tree(&entry.root)) {
                        Ok(Ok(program)) => return Ok(program),
                        Ok(Err(problem)) => problems.push(problem),
                        Err(error) => problems.push(error.to_string()),
                    }
                }
            }
        }
        Err(Error::Unavailable {
            tool: wanted.title.to_owned(),
            problem: problems.join("; "),
            advice: advice::sentence(&wanted.tool, &self.host),
        })
    }

    fn fetch_native_from(
        &self,
        wanted: &Native,
        area: &Area,
        content: &Path,
        task: &mut Task,
    ) -> Result<String, Error> {
        let package = wanted.package;
        let apt = Apt::open(&self.cache, area, task)?;
        apt.update(task)?;
        let mut problem = format!("it has no {package}");
        for suite in &area.targets {
            if let Err(error) = apt.resolve(suite, Installed::OnThisMachine, &[package]) {
                problem = error.to_string();
                continue;
            }
            let packages = apt.fetch(suite, Installed::OnThisMachine, &[package], content, task)?;
            match wanted.in_tree(content) {
                Ok(_) => {
                    let version = packages.into_iter().find(|fetched| fetched.name == package);
                    return Ok(version.map_or_else(|| "unknown".to_owned(), |fetched| fetched.version));
                }
                Err(reason) => problem = reason,
            }
            let clear = fs::remove_dir_all(content).and_then(|()| fs::create_dir(content));
            clear.map_err(Error::file("empty", content))?;
        }
        Err(Error::Unsuitable { tool: wanted.title.into(), origin: area.targets.join(", "), problem })
    }
}
