//! Compilation targets and components of the Rust toolchain in use, through rustup.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Toolbox;
use super::advice::{self, Tool};
use super::cache::Lock;
use super::command::{dying_with_us, run_to_success, variable};
use super::error::Error;
use super::host::on_path;
use super::progress::Task;

/// What the driver is compiled for.
pub(super) const DRIVER_TARGET: &str = "x86_64-pc-windows-msvc";
/// What the embedded guest is compiled for.
pub(super) const GUEST_TARGET: &str = "x86_64-unknown-none";

impl Toolbox {
    /// Makes sure that the toolchain in use compiles for a target: the directory of the target's libraries.
    pub fn rust_target(&self, target: &str) -> Result<PathBuf, Error> {
        let sysroot = sysroot()?;
        if let Some(found) = target_in(&sysroot, target) {
            return Ok(found);
        }
        self.rustup(&Tool::RustTarget(target.to_owned()), &["target", "add"], target, || {
            target_in(&sysroot, target)
        })
    }

    /// The directory of a target's libraries, if it is there.
    pub fn find_rust_target(&self, target: &str) -> Option<PathBuf> {
        target_in(&sysroot().ok()?, target)
    }

    /// Makes sure that the toolchain in use has a component such as `llvm-tools`: the toolchain's root.
    pub fn rust_component(&self, component: &str) -> Result<PathBuf, Error> {
        let sysroot = sysroot()?;
        let there = || component_in(&sysroot, component).then(|| sysroot.clone());
        if let Some(found) = there() {
            return Ok(found);
        }
        self.rustup(&Tool::RustComponent(component.to_owned()), &["component", "add"], component, there)
    }

    /// Whether a component is there.
    pub fn find_rust_component(&self, component: &str) -> bool {
        sysroot().is_ok_and(|sysroot| component_in(&sysroot, component))
    }

    fn rustup(
        &self,
        tool: &Tool,
        verb: &[&str],
        what: &str,
        there: impl Fn() -> Option<PathBuf>,
    ) -> Result<PathBuf, Error> {
        let unavailable = |problem: String| Error::Unavailable {
            tool: what.to_owned(),
            problem,
            advice: advice::sentence(tool, &self.host),
        };
        if on_path("rustup").next().is_none() {
            return Err(unavailable("this Rust toolchain lacks it, and there is no rustup to add it".into()));
        }
        // rustup does not expect two of itself on one toolchain.
        let directory = self.cache.directory("rustup");
        fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
        let _lock = Lock::take(&directory)?;
        if let Some(found) = there() {
            return Ok(found);
        }
        let task = Task::begin(self.progress, format!("fetching {what}"));
        let mut command = dying_with_us("rustup");
        command.args(verb);
        if let Some(toolchain) = variable("RUSTUP_TOOLCHAIN") {
            command.args(["--toolchain", &toolchain]);
        }
        run_to_success(&format!("rustup {}", verb.join(" ")), command.arg(what))
            .map_err(|error| unavailable(error.to_string()))?;
        let found =
            there().ok_or_else(|| unavailable("rustup says that it added it, but it is not there".into()))?;
        task.end("added to the toolchain");
        Ok(found)
    }
}

/// The root of the toolchain that cargo uses here.
///
/// Under cargo, rustup has left its name and place in the environment. Otherwise the compiler is asked.
pub(super) fn sysroot() -> Result<PathBuf, Error> {
    let home =
        env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".rustup")));
    if let (Some(home), Some(toolchain)) = (home, variable("RUSTUP_TOOLCHAIN")) {
        // A toolchain outside rustup's home is named by its path, which join() then takes for the whole.
        let root = home.join("toolchains").join(toolchain);
        if root.join("lib/rustlib").is_dir() {
            return Ok(root);
        }
    }
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = run_to_success("rustc --print sysroot", Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(output.stdout.trim()))
}

/// A target is there when its `core` is, and when rustup, where it manages the toolchain, has listed it: which it does after
/// the last file.
fn target_in(sysroot: &Path, target: &str) -> Option<PathBuf> {
    let directory = sysroot.join("lib/rustlib").join(target).join("lib");
    let mut files = fs::read_dir(&directory).ok()?.flatten().map(|entry| entry.file_name());
    let has_core = files.any(|name| name.to_string_lossy().starts_with("libcore-"));
    let listed = fs::read_to_string(sysroot.join("lib/rustlib/components"))
        .map_or(true, |list| list.lines().any(|line| line.strip_prefix("rust-std-") == Some(target)));
    (has_core && listed).then_some(directory)
}

/// What each component brings, by which it is known also where no rustup manages the toolchain.
fn component_in(sysroot: &Path, component: &str) -> bool {
    match component {
        "rustfmt" => has_program(sysroot, "rustfmt"),
        "clippy" => has_program(sysroot, "cargo-clippy"),
        "rust-src" => sysroot.join("lib/rustlib/src/rust/library/core").is_dir(),
        // Listed under its name, or its old name, with the host's triple behind it.
        other => fs::read_to_string(sysroot.join("lib/rustlib/components")).is_ok_and(|list| {
            list.lines().any(|line| line.strip_suffix("-preview").unwrap_or(line).starts_with(other))
        }),
    }
}

fn has_program(sysroot: &Path, name: &str) -> bool {
    sysroot.join("bin").join(name).with_extension(env::consts::EXE_EXTENSION).is_file() || {
        // Distributions put the whole toolchain into the system's directories.
        sysroot == Path::new("/usr") && on_path(name).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_there_when_its_core_is() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("lib/rustlib").join(GUEST_TARGET).join("lib");
        assert_eq!(target_in(root.path(), GUEST_TARGET), None);
        fs::create_dir_all(&lib).unwrap();
        assert_eq!(target_in(root.path(), GUEST_TARGET), None, "an empty directory is no target");
        fs::write(lib.join("libcore-0123.rlib"), "").unwrap();
        assert_eq!(target_in(root.path(), GUEST_TARGET), Some(lib.clone()), "a distribution's toolchain");
        let components = root.path().join("lib/rustlib/components");
        fs::write(&components, "rustc-x86_64-unknown-linux-gnu\n").unwrap();
        assert_eq!(target_in(root.path(), GUEST_TARGET), None, "rustup is not done with it");
        fs::write(&components, format!("rust-std-{GUEST_TARGET}\n")).unwrap();
        assert_eq!(target_in(root.path(), GUEST_TARGET), Some(lib));
    }

    #[test]
    fn components_by_their_listing() {
        let root = tempfile::tempdir().unwrap();
        assert!(!component_in(root.path(), "llvm-tools"));
        fs::create_dir_all(root.path().join("lib/rustlib")).unwrap();
        fs::write(
            root.path().join("lib/rustlib/components"),
            "rustc-x\nllvm-tools-preview-x86_64-unknown-linux-gnu\n",
        )
        .unwrap();
        assert!(component_in(root.path(), "llvm-tools"));
        assert!(!component_in(root.path(), "miri"));
        assert!(!component_in(root.path(), "clippy"));
    }

    #[test]
    fn the_compiler_that_builds_this_has_a_root() {
        assert!(sysroot().unwrap().join("lib/rustlib").is_dir());
    }
}
