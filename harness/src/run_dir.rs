//! The run directory: everything about one run, readable at every moment of it.
//!
//! A run may be killed at any instruction. So a document appears whole or not at all (it is written beside its place
//! and renamed into it), and a log only ever grows by whole lines.

use std::{
    fs,
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use thiserror::Error;

/// What was asked for, with every default filled in.
pub const SCENARIO: &str = "scenario.toml";
/// Evidence in order.
pub const EVENTS: &str = "events.jsonl";
/// How QEMU was started.
pub const QEMU_ARGS: &str = "qemu.args";
/// What QEMU said.
pub const QEMU_LOG: &str = "qemu.log";
/// The guest's crash records.
pub const CRASH: &str = "crash.jsonl";
/// What the guest and its drivers print.
pub const CONSOLE: &str = "console.log";
/// The device's recorder.
pub const FLIGHT: &str = "flight.bin";
/// The guest's memory after a crash or a hang, where it was asked for.
pub const MEMORY: &str = "memory.dmp";
/// The image that was run.
pub const DRIVER: &str = "driver.sys";
/// Its symbols.
pub const DRIVER_PDB: &str = "driver.pdb";
/// The files that came with the machine.
pub const FILES: &str = "files.tar";
/// The outcome.
pub const VERDICT: &str = "verdict.json";

/// A run directory that cannot be made, written or read.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct RunDirError {
    /// What was being done.
    pub action: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl RunDirError {
    /// For `map_err`: names what was being done to which path.
    pub(crate) fn new<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// One run's files.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a new one, named by the time and the seed.
    pub fn create(runs: &Path, seed: u64) -> Result<Self, RunDirError> {
        let runs = std::path::absolute(runs).map_err(RunDirError::new("find", runs))?;
        fs::create_dir_all(&runs).map_err(RunDirError::new("create", &runs))?;
        let name = format!("{}-seed-{seed}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        let (mut path, mut number) = (runs.join(&name), 1_u32);
        loop {
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                // Another run of the same second and seed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number += 1;
                    path = runs.join(format!("{name}-{number}"));
                }
                Err(error) => return Err(RunDirError::new("create", &path)(error)),
            }
        }
    }

    /// A new directory in it.
    pub(crate) fn within(&self, name: &str) -> Result<Self, RunDirError> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(RunDirError::new("create", &path))?;
        Ok(Self { path })
    }

    /// One that exists.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of it is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The last bytes of a file of it, at most so many.
    pub(crate) fn tail(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(self.file(name))?;
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a document whole.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), RunDirError> {
        write_whole(&self.file(name), content)
    }

    /// Writes a JSON document whole.
    pub fn write_json(&self, name: &str, document: &impl Serialize) -> Result<(), RunDirError> {
        write_json(&self.file(name), document)
    }
}

/// Writes a JSON document whole: whoever looks sees the old one or the new one.
pub fn write_json(path: &Path, document: &impl Serialize) -> Result<(), RunDirError> {
    let mut text =
        serde_json::to_vec_pretty(document).map_err(|error| RunDirError::new("write", path)(error.into()))?;
    text.push(b'\n');
    write_whole(path, &text)
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), RunDirError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        let mut file = tempfile::Builder::new().prefix(".incomplete-").tempfile_in(folder)?;
        file.write_all(content)?;
        // A temporary file is its owner's alone; a run directory is read by whoever may read its folder.
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(RunDirError::new("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_of_one_second_get_two_directories() {
        let runs = tempfile::tempdir().unwrap();
        let made: Vec<_> = (0..3).map(|_| RunDir::create(runs.path(), 7).unwrap()).collect();
        let mut names: Vec<_> = made.iter().map(|run| run.path().to_owned()).collect();
        names.dedup();
        assert_eq!(names.len(), 3);
        assert!(names[0].to_string_lossy().contains("-seed-7"), "{names:?}");
    }

    #[test]
    fn documents_are_replaced_whole_and_leave_nothing_else() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunDir::create(runs.path(), 1).unwrap();
        run.write_json(VERDICT, &serde_json::json!({"a": 1})).unwrap();
        run.write_json(VERDICT, &serde_json::json!({"a": 2})).unwrap();
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1);
        let text = fs::read_to_string(run.file(VERDICT)).unwrap();
        assert!(text.contains("2") && text.ends_with('\n'), "{text}");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let error = write_json(Path::new("/nonexistent/verdict.json"), &1).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/verdict.json") && !error.contains('\n'), "{error}");
    }
}
