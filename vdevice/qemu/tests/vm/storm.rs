//! Storms, in the virtual time of a real machine.

use serde_json::json;

use crate::machine::Machine;

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
