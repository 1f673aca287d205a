//! The PCI of a PC: configuration space through ports 0xCF8 and 0xCFC, and what the firmware left to do.
//!
//! QEMU's small firmware (qboot) gives no function an address and numbers no bus behind a bridge, so [`init`] does
//! it, on any firmware, before anybody looks. What it finds is fixed from then on: a card that is plugged in later is
//! not seen.

use core::sync::atomic::{AtomicPtr, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;

use squall_testkernel_pure::pci::assign::{self, Room, Rooms};
use squall_testkernel_pure::pci::lines::{self, Router};
use squall_testkernel_pure::pci::{Address, Config, Function, Width, register, scan};

use crate::arch::port;
use crate::ke::lock::InterruptLock;
use crate::selftest::{check, kernel_test};

const SELECT: u16 = 0xCF8;
const DATA: u16 = 0xCFC;

/// Ports and memory that no PC of QEMU's uses for anything else, below the firmware's and the interrupt controllers'.
const ROOMS: Rooms = Rooms {
    ports: Room { next: 0xC000, end: 0x1_0000 },
    memory: Room { next: 0xE000_0000, end: 0xFEB0_0000 },
};

const HOST: Address = Address { bus: 0, device: 0, function: 0 };
const HOST_440FX: u32 = 0x1237_8086;
const HOST_Q35: u32 = 0x29C0_8086;
/// Of the `pc` machine: PCI to ISA.
const PIIX: Address = Address { bus: 0, device: 1, function: 0 };
/// `PIRQRC[A:D]`, where each of the four wires goes; bit 7: nowhere.
const PIIX_WIRES: u8 = 0x60;
const PIIX_NOWHERE: u32 = 0x80;
/// Where a PC's firmware leads them.
const USUAL_LINES: [u8; 4] = [10, 10, 11, 11];

/// The machine's own configuration space. Selecting and accessing belong together, hence the lock.
#[derive(Debug)]
pub struct ConfigSpace;

static PORTS: InterruptLock<()> = InterruptLock::new(());

impl Config for ConfigSpace {
    fn read(&self, at: Address, register: u8, width: Width) -> u32 {
        let _ports = PORTS.lock();
        port::write_u32(SELECT, at.mechanism_1(register));
        let data = DATA + u16::from(register & 3);
        match width {
            Width::Byte => port::read_u8(data).into(),
            Width::Word => port::read_u16(data & !1).into(),
            Width::Long => port::read_u32(DATA),
        }
    }

    fn write(&self, at: Address, register: u8, width: Width, value: u32) {
        let _ports = PORTS.lock();
        port::write_u32(SELECT, at.mechanism_1(register));
        let data = DATA + u16::from(register & 3);
        match width {
            Width::Byte => port::write_u8(data, value as u8),
            Width::Word => port::write_u16(data & !1, value as u16),
            Width::Long => port::write_u32(DATA, value),
        }
    }
}

/// What was found, for ever.
static FOUND: AtomicPtr<Vec<Function>> = AtomicPtr::new(core::ptr::null_mut());

/// All functions, each bridge before what is behind it.
pub fn functions() -> &'static [Function] {
    let found = FOUND.load(Ordering::Acquire);
    // SAFETY: null, or what `init` leaked.
    unsafe { found.as_ref() }.map_or(&[], Vec::as_slice)
}

/// The input of the I/O APIC where the function's pin ends.
pub fn line_of(function: &Function) -> Option<u8> {
    let functions = functions();
    let index = functions.iter().position(|other| other.address == function.address)?;
    lines::input_of(router()?, functions, index)
}

fn router() -> Option<Router> {
    match ConfigSpace.read(HOST, register::ID, Width::Long) {
        HOST_440FX => Some(Router::Piix(core::array::from_fn(|wire| {
            let line = ConfigSpace.read(PIIX, PIIX_WIRES + wire as u8, Width::Byte);
            (line & PIIX_NOWHERE == 0).then_some(line as u8)
        }))),
        HOST_Q35 => Some(Router::Ich9),
        _ => None,
    }
}

/// Leads the wires of a `pc` to lines, where the firmware has not.
fn lead_wires() {
    if ConfigSpace.read(HOST, register::ID, Width::Long) != HOST_440FX {
        return;
    }
    for (wire, line) in (PIIX_WIRES..).zip(USUAL_LINES) {
        if ConfigSpace.read(PIIX, wire, Width::Byte) & PIIX_NOWHERE != 0 {
            ConfigSpace.write(PIIX, wire, Width::Byte, line.into());
        }
    }
}

/// Finds every function, gives it its addresses and notes where its pin ends. Once, on the first processor.
pub fn init() {
    let mut functions = scan::functions(&ConfigSpace);
    assign::places(&ConfigSpace, &mut functions, &mut { ROOMS });
    lead_wires();
    FOUND.store(Box::into_raw(Box::new(functions)), Ordering::Release);
    for function in self::functions() {
        if let Some(line) = line_of(function) {
            ConfigSpace.write(function.address, register::LINE, Width::Byte, line.into());
        }
    }
}

kernel_test! {
    fn the_host_bridge_is_found_and_every_range_answers_where_it_was_put() {
        let functions = functions();
        check!(functions.first().is_some_and(|first| first.address == HOST && first.class >> 8 == 0x0600));
        for function in functions {
            let id = u32::from(function.vendor) | u32::from(function.device) << 16;
            check!(ConfigSpace.read(function.address, register::ID, Width::Long) == id);
            for bar in function.bars.iter().flatten() {
                let at = register::BASE_ADDRESS + 4 * bar.index;
                let written = ConfigSpace.read(function.address, at, Width::Long);
                check!(bar.start == Some(u64::from(written & !0xF)));
            }
            if function.pin.is_some() {
                check!(line_of(function).is_some());
            }
        }
        let nobody = Address { bus: 255, device: 31, function: 7 };
        check!(ConfigSpace.read(nobody, register::ID, Width::Long) == u32::MAX);
    }
}
