//! The repository's commands: `cargo xtask VERB`.
//!
//! One file for each verb. What they do is in `squall-harness`; here are the flags, the building, the progress and
//! the exit codes: 0 as expected, 1 the driver is at fault, 2 wrong usage, 3 something other than the driver failed.

mod bench;
mod build;
mod defects;
mod doctor;
mod e2e;
mod failure;
mod machines;
mod progress;
mod setup;
mod sign;
mod stress;
mod test;
mod trace;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use crate::failure::Failure;

/// Puts a Windows legacy driver through an interrupt storm and says what happened
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Verb {
    /// Runs a driver in a guest, unloads it in the middle of an interrupt storm, and gives the verdict
    E2e(Box<e2e::Args>),
    /// Tries every wrong Unload of the catalogue, and the right one
    Defects(defects::Args),
    /// Loads, storms and unloads the driver over and over
    Stress(stress::Args),
    /// Runs every check of the repository, on the host and in guests
    Test(test::Args),
    /// Test-signs the driver, for a Windows in test mode
    Sign(sign::Args),
    /// Fetches everything that is needed and not here
    Setup(setup::Args),
    /// Says what is needed, what is here, and how to get what is not
    Doctor(doctor::Args),
    /// Prints what the card saw in a run, record by record
    Trace(trace::Args),
    /// Measures the card inside QEMU, and holds the figures against their limits
    Bench(bench::Args),
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Verbs that the design names and nobody has built yet.
const PLANNED: [&str; 4] = ["sweep", "replay", "image", "report"];

impl Verb {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::E2e(args) => e2e::run(*args),
            Self::Defects(args) => defects::run(args),
            Self::Stress(args) => stress::run(args),
            Self::Test(args) => test::run(&args),
            Self::Sign(args) => sign::run(args),
            Self::Setup(args) => Ok(setup::run(args)?),
            Self::Doctor(args) => Ok(doctor::run(args)?),
            Self::Trace(args) => trace::run(args),
            Self::Bench(args) => bench::run(&args),
            Self::Other(words) => {
                let verb = words.first().map_or("", String::as_str);
                let what = if PLANNED.contains(&verb) { "is not built yet" } else { "is no verb" };
                Err(Failure::usage(format!(
                    "{verb:?} {what}; this build has e2e, defects, stress, test, trace, bench, setup and doctor"
                )))
            }
        }
    }
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SQUALL_LOG").unwrap_or_default();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let verb = match Verb::try_parse() {
        Ok(verb) => verb,
        Err(error) if is_help(error.kind()) => error.exit(),
        Err(error) => return Failure::usage(one_line(&error)).report(),
    };
    verb.run().unwrap_or_else(|failure| failure.report())
}

fn is_help(kind: ErrorKind) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    matches!(kind, DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand)
}

/// The first paragraph of the parser's message, which says what is wrong; the rest is the help's text.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    format!("{}; see --help", line.trim_start_matches("error: "))
}
