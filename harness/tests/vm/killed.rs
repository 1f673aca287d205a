//! The harness is killed, the hard way, at moments spread over a run.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use squall_harness::{
    evidence::{Event, Evidence},
    run_dir::RunDir,
    verdict::{Outcome, Verdict},
};

use crate::bench::Bench;

/// Names the folder in which the process to be killed makes its run.
const RUNS: &str = "SQUALL_TEST_RUNS";

/// Not a test of its own: the process that [`leaves_no_qemu_and_a_readable_run`] kills.
#[tokio::test]
#[ignore = "it is run, and killed, by another test"]
async fn a_run_to_be_killed() {
    let Some(runs) = std::env::var_os(RUNS) else { return };
    let bench = Bench::new();
    let mut parts = bench.parts();
    parts.runs = runs.into();
    bench.run_with(&bench.scenario(2, None), &parts).await.unwrap();
}

#[test]
fn leaves_no_qemu_and_a_readable_run() {
    let bench = Bench::new();
    let whole = {
        let began = Instant::now();
        let mut child = start(&bench.folder.path().join("whole"));
        assert!(child.wait().unwrap().success());
        began.elapsed()
    };
    let mut seen_qemu = 0;
    for moment in 0..10 {
        let runs = bench.folder.path().join(format!("killed-{moment}"));
        let mut child = start(&runs);
        sleep(whole * moment / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        let Some(run) = only_run(&runs) else { continue };
        let deadline = Instant::now() + Duration::from_secs(1);
        while qemu_of(&run) && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
        assert!(!qemu_of(&run), "killed at moment {moment}: QEMU is still there");
        let run = RunDir::open(&run);
        let Ok(evidence) = Evidence::load(&run) else {
            // Killed between making the directory and its first file.
            assert_eq!(moment, 0);
            continue;
        };
        seen_qemu += u32::from(evidence.events().any(|event| matches!(event, Event::QemuStarted { .. })));
        match Verdict::of_run(&run) {
            // Cut off, or just finished.
            Ok(verdict) => assert!(
                matches!(verdict.outcome, Outcome::Infrastructure | Outcome::Clean),
                "killed at moment {moment}: {verdict:#?}"
            ),
            // The scenario is written before QEMU is started.
            Err(error) => assert!(!started(&evidence), "killed at moment {moment}: {error}"),
        }
    }
    assert!(seen_qemu >= 3, "only {seen_qemu} of ten kills came while QEMU ran");
}

fn started(evidence: &Evidence) -> bool {
    evidence.events().any(|event| matches!(event, Event::QemuStarted { .. }))
}

fn start(runs: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_run_to_be_killed", "--ignored"])
        .env(RUNS, runs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn only_run(runs: &Path) -> Option<PathBuf> {
    Some(std::fs::read_dir(runs).ok()?.next()?.unwrap().path())
}

/// Whether any process has this run directory among its arguments.
fn qemu_of(run: &Path) -> bool {
    let name = run.to_string_lossy().into_owned();
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name))
    })
}
