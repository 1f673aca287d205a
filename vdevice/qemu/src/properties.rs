//! The device's properties: jumpers, read at realize; and the bench's levers, which work on a device that is
//! plugged in.

use std::ffi::{c_char, c_void};
use std::fmt::Display;
use std::sync::Arc;

use thiserror::Error;

use crate::abi::{Error, Object, Visitor};
use crate::description::{self, DescriptionError};
use crate::device::Device;
use crate::qom::Property;
use crate::visitor::Value;
use crate::watch::WatchError;
use crate::{error, registry, translations, watch};

/// The most samples that one `fire` takes. QEMU answers nobody while it takes them.
const MAX_FIRE: u64 = 1_000_000;

/// What an ISA card alone has.
pub(crate) static ISA: &[&Property] = &[&IOBASE, &IRQ];
/// What a PCI card alone has.
pub(crate) static PCI: &[&Property] = &[&MSI, &VECTORS];
/// What every card has.
pub(crate) static EVERY: &[&Property] =
    &[&TRACE, &TRACE_RECORDS, &FIRE, &STORM, &MISBEHAVE, &WATCH, &STATS, &FORGET_TRANSLATIONS];

/// Why a value is refused.
#[derive(Debug, Error)]
enum Refusal {
    #[error("the device is already plugged in")]
    Plugged,
    #[error("the device is not plugged in yet: set it over QMP once it is")]
    NotPlugged,
    #[error("{0} samples; it must be from 1 to {MAX_FIRE}")]
    Fire(u64),
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// An accessor in our terms.
type Access = fn(&Arc<Device>, &Value) -> Result<(), Refusal>;

/// Carries QEMU's call of an accessor to ours, and our refusal back.
///
/// # Safety
/// The arguments are those that QEMU gave to the accessor of the property `name`.
unsafe fn carry(
    property: impl Display,
    access: Access,
    object: *mut Object,
    visitor: *mut Visitor,
    name: *const c_char,
    errp: *mut *mut Error,
) {
    let Some(device) = registry::device_of(object) else { return };
    // SAFETY: by the caller's word; the value ends with this call.
    let value = unsafe { Value::new(visitor, name, errp) };
    if let Err(refusal) = access(&device, &value) {
        // SAFETY: by the caller's word; an access that refuses has raised nothing.
        unsafe { error::raise(value.errp(), format_args!("{property}: {refusal}")) };
    }
}

/// Wraps an accessor of ours into one of QEMU's.
macro_rules! accessor {
    ($property:literal, $access:expr) => {{
        unsafe extern "C" fn accessor(
            object: *mut Object,
            visitor: *mut Visitor,
            name: *const c_char,
            _opaque: *mut c_void,
            errp: *mut *mut Error,
        ) {
            // SAFETY: QEMU's own arguments.
            unsafe { carry($property, $access, object, visitor, name, errp) };
        }
        Some(accessor)
    }};
}

static IOBASE: Property = Property {
    name: c"iobase",
    kind: c"uint32",
    description: c"First of the 32 I/O ports (default 0x300)",
    get: accessor!("iobase", |device, value| show_u32(value, device.settings().iobase)),
    set: accessor!("iobase", |device, value| {
        jumper(device)?;
        take_u32(value, |number| device.settings().iobase = number)
    }),
};

static IRQ: Property = Property {
    name: c"irq",
    kind: c"uint32",
    description: c"ISA interrupt (default 5)",
    get: accessor!("irq", |device, value| show_u32(value, device.settings().irq)),
    set: accessor!("irq", |device, value| {
        jumper(device)?;
        take_u32(value, |number| device.settings().irq = number)
    }),
};

static MSI: Property = Property {
    name: c"msi",
    kind: c"bool",
    description: c"Whether there is an MSI capability, beside that of MSI-X (default on)",
    get: accessor!("msi", |device, value| {
        let _ = value.bool(device.settings().msi);
        Ok(())
    }),
    set: accessor!("msi", |device, value| {
        jumper(device)?;
        if let Some(msi) = value.bool(false) {
            device.settings().msi = msi;
        }
        Ok(())
    }),
};

static VECTORS: Property = Property {
    name: c"vectors",
    kind: c"uint32",
    description: c"MSI-X vectors, used in turn, 0 for no MSI-X (default 4)",
    get: accessor!("vectors", |device, value| show_u32(value, device.settings().vectors)),
    set: accessor!("vectors", |device, value| {
        jumper(device)?;
        take_u32(value, |number| device.settings().vectors = number)
    }),
};

static TRACE: Property = Property {
    name: c"trace",
    kind: c"str",
    description: c"File of the flight recorder (default: none)",
    get: accessor!("trace", |device, value| show_text(value, &device.settings().trace.clone())),
    set: accessor!("trace", |device, value| {
        jumper(device)?;
        take_text(value, |text| {
            device.settings().trace = text;
            Ok(())
        })
    }),
};

static TRACE_RECORDS: Property = Property {
    name: c"trace-records",
    kind: c"uint32",
    description: c"Records that the flight recorder holds, a power of two (default 65536)",
    get: accessor!("trace-records", |device, value| show_u32(value, device.settings().trace_records)),
    set: accessor!("trace-records", |device, value| {
        jumper(device)?;
        take_u32(value, |number| device.settings().trace_records = number)
    }),
};

static FIRE: Property = Property {
    name: c"fire",
    kind: c"uint64",
    description: c"Takes so many samples now, 1 to 1000000",
    get: None,
    set: accessor!("fire", |device, value| {
        plugged(device)?;
        let Some(samples) = value.u64(0) else { return Ok(()) };
        if !(1..=MAX_FIRE).contains(&samples) {
            return Err(Refusal::Fire(samples));
        }
        device.fire(samples);
        Ok(())
    }),
};

static STORM: Property = Property {
    name: c"storm",
    kind: c"str",
    description: c"Schedules of samples, as JSON: one, or a list; empty to stop",
    get: accessor!("storm", |device, value| show_text(value, &description::show_storm(&device.storm()))),
    set: accessor!("storm", |device, value| {
        plugged(device)?;
        take_text(value, |text| {
            let storm = description::parse_storm(&text)?;
            device.set_storm(&storm).map_err(DescriptionError::Storm)?;
            Ok(())
        })
    }),
};

static MISBEHAVE: Property = Property {
    name: c"misbehave",
    kind: c"str",
    description: c"What the card does wrong, as JSON; empty for nothing",
    get: accessor!("misbehave", |device, value| {
        show_text(value, &description::show_misbehaviour(device.misbehaviour()))
    }),
    set: accessor!("misbehave", |device, value| {
        plugged(device)?;
        take_text(value, |text| {
            let wrong = description::parse_misbehaviour(&text)?;
            device.misbehave(wrong).map_err(DescriptionError::Misbehaviour)?;
            Ok(())
        })
    }),
};

static WATCH: Property = Property {
    name: c"watch",
    kind: c"str",
    description: c"Guest addresses where Unload is entered and left, as JSON; empty to end",
    get: accessor!("watch", |device, value| show_text(value, &description::show_watch(device.watch()))),
    set: accessor!("watch", |device, value| {
        plugged(device)?;
        take_text(value, |text| Ok(watch::set(device, description::parse_watch(&text)?)?))
    }),
};

static STATS: Property = Property {
    name: c"stats",
    kind: c"str",
    description: c"What the card has counted, as JSON",
    get: accessor!("stats", |device, value| {
        show_text(value, &description::show_statistics(device.statistics(), device.interrupt_mode()))
    }),
    set: None,
};

static FORGET_TRANSLATIONS: Property = Property {
    name: c"forget-translations",
    kind: c"bool",
    description:
        c"Has QEMU forget the code that it has translated, so that going back to a snapshot is quick",
    get: None,
    set: accessor!("forget-translations", |device, value| {
        plugged(device)?;
        if value.bool(false) == Some(true) {
            translations::forget();
        }
        Ok(())
    }),
};

/// Jumpers are set before the card is in its slot.
fn jumper(device: &Device) -> Result<(), Refusal> {
    if device.was_plugged() { Err(Refusal::Plugged) } else { Ok(()) }
}

fn plugged(device: &Device) -> Result<(), Refusal> {
    if device.is_plugged() { Ok(()) } else { Err(Refusal::NotPlugged) }
}

fn show_u32(value: &Value, number: u32) -> Result<(), Refusal> {
    let _ = value.u32(number);
    Ok(())
}

fn show_text(value: &Value, text: &str) -> Result<(), Refusal> {
    value.show_text(text);
    Ok(())
}

/// Where QEMU has refused the value by itself, its error stands.
fn take_u32(value: &Value, set: impl FnOnce(u32)) -> Result<(), Refusal> {
    if let Some(number) = value.u32(0) {
        set(number);
    }
    Ok(())
}

fn take_text(value: &Value, set: impl FnOnce(String) -> Result<(), Refusal>) -> Result<(), Refusal> {
    value.take_text().map_or(Ok(()), set)
}
