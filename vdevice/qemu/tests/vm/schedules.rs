//! Every schedule of a storm, taken by a guest whose instructions are counted, so that its times are exact.

use serde_json::{Value, json};

use crate::guest::{Act, INTERRUPTS, follow, rom};
use crate::machine::{Machine, Setup};
use crate::recorder::{Record, records};
use crate::snapshot::snapshot;

// Kinds of a flight record.
const READ: u16 = 1;
const WRITE: u16 = 2;
const FIRE: u16 = 3;
const RESTORED: u16 = 16;

/// What a step of the guest's clock may take, in nanoseconds: a timer goes off between two translation blocks.
const STEP: u64 = 200;

/// A stopped machine in which an instruction takes 2 ns, whatever the host does.
fn counted() -> Machine {
    let arguments = vec!["-icount", "shift=1,sleep=off", "-S"];
    let options = ",trace-records=262144";
    Machine::with(Setup { rom: rom(), arguments, device_options: options, ..Setup::default() })
}

fn go(machine: &mut Machine) {
    machine.qmp("cont", json!({})).unwrap();
}

fn counters<const N: usize>(stats: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| stats[name].as_u64().expect("a counter"))
}

/// When samples were taken.
fn fires(trace: &[Record]) -> Vec<u64> {
    trace.iter().filter(|record| record.kind == FIRE).map(|record| record.virtual_ns).collect()
}

/// What follows its predecessor by `expected`, give or take a step of the clock.
#[track_caller]
fn follows(before: u64, after: u64, expected: u64) {
    let distance = after - before;
    assert!(distance.abs_diff(expected) <= STEP, "{distance} ns instead of {expected}");
}

fn periodic(seed: u32) -> Vec<Record> {
    let mut machine = counted();
    let storm =
        format!(r#"{{"pace":"period","period_ns":20000,"jitter_ns":5000,"count":1000,"seed":{seed}}}"#);
    machine.set("storm", storm).unwrap();
    go(&mut machine);
    machine.wait_for("/serviced", 1000);
    let stats = machine.stats();
    let names = ["fired", "asserted", "serviced", "coalesced", "missed"];
    assert_eq!(counters(&stats, names), [1000, 1000, 1000, 0, 0], "{stats}");
    assert_eq!(machine.memory(INTERRUPTS), 1000);
    records(&machine.trace())
}

#[test]
fn a_periodic_storm_repeats_to_the_nanosecond_when_instructions_are_counted() {
    let first = periodic(7);
    let dues = fires(&first);
    for (number, due) in dues.iter().enumerate() {
        let jitter = (due - dues[0]).wrapping_sub(number as u64 * 20_000);
        assert!(jitter <= 5000 + STEP, "sample {number} is {jitter} ns late");
    }
    assert!(first == periodic(7), "the same seed");
    assert!(first != periodic(8), "another");
}

#[test]
fn bursts_come_at_their_gap_in_every_period() {
    let mut machine = counted();
    let storm = r#"{"pace":"period","period_ns":50000,"burst":5,"burst_gap_ns":4000,"count":52}"#;
    machine.set("storm", storm).unwrap();
    go(&mut machine);
    machine.wait_for("/serviced", 52);
    let dues = fires(&records(&machine.trace()));
    assert_eq!(dues.len(), 52);
    for (number, due) in dues.iter().enumerate() {
        let (burst, sample) = (number as u64 / 5, number as u64 % 5);
        follows(dues[0], *due, burst * 50_000 + sample * 4000);
    }
    assert_eq!(machine.get("storm"), json!(""));
}

#[test]
fn a_burst_back_to_back_is_one_interrupt() {
    let mut machine = counted();
    machine.set("storm", r#"{"pace":"period","period_ns":50000,"burst":70,"count":700}"#).unwrap();
    go(&mut machine);
    machine.wait_for("/serviced", 10);
    let stats = machine.stats();
    assert_eq!(counters(&stats, ["fired", "asserted", "coalesced"]), [700, 10, 690], "{stats}");
    assert_eq!(machine.read('l', 0x310), 64, "nobody reads the FIFO");
}

#[test]
fn one_more_comes_after_interrupts_were_disabled() {
    let mut machine = counted();
    let one_more = concat!(
        r#"{"pace":"access","register":"CONTROL","access":"write","mask":1,"value":0,"#,
        r#""delay_ns":2000,"jitter_ns":0,"count":1,"seed":1}"#
    );
    machine.set("storm", one_more).unwrap();
    assert_eq!(machine.get("storm"), json!(one_more));
    follow(&mut machine, &[Act::Wait(2000), Act::Out(0x304, 0), Act::Wait(3000), Act::Out(0x304, 1)]);
    go(&mut machine);
    machine.wait_for("/serviced", 1);
    let stats = machine.stats();
    assert_eq!(counters(&stats, ["fired", "suppressed", "asserted", "serviced"]), [1; 4], "{stats}");
    let trace = records(&machine.trace());
    let cleared = trace.iter().find(|r| (r.kind, r.offset, r.value) == (WRITE, 4, 0)).expect("the write");
    follows(cleared.virtual_ns, fires(&trace)[0], 2000);
}

#[test]
fn a_read_draws_the_next_sample() {
    let mut machine = counted();
    let storm = r#"{"pace":"access","register":"STATUS","access":"read","delay_ns":5000,"count":100}"#;
    machine.set("storm", storm).unwrap();
    machine.set("fire", 1).unwrap();
    go(&mut machine);
    // The interrupt routine reads STATUS once.
    machine.wait_for("/serviced", 101);
    let trace = records(&machine.trace());
    let reads = trace.iter().filter(|r| (r.kind, r.offset) == (READ, 8)).map(|r| r.virtual_ns);
    for (read, fire) in reads.zip(fires(&trace).into_iter().skip(1)) {
        follows(read, fire, 5000);
    }
    assert_eq!(machine.counter("/fired"), 101);
}

#[test]
fn schedules_run_side_by_side_and_end_one_by_one() {
    let mut machine = counted();
    let ack = r#"{"pace":"ack","gap_ns":3000,"jitter_ns":0,"count":0,"seed":1}"#;
    let period = r#"{"pace":"period","period_ns":50000,"jitter_ns":0,"count":20,"seed":1}"#;
    machine.set("storm", format!("[{ack},{period}]")).unwrap();
    assert_eq!(machine.get("storm"), json!(format!("[{ack},{period}]")));
    go(&mut machine);
    machine.wait_for("/serviced", 2000);
    assert_eq!(machine.get("storm"), json!(ack), "20 samples at 50 us are over long before 2000 at 3 us");
    machine.set("storm", "").unwrap();
    let stats = machine.stats();
    let [fired, serviced] = counters(&stats, ["fired", "serviced"]);
    assert!(fired > serviced && fired <= serviced + 21, "{stats}");
}

#[test]
fn a_storm_is_started_and_stopped_whether_the_machine_runs_or_not() {
    let mut machine = counted();
    machine.set("storm", r#"{"pace":"period","period_ns":1000}"#).unwrap();
    assert_eq!(machine.counter("/fired"), 1, "time stands still");
    go(&mut machine);
    machine.wait_for("/fired", 1000);
    machine.qmp("stop", json!({})).unwrap();
    let fired = machine.counter("/fired");
    assert_eq!(machine.counter("/fired"), fired);
    machine.set("storm", "").unwrap();
    // What had become due before the machine stopped comes first.
    let fired = machine.counter("/fired");
    go(&mut machine);
    let rounds = machine.memory(crate::guest::ROUNDS);
    machine.wait_for_memory(crate::guest::ROUNDS, |now| now.wrapping_sub(rounds) > 1000);
    assert_eq!(machine.counter("/fired"), fired);
    machine.set("storm", r#"{"pace":"period","period_ns":5000,"count":10}"#).unwrap();
    machine.wait_for("/fired", fired + 10);
}

/// Every schedule goes on after a snapshot as it would have without: the recorder tells the same twice.
#[test]
fn a_snapshot_holds_every_schedule_and_its_random_state() {
    let mut machine = counted();
    let path = machine.dir().join("disk.qcow2");
    machine.add_disk(&path, true);
    let storm = concat!(
        r#"[{"pace":"period","period_ns":20000,"jitter_ns":9000,"burst":3,"burst_gap_ns":500,"count":3000},"#,
        r#"{"pace":"ack","gap_ns":3000,"jitter_ns":8000,"count":3000},"#,
        r#"{"pace":"access","register":"STATUS","access":"write","delay_ns":100,"jitter_ns":4000,"count":3000}]"#
    );
    machine.set("storm", storm).unwrap();
    let wrong = r#"{"late_register":{"register":"SEQUENCE","delay_ns":9000}}"#;
    machine.set("misbehave", wrong).unwrap();
    go(&mut machine);
    machine.wait_for("/fired", 2000);
    machine.qmp("stop", json!({})).unwrap();
    let (running, wrong) = (machine.get("storm"), machine.get("misbehave"));
    snapshot(&mut machine, "snapshot-save");

    let run_to_the_end = |machine: &mut Machine, before: usize| {
        go(machine);
        machine.wait_for("/fired", 9000);
        machine.qmp("stop", json!({})).unwrap();
        machine.set("misbehave", "").unwrap();
        let trace = records(&machine.trace());
        let told: Vec<_> =
            trace[before..].iter().map(|r| (r.virtual_ns, r.kind, r.offset, r.value, r.level)).collect();
        assert!(told.len() > 20_000, "{} records", told.len());
        told
    };
    let before = records(&machine.trace()).len();
    let mut first = run_to_the_end(&mut machine, before);
    snapshot(&mut machine, "snapshot-load");
    assert_eq!((machine.get("storm"), machine.get("misbehave")), (running, wrong));
    let trace = records(&machine.trace());
    let restored = trace.iter().rposition(|record| record.kind == RESTORED).expect("a snapshot was loaded");
    let mut second = run_to_the_end(&mut machine, restored + 1);
    // A sample that is due in the very nanosecond of the stop may come while the machine still stands: in the one
    // before it goes on, in the other after.
    let stopped = trace[restored].virtual_ns;
    for told in [&mut first, &mut second] {
        told.retain(|&(virtual_ns, ..)| virtual_ns > stopped);
    }
    // The host stops the one sooner after the last sample than the other.
    let len = first.iter().rposition(|(_, kind, ..)| *kind == FIRE).expect("samples") + 1;
    let otherwise = (0..len).find(|&at| first.get(at) != second.get(at));
    if let Some(at) = otherwise {
        let (from, to) = (at.saturating_sub(3), at + 4);
        let (first, second) = (&first[from..to.min(first.len())], second.get(from..to.min(second.len())));
        panic!("the storm went on otherwise from its record {at} on: {first:?}, then {second:?}");
    }
}
