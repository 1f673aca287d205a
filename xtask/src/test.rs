//! `cargo xtask test`: every check of the repository, and all that failed, not only the first.
//!
//! The repository is three workspaces (the host's, the driver's, the embedded guest's), because each has a target of
//! its own. Each is formatted, linted and documented without a warning; then everything is built; then every test
//! runs, those that boot the real thing among them.

mod check;
mod checks;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use check::{Check, Outcome};
use comfy_table::{Table, presets};
use serde_json::json;
use squall_harness::run_dir::write_json;

use crate::{build, failure::Failure};

/// Where each check's output is kept, below the repository.
const LOGS: &str = "target/squall/test";

/// Runs every check of the repository, on the host and in guests
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs only the checks whose names contain this
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// The QEMU to use instead of one that is found or fetched
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Writes the table to a file, schema squall.test/1
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One row of the table.
struct Row {
    name: String,
    outcome: Outcome,
    seconds: f64,
}

/// Runs the checks, prints the table and the tests' own summaries.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let root = build::root()?;
    let logs = root.join(LOGS);
    std::fs::create_dir_all(&logs)
        .map_err(|error| Failure::infrastructure(format!("cannot create {}: {error}", logs.display())))?;
    let checks = checks::all(&root, &logs, args.qemu.as_deref());
    let wanted =
        |check: &Check| args.only.is_empty() || args.only.iter().any(|text| check.name.contains(text));
    let mut checks: Vec<_> = checks.into_iter().filter(wanted).collect();
    if checks.is_empty() {
        return Err(Failure::usage(format!("no check's name contains {:?}", args.only.join(" or "))));
    }
    let began = Instant::now();
    let mut rows = Vec::new();
    for check in &mut checks {
        let began = Instant::now();
        eprintln!("{} ...", check.name);
        let outcome = check.run(&logs);
        let seconds = began.elapsed().as_secs_f64();
        if let Some(why) = outcome.failure() {
            eprintln!("{} FAILED: {why}", check.name);
        }
        rows.push(Row { name: check.name.clone(), outcome, seconds });
    }
    report(&rows, began.elapsed().as_secs_f64(), args.json.as_deref())
}

fn report(rows: &[Row], seconds: f64, json: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["CHECK", "RESULT", "SECONDS", ""]);
    for Row { name, outcome, seconds } in rows {
        let (word, why) = match outcome.failure() {
            None => ("ok", ""),
            Some(why) => ("FAILED", why),
        };
        table.add_row([name.as_str(), word, format!("{seconds:.1}").as_str(), why]);
    }
    println!("\n{}\n", table.trim_fmt());
    for Row { name, outcome, .. } in rows {
        for line in &outcome.summary {
            println!("{name}: {line}");
        }
    }
    let failed = rows.iter().filter(|row| row.outcome.failure().is_some()).count();
    println!("{} of {} checks passed in {seconds:.0} s", rows.len() - failed, rows.len());
    if let Some(path) = json {
        let checks: Vec<_> = rows
            .iter()
            .map(|row| {
                let failure = row.outcome.failure();
                json!({"name": row.name, "passed": failure.is_none(), "failure": failure, "seconds": row.seconds})
            })
            .collect();
        write_json(path, &json!({"schema": "squall.test/1", "passed": failed == 0, "checks": checks}))?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}
