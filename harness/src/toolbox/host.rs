//! Which system this is: its distribution, and where its package mirror and keyring are.
//!
//! Read from `os-release`, as every tool that must know does. Nothing here runs a program.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

/// Distributions by the package manager that a person would install a tool with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Debian.
    Debian,
    /// Ubuntu and what is built on it.
    Ubuntu,
    /// Fedora.
    Fedora,
    /// Arch Linux and what is built on it.
    Arch,
    /// openSUSE.
    Suse,
    /// Alpine.
    Alpine,
    /// NixOS.
    Nix,
    /// macOS with Homebrew.
    MacOs,
    /// Anything else.
    Other,
}

impl Distribution {
    /// Those for which the command that installs a tool is known.
    pub const ALL: [Self; 8] = [
        Self::Debian,
        Self::Ubuntu,
        Self::Fedora,
        Self::Arch,
        Self::Suse,
        Self::Alpine,
        Self::Nix,
        Self::MacOs,
    ];

    /// Its name on a command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
            Self::Fedora => "fedora",
            Self::Arch => "arch",
            Self::Suse => "suse",
            Self::Alpine => "alpine",
            Self::Nix => "nix",
            Self::MacOs => "macos",
            Self::Other => "other",
        }
    }

    /// From the ID words of `os-release`, the closest first.
    fn from_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        ids.into_iter()
            .find_map(|id| match id {
                "debian" => Some(Self::Debian),
                "ubuntu" => Some(Self::Ubuntu),
                "fedora" | "rhel" | "centos" => Some(Self::Fedora),
                "arch" | "archlinux" => Some(Self::Arch),
                "suse" | "opensuse" | "opensuse-tumbleweed" | "opensuse-leap" => Some(Self::Suse),
                "alpine" => Some(Self::Alpine),
                "nixos" => Some(Self::Nix),
                _ => None,
            })
            .unwrap_or(Self::Other)
    }
}

/// Not the name of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is none of debian, ubuntu, fedora, arch, suse, alpine, nix, macos")]
pub struct DistributionError(String);

impl FromStr for Distribution {
    type Err = DistributionError;

    fn from_str(name: &str) -> Result<Self, DistributionError> {
        Self::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| DistributionError(name.to_owned()))
    }
}

/// The system that Squall runs on.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// Its distribution.
    pub distribution: Distribution,
    /// What it calls itself, for people.
    pub name: String,
    /// The release's code name (`bookworm`), where it has one.
    pub codename: Option<String>,
}

impl Host {
    /// The system that this process runs on.
    pub fn detect() -> Self {
        if cfg!(target_os = "macos") {
            return Self { distribution: Distribution::MacOs, name: "macOS".into(), codename: None };
        }
        let text = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .unwrap_or_default();
        Self::from_os_release(&text)
    }

    fn from_os_release(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
        };
        let id = field("ID").unwrap_or_default();
        let like = field("ID_LIKE").unwrap_or_default();
        // A derivative such as Mint has a code name of its own and says beside it whose packages it takes.
        let codename = field("UBUNTU_CODENAME")
            .or_else(|| field("DEBIAN_CODENAME"))
            .or_else(|| field("VERSION_CODENAME"));
        Self {
            distribution: Distribution::from_ids(std::iter::once(id.as_str()).chain(like.split_whitespace())),
            name: field("PRETTY_NAME").unwrap_or_else(|| env::consts::OS.to_owned()),
            codename: codename.filter(|name| !name.is_empty()),
        }
    }
}

/// The first program of that name on the search path, and every further one behind it.
pub(super) fn on_path(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let name = name.to_owned();
    env::split_paths(&path)
        .map(move |directory| directory.join(&name))
        .filter(|file| is_executable(file))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_names_itself() {
        let host = Host::from_os_release(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n",
        );
        assert_eq!(host.distribution, Distribution::Debian);
        assert_eq!(host.codename.as_deref(), Some("bookworm"));
        assert_eq!(host.name, "Debian GNU/Linux 12 (bookworm)");
    }

    #[test]
    fn a_derivative_counts_as_the_closest_relative_it_names() {
        let mint = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n";
        let host = Host::from_os_release(mint);
        assert_eq!(host.distribution, Distribution::Ubuntu);
        assert_eq!(host.codename.as_deref(), Some("noble"));
        let rocky = Host::from_os_release("ID='rocky'\nID_LIKE='rhel centos fedora'\n");
        assert_eq!(rocky.distribution, Distribution::Fedora);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for distribution in Distribution::ALL {
            assert_eq!(distribution.name().parse(), Ok(distribution));
            assert_eq!(serde_json::to_value(distribution).unwrap(), distribution.name());
        }
        assert!("beos".parse::<Distribution>().unwrap_err().to_string().contains("'beos' is none of debian"));
    }

    #[test]
    fn an_unknown_system_is_no_error() {
        let host = Host::from_os_release("");
        assert_eq!(host.distribution, Distribution::Other);
        assert_eq!(host.codename, None);
    }
}
