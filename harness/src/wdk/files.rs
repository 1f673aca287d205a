//! Writing derived files so that two builds at once, or one killed half-way, never leave a half-written one; and so that what did
//! not change keeps its time stamp, by which cargo decides what to build again.

use std::{
    fs,
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::error::WdkError;

/// Reads a whole text file.
pub(super) fn read(path: &Path) -> Result<String, WdkError> {
    fs::read_to_string(path).map_err(WdkError::io("read", path))
}

/// Makes a folder and all above it.
pub(super) fn make_folder(path: &Path) -> Result<(), WdkError> {
    fs::create_dir_all(path).map_err(WdkError::io("create", path))
}

/// Gives `path` this content, in one step, and only where it has another.
pub(super) fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), WdkError> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let fresh = beside(path);
    fs::write(&fresh, content).map_err(WdkError::io("write", &fresh))?;
    fs::rename(&fresh, path).map_err(WdkError::io("write", path))
}

/// A name next to `path` that no other thread and no other process uses.
pub(super) fn beside(path: &Path) -> std::path::PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_keeps_its_time_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("derived");
        write_if_changed(&file, b"one").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        write_if_changed(&file, b"one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), old);
        write_if_changed(&file, b"two").unwrap();
        assert_ne!(fs::metadata(&file).unwrap().modified().unwrap(), old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
