//! Storms, in the virtual time of a real machine.

use serde_json::json;

use crate::guest;
use crate::machine::{Machine, Setup};
use crate::recorder::{Record, records};

#[test]
fn a_storm_is_paced_by_acknowledgement() {
    let mut machine = Machine::new();
    machine.intercept();
    machine.write('l', 0x304, 1);
    machine.set("storm", r#"{"pace":"ack","gap_ns":1000,"jitter_ns":500,"count":200,"seed":7}"#).unwrap();
    for n in 1..=200 {
        machine.wait_for("/fired", n);
        assert_eq!(machine.counter("/fired"), n, "nothing is fired before the acknowledgement");
        machine.write('l', 0x308, 1);
    }
    assert_eq!(machine.get("storm"), json!(""), "it ends by itself");
    let stats = machine.stats();
    let counters = ["fired", "asserted", "serviced", "coalesced"].map(|name| stats[name].as_u64());
    assert_eq!(counters, [200, 200, 200, 0].map(Some), "{stats}");
    assert_eq!(machine.interrupts(5).len(), 400);
}

#[test]
fn a_storm_without_a_gap_makes_an_edge_of_every_acknowledgement() {
    let mut machine = Machine::new();
    machine.intercept();
    machine.write('l', 0x304, 1);
    machine.set("storm", r#"{"pace":"ack","gap_ns":0}"#).unwrap();
    machine.interrupts(5);
    machine.write('l', 0x308, 1);
    assert_eq!(machine.interrupts(5), ["lower", "raise"]);
}

#[test]
fn a_storm_rests_while_interrupts_are_disabled_and_stops_when_told() {
    let mut machine = Machine::new();
    let storm = r#"{"pace":"ack","gap_ns":1000,"jitter_ns":0,"count":0,"seed":1}"#;
    machine.set("storm", storm).unwrap();
    assert_eq!(machine.get("storm"), json!(storm));
    assert_eq!(machine.counter("/suppressed"), 1);
    machine.write('l', 0x304, 1);
    assert_eq!(machine.counter("/asserted"), 1);
    machine.write('l', 0x308, 1);
    machine.wait_for("/fired", 2);
    machine.set("storm", "").unwrap();
    machine.write('l', 0x308, 1);
    machine.set("fire", 1).unwrap();
    assert_eq!(machine.counter("/fired"), 3);
    assert_eq!(machine.get("storm"), json!(""));
}

/// A guest takes a storm to its end: nothing is lost, nothing is taken twice.
fn a_guest_takes_them_all(arguments: &[&'static str], storm: &str, count: u64) {
    let mut machine =
        Machine::with(Setup { rom: guest::rom(), arguments: arguments.to_vec(), ..Setup::default() });
    // Before the guest has enabled interrupts, or after: the storm waits for it.
    machine.set("storm", storm).unwrap();
    machine.wait_for("/serviced", count);
    let stats = machine.stats();
    let counters = ["fired", "asserted", "serviced"].map(|name| stats[name].as_u64());
    assert_eq!(counters, [count; 3].map(Some), "{stats}");
    assert_eq!(stats["line"], json!(false), "{stats}");
    assert_eq!(u64::from(machine.memory(guest::INTERRUPTS)), count);
}

#[test]
fn a_guest_takes_every_interrupt_of_a_storm_without_a_gap() {
    a_guest_takes_them_all(&[], r#"{"pace":"ack","gap_ns":0,"count":20000}"#, 20_000);
}

#[test]
fn a_guest_takes_every_interrupt_of_a_storm_in_virtual_time() {
    a_guest_takes_them_all(&[], r#"{"pace":"ack","gap_ns":20000,"jitter_ns":5000,"count":2000}"#, 2000);
}

#[test]
fn a_guest_takes_every_interrupt_of_a_storm_when_instructions_are_counted() {
    let storm = r#"{"pace":"ack","gap_ns":20000,"jitter_ns":5000,"count":2000}"#;
    a_guest_takes_them_all(&["-icount", "shift=1"], storm, 2000);
}

/// Everything that the recorder says of a storm whose every instruction is counted, but for the host's time.
fn counted_storm(seed: u32) -> Vec<Record> {
    // Time that follows the host while the processor idles would not repeat.
    let arguments = vec!["-icount", "shift=1,sleep=off", "-S"];
    let mut machine = Machine::with(Setup { rom: guest::rom(), arguments, ..Setup::default() });
    let storm = format!(r#"{{"pace":"ack","gap_ns":20000,"jitter_ns":5000,"count":1000,"seed":{seed}}}"#);
    machine.set("storm", storm).unwrap();
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/serviced", 1000);
    records(&machine.trace())
}

#[test]
fn a_seed_repeats_a_storm_to_the_nanosecond_when_instructions_are_counted() {
    let first = counted_storm(7);
    assert!(first.len() > 4000, "{} records", first.len());
    assert!(first == counted_storm(7), "the same seed");
    assert!(first != counted_storm(8), "another");
}
