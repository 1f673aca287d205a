//! The toolbox: what Squall needs and a machine may lack, found or fetched, without root.
//!
//! A run needs a QEMU that can take the device, and building a driver on Linux needs libclang, mingw-w64's headers and two
//! compilation targets. What is on the machine and good enough is used. What is not is fetched from the distribution's own
//! signed packages into the user's cache directory, where the next run finds it within milliseconds.
//!
//! ```no_run
//! # fn main() -> Result<(), squall_harness::toolbox::Error> {
//! use squall_harness::toolbox::Toolbox;
//!
//! let toolbox = Toolbox::open()?;
//! let qemu = toolbox.qemu(None)?;
//! println!("QEMU {} at {}", qemu.version, qemu.binary.display());
//! # Ok(())
//! # }
//! ```
//!
//! Everything here blocks: a fetch is a few seconds of apt. Asynchronous callers use a blocking thread.

mod advice;
mod apt;
mod cache;
mod command;
mod error;
mod gcc;
mod host;
mod libclang;
mod libraries;
mod mingw;
mod native;
mod probe;
mod progress;
mod qemu;
mod rust;
mod signer;
mod survey;
mod tested;
mod version;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use gcc::MingwGcc;
pub use host::{Distribution, DistributionError, Host};
pub use libclang::Libclang;
pub use mingw::Mingw;
pub use native::NativeProgram;
pub use progress::Progress;
pub use qemu::{OLDEST_QEMU, QEMU_VARIABLE, Qemu};
pub use signer::Signer;
pub use survey::{Need, Survey, Verdict};
pub use tested::{Series, TESTED_QEMUS, newer_than_tested};
pub use version::{Version, VersionError};

use apt::{Apt, Installed};
use cache::{Cache, Entry, Recipe};
use progress::Task;

/// Finds and fetches tools.
#[derive(Debug, Clone)]
pub struct Toolbox {
    cache: Cache,
    host: Host,
    progress: Progress,
}

/// Whose a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Named by the user.
    Chosen,
    /// The machine's.
    System,
    /// Fetched.
    Cache,
}

/// What a search on this machine came to.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// The first good one.
    pub good: Option<T>,
    /// Those that came before it, each with the reason why it will not do.
    pub refused: Vec<String>,
}

impl Toolbox {
    /// The user's toolbox.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { cache: Cache::of_user()?, host: Host::detect(), progress: Progress::default() })
    }

    /// A toolbox that keeps what it fetches in a directory of the caller's, and shows no progress.
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { cache: Cache::at(directory), host: Host::detect(), progress: Progress::Silent }
    }

    /// The same, with progress shown or not.
    #[must_use]
    pub fn with_progress(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// The system that it serves.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Debian packages, with all that they depend on, unpacked (not installed) into one tree: its root, as `/` would be.
    ///
    /// `name` is the tree's own, in the cache. From this machine's release where that has the packages, from a newer one
    /// otherwise.
    pub fn debian_packages(&self, name: &str, packages: &[&str]) -> Result<PathBuf, Error> {
        let ingredients = packages.iter().map(|&package| package.to_owned()).collect();
        let recipe = Recipe { thing: name.to_owned(), ingredients };
        Ok(self.packages(name, &recipe, packages)?.root)
    }

    /// The tree of a recipe that is packages and no more.
    fn packages(&self, title: &str, recipe: &Recipe, packages: &[&str]) -> Result<Entry, Error> {
        let unavailable = |problem: String| Error::Unavailable {
            tool: title.to_owned(),
            problem,
            advice: "run it on a machine with apt and a Debian mirror".to_owned(),
        };
        if let Some(entry) = self.cache.find(recipe) {
            return Ok(entry);
        }
        let areas = apt::areas(&self.host).map_err(unavailable)?;
        self.build(title, recipe, |content, task| {
            let mut problems = Vec::new();
            for area in &areas {
                let apt = Apt::open(&self.cache, area, task)?;
                let fetched = apt.update(task).and_then(|()| {
                    area.targets
                        .iter()
                        .find_map(|suite| {
                            apt.resolve(suite, Installed::Nothing, packages).ok().map(|_| suite)
                        })
                        .map_or_else(
                            // To say why, once more where it is most likely to be.
                            || apt.resolve(&area.targets[0], Installed::Nothing, packages),
                            |suite| apt.fetch(suite, Installed::Nothing, packages, content, task),
                        )
                });
                match fetched {
                    Ok(fetched) => {
                        let first = fetched
                            .into_iter()
                            .find(|package| packages.first() == Some(&package.name.as_str()));
                        return Ok(first.map_or_else(|| "unknown".to_owned(), |package| package.version));
                    }
                    Err(error) => {
                        tracing::warn!(release = area.name(), %error, "fetch failed");
                        problems.push(format!("{}: {error}", area.name()));
                    }
                }
            }
            Err(unavailable(problems.join("; ")))
        })
    }

    /// An entry of the cache, made by `make` if it is not there, with progress shown under a title.
    fn build(
        &self,
        title: &str,
        recipe: &Recipe,
        make: impl FnOnce(&Path, &mut Task) -> Result<String, Error>,
    ) -> Result<Entry, Error> {
        let waiting = || {
            if self.progress == Progress::Shown {
                eprintln!("{title}: another squall is fetching it, waiting for that");
            }
        };
        self.cache.find_or_build(recipe, waiting, |content| {
            let mut task = Task::begin(self.progress, format!("fetching {title}"));
            let version = make(content, &mut task)?;
            task.end(&version);
            Ok(version)
        })
    }
}
