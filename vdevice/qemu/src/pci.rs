//! `squall-pci` and `squall-pcie`: the card in a PCI slot and in a PCI Express slot.
//!
//! The two differ in nothing but the bus that they are made for: `squall-pcie` has the Express capability and
//! belongs behind a root port. Either can be plugged in and pulled out while the machine runs.
//!
//! | BAR | space | what |
//! |---|---|---|
//! | 0 | memory, 4 KiB | the register window at its start; nobody answers in the rest |
//! | 1 | I/O, 32 bytes | the same register window |
//! | 2 | memory | the MSI-X table, unless `vectors` is 0 |

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use thiserror::Error;

use crate::abi::{Error, Object, ObjectClass};
use crate::config_space::{ConfigSpace, Unrecognized};
use crate::device::{Device, Settings, Slot};
use crate::line::{Function, Line, Switch, Switches};
use crate::memory::{self, Window};
use crate::qom::{DeviceType, Hooked, Hooks};
use crate::recorder::{Recorder, RecorderError};
use crate::snapshot::{self, Block};
use crate::symbols::qemu;
use crate::{error, properties, qom, recorder, registry};

/// The vendor of QEMU's own inventions, and a device that nobody has claimed there. Both are experimental:
/// the card is no product of any maker's.
const VENDOR: u16 = 0x1234;
/// `SQ`, as in `IDENT`.
const DEVICE: u16 = 0x5153;
const REVISION: u8 = 1;
/// Data acquisition and signal processing controller: other.
const CLASS: [u8; 3] = [0x00, 0x80, 0x11];
/// INTA#.
const INTERRUPT_PIN: u8 = 1;

const VENDOR_OFFSET: u8 = 0x00;
const REVISION_OFFSET: u8 = 0x08;
const SUBSYSTEM_OFFSET: u8 = 0x2C;
const INTERRUPT_PIN_OFFSET: u8 = 0x3D;

/// `PCI_BASE_ADDRESS_SPACE_MEMORY` and `PCI_BASE_ADDRESS_SPACE_IO`.
const MEMORY_SPACE: u8 = 0;
const IO_SPACE: u8 = 1;
const MEMORY_BAR: c_int = 0;
const IO_BAR: c_int = 1;
const MSIX_BAR: u8 = 2;

const MSI_CAPABILITY: u8 = 0x05;
const MSIX_CAPABILITY: u8 = 0x11;

/// The most MSI-X vectors of a card.
const MAX_VECTORS: u32 = 32;

static CONVENTIONAL: DeviceType = DeviceType {
    name: c"squall-pci",
    parent: c"pci-device",
    interfaces: &[c"conventional-pci-device"],
    class_init,
    instance_init: conventional_init,
    instance_finalize,
};

static EXPRESS: DeviceType = DeviceType {
    name: c"squall-pcie",
    parent: c"pci-device",
    interfaces: &[c"pci-express-device"],
    class_init,
    instance_init: express_init,
    instance_finalize,
};

/// What `pci-device` does, which is the same for both.
static PARENT: OnceLock<Hooked> = OnceLock::new();

/// Why a card does not fit into the machine.
#[derive(Debug, Error)]
enum Misfit {
    #[error("vectors is {0}; it must be from 0 to {MAX_VECTORS}")]
    Vectors(u32),
    #[error("it was pulled out: add a new one with device_add")]
    Again,
    #[error("cannot find its configuration space in this QEMU: {0}; use a version of the tested range")]
    Unrecognized(#[from] Unrecognized),
    #[error("QEMU does not add its Express capability (error {0})")]
    Express(c_int),
    #[error("{0}")]
    Recorder(#[from] RecorderError),
    #[error("QEMU does not take its configuration space into snapshots")]
    Snapshots,
    /// QEMU has raised an error of its own.
    #[error("")]
    Raised,
}

/// Makes `-device squall-pci` and `-device squall-pcie` work.
pub(crate) fn register() {
    qom::register(&CONVENTIONAL);
    qom::register(&EXPRESS);
}

fn check(settings: &Settings) -> Result<(), Misfit> {
    if settings.vectors > MAX_VECTORS {
        return Err(Misfit::Vectors(settings.vectors));
    }
    Ok(recorder::check_capacity(settings.trace_records)?)
}

unsafe extern "C" fn class_init(class: *mut ObjectClass, _data: *mut c_void) {
    for property in properties::PCI.iter().chain(properties::EVERY) {
        // SAFETY: QEMU is initialising our class.
        unsafe { qom::add_property(class, property) };
    }
    let hooks = Hooks { realize, unrealize: Some(unrealize) };
    // SAFETY: QEMU is initialising our class, which descends from `device` by way of `pci-device`.
    let hooked = unsafe { qom::hook_device(class, hooks) };
    let _ = PARENT.set(hooked);
}

unsafe extern "C" fn conventional_init(object: *mut Object) {
    registry::add(object, Device::new(Settings::of(Slot::Pci)));
}

unsafe extern "C" fn express_init(object: *mut Object) {
    registry::add(object, Device::new(Settings::of(Slot::Pcie)));
}

unsafe extern "C" fn instance_finalize(object: *mut Object) {
    // The object is the last to let go of its regions, and has: what they pointed to may go as well.
    drop(registry::remove(object));
}

unsafe extern "C" fn realize(object: *mut Object, errp: *mut *mut Error) {
    let Some(device) = registry::device_of(object) else { return };
    let Some(Hooked { realize: Some(parent), .. }) = PARENT.get() else { return };
    // SAFETY: what QEMU would have called, had we not hooked it, with a place for its error.
    let call = |local| unsafe { parent(object, local) };
    // SAFETY: QEMU gave us errp, and nothing was raised yet.
    if !unsafe { error::propagating(errp, call) } {
        return;
    }
    // SAFETY: `object` is a PCI device whose parent's realize has succeeded; the registry keeps `device` as
    // long as it; QEMU gave us errp.
    let Err(misfit) = (unsafe { plug(object, &device, errp) }) else { return };
    // SAFETY: the parent's realize has succeeded, and is undone once.
    unsafe { leave_bus(object) };
    if !matches!(misfit, Misfit::Raised) {
        // SAFETY: QEMU gave us errp, and nothing was raised yet.
        unsafe { error::raise(errp, format_args!("{}: {misfit}", device.settings().slot.type_name())) };
    }
}

/// Puts the card into its slot.
///
/// # Safety
/// `object` is the PCI device that `device` stands for, and is being realized; `device` stays where it is as
/// long as `object` exists. `errp` is a place for an error, and where [`Misfit::Raised`] is returned, one is
/// there.
unsafe fn plug(object: *mut Object, device: &Device, errp: *mut *mut Error) -> Result<(), Misfit> {
    let settings = device.settings().clone();
    check(&settings)?;
    if device.was_plugged() {
        return Err(Misfit::Again);
    }
    // SAFETY: by the caller's word.
    let mut config = unsafe { ConfigSpace::find(object) }?;
    burn_identity(&mut config, settings.slot);
    if settings.slot == Slot::Pcie {
        // SAFETY: by the caller's word; QEMU finds a place in configuration space.
        let place = unsafe { (qemu().pcie_endpoint_cap_init)(object, 0) };
        if place < 0 {
            return Err(Misfit::Express(place));
        }
    }
    // SAFETY: by the caller's word.
    unsafe { add_messages(object, &settings, errp) }?;
    let recorder = Recorder::of(&settings).inspect_err(|_| {
        // SAFETY: just added.
        unsafe { remove_messages(object, settings.vectors) };
    })?;
    // SAFETY: by the caller's word.
    let block = unsafe { Block::new(object, device, c"squall-state", errp) };
    let Some(block) = block else {
        // SAFETY: added above.
        unsafe { remove_messages(object, settings.vectors) };
        return Err(Misfit::Raised);
    };
    // SAFETY: by the caller's word, and as added above.
    if !unsafe { snapshot::register_pci(object, settings.vectors > 0) } {
        // SAFETY: some may have been registered; the others are ignored.
        unsafe { snapshot::unregister_pci(object, settings.vectors > 0) };
        // SAFETY: added above.
        unsafe { remove_messages(object, settings.vectors) };
        return Err(Misfit::Snapshots);
    }
    // Nothing fails from here on.
    // SAFETY: by the caller's word, and as just added.
    let function = unsafe { Function::new(object, settings.vectors, switches(&config)) };
    device.plug(Line::Pci(function), recorder, block);
    for (bar, space, window) in [(MEMORY_BAR, MEMORY_SPACE, Window::Page), (IO_BAR, IO_SPACE, Window::Ports)]
    {
        // SAFETY: by the caller's word.
        let region = unsafe { memory::register_window(object, device, window) };
        // SAFETY: by the caller's word; the region has just been initialised and lives as long as the object.
        unsafe { (qemu().pci_register_bar)(object, bar, space, region) };
    }
    config.hook_writes(write_config);
    Ok(())
}

fn burn_identity(config: &mut ConfigSpace, slot: Slot) {
    let subsystem: u16 = if slot == Slot::Pcie { 2 } else { 1 };
    let pair = |vendor: u16, device: u16| {
        let ([a, b], [c, d]) = (vendor.to_le_bytes(), device.to_le_bytes());
        [a, b, c, d]
    };
    config.burn(VENDOR_OFFSET, &pair(VENDOR, DEVICE));
    let [interface, sub_class, class] = CLASS;
    config.burn(REVISION_OFFSET, &[REVISION, interface, sub_class, class]);
    config.burn(SUBSYSTEM_OFFSET, &pair(VENDOR, subsystem));
    config.burn(INTERRUPT_PIN_OFFSET, &[INTERRUPT_PIN]);
}

/// Adds MSI and MSI-X, each if it is wanted.
///
/// # Safety
/// As for [`plug`].
unsafe fn add_messages(
    object: *mut Object,
    settings: &Settings,
    errp: *mut *mut Error,
) -> Result<(), Misfit> {
    let Settings { msi, vectors, .. } = *settings;
    if msi {
        // SAFETY: by the caller's word.
        let added = unsafe { (qemu().msi_init)(object, 0, 1, true, false, errp) };
        if added < 0 {
            return Err(Misfit::Raised);
        }
    }
    if vectors == 0 {
        return Ok(());
    }
    // SAFETY: by the caller's word.
    let added = unsafe { (qemu().msix_init_exclusive_bar)(object, vectors, MSIX_BAR, errp) };
    if added < 0 {
        // SAFETY: MSI has just been added, or is not there, which QEMU looks at first.
        unsafe { (qemu().msi_uninit)(object) };
        return Err(Misfit::Raised);
    }
    for vector in 0..vectors {
        // SAFETY: one of the vectors that it has.
        unsafe { (qemu().msix_vector_use)(object, vector) };
    }
    Ok(())
}

/// What turns the messages on that the device has: the upper bit of MSI-X's Message Control, the lowest one of MSI's.
fn switches(config: &ConfigSpace) -> Switches {
    let switch = |capability, byte, bit| {
        Some(Switch { byte: config.place(config.capability(capability)?.checked_add(byte)?), bit })
    };
    Switches { msi: switch(MSI_CAPABILITY, 2, 1), msix: switch(MSIX_CAPABILITY, 3, 1 << 7) }
}

/// # Safety
/// [`add_messages`] has succeeded with so many vectors, and this is called once.
unsafe fn remove_messages(object: *mut Object, vectors: u32) {
    if vectors > 0 {
        // SAFETY: by the caller's word.
        unsafe { (qemu().msix_uninit_exclusive_bar)(object) };
    }
    // SAFETY: by the caller's word. Where MSI is not there, QEMU does nothing.
    unsafe { (qemu().msi_uninit)(object) };
}

/// Undoes the parent's realize.
///
/// # Safety
/// It has succeeded, and this is called once.
unsafe fn leave_bus(object: *mut Object) {
    if let Some(Hooked { unrealize: Some(parent), .. }) = PARENT.get() {
        // SAFETY: what QEMU would have called, had we not hooked it.
        unsafe { parent(object) };
    }
}

/// The card is pulled out, or the machine ends.
unsafe extern "C" fn unrealize(object: *mut Object) {
    let Some(device) = registry::device_of(object) else { return };
    let vectors = device.settings().vectors;
    device.unplug();
    // SAFETY: registered when it was realized, with the same vectors.
    unsafe { snapshot::unregister_pci(object, vectors > 0) };
    // SAFETY: only a card that is realized is unrealized, once; it has so many vectors.
    unsafe { remove_messages(object, vectors) };
    // SAFETY: as above.
    unsafe { leave_bus(object) };
}

/// The guest writes to configuration space.
unsafe extern "C" fn write_config(object: *mut Object, offset: u32, value: u32, size: c_int) {
    // SAFETY: QEMU's own arguments.
    let default = || unsafe { (qemu().pci_default_write_config)(object, offset, value, size) };
    match registry::device_of(object) {
        Some(device) => device.while_choosing_line(default),
        None => default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_no_card_has_are_refused() {
        let settings = |vectors| Settings { vectors, ..Settings::of(Slot::Pci) };
        assert!(check(&settings(0)).is_ok() && check(&settings(MAX_VECTORS)).is_ok());
        let text = check(&settings(33)).unwrap_err().to_string();
        assert_eq!(text, "vectors is 33; it must be from 0 to 32");
    }
}
