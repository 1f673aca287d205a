//! The kit: a folder that looks like an installed WDK, made of open parts.
//!
//! `wdk-build` finds headers and libraries below one folder, the *content root*:
//!
//! ```text
//! Include/VERSION/km        mingw-w64's ddk headers, ours over them
//! Include/VERSION/km/crt    declarations of compiler intrinsics
//! Include/VERSION/shared    mingw-w64's headers as they are
//! Lib/VERSION/km/x64        import libraries
//! ```
//!
//! Headers are links, libraries are written from `driver/imports.txt`. Beside the content root lies the edited `wdk-build` that
//! reads it. The folder's name is a digest of everything in it but the libraries: with another header cargo sees another
//! `wdk-build`, and makes the bindings anew; with another import it only links again.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use super::{error::WdkError, files, imports::ImportList, portability::Edits};

/// The kit version that the bindings are made for. Windows SDK folders are named after it.
const VERSION: &str = "10.0.22621.0";

/// Counts up when this module lays things out differently.
const LAYOUT: u32 = 1;

/// The libraries that a WDM driver links, and the module behind each. The last is the runtime of the C compiler's stack checks:
/// rustc emits none, so nothing is asked of it, and it is empty.
const LIBRARIES: [(&str, &str); 4] = [
    ("ntoskrnl.lib", "ntoskrnl.exe"),
    ("hal.lib", "HAL.dll"),
    ("wmilib.lib", "WMILIB.SYS"),
    ("BufferOverflowFastFailK.lib", ""),
];

/// An archive without members.
const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";

/// A content root and the `wdk-build` that goes with it.
#[derive(Debug)]
pub(super) struct Kit {
    folder: PathBuf,
}

impl Kit {
    /// Lays the kit out below `place`, or finds it there. `published` is asked for the source of `wdk-build` of a version.
    pub(super) fn lay_out(
        place: &Path,
        supplement: &Path,
        mingw_include: &Path,
        published: impl FnOnce(&str) -> Result<PathBuf, WdkError>,
    ) -> Result<Self, WdkError> {
        let edits = supplement.join("wdk-build-0.6.0.toml");
        let headers = ["ntifs.h", "crt/intrin.h"];
        let mut digest = DefaultHasher::new();
        (LAYOUT, VERSION, mingw_include).hash(&mut digest);
        for name in headers {
            files::read(&supplement.join("include").join(name))?.hash(&mut digest);
        }
        files::read(&edits)?.hash(&mut digest);

        let kit = Self { folder: place.join(format!("kit-{:016x}", digest.finish())) };
        if kit.wdk_build().is_dir() {
            return Ok(kit);
        }
        let include = kit.content_root().join("Include").join(VERSION);
        let kernel_mode = include.join("km");
        files::make_folder(&kernel_mode.join("crt"))?;
        link(mingw_include, &include.join("shared"))?;
        let ddk = mingw_include.join("ddk");
        for entry in fs::read_dir(&ddk).map_err(WdkError::io("list", &ddk))?.flatten() {
            link(&entry.path(), &kernel_mode.join(entry.file_name()))?;
        }
        for name in headers {
            let text = files::read(&supplement.join("include").join(name))?;
            let header = kernel_mode.join(name);
            // Never through a link: that would write into mingw-w64's own folder.
            let _ = fs::remove_file(&header);
            files::write_if_changed(&header, text.as_bytes())?;
        }
        // Last, since its presence says that the rest is there.
        let edits = Edits::read(&edits)?;
        edits.apply(&published(&edits.version)?, &kit.wdk_build())?;
        Ok(kit)
    }

    /// Writes the import libraries where they differ from the list.
    pub(super) fn write_libraries(&self, list: &ImportList) -> Result<(), WdkError> {
        let folder = self.content_root().join("Lib").join(VERSION).join("km/x64");
        files::make_folder(&folder)?;
        for (library, module) in LIBRARIES {
            let path = folder.join(library);
            let bytes = match module {
                "" => EMPTY_ARCHIVE.to_vec(),
                module => list.library(module).map_err(WdkError::io("write", &path))?,
            };
            files::write_if_changed(&path, &bytes)?;
        }
        Ok(())
    }

    /// For `WDKContentRoot`.
    pub(super) fn content_root(&self) -> PathBuf {
        self.folder.join("content")
    }

    /// For `Version_Number`.
    pub(super) fn version(&self) -> &'static str {
        VERSION
    }

    /// The edited `wdk-build`.
    pub(super) fn wdk_build(&self) -> PathBuf {
        self.folder.join("wdk-build")
    }
}

/// Makes `link` lead to `target`, whatever it was before.
fn link(target: &Path, link: &Path) -> Result<(), WdkError> {
    #[cfg(unix)]
    let made = |from: &Path| std::os::unix::fs::symlink(target, from);
    #[cfg(not(unix))]
    let made = |_: &Path| -> std::io::Result<()> { Err(std::io::ErrorKind::Unsupported.into()) };
    let fresh = files::beside(link);
    made(&fresh).and_then(|()| fs::rename(&fresh, link)).map_err(WdkError::io("link", link))
}
