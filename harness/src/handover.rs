//! Files that come with the machine: an archive that QEMU shows the guest, which takes them out of it before it answers. The other
//! way, over the agent's serial line, takes some ten microseconds a byte.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use crate::run_dir::RunDirError;

/// Writes `files`, of the host's under the guest's paths, to the archive at `to`.
///
/// # Errors
/// A file that cannot be read, a path of more than 100 bytes, an archive that cannot be written.
pub fn pack(files: &[(PathBuf, String)], to: &Path) -> Result<(), RunDirError> {
    let archive = File::create(to).map_err(RunDirError::new("create", to))?;
    let mut archive = Builder::new(BufWriter::new(archive));
    for (file, path) in files {
        append(&mut archive, file, path).map_err(RunDirError::new("hand over", file))?;
    }
    let finish = archive.into_inner().and_then(|mut archive| archive.flush());
    finish.map_err(RunDirError::new("write", to))
}

fn append(archive: &mut Builder<impl Write>, file: &Path, path: &str) -> io::Result<()> {
    let contents = File::open(file)?;
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(contents.metadata()?.len());
    header.set_cksum();
    archive.append(&header, contents)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read};

    use super::*;

    #[test]
    fn files_lie_under_the_paths_of_the_guest() {
        let dir = tempfile::tempdir().unwrap();
        let (one, to) = (dir.path().join("one"), dir.path().join("files.tar"));
        fs::write(&one, b"contents").unwrap();
        pack(&[(one.clone(), r"C:\squall\one.sys".to_owned())], &to).unwrap();
        let mut archive = tar::Archive::new(File::open(&to).unwrap());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut contents = String::new();
        entry.read_to_string(&mut contents).unwrap();
        assert_eq!((&*entry.path_bytes(), &*contents), (&br"C:\squall\one.sys"[..], "contents"));
        let error = pack(&[(one, "C:".repeat(51))], &to).unwrap_err().to_string();
        assert!(error.starts_with("cannot hand over") && error.contains("one"), "{error}");
        let missing = (dir.path().join("two"), r"C:\two".to_owned());
        assert!(pack(&[missing], &to).unwrap_err().to_string().contains("two"));
    }
}
