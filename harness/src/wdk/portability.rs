//! Lets the published `wdk-build` run on a host that is not Windows.
//!
//! `wdk-sys` and `wdk` build anywhere; the build script library under them, `wdk-build`, names the Windows registry even where it
//! never looks there. A handful of `#[cfg(windows)]` mends that. They are data (`driver/wdk-supplement/wdk-build-*.toml`), applied
//! to the very source that `Cargo.lock` pins, and each must find its text exactly once: another version is an error, never a guess.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{error::WdkError, files};

/// The edits for one version of `wdk-build`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edits {
    /// The version they were written for.
    pub(super) version: String,
    edit: Vec<Edit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    why: String,
    find: String,
    replace: String,
}

impl Edits {
    /// Reads the edits.
    pub(super) fn read(path: &Path) -> Result<Self, WdkError> {
        toml::from_str(&files::read(path)?).map_err(|error| WdkError::unexpected(path, error.to_string()))
    }

    /// Puts an edited copy of `published` at `portable`, in one step.
    pub(super) fn apply(&self, published: &Path, portable: &Path) -> Result<(), WdkError> {
        let fresh = files::beside(portable);
        copy_folder(published, &fresh)?;
        for edit in &self.edit {
            let path = fresh.join(&edit.file);
            let text = edit.apply(&files::read(&path)?, &self.version)?;
            fs::write(&path, text).map_err(WdkError::io("write", &path))?;
        }
        match fs::rename(&fresh, portable) {
            // Another build was faster: its copy is the same.
            Err(_) if portable.is_dir() => fs::remove_dir_all(&fresh).map_err(WdkError::io("remove", &fresh)),
            result => result.map_err(WdkError::io("create", portable)),
        }
    }
}

impl Edit {
    fn apply(&self, text: &str, version: &str) -> Result<String, WdkError> {
        // Published with CRLF; a checkout of the same text may have lost it.
        let text = text.replace("\r\n", "\n");
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            found => Err(WdkError::Edit {
                version: version.to_owned(),
                file: self.file.clone(),
                found,
                why: self.why.clone(),
            }),
        }
    }
}

/// Copies a folder of plain files and folders, which is what cargo unpacks a crate to.
fn copy_folder(from: &Path, to: &Path) -> Result<(), WdkError> {
    files::make_folder(to)?;
    let entries = fs::read_dir(from).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    for entry in entries.map_err(WdkError::io("list", from))? {
        let (source, target): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(WdkError::io("copy", &source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(find: &str) -> Edit {
        Edit { file: "f".into(), why: "w".into(), find: find.into(), replace: "new".into() }
    }

    #[test]
    fn line_endings_do_not_matter_and_the_text_must_occur_once() {
        assert_eq!(edit("a\nb").apply("x\r\na\r\nb\r\n", "1").unwrap(), "x\nnew\n");
        for (text, found) in [("", 0), ("a\nb a\nb", 2)] {
            let error = edit("a\nb").apply(text, "1").unwrap_err().to_string();
            assert!(error.contains(&format!("wdk-build 1: f has the text to edit {found} times")), "{error}");
        }
    }

    #[test]
    fn a_failed_edit_leaves_nothing_that_looks_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (published, portable) = (folder.path().join("published"), folder.path().join("portable"));
        fs::create_dir_all(published.join("src")).unwrap();
        fs::write(published.join("src/lib.rs"), "old\r\n").unwrap();
        let good = Edit { file: "src/lib.rs".into(), ..edit("old") };
        let bad = Edit { file: "src/lib.rs".into(), ..edit("other") };
        Edits { version: "1".into(), edit: vec![bad] }.apply(&published, &portable).unwrap_err();
        assert!(!portable.exists());
        Edits { version: "1".into(), edit: vec![good] }.apply(&published, &portable).unwrap();
        assert_eq!(fs::read_to_string(portable.join("src/lib.rs")).unwrap(), "new\n");
    }
}
