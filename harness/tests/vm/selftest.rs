//! The embedded guest's own tests, which run inside it.

use std::time::Duration;

use squall_harness::{profile::GuestProfile, run_dir::RunDir, scenario::Scenario};

use crate::bench::Bench;

/// What the guest writes to the port becomes an exit status that no other end of QEMU has: twice the value, plus one.
const EXIT_DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=4";

/// PCI cards of QEMU's own that interrupt on demand: one behind a bridge, with a line and one message, and one with a
/// table of messages.
const CARDS: [&str; 3] = ["pci-bridge,id=bridge0,chassis_nr=1", "edu,bus=bridge0,addr=3", "e1000e,romfile="];

async fn selftest(processors: u8) {
    let bench = Bench::new();
    let run = RunDir::create(&bench.runs(), 1).unwrap();
    let mut profile = GuestProfile::named("testkernel").unwrap();
    profile.boot.command_line = "selftest".to_owned();
    profile.machine.devices.push(EXIT_DEVICE.to_owned());
    profile.machine.devices.extend(CARDS.map(str::to_owned));
    let scenario = Scenario { processors, ..Scenario::default() };
    let machine = bench.machine(&profile, &scenario, &run);
    let mut process = machine.start().unwrap();
    let status = process.ended_within(Duration::from_secs(60)).await;
    let console = std::fs::read_to_string(run.file("console.log")).unwrap_or_default();
    let crash = std::fs::read_to_string(run.file("crash.jsonl")).unwrap_or_default();
    let status =
        status.unwrap_or_else(|| panic!("the guest did not end; console:\n{console}\ncrash:\n{crash}"));
    assert!(status.code().is_some_and(|code| code % 2 == 1), "{status}; console:\n{console}\n{crash}");
    let summary = console.lines().find(|line| line.starts_with("selftest: ") && line.contains(" passed, "));
    let summary = summary.unwrap_or_else(|| panic!("no summary; console:\n{console}"));
    println!("{summary}");
    assert!(!console.contains("skipped: "), "a test found no card to run with: {console}");
    assert!(summary.ends_with(" 0 failed") && !summary.starts_with("selftest: 0 passed"), "{console}");
}

#[tokio::test]
async fn passes_on_one_processor() {
    selftest(1).await;
}

#[tokio::test]
async fn passes_on_four_processors() {
    selftest(4).await;
}
