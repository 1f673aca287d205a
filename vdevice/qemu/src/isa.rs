//! `squall-isa`: the card in an ISA slot.
//!
//! The window of ports is where the user's jumpers put it, and the interrupt is one wire to the two 8259s and
//! to the IOAPIC. All of them are told the level and look at its edges.

use std::ffi::{CString, c_int, c_void};
use std::sync::OnceLock;

use squall_registers::WINDOW_LEN;
use thiserror::Error;

use crate::abi::{Error, Object, ObjectClass};
use crate::device::{Device, Settings, Slot};
use crate::line::{Line, Wire};
use crate::memory::{self, Window};
use crate::qom::{DeviceType, Hooked, Hooks};
use crate::recorder::{self, Recorder, RecorderError};
use crate::snapshot::Block;
use crate::symbols::qemu;
use crate::{error, properties, qom, registry};

/// The first window that a card can be put at: those below belong to the board.
const FIRST_IOBASE: u32 = 0x100;
/// The last one.
const LAST_IOBASE: u32 = 0x1_0000 - WINDOW_LEN as u32;
/// The first interrupt that reaches the slots: 0 to 2 are the timer, the keyboard and the second 8259.
const FIRST_IRQ: u32 = 3;
/// The last one.
const LAST_IRQ: u32 = 15;

static TYPE: DeviceType = DeviceType {
    name: c"squall-isa",
    parent: c"isa-device",
    interfaces: &[],
    class_init,
    instance_init,
    instance_finalize,
};

/// What `isa-device` does.
static PARENT: OnceLock<Hooked> = OnceLock::new();

/// Why a card does not fit into the machine.
#[derive(Debug, Error)]
enum Misfit {
    #[error(
        "iobase is {0:#x}; it must be a multiple of {WINDOW_LEN:#x} from {FIRST_IOBASE:#x} to \
         {LAST_IOBASE:#x}"
    )]
    Iobase(u32),
    #[error("irq is {0}; it must be from {FIRST_IRQ} to {LAST_IRQ}")]
    Irq(u32),
    #[error("iobase {0:#x} is taken by another card; choose another window")]
    Taken(u16),
    #[error("{0}")]
    Recorder(#[from] RecorderError),
    /// QEMU has raised an error of its own.
    #[error("")]
    Raised,
}

/// Makes `-device squall-isa` work.
pub(crate) fn register() {
    qom::register(&TYPE);
}

fn check(settings: &Settings) -> Result<(u16, u32), Misfit> {
    let Settings { iobase, irq, .. } = *settings;
    let port = u16::try_from(iobase).ok().filter(|port| {
        port.is_multiple_of(WINDOW_LEN) && (FIRST_IOBASE..=LAST_IOBASE).contains(&u32::from(*port))
    });
    let port = port.ok_or(Misfit::Iobase(iobase))?;
    if !(FIRST_IRQ..=LAST_IRQ).contains(&irq) {
        return Err(Misfit::Irq(irq));
    }
    recorder::check_capacity(settings.trace_records)?;
    Ok((port, irq))
}

unsafe extern "C" fn class_init(class: *mut ObjectClass, _data: *mut c_void) {
    for property in properties::ISA.iter().chain(properties::EVERY) {
        // SAFETY: QEMU is initialising our class.
        unsafe { qom::add_property(class, property) };
    }
    // SAFETY: QEMU is initialising our class, which descends from `device` by way of `isa-device`.
    let hooked = unsafe { qom::hook_device(class, Hooks { realize, unrealize: None }) };
    let _ = PARENT.set(hooked);
}

unsafe extern "C" fn instance_init(object: *mut Object) {
    registry::add(object, Device::new(Settings::of(Slot::Isa)));
}

unsafe extern "C" fn instance_finalize(object: *mut Object) {
    if let Some(device) = registry::remove(object)
        && device.was_plugged()
    {
        // The memory core still points to it. ISA cards are not unplugged, so there is one of these per
        // machine at most.
        std::mem::forget(device);
    }
}

unsafe extern "C" fn realize(object: *mut Object, errp: *mut *mut Error) {
    let Some(device) = registry::device_of(object) else { return };
    if let Some(Hooked { realize: Some(parent), .. }) = PARENT.get() {
        // SAFETY: what QEMU would have called, had we not hooked it, with a place for its error.
        let call = |local| unsafe { parent(object, local) };
        // SAFETY: QEMU gave us errp, and nothing was raised yet.
        if !unsafe { error::propagating(errp, call) } {
            return;
        }
    }
    // SAFETY: `object` is an ISA device whose parent's realize has succeeded; the registry keeps `device` as
    // long as it.
    if let Err(misfit) = unsafe { plug(object, &device, errp) }
        && !matches!(misfit, Misfit::Raised)
    {
        // SAFETY: QEMU gave us errp, and nothing was raised yet.
        unsafe { error::raise(errp, format_args!("squall-isa: {misfit}")) };
    }
}

/// Puts the card into its slot.
///
/// # Safety
/// `object` is the ISA device that `device` stands for, and is being realized; `device` stays where it is as
/// long as `object` exists. `errp` is a place for an error, and where [`Misfit::Raised`] is returned, one is
/// there.
unsafe fn plug(object: *mut Object, device: &Device, errp: *mut *mut Error) -> Result<(), Misfit> {
    let settings = device.settings().clone();
    let (port, irq) = check(&settings)?;
    let is_there = |other: &Device| other.is_plugged() && other.settings().port() == Some(port);
    if registry::all().iter().any(|other| is_there(other)) {
        return Err(Misfit::Taken(port));
    }
    let recorder = Recorder::of(&settings)?;
    // An ISA card has no path to be told apart by in a snapshot.
    let name = CString::new(format!("squall-state@{port:#x}")).unwrap_or_default();
    // SAFETY: by the caller's word.
    let block = unsafe { Block::new(object, device, &name, errp) }.ok_or(Misfit::Raised)?;
    // Nothing fails from here on.
    // SAFETY: by the caller's word; the number is one of the 16 that QEMU asserts.
    let wire = unsafe { (qemu().isa_get_irq)(object, irq as c_int) };
    // SAFETY: the wires of the ISA bus exist as long as the machine.
    let wire = unsafe { Wire::new(wire, irq) };
    device.plug(Line::Isa(wire), recorder, block);
    // SAFETY: by the caller's word.
    let window = unsafe { memory::register_window(object, device, Window::Ports) };
    // SAFETY: by the caller's word; the region has just been initialised and lives as long as the object.
    unsafe { (qemu().isa_register_ioport)(object, window, port) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(iobase: u32, irq: u32) -> Settings {
        Settings { iobase, irq, ..Settings::of(Slot::Isa) }
    }

    #[test]
    fn windows_and_interrupts_that_the_bus_has_are_taken() {
        assert_eq!(check(&settings(0x300, 5)).unwrap(), (0x300, 5));
        assert_eq!(check(&settings(0x100, 3)).unwrap(), (0x100, 3));
        assert_eq!(check(&settings(0xFFE0, 15)).unwrap(), (0xFFE0, 15));
    }

    #[test]
    fn others_are_refused_by_name_and_value() {
        for iobase in [0, 0xE0, 0x301, 0x310, 0x1_0000, 0x1_0300, u32::MAX] {
            let text = check(&settings(iobase, 5)).unwrap_err().to_string();
            assert!(text.starts_with(&format!("iobase is {iobase:#x};")), "{text}");
        }
        for irq in [0, 1, 2, 16, u32::MAX] {
            let text = check(&settings(0x300, irq)).unwrap_err().to_string();
            assert_eq!(text, format!("irq is {irq}; it must be from 3 to 15"));
        }
    }
}
