//! The embedded guest's Verifier stops the system with the documented codes and parameters, and says that it was the Verifier.

use std::time::Duration;

use squall_harness::{crash::CrashRecord, profile::GuestProfile, run_dir::RunDir, scenario::Scenario};

use crate::bench::Bench;

/// A parameter that is an address which differs from run to run, or is reserved.
const ANY: Option<u64> = None;

const fn is(value: u64) -> Option<u64> {
    Some(value)
}

type Stop = (&'static str, u32, [Option<u64>; 4]);

/// A word of the command line (the guest's `selftest/verifier_stops.rs`), the code, the parameters.
const STOPS: &[Stop] = &[
    ("verifier-zw-user-address", 0xC4, [is(0xE3), ANY, is(0x1000), is(0)]),
    ("verifier-zw-malformed-string", 0xC4, [is(0xE4), ANY, ANY, is(0)]),
    ("plain-worker-at-dispatch", 0xE1, [ANY, is(2), ANY, ANY]),
    ("verifier-zero-bytes", 0xC4, [is(0), is(0), is(0), is(0)]),
    ("verifier-paged-at-dispatch", 0xC4, [is(1), is(2), is(1), is(24)]),
    ("verifier-allocate-at-dirql", 0xC4, [is(2), is(5), is(0), is(24)]),
    ("verifier-free-nothing", 0xC4, [is(0x16), is(0), is(0), is(0)]),
    ("verifier-free-elsewhere", 0xC4, [is(0x10), ANY, is(0), is(0)]),
    ("verifier-free-twice", 0xC4, [is(0x13), ANY, ANY, ANY]),
    ("verifier-free-twice-plain", 0xC4, [is(0x13), ANY, ANY, ANY]),
    ("verifier-free-packet", 0xC4, [is(0x105), ANY, is(0), is(0)]),
    ("verifier-read-freed", 0xD5, [ANY, is(0), ANY, ANY]),
    ("verifier-write-freed-at-dispatch", 0xD1, [ANY, is(2), is(1), ANY]),
    ("verifier-kernel-reads-freed", 0xCC, [ANY, is(0), ANY, ANY]),
    ("verifier-overrun", 0xD6, [ANY, is(1), ANY, ANY]),
    ("verifier-kernel-overrun", 0xCD, [ANY, is(0), ANY, ANY]),
    ("verifier-slop", 0xC1, [ANY, ANY, ANY, is(0x24)]),
    ("verifier-underrun", 0xC1, [ANY, ANY, ANY, is(0x23)]),
    ("verifier-leak", 0xC4, [is(0x62), ANY, ANY, is(3)]),
    ("verifier-timer-in-pool", 0xC4, [is(0x15), ANY, is(0), ANY]),
    ("verifier-timer-in-image", 0xC7, [is(0), ANY, ANY, ANY]),
    ("verifier-timer-into-image", 0xC7, [is(2), ANY, ANY, ANY]),
    ("verifier-dpc-in-pool", 0xC7, [is(1), ANY, ANY, ANY]),
    ("verifier-timers-dpc-in-pool", 0xC7, [is(1), ANY, ANY, ANY]),
    ("verifier-work-item-in-pool", 0xE4, [is(0), ANY, ANY, ANY]),
    ("verifier-lookaside-in-pool", 0xC4, [is(0xCC), ANY, ANY, is(128)]),
    ("verifier-lookaside-in-image", 0xC4, [is(0xCC), ANY, ANY, is(0x4000)]),
    ("verifier-lookaside-twice", 0xC4, [is(0xCA), ANY, ANY, ANY]),
    ("verifier-lookaside-never", 0xC4, [is(0xCB), ANY, ANY, ANY]),
    ("verifier-resource-in-pool", 0xC4, [is(0xD2), ANY, ANY, is(0x68)]),
    ("verifier-resource-twice", 0xC4, [is(0xD0), ANY, ANY, ANY]),
    ("verifier-resource-deleted-twice", 0xC4, [is(0xD1), ANY, ANY, ANY]),
    ("verifier-pageable-code", 0xD1, [ANY, is(2), is(8), ANY]),
    ("verifier-pageable-isr", 0xD1, [ANY, ANY, is(8), ANY]),
    ("verifier-paged-pool-at-dispatch", 0xD1, [ANY, is(2), is(0), ANY]),
    ("verifier-kernel-touches-paged-pool", 0xA, [ANY, is(2), is(0), ANY]),
    ("verifier-kernel-touches-pageable-section", 0xD3, [ANY, is(2), is(0), ANY]),
    ("plain-work-item-queued-twice", 0xE4, [is(1), ANY, is(1), is(0)]),
    ("plain-work-item-freed", 0xE4, [is(2), ANY, ANY, is(0)]),
    ("plain-free-twice", 0xC2, [is(7), ANY, ANY, ANY]),
];

/// Stops that a fault makes which real Windows has without its Verifier too.
const PLAIN_FAULTS: [u32; 5] = [0xA, 0xCE, 0xD1, 0xD3, 0xD4];

async fn stop(bench: &Bench, processors: u8, (word, code, parameters): Stop) -> Result<(), String> {
    let run = RunDir::create(&bench.runs(), 1).unwrap();
    let mut profile = GuestProfile::named("testkernel").unwrap();
    profile.boot.command_line = word.to_owned();
    let scenario = Scenario { processors, ..Scenario::default() };
    let machine = bench.machine(&profile, &scenario, &run);
    let mut process = machine.start().unwrap();
    let crash = run.file("crash.jsonl");
    let mut record = CrashRecord::read(&crash);
    for _ in 0..200 {
        if matches!(record, Ok(Some(_))) || process.ended_within(Duration::from_millis(50)).await.is_some() {
            break;
        }
        record = CrashRecord::read(&crash);
    }
    process.end_within(Duration::ZERO).await.unwrap();
    let console = std::fs::read_to_string(run.file("console.log")).unwrap_or_default();
    let record = match CrashRecord::read(&crash) {
        Ok(Some(record)) => record,
        Ok(None) => return Err(format!("{word}: no stop; console:\n{console}")),
        Err(why) => return Err(format!("{word}: {why}; console:\n{console}")),
    };
    let by_verifier = word.starts_with("verifier-") && !PLAIN_FAULTS.contains(&code);
    let matches = record.code == code
        && record.verifier == by_verifier
        && record
            .parameters
            .iter()
            .zip(parameters)
            .all(|(seen, wanted)| wanted.is_none_or(|it| it == seen.0));
    let seen = format!("{:#x} {:?}, verifier {}", record.code, record.parameters, record.verifier);
    if matches { Ok(()) } else { Err(format!("{word}: {seen}; wanted {code:#x} {parameters:x?}")) }
}

async fn all(processors: u8) {
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for &one in STOPS {
        wrong.extend(stop(&bench, processors, one).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn have_their_documented_parameters_on_one_processor() {
    all(1).await;
}

#[tokio::test]
async fn have_their_documented_parameters_on_four_processors() {
    all(4).await;
}
