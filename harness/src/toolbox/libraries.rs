//! Shared libraries inside a tree of unpacked packages.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// The directories of a tree that hold shared libraries: Debian keeps them by architecture (`lib/x86_64-linux-gnu`).
pub(super) fn directories(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for base in ["usr/lib", "lib", "usr/lib64", "lib64"] {
        let base = root.join(base);
        let children = fs::read_dir(&base).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut by_architecture: Vec<PathBuf> = children.filter(|path| is_architecture(path)).collect();
        by_architecture.sort();
        found.extend(by_architecture);
        if base.is_dir() {
            found.push(base);
        }
    }
    found
}

/// Those that do hold some, as one value of a library path.
pub(super) fn search_path(root: &Path) -> Result<OsString, String> {
    let directories = directories(root).into_iter().filter(|directory| holds_library(directory, |_| true));
    std::env::join_paths(directories)
        .map_err(|_| format!("no library path can name {}: it has a colon", root.display()))
}

/// Whether a shared library lies in a directory whose file name passes.
pub(super) fn holds_library(directory: &Path, passes: impl Fn(&str) -> bool) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        (name.ends_with(".so") || name.contains(".so.")) && passes(&name)
    })
}

/// `x86_64-linux-gnu` and its like.
fn is_architecture(path: &Path) -> bool {
    path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().contains("-linux-"))
}

/// The tree's own copy of the dynamic linker that a program asks for.
pub(super) fn dynamic_linker(root: &Path, program: &Path) -> Result<PathBuf, String> {
    // The interpreter's name lies right behind the headers; of a QEMU's 30 MB no more is wanted at every start.
    let mut data = Vec::new();
    let head = File::open(program).and_then(|file| file.take(64 << 10).read_to_end(&mut data));
    head.map_err(|error| format!("{}: {error}", program.display()))?;
    let wanted =
        interpreter(&data).ok_or_else(|| format!("{}: names no dynamic linker", program.display()))?;
    let name = wanted.file_name().unwrap_or_default().to_owned();
    // Its usual place is a link with an absolute target, which leads out of the tree; the file itself is what is wanted.
    directories(root)
        .into_iter()
        .map(|directory| directory.join(&name))
        .find(|file| fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file()))
        .ok_or_else(|| format!("{} is not among the packages", name.to_string_lossy()))
}

/// The PT_INTERP segment of an ELF.
fn interpreter(data: &[u8]) -> Option<PathBuf> {
    fn of<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> Option<PathBuf> {
        let header = H::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let segment = header
            .program_headers(endian, data)
            .ok()?
            .iter()
            .find(|segment| segment.p_type(endian) == elf::PT_INTERP)?;
        let bytes = segment.data(endian, data).ok()?;
        let text = bytes.split(|&byte| byte == 0).next()?;
        Some(PathBuf::from(std::str::from_utf8(text).ok()?))
    }
    of::<elf::FileHeader64<Endianness>>(data).or_else(|| of::<elf::FileHeader32<Endianness>>(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_by_architecture() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["usr/lib/x86_64-linux-gnu/qemu", "lib/x86_64-linux-gnu", "usr/lib/systemd", "lib64"]
        {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let found = directories(root.path());
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["usr/lib/x86_64-linux-gnu", "usr/lib", "lib/x86_64-linux-gnu", "lib", "lib64"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_says_which_linker_it_wants() {
        // This test is itself a dynamically linked program.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let linker = interpreter(&own).unwrap();
        assert!(
            linker.is_absolute() && linker.file_name().unwrap().to_str().unwrap().starts_with("ld"),
            "{linker:?}"
        );
        assert_eq!(interpreter(b"\x7fELF"), None);
        assert_eq!(interpreter(b""), None);
        assert_eq!(interpreter(&own[..200]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_linker_is_the_trees_own_and_no_link_out_of_it() {
        let root = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let wanted = interpreter(&fs::read(&own).unwrap()).unwrap();
        fs::create_dir_all(root.path().join("lib64")).unwrap();
        std::os::unix::fs::symlink(&wanted, root.path().join("lib64").join(wanted.file_name().unwrap()))
            .unwrap();
        let error = dynamic_linker(root.path(), &own).unwrap_err();
        assert!(error.ends_with("is not among the packages"), "{error}");
        let real = root.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join(wanted.file_name().unwrap()), "linker").unwrap();
        assert_eq!(dynamic_linker(root.path(), &own).unwrap(), real.join(wanted.file_name().unwrap()));
    }
}
