//! Many runs in one machine, each begun by going back to the same moment.

use std::time::Instant;

use squall_harness::{
    run_dir::RunDir,
    series::{Begin, Iteration, Series},
    verdict::{Outcome, Verdict},
};

use crate::bench::Bench;

const DEFECT: &str = "interrupts-left-enabled-and-connected";

async fn crash(series: &mut Series, seed: u64) -> Iteration {
    let change = |scenario: &mut squall_harness::scenario::Scenario| {
        scenario.seed = seed;
        scenario.driver.defect = Some(DEFECT.to_owned());
    };
    series.run(Begin::Restored, change, |_| true).await.unwrap()
}

async fn live(series: &mut Series, begin: Begin, seed: u64) -> Iteration {
    series.run(begin, |scenario| scenario.seed = seed, |_| true).await.unwrap()
}

/// Of a run whose evidence was kept.
fn again(verdict: &Verdict) -> Verdict {
    Verdict::of_run(&RunDir::open(&verdict.run_dir)).unwrap()
}

async fn nothing_of_one_run_reaches_the_next(processors: u8) {
    let bench = Bench::new();
    let mut base = bench.scenario(processors, Some(DEFECT));
    base.driver.defect = None;
    let parts = bench.parts_with(&bench.artifacts.defects);
    let mut series = Series::begin(base, parts).unwrap();
    let mut verdicts = Vec::new();
    let began = Instant::now();
    for round in 0..6 {
        let crashed = crash(&mut series, round).await;
        let bugcheck = crashed.verdict.bugcheck.as_ref().unwrap_or_else(|| panic!("{:#?}", crashed.verdict));
        assert_eq!((bugcheck.code, bugcheck.parameters[2].0), (0xD1, 8), "{bugcheck:#?}");
        let lived = live(&mut series, Begin::Restored, round).await;
        assert_eq!(lived.verdict.outcome, Outcome::Clean, "{:#?}", lived.verdict);
        let device = &lived.verdict.device;
        // The last assertion may be withdrawn: silenced, and its line disconnected, before any processor took it.
        let withdrawn = device.asserted.checked_sub(device.serviced);
        assert!(device.serviced >= 1000 && withdrawn.is_some_and(|count| count <= 1), "{device:?}");
        assert_eq!(lived.verdict.seed, round);
        assert_eq!((crashed.booted, lived.booted), (round == 0, false), "a crash needs no boot after it");
        verdicts.extend([crashed.verdict, lived.verdict]);
    }
    println!("12 runs at {processors}: {:?}", began.elapsed());
    let dir = series.end().await;
    // What was judged then is in the run directories, and in no other.
    for verdict in &verdicts {
        assert_eq!(again(verdict), *verdict);
    }
    let runs = std::fs::read_dir(dir.path()).unwrap().flatten();
    let runs = runs.filter(|entry| entry.file_name().to_string_lossy().starts_with("run-")).count();
    assert_eq!(runs, 12);
}

#[tokio::test]
async fn nothing_of_one_run_reaches_the_next_on_one_processor() {
    nothing_of_one_run_reaches_the_next(1).await;
}

#[tokio::test]
async fn nothing_of_one_run_reaches_the_next_on_four_processors() {
    nothing_of_one_run_reaches_the_next(4).await;
}

#[tokio::test]
async fn a_guest_can_go_on_from_run_to_run_and_each_counts_its_own() {
    let bench = Bench::new();
    let parts = bench.parts_with(&bench.artifacts.driver);
    let mut series = Series::begin(bench.scenario(2, None), parts).unwrap();
    for round in 0..5 {
        let run = live(&mut series, Begin::GoingOn, round).await;
        assert_eq!(run.verdict.outcome, Outcome::Clean, "{:#?}", run.verdict);
        let device = &run.verdict.device;
        assert!(device.serviced >= 1000 && device.serviced < 20_000, "{device:?}");
        assert_eq!(run.booted, round == 0);
    }
    series.end().await;
}

#[tokio::test]
async fn a_run_that_nobody_wants_leaves_nothing() {
    let bench = Bench::new();
    let parts = bench.parts_with(&bench.artifacts.driver);
    let mut series = Series::begin(bench.scenario(1, None), parts).unwrap();
    let run = series.run(Begin::Restored, |_| (), |_| false).await.unwrap();
    assert!(!run.kept && !run.verdict.run_dir.exists());
    assert_eq!(run.verdict.outcome, Outcome::Clean);
    series.end().await;
}

/// A hang is judged by its deadline, and the processor that spins in it is brought back with the rest.
#[tokio::test]
async fn a_machine_comes_back_from_a_hang() {
    let bench = Bench::new();
    let image = bench.folder.path().join("other.sys");
    // An Unload that jumps to itself.
    std::fs::write(&image, crate::pe::PeBuilder::with_unload(&[0xEB, 0xFE]).build()).unwrap();
    let mut base = squall_harness::scenario::Scenario::default();
    base.driver.image = image;
    base.before_unload.nothing_after_ms = 20;
    base.deadlines.unload_ms = 700;
    let parts = bench.parts();
    let mut series = Series::begin(base, parts).unwrap();
    for round in 0..3 {
        let run = live(&mut series, Begin::GoingOn, round).await;
        assert_eq!(run.verdict.outcome, Outcome::Hang, "{:#?}", run.verdict);
        assert_eq!(run.booted, round == 0);
    }
    series.end().await;
}
