//! The PCI bus of a machine under test, as firmware and a bus driver use it: through configuration space.

use crate::machine::{Machine, Setup};

/// Where the tests put the register window's memory BAR.
pub(crate) const MEMORY: u64 = 0xFEB0_0000;
/// Where they put the MSI-X table's.
pub(crate) const TABLE: u64 = 0xFEB1_0000;
/// Where they put the ports: where the ISA card has them, so that one guest knows both.
pub(crate) const PORTS: u32 = 0x300;

/// The command and status registers of configuration space.
pub(crate) const COMMAND: u32 = 0x04;
/// I/O, memory and bus mastering.
const ALL_ON: u32 = 7;

/// A function on a PCI bus of a running machine.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    pub(crate) bus: u32,
    pub(crate) slot: u32,
}

impl Function {
    fn select(self, machine: &mut Machine, offset: u32) {
        let address = 0x8000_0000 | self.bus << 16 | self.slot << 11 | offset & 0xFC;
        machine.write('l', 0xCF8, address);
    }

    pub(crate) fn read(self, machine: &mut Machine, offset: u32) -> u32 {
        self.select(machine, offset);
        machine.read('l', 0xCFC)
    }

    pub(crate) fn write(self, machine: &mut Machine, offset: u32, value: u32) {
        self.select(machine, offset);
        machine.write('l', 0xCFC, value);
    }

    /// Where a capability is.
    pub(crate) fn capability(self, machine: &mut Machine, wanted: u32) -> Option<u32> {
        let mut at = self.read(machine, 0x34) & 0xFC;
        while at != 0 {
            let header = self.read(machine, at);
            assert_ne!(header, u32::MAX, "nobody is there");
            if header & 0xFF == wanted {
                return Some(at);
            }
            at = header >> 8 & 0xFC;
        }
        None
    }

    /// Puts a card's windows where the tests want them, and turns everything on.
    pub(crate) fn turn_on(self, machine: &mut Machine) {
        self.write(machine, 0x10, MEMORY as u32);
        self.write(machine, 0x14, PORTS);
        self.write(machine, 0x18, TABLE as u32);
        self.write(machine, COMMAND, ALL_ON);
    }

    /// Has messages sent by the one vector of MSI.
    pub(crate) fn enable_msi(self, machine: &mut Machine, address: u32, data: u32) {
        let at = self.capability(machine, 5).expect("an MSI capability");
        self.write(machine, at + 4, address);
        self.write(machine, at + 8, 0);
        self.write(machine, at + 12, data);
        let control = self.read(machine, at);
        self.write(machine, at, control | 1 << 16);
    }

    /// Has messages sent by MSI-X: vector `n` as `message(n)` says. Returns how many vectors there are.
    pub(crate) fn enable_msix(self, machine: &mut Machine, message: impl Fn(u32) -> (u32, u32)) -> u32 {
        let at = self.capability(machine, 0x11).expect("an MSI-X capability");
        let control = self.read(machine, at);
        let vectors = (control >> 16 & 0x7FF) + 1;
        for vector in 0..vectors {
            let (address, data) = message(vector);
            for (word, value) in [address, 0, data, 0].into_iter().enumerate() {
                machine.write_memory(TABLE + u64::from(vector) * 16 + word as u64 * 4, value);
            }
        }
        self.write(machine, at, control | 1 << 31);
        vectors
    }
}

/// The slot that the tests use on a root bus.
pub(crate) const SLOT: Function = Function { bus: 0, slot: 4 };
/// What is behind the one root port.
pub(crate) const BEHIND_PORT: Function = Function { bus: 1, slot: 0 };
const PORT: Function = Function { bus: 0, slot: 2 };

/// The arguments that put a root port into a q35.
pub(crate) fn root_port() -> Vec<&'static str> {
    vec![
        "-device",
        "pcie-root-port,id=root-port,bus=pcie.0,addr=2,chassis=1,slot=1",
        // The port itself says what is plugged in, as hardware does, and not ACPI.
        "-global",
        "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    ]
}

/// Opens the root port towards what is behind it.
pub(crate) fn open_port(machine: &mut Machine) -> Function {
    PORT.write(machine, 0x18, 0x0001_0100);
    // Ports 0 to 0xFFF, and a megabyte of memory.
    PORT.write(machine, 0x1C, 0x0000_0000);
    PORT.write(machine, 0x20, 0xFEB0_FEB0);
    PORT.write(machine, COMMAND, ALL_ON);
    PORT
}

/// Every place that a card can be plugged into.
pub(crate) fn places() -> Vec<(Setup, Function)> {
    let conventional =
        |board| Setup { board, device: "squall-pci", device_options: ",addr=4", ..Setup::default() };
    let express = Setup {
        board: "q35",
        device: "squall-pcie",
        device_options: ",bus=root-port",
        arguments: root_port(),
        ..Setup::default()
    };
    vec![(conventional("pc"), SLOT), (conventional("q35"), SLOT), (express, BEHIND_PORT)]
}

/// The board's PCI interrupts are interrupt 5 of the 8259s, which looks at its level.
pub(crate) fn route_to_pic(machine: &mut Machine, board: &str) {
    let (bridge, registers): (_, &[u32]) = match board {
        "pc" => (Function { bus: 0, slot: 1 }, &[0x60]),
        _ => (Function { bus: 0, slot: 31 }, &[0x60, 0x68]),
    };
    for register in registers {
        bridge.write(machine, *register, 0x0505_0505);
    }
    machine.write('b', 0x4D0, 1 << 5);
}
