//! `cargo xtask bench`: how fast the card is, against limits that hold on any machine.
//!
//! A measurement is a program of the device's crate (`vdevice/qemu/benches`), which prints its table and whether each
//! limit holds. Here it is built and given each QEMU that is tested in.

use std::{
    fmt::Display,
    path::PathBuf,
    process::{Command, ExitCode},
};

use serde_json::{Value, json};
use squall_harness::{run_dir::write_json, toolbox::Toolbox};

use crate::{
    build::{Builder, DEVICE_LIBRARY, QEMU_COMMAND, one_program},
    failure::Failure,
    progress::Stages,
};

/// Measures the card inside QEMU, and holds the figures against their limits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is measured
    #[arg(value_enum)]
    what: Measurement,
    /// The QEMU to use instead of those that the card is tested in
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Writes the figures to a file, schema squall.bench/1
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A measurement.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Measurement {
    /// Register accesses and interrupts, beside QEMU's own edu device in the same guest
    Device,
    /// A thousand loads of a snapshot in the middle of a storm
    Snapshots,
}

impl Measurement {
    const fn program(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Snapshots => "snapshots",
        }
    }
}

/// Exit code 0 if every limit holds in every QEMU, else 1.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let stages = Stages::new();
    let builder = Builder::new(&stages)?;
    let name = args.what.program();
    let library = builder.device_library()?;
    let program = builder.measurement(name)?;
    stages.end();
    let folder = builder.root.join("target/squall/bench");
    let figures = folder.join(format!("{name}.json"));
    let mut runs = Vec::new();
    let mut holds = true;
    for series in Toolbox::qemus_to_test(args.qemu.as_deref()) {
        let qemu = builder.toolbox.qemu_to_test(series, args.qemu.as_deref())?;
        let mut command = Command::new(&program);
        command
            .arg("--json")
            .arg(&figures)
            .env(QEMU_COMMAND, one_program(&folder, &qemu)?)
            .env(DEVICE_LIBRARY, &library);
        let status = command
            .status()
            .map_err(|error| Failure::infrastructure(format!("cannot run {}: {error}", program.display())))?;
        holds &= match status.code() {
            Some(code @ (0 | 1)) => code == 0,
            _ => return Err(Failure::infrastructure(format!("the measurement {name} broke off: {status}"))),
        };
        let unreadable =
            |error: &dyn Display| Failure::infrastructure(format!("{}: {error}", figures.display()));
        let text = std::fs::read(&figures).map_err(|error| unreadable(&error))?;
        runs.push(serde_json::from_slice::<Value>(&text).map_err(|error| unreadable(&error))?);
        println!();
    }
    if let Some(path) = &args.json {
        write_json(path, &json!({ "schema": "squall.bench/1", "holds": holds, "runs": runs }))?;
    }
    Ok(ExitCode::from(u8::from(!holds)))
}
