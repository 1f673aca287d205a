//! What can go wrong while a tool is found or fetched.
//!
//! All of it is *infrastructure*: it says nothing about the driver under test, and a command that ends with one of these
//! exits with code 3. Every message is one line that names the thing, the place and the next step.

use std::io;
use std::path::{Path, PathBuf};

/// Why a tool could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `XDG_CACHE_HOME` nor a home directory is known.
    #[error(
        "no cache directory: neither XDG_CACHE_HOME nor HOME is set; set one of them to an absolute path"
    )]
    NoCacheDirectory,

    /// A file or directory could not be read or written; most often in the cache.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done, as a verb: "create", "rename".
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },

    /// A program that the toolbox runs could not be started.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system answered.
        source: io::Error,
    },

    /// A program that the toolbox runs did not do its work.
    #[error("{program} failed: {problem}")]
    Command {
        /// The program and its verb: "apt-get update".
        program: String,
        /// The line of its output that says why, or its exit status.
        problem: String,
    },

    /// The tool that the user pointed to is not one that Squall can work with. Never replaced by another behind their back.
    #[error("{origin} {}: {problem}; {advice}", path.display())]
    Override {
        /// Who named it: "--qemu", "SQUALL_QEMU".
        origin: &'static str,
        /// What was named.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The next step.
        advice: String,
    },

    /// No good copy on this machine, and none could be fetched.
    #[error("no usable {tool}: {problem}; {advice}")]
    Unavailable {
        /// The tool.
        tool: String,
        /// Why none was found and why none was fetched.
        problem: String,
        /// The command that gets it here.
        advice: String,
    },

    /// What was fetched is not what it should be.
    #[error("{tool} from {origin}: {problem}")]
    Unsuitable {
        /// The tool.
        tool: String,
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// For `map_err`: names what was being done to which path.
    pub(super) fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}
