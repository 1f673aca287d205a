//! The register map, through QEMU's bus.

use crate::machine::{Machine, Setup};

#[test]
fn identifies_itself_at_every_width() {
    let mut machine = Machine::new();
    assert_eq!(machine.read('l', 0x300), 0x4C4C_5153);
    assert_eq!(machine.read('w', 0x302), 0x4C4C);
    assert_eq!(machine.read('b', 0x301), u32::from(b'Q'));
    assert_eq!(machine.read('l', 0x318), 0);
}

#[test]
fn a_sample_interrupts_and_its_acknowledgement_ends_it() {
    let mut machine = Machine::new();
    machine.intercept();
    machine.write('l', 0x304, 1);
    machine.set("fire", 1).unwrap();
    assert_eq!(machine.interrupts(5), ["raise"]);
    assert_eq!(machine.read('l', 0x308), 1);
    assert_eq!(machine.read('l', 0x310), 1);
    machine.write('b', 0x308, 1);
    assert_eq!(machine.interrupts(5), ["lower"]);
    assert_eq!(machine.read('l', 0x30C), 1);
    assert_eq!(machine.read('l', 0x30C), 0);
    let stats = machine.stats();
    let counters =
        ["fired", "asserted", "serviced", "suppressed", "coalesced"].map(|name| stats[name].as_u64());
    assert_eq!(counters, [1, 1, 1, 0, 0].map(Some), "{stats}");
    assert_eq!((stats["reads"].as_u64(), stats["writes"].as_u64()), (Some(4), Some(2)), "{stats}");
}

#[test]
fn a_suppressed_sample_interrupts_once_enabled() {
    let mut machine = Machine::new();
    machine.intercept();
    machine.set("fire", 70).unwrap();
    assert_eq!(machine.interrupts(5), [""; 0]);
    assert_eq!(machine.read('l', 0x308), 0b11, "ready, and overrun");
    assert_eq!(machine.read('l', 0x310), 64);
    assert_eq!(machine.read('l', 0x314), 70);
    machine.write('l', 0x304, 1);
    assert_eq!(machine.interrupts(5), ["raise"]);
    machine.write('l', 0x304, 0);
    assert_eq!(machine.interrupts(5), ["lower"]);
    let stats = machine.stats();
    let counters = ["fired", "asserted", "suppressed", "coalesced"].map(|name| stats[name].as_u64());
    assert_eq!(counters, [70, 1, 70, 69].map(Some), "{stats}");
}

#[test]
fn a_million_samples_are_taken_at_once() {
    let mut machine = Machine::new();
    machine.set("fire", 1_000_000).unwrap();
    assert_eq!(machine.read('l', 0x314), 1_000_000);
    assert_eq!(machine.counter("/coalesced"), 999_999);
}

#[test]
fn both_resets_clear_the_registers_and_lower_the_line() {
    let mut machine = Machine::new();
    machine.intercept();
    machine.write('l', 0x304, 1);
    machine.set("fire", 2).unwrap();
    machine.write('b', 0x307, 0x80);
    assert_eq!(machine.interrupts(5), ["raise", "lower"]);
    assert_eq!([0x304, 0x308, 0x310, 0x314].map(|port| machine.read('l', port)), [0; 4]);

    machine.write('l', 0x304, 1);
    machine.set("fire", 2).unwrap();
    machine.qmp("system_reset", serde_json::json!({})).unwrap();
    let begun = std::time::Instant::now();
    while machine.read('l', 0x304) != 0 {
        assert!(begun.elapsed() < crate::machine::PATIENCE, "the reset does not come");
    }
    assert_eq!([0x304, 0x308, 0x310, 0x314].map(|port| machine.read('l', port)), [0; 4]);
    assert_eq!(machine.counter("/fired"), 4, "what the bench counted is not the card's");
}

#[test]
fn misaligned_accesses_float_and_change_nothing() {
    let mut machine = Machine::new();
    machine.write('l', 0x304, 1);
    assert_eq!(machine.read('l', 0x302), 0xFFFF_FFFF);
    assert_eq!(machine.read('w', 0x303), 0xFFFF);
    machine.write('l', 0x305, 0xFFFF_FFFF);
    assert_eq!(machine.read('l', 0x304), 1);
}

#[test]
fn a_card_can_be_jumpered_elsewhere() {
    let setup = Setup { device_options: ",iobase=0x240,irq=10", ..Setup::default() };
    let mut machine = Machine::with(setup);
    machine.intercept();
    assert_eq!(machine.read('l', 0x240), 0x4C4C_5153);
    assert_eq!(machine.read('l', 0x300), 0xFFFF_FFFF, "nobody is there");
    machine.write('l', 0x244, 1);
    machine.set("fire", 1).unwrap();
    assert_eq!(machine.interrupts(10), ["raise"]);
    assert_eq!((machine.get("iobase"), machine.get("irq")), (0x240.into(), 10.into()));
}
