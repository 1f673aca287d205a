//! Storms without a gap, through every interrupt controller and by message: nothing is lost on the way, and
//! nothing comes twice.

use serde_json::json;

use crate::bus::{Function, open_port, places, route_to_pic};
use crate::guest::{INTERRUPTS, VECTOR, rom};
use crate::machine::{Machine, Setup};
use crate::real_mode::MASKED;

const COUNT: u64 = 200_000;

/// Where the local APIC takes messages for processor 0.
pub(crate) const LOCAL_APIC: u32 = 0xFEE0_0000;

/// The way of an interrupt to the processor.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Pic,
    IoApic,
    Msi,
    Msix,
}

/// Input 5 and those that PCI alone has interrupt the processor, and the 8259 does not.
pub(crate) fn route_to_io_apic(machine: &mut Machine, level: bool) {
    let trigger = u32::from(level) << 15;
    for input in [5, 16, 17, 18, 19, 20, 21, 22, 23] {
        for (index, value) in [(0x11 + 2 * input, 0), (0x10 + 2 * input, VECTOR | trigger)] {
            machine.write_memory(0xFEC0_0000, index);
            machine.write_memory(0xFEC0_0010, value);
        }
    }
    machine.write_memory(MASKED, 1 << 5);
}

/// The guest takes a storm to its end.
fn all_arrive(setup: Setup, function: Option<Function>, way: Way) {
    let board = if setup.board.is_empty() { "pc" } else { setup.board };
    let name = format!("{} on {board} by {way:?}", setup.device);
    let mut arguments = setup.arguments.clone();
    arguments.push("-S");
    let mut machine = Machine::with(Setup { rom: rom(), arguments, ..setup });
    if let Some(function) = function {
        if function.bus > 0 {
            open_port(&mut machine);
        }
        function.turn_on(&mut machine);
    }
    match (way, function) {
        (Way::Pic, None) => {}
        (Way::Pic, Some(_)) => route_to_pic(&mut machine, board),
        (Way::IoApic, function) => {
            // What is 5 for the 8259 is 5 for the I/O APIC of a pc.
            if function.is_some() {
                route_to_pic(&mut machine, board);
            }
            route_to_io_apic(&mut machine, function.is_some());
        }
        (Way::Msi, Some(function)) => function.enable_msi(&mut machine, LOCAL_APIC, VECTOR),
        (Way::Msix, Some(function)) => {
            assert_eq!(function.enable_msix(&mut machine, |_| (LOCAL_APIC, VECTOR)), 4);
        }
        (Way::Msi | Way::Msix, None) => panic!("ISA has no messages"),
    }
    let mode = match (way, function) {
        (_, None) => "isa",
        (Way::Pic | Way::IoApic, _) => "intx",
        (Way::Msi, _) => "msi",
        (Way::Msix, _) => "msix",
    };
    machine.qmp("cont", json!({})).unwrap();
    machine.set("storm", format!(r#"{{"pace":"ack","gap_ns":0,"count":{COUNT}}}"#)).unwrap();
    machine.wait_for("/serviced", COUNT);
    let stats = machine.stats();
    let counters = ["fired", "asserted", "serviced"].map(|name| stats[name].as_u64());
    assert_eq!(counters, [COUNT; 3].map(Some), "{name}: {stats}");
    assert_eq!((&stats["line"], &stats["interrupt"]), (&json!(false), &json!(mode)), "{name}: {stats}");
    assert_eq!(u64::from(machine.memory(INTERRUPTS)), COUNT, "{name}: taken");
}

fn isa(board: &'static str) -> Setup {
    Setup { board, device: "squall-isa", ..Setup::default() }
}

#[test]
fn edges_through_the_8259() {
    for board in ["pc", "q35"] {
        all_arrive(isa(board), None, Way::Pic);
    }
}

#[test]
fn edges_through_the_io_apic() {
    for board in ["pc", "q35"] {
        all_arrive(isa(board), None, Way::IoApic);
    }
}

fn everywhere(way: Way) {
    for (setup, function) in places() {
        all_arrive(setup, Some(function), way);
    }
}

#[test]
fn levels_through_the_8259() {
    everywhere(Way::Pic);
}

#[test]
fn levels_through_the_io_apic() {
    everywhere(Way::IoApic);
}

#[test]
fn messages_of_one_vector() {
    everywhere(Way::Msi);
}

#[test]
fn messages_of_several_vectors() {
    everywhere(Way::Msix);
}
