//! `cargo xtask defects`: the catalogue of wrong Unloads against the embedded guest, expected beside seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;
use squall_harness::{
    artifacts::Driver,
    catalogue::{Catalogue, Expectation},
    profile::GuestProfile,
    run::Parts,
    run_dir::write_json,
    scenario::Scenario,
    trial::{self, Budget, Filter, Judgement, Outcomes, Plan, Progress, Trials},
    wdk::Image,
};

use crate::{
    build::Builder,
    e2e::{BUILT_DEVICE, NOT_THE_DRIVER, RUNS, Switch},
    failure::Failure,
    machines::Machines,
    progress::{Count, Stages},
};

/// Tries every wrong Unload of the catalogue, and the right one, and compares what they raise with what they must
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this defect, and not the right driver; may be given again
    #[arg(long, value_name = "ID")]
    defect: Vec<String>,
    /// Only with Driver Verifier on, or only with it off
    #[arg(long, value_name = "on|off")]
    verifier: Option<Switch>,
    /// How many runs a defect may take to show
    #[arg(long, value_name = "N", default_value_t = Budget::default().defect)]
    iterations: u32,
    /// How many runs of the right driver have to be clean, in each kind of machine
    #[arg(long, value_name = "N", default_value_t = Budget::default().right)]
    right: u32,
    #[command(flatten)]
    machines: Machines,
    /// Where the evidence of what was not as expected is kept
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Writes every row to a file, schema squall.defects/1
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds, runs every row, prints the table. 0 only where every row is as expected.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let stages = Stages::new();
    let builder = Builder::new(&stages)?;
    let catalogue = Catalogue::read(&builder.catalogue())?;
    let scenario = Scenario::default();
    let profile = scenario.check()?;
    let plan = args.plan(&catalogue, &profile)?;
    let machines = args.machines.at_once()?;
    let rows = plan.rows();

    let (qemu, device_library) = (builder.qemu(args.machines.qemu.as_deref())?, builder.device_library()?);
    let kernel = builder.kernel()?;
    let runs = args.runs.clone().unwrap_or_else(|| builder.root.join(RUNS));
    let parts = Parts { qemu, kernel, device_library, symbols: None, runs };
    let subject = |image| {
        let Driver { image, symbols } = builder.driver(image)?;
        let mut scenario = scenario.clone();
        (scenario.driver.image, scenario.driver.device) = (image, Some(BUILT_DEVICE.to_owned()));
        Ok::<_, Failure>((scenario, Parts { symbols: Some(symbols), ..parts.clone() }))
    };
    let budget = Budget { defect: args.iterations, right: args.right };
    let (right, defects) = (subject(Image::Product)?, subject(Image::Defects)?);
    let trials = Trials { right, defects, budget, seed: args.machines.seed, machines };
    stages.end();

    let began = Instant::now();
    let count = Count::new(&format!("trying {rows} rows on {machines} machine(s)"), rows);
    let tell = move |progress: Progress<'_>| {
        let outcomes = progress.outcomes;
        count.step(progress.done, &machine(outcomes));
        if outcomes.judgement != Judgement::Matched {
            count.line(&disagreement(outcomes));
        }
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::infrastructure(format!("cannot start the runtime: {error}")))?;
    let outcomes = runtime.block_on(trial::run(trials, plan, tell))?;
    let report = Report {
        outcomes: sorted(outcomes, &catalogue),
        took: began.elapsed(),
        budget,
        seed: args.machines.seed,
    };
    print!("\n{}", report.table());
    println!("{}", report.summary());
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

impl Args {
    fn plan(&self, catalogue: &Catalogue, profile: &GuestProfile) -> Result<Plan, Failure> {
        for id in &self.defect {
            catalogue.named(id)?;
        }
        if self.iterations == 0 || self.right == 0 {
            return Err(Failure::usage("--iterations and --right: at least 1"));
        }
        let filter = Filter {
            defects: self.defect.clone(),
            buses: self.machines.bus.clone(),
            processors: self.machines.cpus.clone(),
            verifier: self.verifier.map(|switch| switch == Switch::On),
        };
        let plan = Plan::new(catalogue, profile, &filter);
        if plan.rows() == 0 {
            return Err(Failure::usage(format!(
                "nothing of that can be tried with the {} guest",
                profile.name
            )));
        }
        Ok(plan)
    }
}

/// In the catalogue's order, the right driver first.
fn sorted(mut outcomes: Vec<Outcomes>, catalogue: &Catalogue) -> Vec<Outcomes> {
    let place =
        |outcomes: &Outcomes| catalogue.defects.iter().position(|defect| defect.id == outcomes.subject);
    outcomes.sort_by_key(|outcomes| {
        (place(outcomes), outcomes.verifier, outcomes.bus.name(), outcomes.processors)
    });
    outcomes
}

fn machine(outcomes: &Outcomes) -> String {
    let Outcomes { subject, bus, processors, verifier, .. } = outcomes;
    format!("{subject}, {bus}, {processors} cpu(s), verifier {}", on_or_off(*verifier))
}

fn on_or_off(verifier: bool) -> &'static str {
    if verifier { "on" } else { "off" }
}

fn expected(outcomes: &Outcomes) -> String {
    if outcomes.expected.is_empty() {
        return "clean".to_owned();
    }
    outcomes.expected.iter().map(Expectation::to_string).collect::<Vec<_>>().join(" | ")
}

/// What a row that is not as expected saw, in one line.
fn disagreement(outcomes: &Outcomes) -> String {
    let word = match outcomes.judgement {
        Judgement::Matched => "as expected",
        Judgement::NotShown => "NOT SHOWN",
        Judgement::Wrong => "WRONG",
        Judgement::Infrastructure => "NOT THE DRIVER",
    };
    let evidence = outcomes.evidence.as_ref().map(|dir| format!(" ({})", dir.display())).unwrap_or_default();
    format!("{}: {word}: {}{evidence}", machine(outcomes), outcomes.summary)
}

/// All rows, and how they were run.
struct Report {
    outcomes: Vec<Outcomes>,
    took: Duration,
    budget: Budget,
    seed: u64,
}

impl Report {
    /// One line for a subject with Verifier on or off: all of its machines together.
    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["DEFECT", "VERIFIER", "EXPECTED", "SEEN", "ROWS", "RUNS", "SECONDS"]);
        for group in self
            .outcomes
            .chunk_by(|one, other| (&one.subject, one.verifier) == (&other.subject, other.verifier))
        {
            let mut seen = BTreeMap::<&str, u32>::new();
            for (what, count) in group.iter().flat_map(|outcomes| &outcomes.seen) {
                *seen.entry(what).or_default() += count;
            }
            let seen: Vec<_> = seen.iter().map(|(what, count)| format!("{what} x{count}")).collect();
            // On some buses something else may be expected.
            let expected: BTreeSet<_> = group.iter().map(expected).collect();
            let matched = group.iter().filter(|outcomes| outcomes.judgement == Judgement::Matched).count();
            let word = if matched == group.len() { "ok" } else { "NO" };
            let runs: u32 = group.iter().map(|outcomes| outcomes.iterations).sum();
            let seconds: f64 = group.iter().map(|outcomes| outcomes.took.as_secs_f64()).sum();
            table.add_row([
                group[0].subject.clone(),
                on_or_off(group[0].verifier).to_owned(),
                expected.into_iter().collect::<Vec<_>>().join("; "),
                seen.join(", "),
                format!("{matched}/{} {word}", group.len()),
                runs.to_string(),
                format!("{seconds:.1}"),
            ]);
        }
        let mut text = table.trim_fmt() + "\n\n";
        for outcomes in self.disagreeing() {
            text += &format!("{}\n", disagreement(outcomes));
        }
        text
    }

    fn disagreeing(&self) -> impl Iterator<Item = &Outcomes> {
        self.outcomes.iter().filter(|outcomes| outcomes.judgement != Judgement::Matched)
    }

    fn summary(&self) -> String {
        let runs: u32 = self.outcomes.iter().map(|outcomes| outcomes.iterations).sum();
        let disagreeing: BTreeSet<_> = self.disagreeing().map(|outcomes| &outcomes.subject).collect();
        let subjects: BTreeSet<_> = self.outcomes.iter().map(|outcomes| &outcomes.subject).collect();
        format!(
            "{} of {} rows as expected, {} of {} drivers in all of theirs; {runs} runs in {:.0} s, seed {}, at most {} run(s) a defect",
            self.outcomes.len() - self.disagreeing().count(),
            self.outcomes.len(),
            subjects.len() - disagreeing.len(),
            subjects.len(),
            self.took.as_secs_f64(),
            self.seed,
            self.budget.defect,
        )
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let report = json!({
            "schema": "squall.defects/1",
            "passed": self.exit_code() == 0,
            "seconds": self.took.as_secs_f64(),
            "seed": self.seed,
            "budget": self.budget,
            "rows": self.outcomes,
        });
        Ok(write_json(path, &report)?)
    }

    /// A driver that disagrees is told before a tool that failed: it is the worse news.
    fn exit_code(&self) -> u8 {
        let any =
            |wanted: &[Judgement]| self.outcomes.iter().any(|outcomes| wanted.contains(&outcomes.judgement));
        if any(&[Judgement::Wrong, Judgement::NotShown]) {
            1
        } else if any(&[Judgement::Infrastructure]) {
            NOT_THE_DRIVER
        } else {
            0
        }
    }
}
