//! Debian packages without root.
//!
//! apt does not need to be root to resolve, download and *verify* packages; it only needs directories of its own. So
//! every call here runs the machine's apt-get with a private state directory, cache and list of sources, and with the
//! distribution's archive keyring: the release files are signed, they vouch for the package lists, and those for every
//! package. `dpkg-deb -x` then unpacks a package without installing it, that is, without running any of its scripts.
//!
//! Two views of what is installed matter. With an *empty* status apt brings everything down to the C library, which makes
//! a tree that runs beside the system through its own dynamic linker. With the *machine's* status it brings only what is
//! missing, for a library that programs of this machine are to load.

mod sources;
mod suites;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{iter, thread};

use super::cache::{Cache, Lock};
use super::command::{dying_with_us, run, run_to_success};
use super::error::Error;
use super::host::{Host, on_path};
use super::progress::Task;
pub(super) use suites::Area;

/// The areas that this machine can fetch from, the preferred first, or why it cannot.
pub(super) fn areas(host: &Host) -> Result<Vec<Area>, String> {
    if let Some(missing) =
        ["apt-get", "dpkg-deb"].into_iter().find(|program| on_path(program).next().is_none())
    {
        return Err(format!("{missing} is not on this machine, so Debian packages cannot be fetched"));
    }
    let areas = suites::areas(host, &sources::read(Path::new("/etc/apt")));
    if areas.is_empty() {
        return Err(format!("the apt sources of this machine ({}) name no mirror of its release", host.name));
    }
    Ok(areas)
}

/// What apt is told is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Installed {
    /// Nothing.
    Nothing,
    /// What is.
    OnThisMachine,
}

/// A package that apt would download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    file: String,
    size: u64,
}

/// A private apt for one area, in one process's hands.
///
/// Its directory is no cache entry: apt itself decides what in it is whole, so that a download which was interrupted goes on
/// where it stopped.
pub(super) struct Apt<'a> {
    area: &'a Area,
    directory: PathBuf,
    _lock: Lock,
}

/// How long package lists are taken for current.
const LISTS_KEEP: Duration = Duration::from_secs(3600);

/// Options that hold for every call. The machine's own configuration files are left out, because they carry hooks for the
/// system's package database; what they say about reaching the mirror is copied.
const OPTIONS: &str = r#"
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourceparts "/dev/null";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
Debug::NoLocking "true";
"#;

/// What of the machine's configuration is about reaching the mirror.
const KEPT_OPTIONS: [&str; 5] = [
    "Acquire::http",
    "Acquire::ftp",
    "Acquire::ForceIPv",
    "Acquire::Check-Valid-Until",
    "Acquire::Queue-Mode",
];

impl<'a> Apt<'a> {
    /// Waits for its turn and prepares the directories.
    pub(super) fn open(cache: &Cache, area: &'a Area, task: &mut Task) -> Result<Self, Error> {
        let directory = cache.directory("apt").join(&area.name);
        for part in ["lists/partial", "archives/partial", "no-archives/partial"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        let lock = match Lock::try_take(&directory)? {
            Some(lock) => lock,
            None => {
                task.say("waiting for another squall that is fetching packages");
                Lock::take(&directory)?
            }
        };
        write(&directory.join("no-status"), "")?;
        write(&directory.join("apt.conf"), &(OPTIONS.to_owned() + &reaching_the_mirror()))?;
        Ok(Self { area, directory, _lock: lock })
    }

    /// Brings the package lists up to date, unless they are.
    pub(super) fn update(&self, task: &mut Task) -> Result<(), Error> {
        let stamp = self.directory.join("updated");
        let lists = self.area.lists(Path::exists);
        let fresh = fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < LISTS_KEEP));
        if fresh
            && let Ok(current) = fs::read_to_string(&stamp)
            && lists.contains(&current)
        {
            return write(&self.sources(), &current);
        }
        task.say(format!("package lists of {}", self.area.name));
        let mut first_error = None;
        for list in lists {
            write(&self.sources(), &list)?;
            let output =
                run("apt-get update", self.apt_get(Installed::Nothing).args(["-qq", "update"]), |_| ())?;
            // Where a list could not be fetched, apt-get warns, uses an old one and is content; we are not.
            if output.status.success() && !output.stderr.contains("Failed to fetch") {
                return write(&stamp, &list);
            }
            first_error.get_or_insert(output.failure("apt-get update"));
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Forgets that the lists are current: the mirror no longer has what they name.
    fn expire(&self) {
        let _ = fs::remove_file(self.directory.join("updated"));
    }

    /// The packages that an installation from a suite would bring.
    pub(super) fn resolve(
        &self,
        suite: &str,
        installed: Installed,
        packages: &[&str],
    ) -> Result<Vec<Package>, Error> {
        let mut command = self.apt_get(installed);
        // Packages that an interrupted fetch has left here would not be named.
        command
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", self.directory.join("no-archives").display()));
        command.args(["-qq", "-y", "--print-uris", "-t", suite, "install"]).args(packages);
        let output = run_to_success("apt-get install", &mut command)?;
        Ok(output.stdout.lines().filter_map(Package::parse).collect())
    }

    /// Names of packages that match a pattern, as apt-cache searches.
    pub(super) fn names(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let mut command = self.program("apt-cache", Installed::Nothing);
        let output = run_to_success("apt-cache search", command.args(["search", "--names-only", pattern]))?;
        Ok(output
            .stdout
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    /// Downloads packages and unpacks them into one tree. Answers with what was unpacked: if the mirror has moved on since
    /// the lists were read, that is newer than what had been resolved.
    pub(super) fn fetch(
        &self,
        suite: &str,
        installed: Installed,
        packages: &[&str],
        into: &Path,
        task: &mut Task,
    ) -> Result<Vec<Package>, Error> {
        let mut resolved = self.resolve(suite, installed, packages)?;
        if let Err(error) = self.download(suite, installed, packages, &resolved, task) {
            tracing::debug!(%error, "download failed, once more with current lists");
            self.expire();
            self.update(task)?;
            resolved = self.resolve(suite, installed, packages)?;
            self.download(suite, installed, packages, &resolved, task)?;
        }
        self.unpack(&resolved, into, task)?;
        for package in &resolved {
            let _ = fs::remove_file(self.archive(package));
        }
        Ok(resolved)
    }

    fn download(
        &self,
        suite: &str,
        installed: Installed,
        packages: &[&str],
        resolved: &[Package],
        task: &mut Task,
    ) -> Result<(), Error> {
        let missing = || resolved.iter().filter(|package| !self.archive(package).exists());
        let total: u64 = missing().map(|package| package.size).sum();
        let mut command = self.apt_get(installed);
        command
            .args(["-qq", "-y", "--download-only", "-o", "APT::Status-Fd=1", "-t", suite, "install"])
            .args(packages);
        let output = run("apt-get install --download-only", &mut command, |line| {
            if let Some(percent) = download_percent(line) {
                task.bytes((total as f64 * percent / 100.0) as u64, total);
            }
        })?;
        match missing().next() {
            _ if !output.status.success() => Err(output.failure("apt-get install --download-only")),
            Some(package) => Err(Error::Command {
                program: "apt-get install --download-only".into(),
                problem: format!("it did not bring {}", package.file),
            }),
            None => Ok(()),
        }
    }

    fn unpack(&self, packages: &[Package], into: &Path, task: &mut Task) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let (done, is_done) = mpsc::channel();
        let unpack_one = |package: &Package| {
            let mut command = dying_with_us("dpkg-deb");
            command.arg("-x").arg(self.archive(package)).arg(into);
            run_to_success(&format!("dpkg-deb -x {}", package.file), &mut command)
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                let (next, done, unpack_one) = (&next, done.clone(), &unpack_one);
                scope.spawn(move || {
                    for package in iter::from_fn(|| packages.get(next.fetch_add(1, Ordering::Relaxed))) {
                        if done.send((package, unpack_one(package))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            // Returning early drops the receiver, and with it the threads' reason to go on.
            for (count, (package, result)) in (1..).zip(is_done) {
                result?;
                task.pieces(count, packages.len() as u64, &format!("unpacked {}", package.name));
            }
            Ok(())
        })
    }

    fn archive(&self, package: &Package) -> PathBuf {
        self.directory.join("archives").join(&package.file)
    }

    fn sources(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    fn apt_get(&self, installed: Installed) -> Command {
        self.program("apt-get", installed)
    }

    fn program(&self, program: &str, installed: Installed) -> Command {
        let mut command = dying_with_us(program);
        let status = match installed {
            Installed::Nothing => self.directory.join("no-status"),
            Installed::OnThisMachine => PathBuf::from("/var/lib/dpkg/status"),
        };
        for (option, path) in [
            ("Dir::State", self.directory.clone()),
            ("Dir::State::lists", self.directory.join("lists")),
            ("Dir::State::status", status),
            ("Dir::Cache", self.directory.clone()),
            ("Dir::Cache::archives", self.directory.join("archives")),
            ("Dir::Etc::sourcelist", self.sources()),
            ("Dir::Log", self.directory.clone()),
        ] {
            command.arg("-o").arg(format!("{option}={}", path.display()));
        }
        command.env("APT_CONFIG", self.directory.join("apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

impl Drop for Apt<'_> {
    /// apt's index of the lists is larger than they are, and made again in a second.
    fn drop(&mut self) {
        for index in ["pkgcache.bin", "srcpkgcache.bin"] {
            let _ = fs::remove_file(self.directory.join(index));
        }
    }
}

impl Package {
    /// A line of `apt-get --print-uris`: `'URI' FILE SIZE HASH`, the file being `NAME_VERSION_ARCHITECTURE.deb`.
    fn parse(line: &str) -> Option<Self> {
        let (_uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let mut words = rest.split(' ');
        let (file, size) = (words.next()?, words.next()?.parse().ok()?);
        let mut parts = file.strip_suffix(".deb")?.split('_');
        let (name, version) = (parts.next()?, parts.next()?);
        // The file goes into a path of ours; apt would never write another kind.
        if name.is_empty() || file.contains('/') {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            version: version.replace("%3a", ":"),
            file: file.to_owned(),
            size,
        })
    }
}

/// The percentage in a line that apt writes to its status descriptor while it downloads: `dlstatus:3:12.5:Retrieving...`.
fn download_percent(line: &str) -> Option<f64> {
    let percent: f64 = line.strip_prefix("dlstatus:")?.split(':').nth(1)?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent)
}

/// The machine's settings about proxies and protocols, in the format in which apt reads them.
fn reaching_the_mirror() -> String {
    let dump = run_to_success("apt-config dump", Command::new("apt-config").arg("dump"));
    let dump = dump.map(|output| output.stdout).unwrap_or_default();
    let kept = dump.lines().filter(|line| KEPT_OPTIONS.iter().any(|option| line.starts_with(option)));
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_to_download() {
        let line = "'http://m.example/debian/pool/main/q/qemu/qemu-system-x86_10.0.2%2bds-2_amd64.deb' \
                    qemu-system-x86_1%3a10.0.2+ds-2_amd64.deb 9281168 SHA256:00";
        let package = Package::parse(line).unwrap();
        assert_eq!((package.name.as_str(), package.version.as_str()), ("qemu-system-x86", "1:10.0.2+ds-2"));
        assert_eq!(
            (package.file.as_str(), package.size),
            ("qemu-system-x86_1%3a10.0.2+ds-2_amd64.deb", 9_281_168)
        );
        for line in [
            "",
            "Reading package lists...",
            "'http://m.example/x.deb'",
            "'http://m.example/x.deb' x.deb 12 MD5Sum:0",
            "'http://m.example/x.deb' ../a_1_all.deb 12 MD5Sum:0",
            "'http://m.example/x.deb' a_1_all.deb twelve MD5Sum:0",
            "'http://m.example/x.deb' _1_all.deb 12 MD5Sum:0",
        ] {
            assert_eq!(Package::parse(line), None, "{line}");
        }
    }

    #[test]
    fn how_far_a_download_is() {
        assert_eq!(download_percent("dlstatus:3:12.5:Retrieving file 3 of 92"), Some(12.5));
        for line in ["pmstatus:x:1:y", "dlstatus:3", "dlstatus:3:NaN:x", "dlstatus:3:900:x", ""] {
            assert_eq!(download_percent(line), None, "{line}");
        }
    }
}
