//! Snapshots: the card goes on as if nothing had been in between, in the same process and in another.

use std::path::Path;

use serde_json::{Value, json};

use crate::bus::{Function, TABLE, open_port, places};
use crate::guest::{INTERRUPTS, VECTOR, rom};
use crate::machine::{Machine, Setup};
use crate::recorder::records;

const COUNT: u64 = 5000;
const STORM: &str = r#"{"pace":"ack","gap_ns":5000,"jitter_ns":20000,"count":5000,"seed":3}"#;

/// Kind `RESTORED` of a flight record.
const RESTORED: u16 = 16;

/// Everything of a card that a guest or a bench can see.
#[derive(Debug, PartialEq)]
struct Seen {
    stats: Value,
    storm: Value,
    registers: Vec<u32>,
    config: Vec<u32>,
    table: Vec<u32>,
    guest: u32,
}

/// Looks at a machine that is stopped. Nothing that it does may change what it sees: what pops is left out.
fn look(machine: &mut Machine, function: Option<Function>) -> Seen {
    let words = |function: Function, machine: &mut Machine| {
        (0..64).map(|word| function.read(machine, word * 4)).collect()
    };
    Seen {
        stats: machine.stats(),
        storm: machine.get("storm"),
        registers: [0x304, 0x308, 0x310, 0x314].map(|port| machine.read('l', port)).to_vec(),
        config: function.map_or(Vec::new(), |function| words(function, machine)),
        table: (0..16).map(|word| machine.memory(TABLE + word * 4)).collect(),
        guest: machine.memory(INTERRUPTS),
    }
}

fn disk(machine: &mut Machine, path: &Path, new: bool) {
    let path = path.to_str().expect("a path in text");
    if new {
        let file = json!({ "driver": "file", "filename": path, "size": 0 });
        machine.job("blockdev-create", json!({ "options": file }));
    }
    let file = json!({ "driver": "file", "node-name": "file", "filename": path });
    machine.qmp("blockdev-add", file).unwrap();
    if new {
        let format = json!({ "driver": "qcow2", "file": "file", "size": 1 << 26 });
        machine.job("blockdev-create", json!({ "options": format }));
    }
    let format = json!({ "driver": "qcow2", "node-name": "disk", "file": "file" });
    machine.qmp("blockdev-add", format).unwrap();
}

fn snapshot(machine: &mut Machine, verb: &str) {
    machine.job(verb, json!({ "tag": "here", "vmstate": "disk", "devices": ["disk"] }));
}

/// The storm goes on to its end: one sample more than its own, and each is acknowledged.
fn goes_on_to_the_end(machine: &mut Machine) {
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/fired", COUNT + 1);
    while machine.stats()["line"] == json!(true) {}
    let stats = machine.stats();
    assert_eq!((&stats["fired"], &stats["asserted"]), (&json!(COUNT + 1), &stats["serviced"]), "{stats}");
    assert_eq!(machine.get("storm"), json!(""));
    assert_eq!(json!(machine.memory(INTERRUPTS)), stats["serviced"], "taken");
}

fn survives(setup: impl Fn() -> Setup, function: Option<Function>) {
    let start = || {
        let setup = setup();
        let mut arguments = setup.arguments.clone();
        arguments.push("-S");
        Machine::with(Setup { rom: rom(), arguments, ..setup })
    };
    let mut first = start();
    let path = first.dir().join("disk.qcow2");
    disk(&mut first, &path, true);
    if let Some(function) = function {
        if function.bus > 0 {
            open_port(&mut first);
        }
        function.turn_on(&mut first);
        function.enable_msix(&mut first, |_| (0xFEE0_0000, VECTOR));
    }
    first.qmp("cont", json!({})).unwrap();
    first.set("storm", STORM).unwrap();
    first.wait_for("/serviced", COUNT / 4);
    first.qmp("stop", json!({})).unwrap();
    // What happens while the machine is stopped is in the snapshot as well.
    first.set("fire", 1).unwrap();
    let seen = look(&mut first, function);
    snapshot(&mut first, "snapshot-save");
    // The looks above were counted.
    let told = first.stats();

    first.qmp("cont", json!({})).unwrap();
    first.wait_for("/serviced", COUNT / 2);
    first.qmp("stop", json!({})).unwrap();
    snapshot(&mut first, "snapshot-load");
    assert_eq!(first.stats(), told);
    let again = look(&mut first, function);
    assert_eq!(Seen { stats: told.clone(), ..again }, Seen { stats: told.clone(), ..seen });
    assert!(records(&first.trace()).iter().any(|record| record.kind == RESTORED));
    goes_on_to_the_end(&mut first);
    first.qmp("stop", json!({})).unwrap();
    // The disk is let go of.
    for node in ["disk", "file"] {
        first.qmp("blockdev-del", json!({ "node-name": node })).unwrap();
    }

    let mut second = start();
    disk(&mut second, &path, false);
    snapshot(&mut second, "snapshot-load");
    assert_eq!(second.stats(), told);
    let again = look(&mut second, function);
    assert_eq!(again.registers[3], seen_sequence(&told));
    second.set("storm", "").unwrap();
    snapshot(&mut second, "snapshot-load");
    assert_eq!(second.get("storm"), json!(STORM));
    goes_on_to_the_end(&mut second);
}

/// Samples are numbered, and none was reset away.
fn seen_sequence(stats: &Value) -> u32 {
    stats["fired"].as_u64().expect("a counter") as u32
}

#[test]
fn the_isa_card_survives() {
    survives(Setup::default, None);
}

#[test]
fn the_pci_cards_survive() {
    for place in 0..places().len() {
        let function = places().swap_remove(place).1;
        survives(|| places().swap_remove(place).0, Some(function));
    }
}
