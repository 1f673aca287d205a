//! The card in PCI slots: identity, windows, INTx, MSI and MSI-X, as a guest's bus driver sees them.
//!
//! The test protocol plays the firmware and the bus driver. A message of MSI is a write of the device's to
//! memory, so where no guest takes it, the test has it written to ordinary memory and looks there.

use serde_json::json;

use crate::bus::{COMMAND, Function, MEMORY, SLOT, TABLE, open_port, places};
use crate::machine::{Machine, Setup};

/// The card's register.
const STATUS: u32 = 0x08;

fn turned_on((setup, function): (Setup, Function)) -> (Machine, Function) {
    let mut machine = Machine::with(setup);
    if function.bus > 0 {
        open_port(&mut machine);
    }
    function.turn_on(&mut machine);
    (machine, function)
}

fn read_register(machine: &mut Machine, offset: u32) -> u32 {
    machine.memory(MEMORY + u64::from(offset))
}

fn write_register(machine: &mut Machine, offset: u32, value: u32) {
    machine.write_memory(MEMORY + u64::from(offset), value);
}

#[test]
fn the_card_says_what_it_is() {
    for (place, subsystem) in places().into_iter().zip([1, 1, 2]) {
        let (mut machine, function) = turned_on(place);
        assert_eq!(function.read(&mut machine, 0x00), 0x5153_1234);
        assert_eq!(function.read(&mut machine, 0x08), 0x1180_0001);
        assert_eq!(function.read(&mut machine, 0x2C), subsystem << 16 | 0x1234);
        assert_eq!(function.read(&mut machine, 0x3C) >> 8 & 0xFF, 1, "INTA#");
        let express = function.capability(&mut machine, 0x10);
        assert_eq!(express.is_some(), function.bus > 0, "the Express capability");
    }
}

#[test]
fn identity_cannot_be_written() {
    let (mut machine, function) = turned_on(places().swap_remove(0));
    for offset in [0x00, 0x08, 0x2C] {
        let before = function.read(&mut machine, offset);
        function.write(&mut machine, offset, 0xFFFF_FFFF);
        assert_eq!(function.read(&mut machine, offset), before);
    }
}

#[test]
fn both_windows_show_the_same_registers() {
    for place in places() {
        let (mut machine, _) = turned_on(place);
        assert_eq!(read_register(&mut machine, 0), 0x4C4C_5153);
        assert_eq!(machine.read('l', 0x300), 0x4C4C_5153);
        machine.write('l', 0x304, 1);
        assert_eq!(read_register(&mut machine, 4), 1);
        machine.set("fire", 2).unwrap();
        assert_eq!((read_register(&mut machine, 0xC), machine.read('l', 0x30C)), (1, 2));
        assert_eq!(read_register(&mut machine, 0x20), 0xFFFF_FFFF, "beyond the window");
    }
}

#[test]
fn the_line_is_a_level_until_messages_are_chosen() {
    for place in places() {
        let (mut machine, function) = turned_on(place);
        let pending = |machine: &mut Machine| function.read(machine, COMMAND) >> 19 & 1;
        assert_eq!(machine.stats()["interrupt"], json!("intx"));
        write_register(&mut machine, 4, 1);
        machine.set("fire", 1).unwrap();
        assert_eq!(pending(&mut machine), 1);
        write_register(&mut machine, STATUS, 1);
        assert_eq!(pending(&mut machine), 0);
        machine.set("fire", 1).unwrap();
        write_register(&mut machine, 4, 0);
        assert_eq!(pending(&mut machine), 0, "disabled");
        write_register(&mut machine, 4, 1);
        assert_eq!(pending(&mut machine), 1);
        // What waits is sent when messages take over, and is a level again when they are given up.
        function.enable_msi(&mut machine, 0x2000, 0x1234);
        assert_eq!(machine.stats()["interrupt"], json!("msi"));
        assert_eq!((pending(&mut machine), machine.memory(0x2000)), (0, 0x1234));
        let at = function.capability(&mut machine, 5).unwrap();
        let control = function.read(&mut machine, at);
        function.write(&mut machine, at, control & !(1 << 16));
        assert_eq!(pending(&mut machine), 1);
        write_register(&mut machine, STATUS, 1);
        assert_eq!(pending(&mut machine), 0);
    }
}

#[test]
fn every_rise_is_one_message() {
    for place in places() {
        let (mut machine, function) = turned_on(place);
        function.enable_msi(&mut machine, 0x2000, 0x77);
        write_register(&mut machine, 4, 1);
        for _ in 0..3 {
            machine.write_memory(0x2000, 0);
            machine.set("fire", 2).unwrap();
            assert_eq!(machine.memory(0x2000), 0x77);
            machine.write_memory(0x2000, 0);
            machine.set("fire", 1).unwrap();
            assert_eq!(machine.memory(0x2000), 0, "the line was high already");
            write_register(&mut machine, STATUS, 1);
        }
    }
}

#[test]
fn vectors_take_turns() {
    for place in places() {
        let (mut machine, function) = turned_on(place);
        let vectors = function.enable_msix(&mut machine, |n| (0x2000 + 4 * n, 0x100 + n));
        assert_eq!((vectors, &machine.stats()["interrupt"]), (4, &json!("msix")));
        write_register(&mut machine, 4, 1);
        for n in 0..10 {
            for vector in 0..4 {
                machine.write_memory(0x2000 + 4 * vector, 0);
            }
            machine.set("fire", 1).unwrap();
            let told: Vec<u32> = (0..4).map(|vector| machine.memory(0x2000 + 4 * vector)).collect();
            let expected: Vec<u32> =
                (0..4).map(|vector| if vector == n % 4 { 0x100 + vector } else { 0 }).collect();
            assert_eq!(told, expected);
            write_register(&mut machine, STATUS, 1);
        }
    }
}

#[test]
fn a_masked_vector_waits() {
    let (mut machine, function) = turned_on(places().swap_remove(1));
    function.enable_msix(&mut machine, |n| (0x2000 + 4 * n, 0x100 + n));
    write_register(&mut machine, 4, 1);
    machine.write_memory(TABLE + 12, 1);
    machine.set("fire", 1).unwrap();
    assert_eq!(machine.memory(0x2000), 0);
    machine.write_memory(TABLE + 12, 0);
    assert_eq!(machine.memory(0x2000), 0x100);
}

#[test]
fn the_number_of_vectors_is_a_jumper() {
    for (options, expected) in
        [(",addr=4,vectors=0", None), (",addr=4,vectors=1", Some(1)), (",addr=4,vectors=32", Some(32))]
    {
        let setup = Setup { device: "squall-pci", device_options: options, ..Setup::default() };
        let (mut machine, function) = turned_on((setup, SLOT));
        let vectors = function
            .capability(&mut machine, 0x11)
            .is_some()
            .then(|| function.enable_msix(&mut machine, |_| (0x2000, 1)));
        assert_eq!(vectors, expected);
    }
}

#[test]
fn msi_is_a_jumper() {
    for place in places() {
        let (setup, function) = place;
        let options = [setup.device_options, ",msi=off,vectors=0"].concat().leak();
        let (mut machine, function) = turned_on((Setup { device_options: options, ..setup }, function));
        let capabilities = [5, 0x11].map(|wanted| function.capability(&mut machine, wanted));
        assert_eq!((capabilities, machine.get("msi")), ([None; 2], json!(false)));
        write_register(&mut machine, 4, 1);
        machine.set("fire", 1).unwrap();
        assert_eq!(machine.stats()["interrupt"], json!("intx"));
        assert_eq!(function.read(&mut machine, COMMAND) >> 19 & 1, 1);
        let error = machine.set("msi", true).unwrap_err();
        assert_eq!(error, "msi: the device is already plugged in");
    }
}

#[test]
fn a_card_without_msi_has_messages_of_msi_x_alone() {
    let setup = Setup { device: "squall-pci", device_options: ",addr=4,msi=off", ..Setup::default() };
    let (mut machine, function) = turned_on((setup, SLOT));
    assert_eq!(function.capability(&mut machine, 5), None);
    function.enable_msix(&mut machine, |n| (0x2000 + 4 * n, 0x100 + n));
    write_register(&mut machine, 4, 1);
    machine.set("fire", 1).unwrap();
    assert_eq!((machine.memory(0x2000), &machine.stats()["interrupt"]), (0x100, &json!("msix")));
}

#[test]
fn a_reset_of_the_machine_gives_up_messages_and_the_line() {
    let (mut machine, function) = turned_on(places().swap_remove(0));
    function.enable_msix(&mut machine, |_| (0x2000, 1));
    write_register(&mut machine, 4, 1);
    machine.set("fire", 1).unwrap();
    machine.qmp("system_reset", json!({})).unwrap();
    let begun = std::time::Instant::now();
    while machine.stats()["interrupt"] != json!("intx") {
        assert!(begun.elapsed() < crate::machine::PATIENCE, "the reset does not come");
    }
    assert_eq!(function.read(&mut machine, COMMAND) >> 19 & 1, 0);
    function.turn_on(&mut machine);
    assert_eq!((read_register(&mut machine, 4), read_register(&mut machine, STATUS)), (0, 0));
}
