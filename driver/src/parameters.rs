//! What the registry says about the card.

use squall_driver_pure::{Settings, SettingsError};
use squall_registers::WINDOW_LEN;
use wdk_sys::{PCUNICODE_STRING, STATUS_INVALID_PARAMETER};

use crate::{registry::Key, status::Result, text::text};

/// The service's `Parameters` key.
///
/// # Safety
///
/// `registry_path` is the one that DriverEntry was called with.
pub(crate) unsafe fn open(registry_path: PCUNICODE_STRING) -> Result<Key> {
    // SAFETY: valid for the duration of DriverEntry, which is where we are.
    unsafe { Key::open(registry_path) }?.subkey(&text!("Parameters").counted())
}

/// `IoPortBase` and `InterruptLine`, checked.
pub(crate) fn settings(parameters: &Key) -> Result<Settings> {
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
