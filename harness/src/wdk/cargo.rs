//! Calling cargo for the driver's workspace.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::error::WdkError;

/// The one target of the driver.
pub(super) const TARGET: &str = "x86_64-pc-windows-msvc";

/// A call of cargo in `folder`, free of what an outer cargo, or the user's shell, meant for another build.
pub(super) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(folder).stdin(Stdio::null());
    for foreign in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
    ] {
        command.env_remove(foreign);
    }
    command
}

/// Joins compiler flags as cargo wants them.
pub(super) fn encode_flags(flags: &[OsString]) -> OsString {
    flags.join(OsStr::new("\u{1f}"))
}

/// Runs cargo to its end. Each line it prints goes to `on_line` and into `log`.
pub(super) fn run(mut command: Command, log: &Path, on_line: &mut dyn FnMut(&str)) -> Result<(), WdkError> {
    let mut record = File::create(log).map_err(WdkError::io("write", log))?;
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(WdkError::io("run", Path::new(command.get_program())))?;
    let mut first = None;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            // The log is a help for people; a full disk is not the driver's fault.
            let _ = writeln!(record, "{line}");
            if let Some((_, symbol)) = line.split_once("error: undefined symbol: ") {
                // Says more than the line before it, that linking failed.
                first = Some(format!(
                    "no library has {symbol}; what Windows exports has to be named in imports.txt"
                ));
            } else if first.is_none() && line.starts_with("error") {
                first = Some(line.clone().into_owned());
            }
            on_line(line.trim());
        }
    }
    let status = child.wait().map_err(WdkError::io("run", Path::new(command.get_program())))?;
    if status.success() {
        return Ok(());
    }
    Err(WdkError::Build {
        first: first.unwrap_or_else(|| format!("cargo ended with {status}")),
        log: log.to_owned(),
    })
}

/// Where cargo keeps the unpacked source of a locked dependency; fetches it first where need be.
pub(super) fn source_of(name: &str, version: &str, driver: &Path) -> Result<PathBuf, WdkError> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        manifest_path: PathBuf,
    }

    let lock = driver.join("Cargo.lock");
    let mut command = command(driver);
    command.args(["metadata", "--format-version", "1", "--locked"]);
    let output = command.output().map_err(WdkError::io("run", Path::new(command.get_program())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo metadata failed");
        return Err(WdkError::unexpected(&lock, first));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .map_err(|error| WdkError::unexpected(&lock, error.to_string()))?;
    let package = metadata.packages.into_iter().find(|package| package.name == name);
    match package {
        Some(package) if package.version == version => {
            Ok(package.manifest_path.parent().unwrap_or(Path::new("")).to_owned())
        }
        found => Err(WdkError::unexpected(
            &lock,
            format!(
                "locks {name} {}, and its edits are for {version}",
                found.map_or("not at all".into(), |p| p.version)
            ),
        )),
    }
}
