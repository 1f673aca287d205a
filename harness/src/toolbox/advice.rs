//! The one command that gets a tool, by distribution: for people on machines where Squall cannot fetch it, and for those
//! who would rather have it from their own package manager.

use super::host::{Distribution, Host};

/// A tool that somebody may have to install by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    /// A QEMU for x86-64 guests.
    Qemu,
    /// libclang.
    Libclang,
    /// mingw-w64's headers and import libraries.
    Mingw,
    /// A linker for host programs.
    Linker,
    /// rustc and cargo.
    Rust,
    /// A target of the Rust toolchain.
    RustTarget(String),
    /// A component of the Rust toolchain.
    RustComponent(String),
}

/// The command on a distribution, where there is one.
pub(super) fn command(tool: &Tool, distribution: Distribution) -> Option<String> {
    use Distribution as D;
    let package = |apt: &str, dnf: &str, pacman: &str, zypper: &str, apk: &str, nix: &str, brew: &str| {
        match distribution {
            D::Debian | D::Ubuntu => Some(format!("sudo apt-get install {apt}")),
            D::Fedora => Some(format!("sudo dnf install {dnf}")),
            D::Arch => Some(format!("sudo pacman -S {pacman}")),
            D::Suse => Some(format!("sudo zypper install {zypper}")),
            D::Alpine => Some(format!("sudo apk add {apk}")),
            D::Nix => Some(format!("nix-shell -p {nix}")),
            D::MacOs => Some(format!("brew install {brew}")),
            D::Other => None,
        }
    };
    match tool {
        Tool::Qemu => package(
            "qemu-system-x86",
            "qemu-system-x86-core",
            "qemu-system-x86",
            "qemu-x86",
            "qemu-system-x86_64",
            "qemu",
            "qemu",
        ),
        Tool::Libclang => {
            package("libclang-dev", "clang-devel", "clang", "clang-devel", "clang-dev", "libclang", "llvm")
        }
        Tool::Mingw => package(
            "mingw-w64-common mingw-w64-x86-64-dev",
            "mingw64-headers mingw64-crt",
            "mingw-w64-headers mingw-w64-crt",
            "mingw64-headers mingw64-runtime",
            "mingw-w64-headers mingw-w64-crt",
            "pkgsCross.mingwW64.windows.mingw_w64",
            "mingw-w64",
        ),
        Tool::Linker => package("gcc libc6-dev", "gcc", "gcc", "gcc", "gcc musl-dev", "gcc", "gcc"),
        Tool::Rust => package("rustup", "rustup", "rustup", "rustup", "rustup", "rustup", "rustup"),
        Tool::RustTarget(target) => Some(format!("rustup target add {target}")),
        Tool::RustComponent(component) => Some(format!("rustup component add {component}")),
    }
}

/// What it is called on a distribution that no command is known for.
fn by_name(tool: &Tool) -> &'static str {
    match tool {
        Tool::Qemu => "install QEMU's x86-64 system emulator, built with plugins and modules",
        Tool::Libclang => "install libclang",
        Tool::Mingw => "install the mingw-w64 headers and import libraries for x86-64",
        Tool::Linker => "install a C compiler",
        Tool::Rust | Tool::RustTarget(_) | Tool::RustComponent(_) => "install rustup",
    }
}

/// The next step on a machine, as the end of an error message.
pub(super) fn sentence(tool: &Tool, host: &Host) -> String {
    match command(tool, host.distribution) {
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
            Tool::Libclang,
            Tool::Mingw,
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
