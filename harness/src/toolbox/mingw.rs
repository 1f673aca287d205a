//! The open headers of the Windows driver kit.
//!
//! mingw-w64 has written its own from public documentation, `ddk/wdm.h` and the rest. Microsoft's are not to be
//! redistributed; with these a driver builds on a machine that has never seen Windows.

use std::fs;
use std::path::{Path, PathBuf};

use super::advice::{self, Tool};
use super::cache::Recipe;
use super::error::Error;
use super::version::Version;
use super::{Found, Origin, Toolbox};

/// The oldest mingw-w64 whose headers were tested.
pub(super) const OLDEST_MINGW: Version = Version::new(10, 0, 0);

/// The headers, and the import libraries that go with them.
const PACKAGES: [&str; 2] = ["mingw-w64-common", "mingw-w64-x86-64-dev"];

/// mingw-w64's headers and import libraries for x86-64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mingw {
    /// Headers; those of the driver kit are in its `ddk`.
    pub include: PathBuf,
    /// Import libraries: `libntoskrnl.a` and the rest.
    pub lib: PathBuf,
    /// Version of mingw-w64.
    pub version: Version,
    /// Whose it is.
    pub origin: Origin,
}

/// Where distributions keep headers and libraries, below the root of their files.
const PLACES: [(&str, &str); 4] = [
    // Debian: the headers are shared between targets, the libraries are not.
    ("usr/share/mingw-w64/include", "usr/x86_64-w64-mingw32/lib"),
    // Fedora, openSUSE.
    ("usr/x86_64-w64-mingw32/sys-root/mingw/include", "usr/x86_64-w64-mingw32/sys-root/mingw/lib"),
    // Arch, Alpine.
    ("usr/x86_64-w64-mingw32/include", "usr/x86_64-w64-mingw32/lib"),
    // Homebrew.
    (
        "opt/homebrew/opt/mingw-w64/toolchain-x86_64/x86_64-w64-mingw32/include",
        "opt/homebrew/opt/mingw-w64/toolchain-x86_64/x86_64-w64-mingw32/lib",
    ),
];

impl Toolbox {
    /// mingw-w64's headers: the machine's, or fetched now.
    pub fn mingw(&self) -> Result<Mingw, Error> {
        let found = self.find_mingw();
        if let Some(mingw) = found.good {
            return Ok(mingw);
        }
        let unavailable = |error: String| Error::Unavailable {
            tool: format!("mingw-w64 headers {OLDEST_MINGW} or newer"),
            problem: found.refused.iter().cloned().chain([error]).collect::<Vec<_>>().join("; "),
            advice: advice::sentence(&Tool::Mingw, &self.host),
        };
        let entry =
            self.packages("mingw-w64 headers", &recipe(), &PACKAGES).map_err(|error| match error {
                Error::Unavailable { problem, .. } => unavailable(problem),
                other => other,
            })?;
        in_root(&entry.root, Origin::Cache)
            .map_err(|problem| unavailable(problem.unwrap_or_else(|| "it holds no headers".into())))
    }

    /// mingw-w64's headers that are already here.
    pub fn find_mingw(&self) -> Found<Mingw> {
        let mut refused = Vec::new();
        let fetched = || self.cache.find(&recipe()).map(|entry| entry.root);
        for (root, origin) in [(Some(PathBuf::from("/")), Origin::System), (fetched(), Origin::Cache)] {
            match root.map(|root| in_root(&root, origin)) {
                Some(Ok(mingw)) => return Found { good: Some(mingw), refused },
                Some(Err(Some(problem))) => refused.push(problem),
                Some(Err(None)) | None => {}
            }
        }
        Found { good: None, refused }
    }
}

fn recipe() -> Recipe {
    Recipe { thing: "mingw-w64".into(), ingredients: PACKAGES.map(str::to_owned).to_vec() }
}

/// The headers below a root; an error without text where there are none at all.
fn in_root(root: &Path, origin: Origin) -> Result<Mingw, Option<String>> {
    let mut problem = None;
    for (include, lib) in PLACES {
        let (include, lib) = (root.join(include), root.join(lib));
        if !include.is_dir() {
            continue;
        }
        match check(&include, &lib) {
            Ok(version) => return Ok(Mingw { include, lib, version, origin }),
            Err(reason) => problem = Some(format!("{}: {reason}", include.display())),
        }
    }
    Err(problem)
}

fn check(include: &Path, lib: &Path) -> Result<Version, String> {
    if !include.join("ddk/wdm.h").is_file() {
        return Err("has no ddk/wdm.h".into());
    }
    let text = fs::read_to_string(include.join("_mingw_mac.h")).unwrap_or_default();
    let version = version(&text).ok_or("does not say its version")?;
    if version < OLDEST_MINGW {
        return Err(format!("mingw-w64 {version} is older than {OLDEST_MINGW}, the oldest that was tested"));
    }
    if !lib.join("libntoskrnl.a").is_file() {
        return Err(format!("no libntoskrnl.a in {}", lib.display()));
    }
    Ok(version)
}

/// From the macros of `_mingw_mac.h`.
fn version(text: &str) -> Option<Version> {
    let number = |name: &str| {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "#define" && words.next()? == name).then(|| words.next()?.parse().ok())?
        })
    };
    Some(Version::new(number("__MINGW64_VERSION_MAJOR")?, number("__MINGW64_VERSION_MINOR")?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(root: &Path, major: u32) -> PathBuf {
        let include = root.join("usr/share/mingw-w64/include");
        fs::create_dir_all(include.join("ddk")).unwrap();
        let text = format!("#define __MINGW64_VERSION_MAJOR {major}\n#define __MINGW64_VERSION_MINOR 1\n");
        fs::write(include.join("_mingw_mac.h"), text).unwrap();
        include
    }

    #[test]
    fn complete_headers_are_taken_and_others_say_what_they_lack() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(in_root(root.path(), Origin::System), Err(None));
        let include = headers(root.path(), 12);
        let problem = |result: Result<Mingw, Option<String>>| result.unwrap_err().unwrap();
        assert!(problem(in_root(root.path(), Origin::System)).ends_with("has no ddk/wdm.h"));
        fs::write(include.join("ddk/wdm.h"), "").unwrap();
        assert!(problem(in_root(root.path(), Origin::System)).contains("no libntoskrnl.a in "));
        let lib = root.path().join("usr/x86_64-w64-mingw32/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libntoskrnl.a"), "").unwrap();
        let mingw = in_root(root.path(), Origin::System).unwrap();
        assert_eq!((mingw.version, mingw.include, mingw.lib), (Version::new(12, 1, 0), include, lib));
    }

    #[test]
    fn headers_that_are_too_old_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let include = headers(root.path(), 7);
        fs::write(include.join("ddk/wdm.h"), "").unwrap();
        let problem = in_root(root.path(), Origin::System).unwrap_err().unwrap();
        assert!(problem.contains("mingw-w64 7.1.0 is older than 10.0.0"), "{problem}");
    }

    #[test]
    fn a_version_needs_both_numbers() {
        assert_eq!(version("#define __MINGW64_VERSION_MAJOR 10\n"), None);
        assert_eq!(version("#define __MINGW64_VERSION_MAJOR\n#define __MINGW64_VERSION_MINOR 0\n"), None);
        assert_eq!(version(""), None);
    }
}
