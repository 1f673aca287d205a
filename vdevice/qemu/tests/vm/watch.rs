//! Interrupts at chosen instructions of a guest.

use serde_json::json;

use crate::bus::{Function, open_port, places, route_to_pic};
use crate::delivery::{LOCAL_APIC, route_to_io_apic};
use crate::guest::{AT_FIRST, AT_SECOND, INTERRUPTS, ROUNDS, VECTOR, after_first, first, rom, second};
use crate::machine::{Machine, PATIENCE, Setup};
use crate::recorder::records;

/// A guest that has run its functions many times, so that all of them are translated.
fn warm(arguments: &[&'static str]) -> Machine {
    let mut machine = Machine::with(Setup { rom: rom(), arguments: arguments.to_vec(), ..Setup::default() });
    wait_until_warm(&mut machine);
    machine
}

fn watch(enter: u64, leave: Option<u64>, fire: bool) -> String {
    let mut watch = json!({ "enter": format!("{enter:#x}"), "fire_at_enter": fire });
    if let Some(leave) = leave {
        watch["leave"] = json!(format!("{leave:#x}"));
    }
    watch.to_string()
}

fn wait_until_warm(machine: &mut Machine) {
    let begun = std::time::Instant::now();
    while machine.memory(ROUNDS) < 1000 {
        assert!(begun.elapsed() < PATIENCE, "the guest does not run");
    }
}

/// Watches, lets the guest come by a few thousand times, and checks that each interrupt came at that
/// instruction and at no other.
fn interrupts_are_exact(arguments: &[&'static str]) {
    are_exact(warm(arguments));
}

fn are_exact(mut machine: Machine) {
    for (enter, counted) in [(first(), AT_FIRST), (second(), AT_SECOND), (first(), AT_FIRST)] {
        let (fired, interrupts, there) =
            (machine.counter("/fired"), machine.memory(INTERRUPTS), machine.memory(counted));
        machine.set("watch", watch(enter, None, true)).unwrap();
        machine.wait_for("/fired", fired + 3000);
        machine.set("watch", "").unwrap();
        // Whatever is still on its way to the guest arrives while it goes round.
        let round = machine.memory(ROUNDS);
        while machine.memory(ROUNDS) < round + 100 {}
        let fired = machine.counter("/fired") - fired;
        let taken = u64::from(machine.memory(INTERRUPTS) - interrupts);
        let there = u64::from(machine.memory(counted) - there);
        assert_eq!((taken, there), (fired, fired), "fired at {enter:#x}, taken, and taken there");
    }
    let stats = machine.stats();
    assert_eq!(stats["fired"], stats["serviced"], "{stats}");
    assert_eq!(stats["fired"], stats["unload"]["entered"], "{stats}");
}

/// The same with a PCI card, in each place that takes one.
fn are_exact_everywhere(mode: &str, choose: impl Fn(&mut Machine, &Setup, Function)) {
    for (setup, function) in places() {
        let arguments = [&setup.arguments[..], &["-S"]].concat();
        let mut machine = Machine::with(Setup { rom: rom(), arguments, ..setup.clone() });
        if function.bus > 0 {
            open_port(&mut machine);
        }
        function.turn_on(&mut machine);
        choose(&mut machine, &setup, function);
        machine.qmp("cont", json!({})).unwrap();
        wait_until_warm(&mut machine);
        assert_eq!(machine.stats()["interrupt"], json!(mode));
        are_exact(machine);
    }
}

#[test]
fn levels_through_the_8259_are_exact() {
    are_exact_everywhere("intx", |machine, setup, _| route_to_pic(machine, setup.board));
}

#[test]
fn levels_through_the_io_apic_are_exact() {
    are_exact_everywhere("intx", |machine, setup, _| {
        route_to_pic(machine, setup.board);
        route_to_io_apic(machine, true);
    });
}

#[test]
fn messages_of_one_vector_are_exact() {
    are_exact_everywhere("msi", |machine, _, function| function.enable_msi(machine, LOCAL_APIC, VECTOR));
}

#[test]
fn messages_of_several_vectors_are_exact() {
    are_exact_everywhere("msix", |machine, _, function| {
        assert_eq!(function.enable_msix(machine, |_| (LOCAL_APIC, VECTOR)), 4);
    });
}

#[test]
fn interrupts_are_exact_on_one_processor() {
    interrupts_are_exact(&["-smp", "1"]);
}

#[test]
fn interrupts_are_exact_on_two_processors() {
    interrupts_are_exact(&["-smp", "2"]);
}

#[test]
fn interrupts_are_exact_when_processors_take_turns() {
    interrupts_are_exact(&["-smp", "2", "-accel", "tcg,thread=single"]);
}

#[test]
fn interrupts_are_exact_when_instructions_are_counted() {
    interrupts_are_exact(&["-icount", "shift=auto"]);
}

#[test]
fn marks_are_written_down_with_their_address_and_processor() {
    let mut machine = warm(&[]);
    let before = records(&machine.trace()).len();
    machine.set("watch", watch(first(), Some(after_first()), true)).unwrap();
    machine.wait_for("/unload/left", 50);
    machine.qmp("stop", json!({})).unwrap();
    let trace = records(&machine.trace());
    let rounds = trace[before..].split_inclusive(|record| record.kind == 13);
    for round in rounds.take(50) {
        let kinds: Vec<u16> = round.iter().map(|record| record.kind).collect();
        // Entered, fired, asserted; the ISR's read and write, serviced, deasserted; left.
        assert_eq!(kinds, [12, 3, 4, 1, 2, 6, 5, 13]);
        assert_eq!((round[0].value, round[1].value, round[7].value), (first(), 2, after_first()));
        assert!(round.iter().all(|record| record.processor == 0), "{round:?}");
    }
    let stats = machine.stats();
    assert_eq!(
        (&stats["unload"]["asserted"], &stats["unload"]["before_silence"]),
        (&json!(1), &json!(1)),
        "{stats}"
    );
}

#[test]
fn a_watch_without_fire_only_marks() {
    let mut machine = warm(&[]);
    machine.set("watch", watch(first(), Some(after_first()), false)).unwrap();
    machine.wait_for("/unload/entered", 100);
    assert_eq!((machine.counter("/fired"), machine.memory(INTERRUPTS)), (0, 0));
}

#[test]
fn a_watch_can_be_changed_while_the_machine_is_stopped() {
    let mut machine = warm(&[]);
    machine.qmp("stop", json!({})).unwrap();
    let text = watch(first(), Some(after_first()), true);
    machine.set("watch", text.as_str()).unwrap();
    let shown = machine.get("watch");
    let shown: serde_json::Value = serde_json::from_str(shown.as_str().unwrap()).unwrap();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(&text).unwrap());
    assert_eq!(machine.counter("/unload/entered"), 0);
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/unload/left", 10);
}

#[test]
fn a_watch_can_be_set_before_the_machine_has_run() {
    let mut machine = Machine::with(Setup { rom: rom(), arguments: vec!["-S"], ..Setup::default() });
    machine.set("watch", watch(first(), Some(after_first()), true)).unwrap();
    machine.qmp("cont", json!({})).unwrap();
    machine.wait_for("/unload/left", 10);
}

#[test]
fn a_watch_outlives_resets_of_the_machine() {
    let mut machine = warm(&[]);
    machine.set("watch", watch(first(), None, true)).unwrap();
    for _ in 0..5 {
        let entered = machine.counter("/unload/entered");
        machine.wait_for("/unload/entered", entered + 100);
        machine.qmp("system_reset", json!({})).unwrap();
    }
    machine.set("watch", "").unwrap();
    let stats = machine.stats();
    assert_eq!(stats["fired"], stats["unload"]["entered"], "{stats}");
}
