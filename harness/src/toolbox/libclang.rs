//! libclang, with which bindgen reads C headers.
//!
//! bindgen's build scripts load it into themselves, so unlike QEMU it cannot bring a C library of its own: a fetched one
//! must come from this machine's release, and bring only the libraries that the machine lacks. Where that is not to be
//! had, the wheel that the Python package index carries is one file that needs nothing but a C library.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::advice::{self, Tool};
use super::apt::{self, Apt, Area, Installed};
use super::cache::Recipe;
use super::command::{dying_with_us, run_to_success, run_within};
use super::error::Error;
use super::host::on_path;
use super::libraries;
use super::progress::Task;
use super::version::Version;
use super::{Found, Origin, Toolbox};

/// The oldest libclang that was tested.
pub(super) const OLDEST_LIBCLANG: Version = Version::new(14, 0, 0);

/// The variable by which bindgen is told; what it says comes first here as well.
const VARIABLE: &str = "LIBCLANG_PATH";

/// A libclang that programs of this machine can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libclang {
    /// The directory that holds it: the value for `LIBCLANG_PATH`.
    pub directory: PathBuf,
    /// The library itself.
    pub library: PathBuf,
    /// Its version, where its name or its package tells.
    pub version: Option<Version>,
    /// Whose it is.
    pub origin: Origin,
    /// Directories of libraries that it needs and the machine lacks.
    pub library_path: Vec<PathBuf>,
}

impl Libclang {
    /// The environment variables that a process needs to load it, for a build that uses bindgen: `LIBCLANG_PATH`, and
    /// `LD_LIBRARY_PATH` where it brings libraries of its own (before what that variable says already).
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![(VARIABLE, self.directory.clone().into_os_string())];
        if !self.library_path.is_empty() {
            let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
            let all = self
                .library_path
                .iter()
                .cloned()
                .chain(env::split_paths(&before).filter(|path| path.is_absolute()));
            if let Ok(path) = env::join_paths(all) {
                variables.push(("LD_LIBRARY_PATH", path));
            }
        }
        variables
    }
}

/// The wheel: version, and the digest of the one file for this kind of machine.
const WHEEL: &str = "libclang==18.1.1";
const WHEEL_VERSION: Version = Version::new(18, 1, 1);
const WHEEL_SHA256: &str = "c533091d8a3bbf7460a00cb6c1a71da93bffe148f172c7d03b1c31fbf8aa2a0b";

impl Toolbox {
    /// A libclang: the one `LIBCLANG_PATH` names, the machine's, or one fetched now.
    pub fn libclang(&self) -> Result<Libclang, Error> {
        let found = self.find_libclang()?;
        found.good.map_or_else(|| self.fetch_libclang(&found.refused), Ok)
    }

    /// A libclang that is already here.
    pub fn find_libclang(&self) -> Result<Found<Libclang>, Error> {
        if let Some(chosen) = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
            return match chosen_libclang(&chosen) {
                Ok(libclang) => Ok(Found { good: Some(libclang), refused: Vec::new() }),
                Err(problem) => Err(Error::Override {
                    origin: VARIABLE,
                    path: chosen,
                    problem,
                    advice: "give another, or unset it to have one found".into(),
                }),
            };
        }
        let mut refused = Vec::new();
        let mut best: Option<Libclang> = None;
        for directory in system_directories(Path::new("/")) {
            for (library, version) in libraries_in(&directory) {
                if version.is_none_or(|version| version < OLDEST_LIBCLANG) {
                    refused.push(format!(
                        "{}: older than {OLDEST_LIBCLANG}, or of unknown version",
                        library.display()
                    ));
                } else if best.as_ref().is_none_or(|best| version > best.version) {
                    let directory = directory.clone();
                    best = Some(Libclang {
                        directory,
                        library,
                        version,
                        origin: Origin::System,
                        library_path: Vec::new(),
                    });
                }
            }
        }
        let good = best.or_else(|| self.cached_libclang());
        Ok(Found { good, refused })
    }

    fn cached_libclang(&self) -> Option<Libclang> {
        [self.package_recipe(), wheel_recipe()]
            .iter()
            .find_map(|recipe| in_tree(&self.cache.find(recipe)?.root))
    }

    /// From the release that this machine runs: an upgraded machine needs another.
    fn package_recipe(&self) -> Recipe {
        let release = self.host.codename.clone().unwrap_or_default();
        Recipe { thing: "libclang".into(), ingredients: vec!["libclang1".into(), release] }
    }

    fn fetch_libclang(&self, refused: &[String]) -> Result<Libclang, Error> {
        let mut problems = refused.to_vec();
        match apt::areas(&self.host) {
            Err(problem) => problems.push(problem),
            Ok(areas) => {
                for area in areas.iter().filter(|area| area.native) {
                    let built = self.build("libclang", &self.package_recipe(), |content, task| {
                        self.packages_of(area, content, task)
                    });
                    match built {
                        Ok(entry) => problems.extend(match in_tree(&entry.root) {
                            Some(libclang) => return Ok(libclang),
                            None => Some("the package holds no libclang".to_owned()),
                        }),
                        Err(error) => problems.push(error.to_string()),
                    }
                }
            }
        }
        match wheel_possible() {
            Err(problem) => problems.push(problem),
            Ok(python) => match self.build("libclang", &wheel_recipe(), |content, _| wheel(&python, content))
            {
                Ok(entry) => problems.extend(match in_tree(&entry.root) {
                    Some(libclang) => return Ok(libclang),
                    None => Some("the wheel holds no libclang".to_owned()),
                }),
                Err(error) => problems.push(error.to_string()),
            },
        }
        Err(Error::Unavailable {
            tool: format!("libclang {OLDEST_LIBCLANG} or newer"),
            problem: problems.join("; "),
            advice: advice::sentence(&Tool::Libclang, &self.host),
        })
    }

    /// The oldest good version that the release has: of those that work, the one that has been worked with longest.
    fn packages_of(&self, area: &Area, content: &Path, task: &mut Task) -> Result<String, Error> {
        let apt = Apt::open(&self.cache, area, task)?;
        apt.update(task)?;
        let mut offered: Vec<(u32, String)> = apt
            .names("^libclang1-[0-9]+$")?
            .into_iter()
            .filter_map(|name| Some((name.strip_prefix("libclang1-")?.parse().ok()?, name)))
            .filter(|(major, _)| *major >= OLDEST_LIBCLANG.major)
            .collect();
        offered.sort();
        let mut problem = format!("it has no libclang1 of version {} or newer", OLDEST_LIBCLANG.major);
        for (_, name) in &offered {
            for suite in &area.targets {
                if let Err(error) = apt.resolve(suite, Installed::OnThisMachine, &[name]) {
                    problem = error.to_string();
                    continue;
                }
                let packages = apt.fetch(suite, Installed::OnThisMachine, &[name], content, task)?;
                match in_tree(content)
                    .ok_or_else(|| "the package holds no libclang".to_owned())
                    .and_then(|found| loads(&found))
                {
                    Ok(()) => {
                        let version = packages.into_iter().find(|package| package.name == *name);
                        return Ok(version.map_or_else(|| name.clone(), |package| package.version));
                    }
                    Err(reason) => problem = reason,
                }
                let clear = fs::remove_dir_all(content).and_then(|()| fs::create_dir(content));
                clear.map_err(Error::file("empty", content))?;
            }
        }
        Err(Error::Unsuitable { tool: "libclang".into(), origin: area.targets.join(", "), problem })
    }
}

fn chosen_libclang(chosen: &Path) -> Result<Libclang, String> {
    let (directory, found) = if chosen.is_file() {
        let directory = chosen.parent().unwrap_or(Path::new("/")).to_owned();
        (directory, Some((chosen.to_owned(), version_of(chosen))))
    } else if chosen.is_dir() {
        (chosen.to_owned(), libraries_in(chosen).into_iter().max_by_key(|(_, version)| *version))
    } else {
        return Err("no such file or directory".into());
    };
    let (library, version) = found.ok_or("there is no libclang in it")?;
    // A library whose name tells no version is taken at the user's word.
    if let Some(version) = version.filter(|version| *version < OLDEST_LIBCLANG) {
        return Err(format!(
            "libclang {version} is older than {OLDEST_LIBCLANG}, the oldest that was tested"
        ));
    }
    Ok(Libclang { directory, library, version, origin: Origin::Chosen, library_path: Vec::new() })
}

/// Where distributions keep it.
fn system_directories(root: &Path) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = libraries::directories(root)
        .into_iter()
        .filter(|path| !path.ends_with("lib") || path.ends_with("usr/lib"))
        .collect();
    directories.push(root.join("usr/local/lib"));
    // Debian: usr/lib/llvm-14/lib. Alpine: usr/lib/llvm18/lib. Gentoo: usr/lib/llvm/18/lib64. Fedora: usr/lib64/llvm18/lib.
    for base in ["usr/lib", "usr/lib64", "usr/lib/llvm"] {
        for child in fs::read_dir(root.join(base)).into_iter().flatten().flatten() {
            let name = child.file_name().to_string_lossy().into_owned();
            if name.starts_with("llvm") || base.ends_with("llvm") {
                directories.extend(["lib", "lib64"].map(|lib| child.path().join(lib)));
            }
        }
    }
    directories.retain(|directory| directory.is_dir());
    directories.sort();
    directories
}

/// The libclangs in a directory, with their versions.
fn libraries_in(directory: &Path) -> Vec<(PathBuf, Option<Version>)> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = files
        .filter(|path| {
            path.file_name().is_some_and(|name| is_libclang(&name.to_string_lossy())) && path.is_file()
        })
        .map(|path| (version_of(&path), path))
        .map(|(version, path)| (path, version))
        .collect();
    found.sort();
    found
}

/// A name by which bindgen looks for it: `libclang.so`, `libclang.so.18.1`, `libclang-14.so.1`.
fn is_libclang(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libclang") else { return false };
    let rest = match rest.strip_prefix('-') {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned(),
        None => rest.trim_start_matches('.').to_owned(),
    };
    rest == "so" || rest.starts_with("so.") || rest == "dylib"
}

/// The version in the name of the file that a name leads to.
fn version_of(library: &Path) -> Option<Version> {
    let file = fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let name = file.file_name()?.to_string_lossy().into_owned();
    let rest = name.strip_prefix("libclang")?;
    // `-14.so.14.0.6` has it twice, the longer one last; `-14.so.1` has it once.
    let after_so = rest.split_once(".so.").and_then(|(_, version)| version.parse::<Version>().ok());
    let after_dash = rest
        .strip_prefix('-')
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|major| major.parse::<Version>().ok());
    match (after_dash, after_so) {
        (Some(dash), Some(so)) if so.major == dash.major => Some(so),
        (Some(dash), _) => Some(dash),
        (None, so) => so,
    }
}

/// The libclang in a tree of unpacked packages, or of the unpacked wheel.
fn in_tree(root: &Path) -> Option<Libclang> {
    let library_path = libraries::directories(root);
    let found = |directory: &PathBuf| {
        let (library, version) = libraries_in(directory).pop()?;
        // The wheel's file does not say; there is only the one.
        let version = version.or(Some(WHEEL_VERSION));
        let brought =
            library_path.iter().filter(|path| libraries::holds_library(path, |name| !is_libclang(name)));
        let library_path = brought.cloned().collect();
        Some(Libclang { directory: directory.clone(), library, version, origin: Origin::Cache, library_path })
    };
    library_path.iter().find_map(found)
}

/// Whether the dynamic linker finds all that it needs. `ldd` asks it, without loading anything into us.
fn loads(libclang: &Libclang) -> Result<(), String> {
    let Some(ldd) = on_path("ldd").next() else { return Ok(()) };
    let mut command = dying_with_us(ldd);
    command.arg(&libclang.library).envs(libclang.environment());
    let output =
        run_within("ldd", &mut command, Duration::from_secs(20)).map_err(|error| error.to_string())?;
    let missing: Vec<&str> = output
        .stdout
        .lines()
        .chain(output.stderr.lines())
        .filter(|line| line.contains("not found"))
        .map(str::trim)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("it cannot be loaded here: {}", missing.join(", "))) }
}

fn wheel_recipe() -> Recipe {
    Recipe { thing: "libclang".into(), ingredients: vec![WHEEL.into(), WHEEL_SHA256.into()] }
}

/// The Python that could fetch the wheel, or why none can.
pub(super) fn wheel_possible() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err("the Python wheel of libclang is for x86-64 Linux with glibc".into());
    }
    let python = on_path("python3")
        .next()
        .ok_or("python3 is not on this machine, which could fetch libclang's wheel")?;
    let mut command = dying_with_us(&python);
    let output =
        run_within("python3 -m pip", command.args(["-m", "pip", "--version"]), Duration::from_secs(20));
    match output {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err("python3 has no pip, which could fetch libclang's wheel".into()),
    }
}

/// Fetches the wheel with pip, which checks its digest, and keeps the library.
fn wheel(python: &Path, content: &Path) -> Result<String, Error> {
    let scratch = content.join("wheel");
    let library = content.join("usr/lib");
    for directory in [&scratch, &library] {
        fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    }
    let requirements = scratch.join("requirements.txt");
    fs::write(&requirements, format!("{WHEEL} --hash=sha256:{WHEEL_SHA256}\n"))
        .map_err(Error::file("write", &requirements))?;
    let mut download = dying_with_us(python);
    download.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]);
    download.args(["--only-binary", ":all:", "--dest"]).arg(&scratch).arg("--requirement").arg(&requirements);
    run_to_success("pip download", &mut download)?;
    let wheel = fs::read_dir(&scratch)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Error::Command {
            program: "pip download".into(),
            problem: "it brought no wheel".into(),
        })?;
    let mut unpack = dying_with_us(python);
    unpack.args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(&scratch);
    run_to_success("python3 -m zipfile", &mut unpack)?;
    let packed = scratch.join(format!("libclang-{WHEEL_VERSION}.data/platlib/clang/native/libclang.so"));
    fs::rename(&packed, library.join("libclang.so")).map_err(Error::file("move", &packed))?;
    fs::remove_dir_all(&scratch).map_err(Error::file("remove", &scratch))?;
    Ok(WHEEL_VERSION.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_library() {
        for name in
            ["libclang.so", "libclang.so.18.1", "libclang-14.so.1", "libclang-14.so", "libclang.dylib"]
        {
            assert!(is_libclang(name), "{name}");
        }
        for name in [
            "libclang-cpp.so.14",
            "libclangAST.so",
            "libclang.a",
            "libclang",
            "libclang_rt.so",
            "libLLVM-14.so.1",
        ] {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn versions_in_names() {
        let cases = [
            ("libclang-14.so.14.0.6", Some(Version::new(14, 0, 6))),
            ("libclang-14.so.1", Some(Version::new(14, 0, 0))),
            ("libclang.so.18.1", Some(Version::new(18, 1, 0))),
            ("libclang-19.so.19", Some(Version::new(19, 0, 0))),
            ("libclang.so.1", Some(Version::new(1, 0, 0))),
            ("libclang.so", None),
        ];
        for (name, version) in cases {
            assert_eq!(version_of(&Path::new("/nonexistent").join(name)), version, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_has_the_version_of_its_target() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib/llvm-16/lib");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("libclang-16.so.16.0.6"), "").unwrap();
        std::os::unix::fs::symlink("libclang-16.so.16.0.6", directory.join("libclang.so")).unwrap();
        assert!(system_directories(root.path()).contains(&directory));
        let found = libraries_in(&directory);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(_, version)| *version == Some(Version::new(16, 0, 6))), "{found:?}");
    }

    #[test]
    fn what_the_user_names_must_do() {
        let directory = tempfile::tempdir().unwrap();
        assert!(chosen_libclang(&directory.path().join("missing")).unwrap_err().contains("no such"));
        assert!(chosen_libclang(directory.path()).unwrap_err().contains("no libclang"));
        fs::write(directory.path().join("libclang-11.so.1"), "").unwrap();
        assert!(chosen_libclang(directory.path()).unwrap_err().contains("older than 14.0.0"));
        fs::write(directory.path().join("libclang-15.so.1"), "").unwrap();
        let chosen = chosen_libclang(directory.path()).unwrap();
        assert_eq!((chosen.version, chosen.origin), (Some(Version::new(15, 0, 0)), Origin::Chosen));
        let file = chosen_libclang(&directory.path().join("libclang-15.so.1")).unwrap();
        assert_eq!(file.directory, directory.path());
    }

    #[test]
    fn libraries_of_its_own_come_before_the_users() {
        let mut libclang = Libclang {
            directory: "/d".into(),
            library: "/d/libclang.so".into(),
            version: None,
            origin: Origin::Cache,
            library_path: Vec::new(),
        };
        assert_eq!(libclang.environment(), [(VARIABLE, OsString::from("/d"))]);
        libclang.library_path = vec!["/tree/usr/lib".into()];
        let environment = libclang.environment();
        assert!(environment[1].1.to_string_lossy().starts_with("/tree/usr/lib"), "{environment:?}");
    }
}
