//! What the probe found, remembered.
//!
//! An answer is keyed by the path, size and time of the files it came from, so that recalling it costs a `stat` of each.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::toolbox::cache::Cache;
use crate::toolbox::qemu::{Candidate, OLDEST_QEMU, Qemu};
use crate::toolbox::version::Version;

const SCHEMA: &str = "squall.qemu-probe/2";

/// `probes/*.json` in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    schema: String,
    /// The oldest QEMU that would do.
    oldest: Version,
    /// The program and the binary as they were.
    files: Vec<Stamp>,
    prefix_args: Vec<OsString>,
    answer: Result<Qemu, String>,
}

/// What changes when a file is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    size: u64,
    modified_ns: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            path: path.to_owned(),
            size: meta.len(),
            modified_ns: u64::try_from(modified.as_nanos()).ok()?,
        })
    }
}

/// Where the answer for a candidate is kept.
pub(super) fn place(cache: &Cache, candidate: &Candidate) -> PathBuf {
    let key = candidate.binary.as_ref().unwrap_or(&candidate.program);
    let name: String = key
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
        .collect();
    // Long paths share their ends; a clash only costs a probe, because the paths inside are compared.
    let start = name.len().saturating_sub(120);
    cache.directory("probes").join(format!("qemu-{}.json", &name[start..]))
}

/// What came of a candidate, if that is known and its files are the same.
pub(super) fn recall(cache: &Cache, candidate: &Candidate) -> Option<Result<Qemu, String>> {
    let remembered: Remembered = serde_json::from_slice(&fs::read(place(cache, candidate)).ok()?).ok()?;
    let is_that = remembered.schema == SCHEMA
        && remembered.oldest == OLDEST_QEMU
        && remembered.files.first().is_some_and(|stamp| stamp.path == candidate.program)
        && remembered.prefix_args == candidate.prefix_args
        && remembered.files.iter().all(|stamp| Stamp::of(&stamp.path).as_ref() == Some(stamp));
    let answer = remembered.answer.map(|qemu| Qemu { origin: candidate.origin, ..qemu });
    is_that.then_some(answer)
}

/// Keeps an answer. Where it cannot be kept the next run probes again, no more.
pub(super) fn remember(cache: &Cache, candidate: &Candidate, binary: &Path, answer: Result<&Qemu, &String>) {
    let place = place(cache, candidate);
    let files = [candidate.program.as_path(), binary].into_iter().map(Stamp::of).collect::<Option<Vec<_>>>();
    let Some(files) = files else { return };
    let remembered = Remembered {
        schema: SCHEMA.into(),
        oldest: OLDEST_QEMU,
        files,
        prefix_args: candidate.prefix_args.clone(),
        answer: answer.cloned().map_err(Clone::clone),
    };
    let Ok(text) = serde_json::to_vec(&remembered) else { return };
    let building = place.with_extension(format!("{}.new", std::process::id()));
    let kept = place
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&building, text))
        .and_then(|()| fs::rename(&building, &place));
    if let Err(error) = kept {
        tracing::debug!(place = %place.display(), %error, "probe not remembered");
    }
}
