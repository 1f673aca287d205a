//! Every misbehaviour, met by a guest whose instructions are counted, or by the test protocol.

use serde_json::json;

use crate::bus::{SLOT, route_to_pic};
use crate::guest::{Act, EMPTY, INTERRUPTS, follow_to_the_end, kept, rom};
use crate::machine::{Machine, Setup};
use crate::recorder::{Record, records};

// Kinds of a flight record.
const WRITE: u16 = 2;
const FIRE: u16 = 3;
const ASSERT: u16 = 4;
const SERVICED: u16 = 6;
const SILENCED: u16 = 9;
const MISBEHAVE: u16 = 17;
const POSTED: u16 = 18;

/// A running machine in which an instruction takes 2 ns, and whose guest has enabled the card.
fn counted() -> Machine {
    let arguments = vec!["-icount", "shift=1,sleep=off"];
    let mut machine = Machine::with(Setup { rom: rom(), arguments, ..Setup::default() });
    machine.wait_for("/writes", 1);
    machine
}

/// Records of a kind, with their places in the trace.
fn first(trace: &[Record], kind: u16) -> usize {
    trace.iter().position(|record| record.kind == kind).expect("such a record")
}

#[test]
fn a_line_stuck_high_is_one_edge() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"stuck_line":"high"}"#).unwrap();
    machine.wait_for_memory(EMPTY, |empty| empty == 1);
    machine.set("fire", 3).unwrap();
    follow_to_the_end(&mut machine, &[Act::Wait(10_000)]);
    assert_eq!(machine.memory(INTERRUPTS), 1, "nobody sees an edge any more");
    machine.set("misbehave", "").unwrap();
    assert_eq!(machine.stats()["line"], json!(true), "a sample waits");
}

#[test]
fn a_level_stuck_high_interrupts_for_ever() {
    let setup = Setup { device: "squall-pci", device_options: ",addr=4", ..Setup::default() };
    let mut machine = Machine::with(Setup { rom: rom(), arguments: vec!["-S"], ..setup });
    SLOT.turn_on(&mut machine);
    route_to_pic(&mut machine, "pc");
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/writes", 1);
    machine.set("misbehave", r#"{"stuck_line":"high"}"#).unwrap();
    machine.wait_for_memory(EMPTY, |empty| empty > 1000);
    machine.set("misbehave", "").unwrap();
    let taken = machine.memory(INTERRUPTS);
    follow_to_the_end(&mut machine, &[Act::Wait(10_000)]);
    assert!(machine.memory(INTERRUPTS) <= taken + 1, "it has ended");
}

#[test]
fn a_line_stuck_low_interrupts_nobody_until_it_comes_loose() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"stuck_line":"low"}"#).unwrap();
    machine.set("fire", 1).unwrap();
    follow_to_the_end(&mut machine, &[Act::Wait(10_000), Act::In(0x308)]);
    assert_eq!((machine.memory(INTERRUPTS), kept(&mut machine, 1)), (0, vec![1]));
    machine.set("misbehave", "").unwrap();
    machine.wait_for("/serviced", 1);
    assert_eq!((machine.memory(INTERRUPTS), machine.memory(EMPTY)), (1, 0));
}

#[test]
fn an_interrupt_comes_after_disable() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"late_disable":{"delay_ns":2000,"read_flushes":false}}"#).unwrap();
    let script = [Act::Out(0x304, 0), Act::In(0x304), Act::Wait(2000)];
    follow_to_the_end(&mut machine, &script);
    assert_eq!(kept(&mut machine, 1), [0], "it reads as if it were done");
    assert_eq!(machine.memory(INTERRUPTS), 1);
    let trace = records(&machine.trace());
    let order = [MISBEHAVE, POSTED, FIRE, ASSERT, SERVICED, SILENCED].map(|kind| first(&trace, kind));
    assert!(order.is_sorted(), "{order:?}");
    let posted = &trace[order[1]];
    assert_eq!((posted.value, trace[order[2]].value), (2000, 3));
    let silenced = trace[order[5]].virtual_ns - posted.virtual_ns;
    assert!((2000..2200).contains(&silenced), "{silenced} ns");
    let stats = machine.stats();
    assert_eq!(
        (&stats["misbehaviour"]["late_disables"], &stats["suppressed"], &stats["irq_enabled"]),
        (&json!(1), &json!(0), &json!(false)),
        "{stats}"
    );
}

#[test]
fn reading_back_flushes_a_disable_that_is_on_its_way() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"late_disable":{"delay_ns":1000000,"samples":0}}"#).unwrap();
    follow_to_the_end(&mut machine, &[Act::Out(0x304, 0), Act::In(0x304)]);
    assert_eq!(machine.stats()["irq_enabled"], json!(false));
    machine.set("fire", 1).unwrap();
    assert_eq!((machine.counter("/suppressed"), machine.memory(INTERRUPTS)), (1, 0));
    let trace = records(&machine.trace());
    let (posted, silenced) = (first(&trace, POSTED), first(&trace, SILENCED));
    assert!(trace[silenced].virtual_ns - trace[posted].virtual_ns < 1000);
    assert_eq!(trace[silenced - 1].kind, 1, "by a read");
}

#[test]
fn spurious_interrupts_have_an_empty_status() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"spurious":{"period_ns":20000,"width_ns":400}}"#).unwrap();
    machine.wait_for("/misbehaviour/spurious", 100);
    machine.set("misbehave", "").unwrap();
    follow_to_the_end(&mut machine, &[Act::Wait(10_000)]);
    let stats = machine.stats();
    let spurious = stats["misbehaviour"]["spurious"].as_u64().expect("a counter");
    assert_eq!((&stats["asserted"], &stats["serviced"]), (&json!(spurious), &json!(0)), "{stats}");
    let taken = [INTERRUPTS, EMPTY].map(|counter| u64::from(machine.memory(counter)));
    assert_eq!(taken, [spurious; 2], "{stats}");
}

#[test]
fn a_fifo_without_places_overruns_at_once() {
    let mut machine = Machine::new();
    machine.set("misbehave", r#"{"fifo_places":1}"#).unwrap();
    machine.set("fire", 3).unwrap();
    assert_eq!([0x308, 0x310, 0x314, 0x30C].map(|port| machine.read('l', port)), [0b11, 1, 3, 1]);
    machine.set("misbehave", "").unwrap();
    machine.set("fire", 2).unwrap();
    assert_eq!(machine.read('l', 0x310), 2);
}

#[test]
fn a_card_pulled_out_is_not_there_until_it_is_back() {
    let mut machine = counted();
    machine.set("storm", r#"{"pace":"ack","gap_ns":5000}"#).unwrap();
    machine.wait_for("/serviced", 100);
    machine.set("misbehave", r#"{"removed":true}"#).unwrap();
    let script = [Act::In(0x300), Act::In(0x308), Act::Out(0x304, 0), Act::Wait(20_000)];
    follow_to_the_end(&mut machine, &script);
    assert_eq!(kept(&mut machine, 2), [u32::MAX; 2]);
    assert_eq!((machine.read('w', 0x302), machine.read('b', 0x304)), (0xFFFF, 0xFF));
    let stats = machine.stats();
    assert_eq!((&stats["line"], &stats["irq_enabled"]), (&json!(false), &json!(true)), "{stats}");
    let (serviced, vanished) = (machine.counter("/serviced"), machine.counter("/misbehaviour/vanished"));
    assert!(vanished >= 5, "{stats}");
    machine.set("misbehave", "").unwrap();
    assert_eq!(machine.read('l', 0x300), 0x4C4C_5153);
    machine.wait_for("/serviced", serviced + 100);
}

#[test]
fn a_late_status_makes_an_interrupt_look_like_somebody_elses() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"late_register":{"register":"STATUS","reads":1}}"#).unwrap();
    for taken in 1..=20 {
        machine.set("fire", 1).unwrap();
        machine.wait_for("/serviced", taken);
    }
    assert_eq!([INTERRUPTS, EMPTY].map(|counter| machine.memory(counter)), [20; 2]);
    assert_eq!(machine.counter("/misbehaviour/stale_reads"), 20);
    // What the routine wrote was not late: STATUS is empty.
    machine.set("misbehave", r#"{"late_register":{"register":"STATUS","delay_ns":5000}}"#).unwrap();
    machine.set("misbehave", "").unwrap();
    machine.set("fire", 1).unwrap();
    machine.wait_for("/serviced", 21);
    assert_eq!(machine.memory(EMPTY), 20);
}

#[test]
fn a_register_shows_its_change_after_a_while() {
    let mut machine = counted();
    machine.set("misbehave", r#"{"late_register":{"register":"SEQUENCE","delay_ns":4000}}"#).unwrap();
    let storm = r#"{"pace":"access","register":"IDENT","access":"read","count":1}"#;
    machine.set("storm", storm).unwrap();
    // The interrupt comes between the first two.
    let script = [Act::In(0x300), Act::In(0x314), Act::Wait(2000), Act::In(0x314)];
    follow_to_the_end(&mut machine, &script);
    assert_eq!(kept(&mut machine, 3)[1..], [0, 1]);
}

#[test]
fn misbehaviour_reads_back_and_is_told() {
    let mut machine = Machine::new();
    let wrong = r#"{"stuck_line":"low","fifo_places":3}"#;
    machine.set("misbehave", wrong).unwrap();
    assert_eq!(machine.get("misbehave"), json!(wrong));
    machine.set("misbehave", "{}").unwrap();
    assert_eq!(machine.get("misbehave"), json!(""));
    let trace = records(&machine.trace());
    let told: Vec<u64> = trace.iter().filter(|r| r.kind == MISBEHAVE).map(|record| record.value).collect();
    assert_eq!(told, [0b1001, 0]);
    assert!(trace.iter().all(|record| record.kind != WRITE));
}
