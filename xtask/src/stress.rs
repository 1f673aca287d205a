//! `cargo xtask stress`: load, storm, unload, over and over.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use comfy_table::{Table, presets};
use serde_json::json;
use squall_harness::{
    artifacts::Driver,
    run::Parts,
    run_dir::write_json,
    scenario::{Bus, Scenario},
    series::Begin,
    storm::Storm,
    stress::{self, CYCLES_OF_A_RUN, Cycles, Growth, Spread, Stress},
    wdk::Image,
};

use crate::{
    build::Builder,
    e2e::{BUILT_DEVICE, NOT_THE_DRIVER, RUNS, Switch},
    failure::Failure,
    machines::Machines,
    progress::{Count, Stages},
};

/// The interrupts of cycles that are whole runs.
const LOOSE: &str = "ack,gap=20us,jitter=20us";
/// The interrupts of cycles that the guest goes through by itself.
const DENSE: &str = "ack,gap=100us,jitter=100us,train=200";
/// The processors that are taken where none are asked for.
const PROCESSORS: [u8; 3] = [1, 2, 4];

/// Loads, storms and unloads the driver over and over, in one guest after the other without a boot in between
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cycles in all, shared evenly by the kinds of machine; each is a whole run
    #[arg(long, value_name = "N", default_value_t = 1_000, conflicts_with = "cycles")]
    iterations: u64,
    /// Instead: so many cycles in each kind of machine, which the guest goes through by itself, without the host in between
    #[arg(long, value_name = "N", conflicts_with_all = ["reset", "serviced"])]
    cycles: Option<u64>,
    /// With --cycles, interrupts that have to be served before each Unload
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "cycles")]
    interrupts: u64,
    /// Ends each kind of machine after so long, whatever it has come to
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Driver Verifier, with its standard settings
    #[arg(long, value_name = "on|off", default_value = "off")]
    verifier: Switch,
    /// Begins each cycle by going back to a snapshot instead of going on in the same guest
    #[arg(long)]
    reset: bool,
    /// Interrupts that have to be served before Unload
    #[arg(long, value_name = "N", default_value_t = 100)]
    serviced: u64,
    /// The interrupts, as of e2e; by default ack,gap=20us,jitter=20us, with --cycles some 100,000 a second and more
    #[arg(long, value_name = "SPEC")]
    storm: Option<Storm>,
    #[command(flatten)]
    machines: Machines,
    /// Where the evidence of cycles that are not clean is kept
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Writes the table to a file, schema squall.stress/1
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds, runs the cycles, prints what came of them. 0 only where every cycle was clean, device and driver have counted the same,
/// and nothing grew.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let storm = match &args.storm {
        Some(storm) => storm.clone(),
        None => if args.cycles.is_some() { DENSE } else { LOOSE }.parse().map_err(Failure::usage)?,
    };
    let mut scenario = Scenario { seed: args.machines.seed, storm, ..Scenario::default() };
    scenario.verifier = args.verifier == Switch::On;
    scenario.driver.device = Some(BUILT_DEVICE.to_owned());
    (scenario.before_unload.serviced, scenario.before_unload.samples_read) = match args.cycles {
        Some(_) => (args.interrupts, 0),
        None => (args.serviced, 2),
    };
    if args.cycles.is_some() {
        scenario.cycles = CYCLES_OF_A_RUN;
    }
    scenario.unload.settle_ms = 1;
    let (kinds, machines) = (args.kinds(&scenario)?, args.machines.at_once()?);
    let cycles = args.cycles.unwrap_or_else(|| args.iterations.div_ceil(kinds.len() as u64));

    let stages = Stages::new();
    let builder = Builder::new(&stages)?;
    let (qemu, device_library) = (builder.qemu(args.machines.qemu.as_deref())?, builder.device_library()?);
    let kernel = builder.kernel()?;
    let Driver { image, symbols } = builder.driver(Image::Product)?;
    scenario.driver.image = image;
    let runs = args.runs.clone().unwrap_or_else(|| builder.root.join(RUNS));
    let parts = Parts { qemu, kernel, device_library, symbols: Some(symbols), runs };
    stages.end();

    let of = usize::try_from(cycles).unwrap_or(usize::MAX).saturating_mul(kinds.len());
    let count = Count::new(&format!("{cycles} cycles in each of {} kind(s) of machine", kinds.len()), of);
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let tell = move |bus: Bus, processors: u8, cycle: u64| {
        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.insert((bus.name(), processors), cycle);
        let done = usize::try_from(seen.values().sum::<u64>()).unwrap_or(usize::MAX);
        count.step(done, &format!("{bus}, {processors} cpu(s), cycle {cycle}"));
    };
    let stress = Stress {
        scenario,
        parts,
        cycles,
        limit: args.seconds.map(Duration::from_secs),
        begin: if args.reset { Begin::Restored } else { Begin::GoingOn },
        kinds,
        machines,
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::infrastructure(format!("cannot start the runtime: {error}")))?;
    let all = runtime.block_on(stress::run(stress, tell))?;
    print!("\n{}", table(&all));
    let code = exit_code(&all);
    if let Some(path) = &args.json {
        write(path, &all, code)?;
    }
    Ok(ExitCode::from(code))
}

impl Args {
    fn kinds(&self, scenario: &Scenario) -> Result<Vec<(Bus, u8)>, Failure> {
        if self.iterations == 0 || self.cycles == Some(0) {
            return Err(Failure::usage("--iterations and --cycles: at least 1"));
        }
        let profile = scenario.check()?;
        let buses = if self.machines.bus.is_empty() { &profile.buses } else { &self.machines.bus };
        let processors = if self.machines.cpus.is_empty() { &PROCESSORS[..] } else { &self.machines.cpus };
        let kinds = buses.iter().flat_map(|&bus| processors.iter().map(move |&count| (bus, count)));
        kinds
            .map(|(bus, processors)| {
                Scenario { bus, processors, ..scenario.clone() }.check()?;
                Ok((bus, processors))
            })
            .collect()
    }
}

fn table(all: &[Cycles]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let header = [
        "BUS",
        "CPUS",
        "CYCLES",
        "CLEAN",
        "ASSERTED",
        "SERVICED",
        "BY THE DRIVER",
        "IN UNLOAD",
        "PER SECOND",
        "CYCLE (WORST)",
        "LOAD",
        "UNLOAD",
        "GROWTH",
    ];
    table.set_header(header);
    for cycles in all {
        let none = || "-".to_owned();
        table.add_row([
            cycles.bus.to_string(),
            cycles.processors.to_string(),
            cycles.cycles.to_string(),
            cycles.clean.to_string(),
            cycles.asserted.to_string(),
            cycles.serviced.to_string(),
            cycles.served.map_or_else(none, |served| served.to_string()),
            cycles.inside_unload.to_string(),
            format!("{:.0}", cycles.rate()),
            cycles.cycle.map_or_else(none, |spread| {
                format!("{} ({})", milliseconds(spread.median_us), milliseconds(spread.worst_us))
            }),
            cycles.load.map_or_else(none, |spread: Spread| milliseconds(spread.median_us)),
            cycles.unload.map_or_else(none, |spread| milliseconds(spread.median_us)),
            cycles.growth().map_or_else(none, growth),
        ]);
    }
    let mut text = table.trim_fmt() + "\n";
    for cycles in all {
        if let Some(fault) = &cycles.first_fault {
            let evidence = cycles.evidence.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default();
            text += &format!("\n{}, {} cpu(s): {fault} ({evidence})", cycles.bus, cycles.processors);
        }
    }
    let (done, clean): (u64, u64) =
        all.iter().fold((0, 0), |sum, one| (sum.0 + one.cycles, sum.1 + one.clean));
    text + &format!("\n{clean} of {done} cycles clean\n")
}

fn milliseconds(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1000.0)
}

fn growth(growth: Growth) -> String {
    if growth == Growth::default() {
        return "none".to_owned();
    }
    let Growth { pool_blocks, pool_bytes, mapped_pages, image_pages, heap_bytes, used_pages } = growth;
    let parts = [
        (pool_bytes, format!("{pool_bytes:+} bytes in {pool_blocks:+} blocks of pool")),
        (mapped_pages, format!("{mapped_pages:+} pages mapped")),
        (image_pages, format!("{image_pages:+} pages of images")),
        (heap_bytes, format!("{heap_bytes:+} bytes of the guest's heap")),
        (used_pages, format!("{used_pages:+} page frames")),
    ];
    let grown = parts.into_iter().filter(|(amount, _)| *amount != 0).map(|(_, text)| text);
    grown.collect::<Vec<_>>().join(", ")
}

/// Whether a guest holds more than before, in anything.
fn grew(cycles: &Cycles) -> bool {
    cycles.growth().is_some_and(|growth| {
        let Growth { pool_blocks, pool_bytes, mapped_pages, image_pages, heap_bytes, used_pages } = growth;
        [pool_blocks, pool_bytes, mapped_pages, image_pages, heap_bytes, used_pages]
            .iter()
            .any(|amount| *amount > 0)
    })
}

/// Growth without a finding is the guest's own, and no word about the driver.
fn exit_code(all: &[Cycles]) -> u8 {
    let faulty = |one: &Cycles| one.miscounted > 0 || one.clean + one.infrastructure < one.cycles;
    if all.iter().any(faulty) {
        1
    } else if all.iter().any(|one| one.infrastructure > 0 || grew(one)) {
        NOT_THE_DRIVER
    } else {
        0
    }
}

fn write(path: &Path, all: &[Cycles], code: u8) -> Result<(), Failure> {
    let machines: Vec<_> = all
        .iter()
        .map(|cycles| {
            let mut row = serde_json::to_value(cycles).unwrap_or_default();
            row["per_second"] = json!(cycles.rate());
            row["growth"] = json!(cycles.growth());
            row
        })
        .collect();
    Ok(write_json(path, &json!({"schema": "squall.stress/1", "passed": code == 0, "machines": machines}))?)
}
