//! What the registry says about the card.

use squall_driver_pure::{Settings, SettingsError};
use squall_registers::WINDOW_LEN;
use wdk_sys::{
    PCUNICODE_STRING, REG_SZ, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, UNICODE_STRING,
};

use crate::nt::{
    registry::{Key, Value},
    status::Result,
    text::text,
};

/// Seconds that a read waits where nobody says otherwise.
const READ_TIMEOUT: u32 = 30;

/// Where the card is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// On ISA, as its jumpers say.
    Isa(Settings),
    /// On PCI, as the plug and play manager says.
    Pci,
}

/// The service's `Parameters` key.
///
/// # Safety
///
/// `registry_path` is the one that DriverEntry was called with.
pub(crate) unsafe fn open(registry_path: PCUNICODE_STRING) -> Result<Key> {
    // SAFETY: valid for the duration of DriverEntry, which is where we are.
    unsafe { Key::open(registry_path) }?.subkey(&text!("Parameters").counted())
}

/// `Bus`, and where that is ISA, or not there, `IoPortBase` and `InterruptLine`, checked.
pub(crate) fn place(parameters: &Key) -> Result<Place> {
    match optional(parameters, &text!("Bus").counted())? {
        None => settings(parameters).map(Place::Isa),
        Some(bus) if is_text(&bus, "isa") => settings(parameters).map(Place::Isa),
        Some(bus) if is_text(&bus, "pci") => Ok(Place::Pci),
        Some(_) => {
            wdk::println!("squall: Parameters\\Bus: neither isa nor pci");
            Err(STATUS_INVALID_PARAMETER)
        }
    }
}

fn settings(parameters: &Key) -> Result<Settings> {
    let io_port_base = parameters.dword(&text!("IoPortBase").counted())?;
    let interrupt_line = parameters.dword(&text!("InterruptLine").counted())?;
    Settings::check(io_port_base, interrupt_line, WINDOW_LEN).map_err(|error| {
        match error {
            SettingsError::IoPortBase(value) => {
                wdk::println!("squall: Parameters\\IoPortBase: no card at {value:#x}")
            }
            SettingsError::InterruptLine(value) => {
                wdk::println!("squall: Parameters\\InterruptLine: no line {value}")
            }
        }
        STATUS_INVALID_PARAMETER
    })
}

/// `ReadTimeout`: how many seconds a read waits, 0 for ever.
pub(crate) fn read_timeout(parameters: &Key) -> Result<u32> {
    match parameters.dword(&text!("ReadTimeout").counted()) {
        Err(STATUS_OBJECT_NAME_NOT_FOUND) => Ok(READ_TIMEOUT),
        value => value,
    }
}

/// A value that need not be there.
pub(crate) fn optional(parameters: &Key, name: &UNICODE_STRING) -> Result<Option<Value>> {
    match parameters.value(name) {
        Err(STATUS_OBJECT_NAME_NOT_FOUND) => Ok(None),
        value => value.map(Some),
    }
}

/// Whether a value is a string, and this one (ASCII). The terminator is customary, not guaranteed.
pub(crate) fn is_text(value: &Value, text: &str) -> bool {
    let bytes = value.data();
    let bytes = bytes.strip_suffix(&[0, 0]).unwrap_or(bytes);
    value.kind == REG_SZ
        && bytes.len() == 2 * text.len()
        && bytes.chunks_exact(2).zip(text.bytes()).all(|(unit, ascii)| unit == [ascii, 0])
}
