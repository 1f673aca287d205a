//! What can go wrong before there is a driver image, each in one line: the thing, the place, the next step.

use std::path::{Path, PathBuf};

use crate::toolbox::Error as ToolboxError;

/// Why there is no driver image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WdkError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the repository, or what cargo says about it, is not what this module expects.
    #[error("{}: {problem}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The published `wdk-build` is not the text that the edits were written for.
    #[error(
        "wdk-build {version}: {file} has the text to edit {found} times instead of once ({why}); \
         pin the version that the edits were written for, or write them anew"
    )]
    Edit {
        /// The version at hand.
        version: String,
        /// The file inside the crate.
        file: String,
        /// How often the text occurs.
        found: usize,
        /// What the edit is for.
        why: String,
    },
    /// Cargo did not build the driver.
    #[error("the driver does not build: {first}; everything cargo said is in {}", log.display())]
    Build {
        /// The first error that cargo printed.
        first: String,
        /// Everything that it printed.
        log: PathBuf,
    },
    /// The image imports something that `imports.txt` does not name.
    #[error(
        "{} imports {stranger}, which {} does not name; make sure that Windows exports it, then add it there",
        image.display(), list.display()
    )]
    Stranger {
        /// The driver image.
        image: PathBuf,
        /// `module!name`.
        stranger: String,
        /// The list of names.
        list: PathBuf,
    },
    /// The toolbox could not provide headers, libclang or the target.
    #[error(transparent)]
    Toolbox(#[from] ToolboxError),
}

impl WdkError {
    /// For `map_err`: what was tried, with which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A file that is not what it should be.
    pub(super) fn unexpected(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unexpected { path: path.to_owned(), problem: problem.into() }
    }
}
