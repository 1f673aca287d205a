//! A snapshot that is loaded again and again in the middle of a storm: does anything of the card's drift?
//!
//! A counter drifts if a load leaves something behind of what ran after the save. So each load must give the very
//! counters that were saved; and after all of them the storm, gone on to its end, must have counted what it counts in a
//! machine that was never saved at all.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bus::{Function, SLOT};
use crate::guest::{INTERRUPTS, VECTOR, rom};
use crate::machine::{Machine, Setup};

/// Samples of the storm: it blows for some tenth of a second.
const COUNT: u64 = 5000;
const STORM: &str = r#"{"pace":"ack","gap_ns":5000,"jitter_ns":20000,"count":5000,"seed":3}"#;
/// Where the snapshot is made.
const SAVED_AT: u64 = COUNT / 4;
/// How long the machine runs after a load.
const RUN: Duration = Duration::from_millis(1);

/// A stopped machine of 64 MB, its card set up for MSI-X, and a storm that begins with it.
fn machine() -> Machine {
    let mut machine = Machine::with(Setup {
        rom: rom(),
        device: "squall-pci",
        device_options: ",addr=4",
        arguments: vec!["-S", "-m", "64"],
        ..Setup::default()
    });
    let function: Function = SLOT;
    function.turn_on(&mut machine);
    function.enable_msix(&mut machine, |_| (0xFEE0_0000, VECTOR));
    machine.set("storm", STORM).expect("a storm");
    machine
}

/// The card's counters, and what the guest has counted itself.
type Counted = (Value, u32);

fn counted(machine: &mut Machine) -> Counted {
    (machine.stats(), machine.memory(INTERRUPTS))
}

/// What the storm comes to at its end.
fn to_the_end(machine: &mut Machine) -> Counted {
    machine.qmp("cont", json!({})).expect("it runs");
    machine.wait_for("/serviced", COUNT);
    counted(machine)
}

/// Loads a snapshot and runs it for a millisecond, so many times. How long each load took.
pub(crate) fn no_drift(cycles: usize) -> Vec<Duration> {
    let never_saved = to_the_end(&mut machine());
    assert_eq!(never_saved.0["serviced"], json!(COUNT));
    assert_eq!(u64::from(never_saved.1), COUNT, "taken");

    let mut machine = machine();
    let path = machine.dir().join("disk.qcow2");
    machine.add_disk(&path, true);
    machine.qmp("cont", json!({})).expect("it runs");
    machine.wait_for("/serviced", SAVED_AT);
    machine.qmp("stop", json!({})).expect("it stops");
    machine.monitor("savevm here");
    let saved = counted(&mut machine);
    let mut took = Vec::new();
    let mut ran = 0;
    for cycle in 0..cycles {
        let begun = Instant::now();
        machine.monitor("loadvm here");
        took.push(begun.elapsed());
        assert_eq!(counted(&mut machine), saved, "cycle {cycle}");
        machine.qmp("cont", json!({})).expect("it runs");
        sleep(RUN);
        machine.qmp("stop", json!({})).expect("it stops");
        let (stats, taken) = counted(&mut machine);
        let number = |name: &str| stats[name].as_u64().expect("a counter");
        let (asserted, serviced) = (number("asserted"), number("serviced"));
        assert!((serviced..=serviced + 1).contains(&asserted), "cycle {cycle}: {stats}");
        assert!(
            (serviced..=serviced + 1).contains(&u64::from(taken)),
            "cycle {cycle}: {taken} taken, {stats}"
        );
        ran += serviced - saved.0["serviced"].as_u64().expect("a counter");
    }
    assert!(ran > cycles as u64, "the storm goes on in between: {ran} interrupts in {cycles} cycles");
    machine.monitor("loadvm here");
    assert_eq!(to_the_end(&mut machine), never_saved, "after {cycles} cycles, and without any");
    took
}
