//! The command line of the measurements.

use std::path::PathBuf;
use std::process::ExitCode;

/// Where the figures go as JSON, if anywhere: `--json FILE` is all that can be given. The exit code of usage errors where
/// something else is.
pub(crate) fn json(measurement: &str) -> Result<Option<PathBuf>, ExitCode> {
    // cargo adds a word of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        ["--json", file] => Ok(Some(file.into())),
        _ => {
            eprintln!(
                "error: {arguments:?}: the only argument is --json FILE; run it as `cargo xtask bench {measurement}`"
            );
            Err(ExitCode::from(2))
        }
    }
}
