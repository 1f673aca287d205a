//! `cargo xtask setup`: fetches now what would otherwise be fetched when it is first needed.

use std::path::PathBuf;
use std::process::ExitCode;

use squall_harness::toolbox::{Error, Toolbox};

use crate::doctor;

/// Fetches everything that Squall needs and this machine lacks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The QEMU to use, instead of one that is found or fetched
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
}

/// Fetches, then shows what is here. What could not be had is said on standard error.
pub(crate) fn run(args: Args) -> Result<ExitCode, Error> {
    let toolbox = Toolbox::open()?;
    let errors = toolbox.fetch_all(args.qemu.as_deref());
    for error in &errors {
        eprintln!("error: {error}");
    }
    let survey = toolbox.survey(args.qemu.as_deref());
    print!("{}", doctor::report(&survey, None));
    Ok(if errors.is_empty() && survey.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(doctor::INCOMPLETE)
    })
}
