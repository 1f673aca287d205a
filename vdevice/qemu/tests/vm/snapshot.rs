//! Snapshots: the card goes on as if nothing had been in between, in the same process and in another.

use serde_json::{Value, json};

use crate::bus::{Function, TABLE, open_port, places, route_to_pic};
use crate::cycles::no_drift;
use crate::guest::{INTERRUPTS, VECTOR, rom};
use crate::machine::{Machine, Setup};
use crate::recorder::records;

const COUNT: u64 = 5000;
const STORM: &str = r#"{"pace":"ack","gap_ns":5000,"jitter_ns":20000,"count":5000,"seed":3}"#;

/// Kind `RESTORED` of a flight record.
const RESTORED: u16 = 16;

/// Everything of a card that a guest or a bench can see.
#[derive(Clone, Debug, PartialEq)]
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

pub(crate) fn snapshot(machine: &mut Machine, verb: &str) {
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

fn survives(setup: impl Fn() -> Setup, function: Option<Function>, mode: &str) {
    let board = if setup().board.is_empty() { "pc" } else { setup().board };
    let start = || {
        let setup = setup();
        let mut arguments = setup.arguments.clone();
        arguments.push("-S");
        Machine::with(Setup { rom: rom(), arguments, ..setup })
    };
    let mut first = start();
    let path = first.dir().join("disk.qcow2");
    first.add_disk(&path, true);
    if let Some(function) = function {
        if function.bus > 0 {
            open_port(&mut first);
        }
        function.turn_on(&mut first);
        match mode {
            "msi" => function.enable_msi(&mut first, 0xFEE0_0000, VECTOR),
            "msix" => assert_eq!(function.enable_msix(&mut first, |_| (0xFEE0_0000, VECTOR)), 4),
            _ => route_to_pic(&mut first, board),
        }
    }
    first.qmp("cont", json!({})).unwrap();
    first.set("storm", STORM).unwrap();
    first.wait_for("/serviced", COUNT / 4);
    first.qmp("stop", json!({})).unwrap();
    // What happens while the machine is stopped is in the snapshot as well.
    first.set("fire", 1).unwrap();
    let seen = look(&mut first, function);
    assert_eq!(seen.stats["interrupt"], json!(mode));
    snapshot(&mut first, "snapshot-save");
    // The looks above were counted.
    let told = first.stats();

    first.qmp("cont", json!({})).unwrap();
    first.wait_for("/serviced", COUNT / 2);
    first.qmp("stop", json!({})).unwrap();
    // As whoever goes back often does; the other process, below, does without.
    first.set("forget-translations", true).unwrap();
    snapshot(&mut first, "snapshot-load");
    assert_eq!(first.stats(), told);
    let again = look(&mut first, function);
    let seen = Seen { stats: told.clone(), ..seen };
    assert_eq!(Seen { stats: told.clone(), ..again }, seen);
    assert!(records(&first.trace()).iter().any(|record| record.kind == RESTORED));
    goes_on_to_the_end(&mut first);
    first.qmp("stop", json!({})).unwrap();
    // The disk is let go of.
    for node in ["disk", "file"] {
        first.qmp("blockdev-del", json!({ "node-name": node })).unwrap();
    }

    let mut second = start();
    second.add_disk(&path, false);
    snapshot(&mut second, "snapshot-load");
    assert_eq!(second.stats(), told);
    let again = look(&mut second, function);
    assert_eq!(Seen { stats: told.clone(), ..again }, seen, "in a fresh process");
    second.set("storm", "").unwrap();
    snapshot(&mut second, "snapshot-load");
    assert_eq!(second.get("storm"), json!(STORM));
    goes_on_to_the_end(&mut second);
}

#[test]
fn the_isa_card_survives() {
    survives(Setup::default, None, "isa");
}

fn the_pci_card_survives(place: usize, mode: &str) {
    let function = places().swap_remove(place).1;
    survives(|| places().swap_remove(place).0, Some(function), mode);
}

#[test]
fn the_pci_cards_survive_with_msix() {
    for place in 0..places().len() {
        the_pci_card_survives(place, "msix");
    }
}

#[test]
fn the_pci_cards_survive_with_msi() {
    the_pci_card_survives(0, "msi");
    the_pci_card_survives(2, "msi");
}

#[test]
fn the_pci_cards_survive_with_a_level() {
    the_pci_card_survives(0, "intx");
    the_pci_card_survives(1, "intx");
}

/// `cargo xtask bench snapshots` does it a thousand times.
#[test]
fn nothing_drifts_over_many_loads() {
    no_drift(50);
}

/// Loads a snapshot whose card was written over, in a fresh process.
fn damaged(damage: impl Fn(&mut [u8])) {
    let mut first = Machine::with(Setup { arguments: vec!["-S"], ..Setup::default() });
    let path = first.dir().join("disk.qcow2");
    first.add_disk(&path, true);
    first.set("fire", 3).unwrap();
    first.monitor("savevm here");
    for node in ["disk", "file"] {
        first.qmp("blockdev-del", json!({ "node-name": node })).unwrap();
    }
    let mut disk = std::fs::read(&path).unwrap();
    let card = br#"{"schema":"squall.card/"#;
    let places: Vec<usize> = disk
        .windows(card.len())
        .enumerate()
        .filter_map(|(at, bytes)| (bytes == card).then_some(at))
        .collect();
    let [place] = places[..] else { panic!("{places:?}: one card is in the snapshot") };
    // Its length comes before it.
    damage(&mut disk[place - 4..place + 512]);

    let mut second = Machine::with(Setup { arguments: vec!["-S"], ..Setup::default() });
    let path = second.dir().join("disk.qcow2");
    std::fs::write(&path, disk).unwrap();
    second.add_disk(&path, false);
    second.set("fire", 1).unwrap();
    second.monitor("loadvm here");
    assert_eq!(second.counter("/fired"), 0, "the card was reset");
    second.set("fire", 2).unwrap();
    second.qmp("cont", json!({})).unwrap();
    assert_eq!((second.counter("/fired"), second.read('l', 0x300)), (2, 0x4C4C_5153), "and works");
}

#[test]
fn a_damaged_card_is_a_reset_card_and_qemu_lives_on() {
    damaged(|bytes| bytes[..4].fill(0xFF));
    damaged(|bytes| bytes[..4].fill(0));
    damaged(|bytes| bytes[4] = b'[');
    damaged(|bytes| bytes[40..].fill(0xC3));
}
