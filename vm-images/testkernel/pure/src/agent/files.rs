//! The guest's file system: a flat one, in memory, of `C:\...` paths.
//!
//! It exists so that a `.sys` can be sent in and a log fetched. Directories are implied by names. Names are found
//! whatever their case, and both kinds of slash separate.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The largest file.
pub const MAX_FILE: usize = 8 << 20;
/// The most bytes of all files together.
pub const MAX_TOTAL: usize = 16 << 20;
const MAX_FILES: usize = 256;
const MAX_PATH: usize = 260;

/// Why a file cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not `C:\` and a name.
    #[error("{0}: not a path of the form C:\\NAME")]
    BadPath(String),
    /// Not one of `fopen`'s modes.
    #[error("{0}: not a mode that fopen knows")]
    BadMode(String),
    /// Opened for reading, and not there.
    #[error("{0}: no such file")]
    NotFound(String),
    /// The handle was opened without that access.
    #[error("the file was not opened for {0}")]
    Access(&'static str),
    /// A bound was reached.
    #[error("{what}: at most {limit}")]
    Full {
        /// What there would be too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file of so many bytes.
    File(usize),
    /// A directory.
    Directory,
}

/// What a driver has set of a file; 0 is what nobody has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Creation, last access, last write, change: system times.
    pub times: [u64; 4],
    /// `FILE_ATTRIBUTE_...`.
    pub attributes: u32,
    /// Bytes that are kept for it, however short it is.
    pub allocated: u64,
}

/// Directories that every system has.
const STANDARD_DIRECTORIES: [&str; 5] =
    ["C:", r"C:\WINDOWS", r"C:\WINDOWS\SYSTEM32", r"C:\WINDOWS\SYSTEM32\DRIVERS", r"C:\WINDOWS\TEMP"];

/// Where an open file is, and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    path: String,
    position: usize,
    read: bool,
    write: bool,
    append: bool,
}

/// All files.
#[derive(Default)]
pub struct FileSystem {
    /// Shared, so that a whole image can be handed to the loader without holding up the file system.
    files: BTreeMap<String, Arc<Vec<u8>>>,
    /// Those that were made; others are implied by the files in them.
    directories: BTreeSet<String>,
    /// Of those of which anything was set.
    about: BTreeMap<String, About>,
}

impl FileSystem {
    /// An empty file system.
    pub const fn new() -> Self {
        Self { files: BTreeMap::new(), directories: BTreeSet::new(), about: BTreeMap::new() }
    }

    /// Opens `path` as `fopen` would in `mode`.
    pub fn open(&mut self, path: &str, mode: &str) -> Result<OpenFile, FileError> {
        let key = key(path)?;
        // The b for binary may stand at either place and changes nothing.
        let plain: String = mode.chars().filter(|&letter| letter != 'b').collect();
        let (read, write, append, truncate) = match plain.as_str() {
            "r" => (true, false, false, false),
            "r+" => (true, true, false, false),
            "w" => (false, true, false, true),
            "w+" => (true, true, false, true),
            "a" => (false, true, true, false),
            "a+" => (true, true, true, false),
            _ => return Err(FileError::BadMode(mode.chars().take(8).collect())),
        };
        let exists = self.files.contains_key(&key);
        if !exists && (truncate || append) {
            if self.files.len() == MAX_FILES {
                return Err(FileError::Full { what: "files", limit: MAX_FILES });
            }
            self.files.insert(key.clone(), Arc::default());
        } else if !exists {
            return Err(FileError::NotFound(path.into()));
        } else if truncate {
            self.files.insert(key.clone(), Arc::default());
        }
        Ok(OpenFile { path: key, position: 0, read, write, append })
    }

    /// The next `count` bytes of `file`, and whether they reach its end.
    pub fn read(&self, file: &mut OpenFile, count: usize) -> Result<(Vec<u8>, bool), FileError> {
        if !file.read {
            return Err(FileError::Access("reading"));
        }
        let bytes = self.files.get(&file.path).map_or(&[][..], |bytes| &bytes[..]);
        let start = file.position.min(bytes.len());
        let end = start.saturating_add(count).min(bytes.len());
        file.position = end;
        Ok((bytes[start..end].to_vec(), end == bytes.len()))
    }

    /// Writes `data` at `file`'s position, or at the end where it was opened to append.
    pub fn write(&mut self, file: &mut OpenFile, data: &[u8]) -> Result<(), FileError> {
        if !file.write {
            return Err(FileError::Access("writing"));
        }
        let total: usize = self.files.values().map(|bytes| bytes.len()).sum();
        let bytes = Arc::make_mut(self.files.entry(file.path.clone()).or_default());
        let start = if file.append { bytes.len() } else { file.position.min(bytes.len()) };
        let end = start.saturating_add(data.len());
        if end > MAX_FILE {
            return Err(FileError::Full { what: "bytes in a file", limit: MAX_FILE });
        }
        if total + end.saturating_sub(bytes.len()) > MAX_TOTAL {
            return Err(FileError::Full { what: "bytes in all files", limit: MAX_TOTAL });
        }
        if end > bytes.len() {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        file.position = end;
        Ok(())
    }

    /// What there is at `path`, for [`key_of`]'s form of it.
    pub fn find(&self, key: &str) -> Option<Entry> {
        if let Some(bytes) = self.files.get(key) {
            return Some(Entry::File(bytes.len()));
        }
        let implied = |path: &String| path.strip_prefix(key).is_some_and(|rest| rest.starts_with('\\'));
        let is_directory = STANDARD_DIRECTORIES.contains(&key)
            || self.directories.contains(key)
            || self.files.keys().any(implied)
            || self.directories.iter().any(implied);
        is_directory.then_some(Entry::Directory)
    }

    /// Makes an empty file, or empties the one that is there.
    pub fn make_file(&mut self, key: &str) -> Result<(), FileError> {
        if !self.files.contains_key(key) && self.files.len() == MAX_FILES {
            return Err(FileError::Full { what: "files", limit: MAX_FILES });
        }
        self.files.insert(key.into(), Arc::default());
        Ok(())
    }

    /// Makes a directory.
    pub fn make_directory(&mut self, key: &str) -> Result<(), FileError> {
        if self.directories.len() == MAX_FILES {
            return Err(FileError::Full { what: "directories", limit: MAX_FILES });
        }
        self.directories.insert(key.into());
        Ok(())
    }

    /// What was set of a file or directory.
    pub fn about(&self, key: &str) -> About {
        self.about.get(key).copied().unwrap_or_default()
    }

    /// Sets it, of what there is.
    pub fn set_about(&mut self, key: &str, about: About) {
        if about == About::default() {
            self.about.remove(key);
        } else if self.find(key).is_some() {
            self.about.insert(key.into(), about);
        }
    }

    /// Takes away a file, or a directory with nothing in it; false where that cannot be. What was set of it goes with it.
    pub fn remove(&mut self, key: &str) -> bool {
        let gone = self.files.remove(key).is_some()
            || self.directories.remove(key) && {
                let still_there = self.find(key).is_some();
                if still_there {
                    self.directories.insert(key.into());
                }
                !still_there
            };
        if gone {
            self.about.remove(key);
        }
        gone
    }

    /// At most `count` bytes of a file from `offset` on.
    pub fn read_at(&self, key: &str, offset: usize, count: usize) -> Vec<u8> {
        let bytes = self.files.get(key).map_or(&[][..], |bytes| &bytes[..]);
        let start = offset.min(bytes.len());
        bytes[start..start.saturating_add(count).min(bytes.len())].to_vec()
    }

    /// Writes `data` into a file at `offset`; what lies between its end and there becomes zeros.
    pub fn write_at(&mut self, key: &str, offset: usize, data: &[u8]) -> Result<(), FileError> {
        let end = offset.saturating_add(data.len());
        let length = self.files.get(key).map_or(0, |bytes| bytes.len());
        if end > length {
            self.set_length(key, end)?;
        }
        if let Some(bytes) = self.files.get_mut(key) {
            Arc::make_mut(bytes)[offset..end].copy_from_slice(data);
        }
        Ok(())
    }

    /// Cuts a file, or makes it longer with zeros.
    pub fn set_length(&mut self, key: &str, length: usize) -> Result<(), FileError> {
        if length > MAX_FILE {
            return Err(FileError::Full { what: "bytes in a file", limit: MAX_FILE });
        }
        let total: usize = self.files.values().map(|bytes| bytes.len()).sum();
        if let Some(bytes) = self.files.get_mut(key) {
            if total + length.saturating_sub(bytes.len()) > MAX_TOTAL {
                return Err(FileError::Full { what: "bytes in all files", limit: MAX_TOTAL });
            }
            Arc::make_mut(bytes).resize(length, 0);
        }
        Ok(())
    }

    /// The whole of a file.
    pub fn contents(&self, path: &str) -> Result<Arc<Vec<u8>>, FileError> {
        let bytes = self.files.get(&key(path)?);
        bytes.cloned().ok_or_else(|| FileError::NotFound(path.into()))
    }
}

/// The last component of a path: an image's name.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

/// The form of a path under which what is there is kept: of the root, `C:`.
pub fn key_of(path: &str) -> Result<String, FileError> {
    let trimmed = path.strip_suffix('\\').unwrap_or(path);
    if trimmed.eq_ignore_ascii_case("C:") { Ok("C:".into()) } else { key(trimmed) }
}

/// The form of a path under which its file is kept.
fn key(path: &str) -> Result<String, FileError> {
    let bad = || FileError::BadPath(path.chars().take(80).collect());
    if path.len() > MAX_PATH {
        return Err(bad());
    }
    let folded: String =
        path.chars().map(|letter| if letter == '/' { '\\' } else { letter.to_ascii_uppercase() }).collect();
    let rest = folded.strip_prefix("C:\\").ok_or_else(bad)?;
    let sane = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || "<>:\"|?*".contains(c))
    };
    if rest.split('\\').all(sane) { Ok(folded) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_can_be_read_whatever_the_case() {
        let mut files = FileSystem::default();
        let mut file = files.open(r"C:\squall\Driver.sys", "wb").unwrap();
        files.write(&mut file, b"MZ").unwrap();
        files.write(&mut file, b"..").unwrap();
        let mut file = files.open("c:/SQUALL/driver.SYS", "r").unwrap();
        assert_eq!(files.read(&mut file, 3), Ok((b"MZ.".to_vec(), false)));
        assert_eq!(files.read(&mut file, 9), Ok((b".".to_vec(), true)));
        assert_eq!(files.contents(r"C:\squall\driver.sys").unwrap().as_slice(), b"MZ..");
        assert_eq!(file_name(r"C:\squall\driver.sys"), "driver.sys");
    }

    #[test]
    fn modes_are_fopens() {
        let mut files = FileSystem::default();
        assert_eq!(files.open(r"C:\a", "r"), Err(FileError::NotFound(r"C:\a".into())));
        let mut file = files.open(r"C:\a", "w").unwrap();
        files.write(&mut file, b"one").unwrap();
        assert_eq!(files.read(&mut file, 1), Err(FileError::Access("reading")));
        let mut file = files.open(r"C:\a", "a+").unwrap();
        files.write(&mut file, b"two").unwrap();
        assert_eq!(files.contents(r"C:\a").unwrap().as_slice(), b"onetwo");
        let mut file = files.open(r"C:\a", "rb+").unwrap();
        files.write(&mut file, b"ONE").unwrap();
        assert_eq!(files.contents(r"C:\a").unwrap().as_slice(), b"ONEtwo");
        files.open(r"C:\a", "w").unwrap();
        assert_eq!(files.contents(r"C:\a").unwrap().as_slice(), b"");
        assert!(files.open(r"C:\a", "x").is_err());
    }

    #[test]
    fn paths_outside_the_file_system_are_refused() {
        let mut files = FileSystem::default();
        for path in ["", "a", r"D:\a", r"C:\", r"C:\a\\b", r"C:\..\a", r"C:\a:b", r"\\.\squall", "C:\\a\nb"] {
            let error = files.open(path, "w").unwrap_err();
            assert!(error.to_string().ends_with("not a path of the form C:\\NAME"), "{path}: {error}");
        }
    }

    #[test]
    fn directories_are_made_and_implied_and_go_when_they_are_empty() {
        let mut files = FileSystem::default();
        assert_eq!(files.find("C:"), Some(Entry::Directory));
        assert_eq!(files.find(r"C:\A"), None);
        files.make_directory(r"C:\A").unwrap();
        files.make_file(r"C:\A\B").unwrap();
        assert!(!files.remove(r"C:\A") && files.remove(r"C:\A\B") && files.remove(r"C:\A"));
        assert!(!files.remove(r"C:\A"));
        files.make_file(r"C:\X\Y").unwrap();
        assert_eq!(files.find(r"C:\X"), Some(Entry::Directory));
        assert_eq!(key_of(r"c:\x\y\").unwrap(), r"C:\X\Y");
        assert_eq!(key_of("c:").unwrap(), "C:");
        assert!(key_of(r"C:\a\..\b").is_err());
    }

    #[test]
    fn what_is_set_of_a_file_goes_with_it() {
        let mut files = FileSystem::default();
        let about = About { attributes: 1, ..About::default() };
        files.set_about(r"C:\A", about);
        assert_eq!(files.about(r"C:\A"), About::default(), "of nothing");
        files.make_file(r"C:\A").unwrap();
        files.set_about(r"C:\A", about);
        assert_eq!(files.about(r"C:\A"), about);
        assert!(files.remove(r"C:\A"));
        files.make_file(r"C:\A").unwrap();
        assert_eq!(files.about(r"C:\A"), About::default());
    }

    #[test]
    fn bytes_are_written_and_read_anywhere() {
        let mut files = FileSystem::default();
        files.make_file(r"C:\A").unwrap();
        files.write_at(r"C:\A", 2, b"xy").unwrap();
        assert_eq!(files.read_at(r"C:\A", 0, 9), b"\0\0xy");
        files.set_length(r"C:\A", 3).unwrap();
        assert_eq!(files.read_at(r"C:\A", 1, 9), b"\0x");
        assert_eq!(files.read_at(r"C:\A", usize::MAX, usize::MAX), b"");
        assert!(files.write_at(r"C:\A", MAX_FILE, b"x").is_err());
        assert!(files.write_at(r"C:\A", usize::MAX, b"x").is_err());
    }

    #[test]
    fn sizes_are_bounded() {
        let mut files = FileSystem::default();
        let block = alloc::vec![0; MAX_FILE];
        for name in [r"C:\a", r"C:\b"] {
            let mut file = files.open(name, "w").unwrap();
            files.write(&mut file, &block).unwrap();
            assert!(files.write(&mut file, &[0]).is_err());
        }
        let mut file = files.open(r"C:\c", "w").unwrap();
        assert!(files.write(&mut file, &[0]).is_err(), "all files together");
    }

    proptest! {
        #[test]
        fn any_path_and_mode_are_answered(path in "(C:)?[\\\\/A-Za-z.:\\PC]{0,20}", mode in "[rwab+x]{0,4}") {
            let mut files = FileSystem::default();
            if let Ok(mut file) = files.open(&path, &mode) {
                let _ = files.write(&mut file, b"x");
                let _ = files.read(&mut file, usize::MAX);
            }
        }
    }
}
