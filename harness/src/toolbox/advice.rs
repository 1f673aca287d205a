//! The one command that gets a tool, by distribution: for people on machines where Squall cannot fetch it, and for those
//! who would rather have it from their own package manager.

use super::host::{Distribution, Host};

/// A tool that somebody may have to install by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    /// A QEMU for x86-64 guests.
    Qemu,
    /// One of the QEMU releases that the device is tested in.
    TestedQemu,
    /// libclang.
    Libclang,
    /// mingw-w64's headers and import libraries.
    Mingw,
    /// mingw-w64's C compiler.
    MingwGcc,
    /// What signs drivers.
    Signer,
    /// A linker for host programs.
    Linker,
    /// rustc and cargo.
    Rust,
    /// A target of the Rust toolchain.
    RustTarget(String),
    /// A component of the Rust toolchain.
    RustComponent(String),
}

/// A tool's packages, by package manager.
struct Packages {
    apt: &'static str,
    dnf: &'static str,
    pacman: &'static str,
    zypper: &'static str,
    apk: &'static str,
    nix: &'static str,
    brew: &'static str,
}

const QEMU: Packages = Packages {
    apt: "qemu-system-x86",
    dnf: "qemu-system-x86-core",
    pacman: "qemu-system-x86",
    zypper: "qemu-x86",
    apk: "qemu-system-x86_64",
    nix: "qemu",
    brew: "qemu",
};

const LIBCLANG: Packages = Packages {
    apt: "libclang-dev",
    dnf: "clang-devel",
    pacman: "clang",
    zypper: "clang-devel",
    apk: "clang-dev",
    nix: "llvmPackages.libclang",
    brew: "llvm",
};

const MINGW: Packages = Packages {
    apt: "mingw-w64-common mingw-w64-x86-64-dev",
    dnf: "mingw64-headers mingw64-crt",
    pacman: "mingw-w64-headers mingw-w64-crt",
    zypper: "mingw64-headers mingw64-runtime",
    apk: "mingw-w64-headers mingw-w64-crt",
    nix: "pkgsCross.mingwW64.windows.mingw_w64",
    brew: "mingw-w64",
};

const MINGW_GCC: Packages = Packages {
    apt: "gcc-mingw-w64-x86-64-win32",
    dnf: "mingw64-gcc",
    pacman: "mingw-w64-gcc",
    zypper: "mingw64-cross-gcc",
    apk: "mingw-w64-gcc",
    nix: "pkgsCross.mingwW64.stdenv.cc",
    brew: "mingw-w64",
};

const SIGNER: Packages = Packages {
    apt: "osslsigncode openssl",
    dnf: "osslsigncode openssl",
    pacman: "osslsigncode openssl",
    zypper: "osslsigncode openssl",
    apk: "osslsigncode openssl",
    nix: "osslsigncode openssl",
    brew: "osslsigncode openssl@3",
};

const LINKER: Packages = Packages {
    apt: "gcc libc6-dev",
    dnf: "gcc",
    pacman: "gcc",
    zypper: "gcc",
    apk: "gcc musl-dev",
    nix: "gcc",
    brew: "gcc",
};

/// The command on a distribution, where there is one.
pub(super) fn command(tool: &Tool, distribution: Distribution) -> Option<String> {
    let packages = match tool {
        Tool::Qemu | Tool::TestedQemu => QEMU,
        Tool::Libclang => LIBCLANG,
        Tool::Mingw => MINGW,
        Tool::MingwGcc => MINGW_GCC,
        Tool::Signer => SIGNER,
        Tool::Linker => LINKER,
        Tool::Rust => return Some("rustup update stable".into()),
        Tool::RustTarget(target) => return Some(format!("rustup target add {target}")),
        Tool::RustComponent(component) => return Some(format!("rustup component add {component}")),
    };
    Some(match distribution {
        Distribution::Debian | Distribution::Ubuntu => format!("sudo apt-get install {}", packages.apt),
        Distribution::Fedora => format!("sudo dnf install {}", packages.dnf),
        Distribution::Arch => format!("sudo pacman -S {}", packages.pacman),
        Distribution::Suse => format!("sudo zypper install {}", packages.zypper),
        Distribution::Alpine => format!("sudo apk add {}", packages.apk),
        Distribution::Nix => format!("nix-shell -p {}", packages.nix),
        Distribution::MacOs => format!("brew install {}", packages.brew),
        Distribution::Other => return None,
    })
}

/// The command on a machine: where its release has an older tool than is needed, from where it has a newer one.
pub(super) fn command_here(tool: &Tool, host: &Host) -> Option<String> {
    match (tool, host.distribution, host.codename.as_deref()) {
        (Tool::Qemu, Distribution::Debian, Some("bookworm")) => {
            Some(format!("sudo apt-get install -t bookworm-backports {}", QEMU.apt))
        }
        // A release's own package manager has one version, which is not it.
        (Tool::TestedQemu, Distribution::Debian | Distribution::Ubuntu, _) => {
            Some("cargo xtask setup".into())
        }
        _ => command(tool, host.distribution),
    }
}

/// What it is called on a distribution that no command is known for.
fn by_name(tool: &Tool) -> &'static str {
    match tool {
        Tool::Qemu | Tool::TestedQemu => {
            "install QEMU's x86-64 system emulator, built with plugins and modules"
        }
        Tool::Libclang => "install libclang",
        Tool::Mingw => "install the mingw-w64 headers and import libraries for x86-64",
        Tool::MingwGcc => "install the mingw-w64 C compiler for x86-64",
        Tool::Signer => "install osslsigncode and openssl",
        Tool::Linker => "install a C compiler",
        Tool::Rust | Tool::RustTarget(_) | Tool::RustComponent(_) => "install rustup",
    }
}

/// The next step on a machine, as the end of an error message.
pub(super) fn sentence(tool: &Tool, host: &Host) -> String {
    match command_here(tool, host) {
        Some(command) => format!("to install it: {command}"),
        None => by_name(tool).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_distribution_has_one_command_for_every_tool() {
        let tools = [
            Tool::Qemu,
            Tool::TestedQemu,
            Tool::Libclang,
            Tool::Mingw,
            Tool::MingwGcc,
            Tool::Signer,
            Tool::Linker,
            Tool::Rust,
            Tool::RustTarget("t".into()),
            Tool::RustComponent("c".into()),
        ];
        for tool in &tools {
            for distribution in Distribution::ALL {
                let command = command(tool, distribution).unwrap();
                assert!(!command.contains('\n') && !command.contains("&&"), "{command}");
            }
        }
    }

    #[test]
    fn an_unknown_distribution_still_gets_a_next_step() {
        let host = Host { distribution: Distribution::Other, name: "Plan 9".into(), codename: None };
        assert!(sentence(&Tool::Qemu, &host).contains("install QEMU"));
        assert!(sentence(&Tool::RustTarget("t".into()), &host).ends_with("rustup target add t"));
    }
}
