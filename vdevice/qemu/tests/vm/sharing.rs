//! Two cards on one line.

use serde_json::{Value, json};

use crate::bus::{COMMAND, Function, SLOT, route_to_pic};
use crate::guest::{EMPTY, INTERRUPTS, SECOND_STATUS, SECONDS, rom};
use crate::machine::{Machine, Setup};

const FIRST: &str = "/machine/peripheral/card0";
const SECOND: &str = "/machine/peripheral/card1";
const CARDS: [&str; 2] = [FIRST, SECOND];

/// Where the second card's ports are.
const PORTS: u32 = 0x340;

/// On this board, slots that are four apart share their lines.
const SECOND_SLOT: Function = Function { bus: 0, slot: 8 };

fn isa(rom: Vec<u8>) -> Machine {
    let arguments = vec!["-device", "squall-isa,id=card1,iobase=0x340,irq=5", "-S"];
    Machine::with(Setup { rom, arguments, ..Setup::default() })
}

fn pci(rom: Vec<u8>) -> Machine {
    let arguments = vec!["-device", "squall-pci,id=card1,addr=8", "-S"];
    let device_options = ",addr=4";
    let mut machine =
        Machine::with(Setup { rom, device: "squall-pci", device_options, arguments, ..Setup::default() });
    SLOT.turn_on(&mut machine);
    SECOND_SLOT.write(&mut machine, 0x14, PORTS);
    // Ports, and no memory: the tests' place for that is the first card's.
    SECOND_SLOT.write(&mut machine, COMMAND, 1);
    route_to_pic(&mut machine, "pc");
    machine
}

/// The line is high as long as one of them holds it.
fn the_line_is_an_or(mut machine: Machine) {
    machine.intercept();
    machine.write('l', 0x304, 1);
    machine.write('l', 0x344, 1);
    machine.set_of(FIRST, "fire", 1).unwrap();
    assert_eq!(machine.interrupts(5), ["raise"]);
    machine.set_of(SECOND, "fire", 1).unwrap();
    machine.write('l', 0x308, 1);
    assert_eq!(machine.interrupts(5), [""; 0], "the second still holds it");
    machine.set_of(FIRST, "fire", 1).unwrap();
    machine.write('l', 0x348, 1);
    assert_eq!(machine.interrupts(5), [""; 0], "now the first does");
    machine.write('l', 0x308, 1);
    assert_eq!(machine.interrupts(5), ["lower"]);
}

#[test]
fn isa_cards_hold_their_line_together() {
    the_line_is_an_or(isa(Vec::new()));
}

#[test]
fn pci_cards_hold_their_line_together() {
    the_line_is_an_or(pci(Vec::new()));
}

fn serviced(stats: &Value) -> (u64, u64) {
    let counter = |name: &str| stats[name].as_u64().expect("a counter");
    (counter("asserted"), counter("serviced"))
}

#[test]
fn a_guest_serves_two_storms_on_one_level() {
    const COUNT: u64 = 5000;
    let mut machine = pci(rom());
    machine.write_memory(SECOND_STATUS, PORTS + 8);
    machine.write('l', 0x344, 1);
    for card in CARDS {
        machine.set_of(card, "storm", format!(r#"{{"pace":"ack","gap_ns":3000,"count":{COUNT}}}"#)).unwrap();
    }
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/serviced", COUNT);
    while serviced(&machine.stats_of(SECOND)).1 < COUNT {}
    for card in CARDS {
        let stats = machine.stats_of(card);
        assert_eq!((serviced(&stats), &stats["line"]), ((COUNT, COUNT), &json!(false)), "{card}: {stats}");
    }
    let [taken, empty, seconds] =
        [INTERRUPTS, EMPTY, SECONDS].map(|counter| u64::from(machine.memory(counter)));
    assert_eq!(seconds, COUNT);
    // Each was for one of them, or for both, or, where one fell as the other's was taken, for none.
    assert!((COUNT..=2 * COUNT).contains(&taken) && empty < taken, "{taken} taken, {empty} not the first's");
}

#[test]
fn a_card_that_is_not_served_keeps_the_others_edges_away() {
    let mut machine = isa(rom());
    machine.write('l', 0x344, 1);
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/writes", 1);
    machine.set_of(SECOND, "fire", 1).unwrap();
    machine.wait_for_memory(EMPTY, |empty| empty == 1);
    // The wire is high, and stays so.
    machine.set_of(FIRST, "fire", 1).unwrap();
    let rounds = machine.memory(crate::guest::ROUNDS);
    machine.wait_for_memory(crate::guest::ROUNDS, |now| now.wrapping_sub(rounds) > 1000);
    assert_eq!((machine.memory(INTERRUPTS), machine.counter("/serviced")), (1, 0));
}
