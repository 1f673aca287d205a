//! Unload's deliberate mistakes, one of which the registry value `Parameters\Defect` chooses.
//!
//! Only the image that is built with the feature `defects` has this module. Elsewhere in the driver each mistake is a branch under the
//! same feature, so that Unload still reads as the list that it is, with what is left out marked where it is left out, and so that the
//! product image has neither the branches nor what is behind them.

use wdk_sys::{REG_SZ, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND};

use crate::{registry::Key, status::Result, text::text};

/// What Unload does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The card is not silenced and its interrupt stays connected: the next one calls an ISR that is no longer there.
    InterruptsLeftEnabledAndConnected,
}

impl Defect {
    const CATALOGUE: [(&str, Self); 1] =
        [("interrupts-left-enabled-and-connected", Self::InterruptsLeftEnabledAndConnected)];

    /// The defect asked for: none where there is no such value, an error where nothing is known by that name.
    pub(crate) fn chosen(parameters: &Key) -> Result<Option<Self>> {
        let value = match parameters.value(&text!("Defect").counted()) {
            Err(STATUS_OBJECT_NAME_NOT_FOUND) => return Ok(None),
            value => value?,
        };
        let found = Self::CATALOGUE.iter().find(|(id, _)| value.kind == REG_SZ && is_text(value.data(), id));
        match found {
            Some((id, defect)) => {
                wdk::println!("squall: with the defect {id}");
                Ok(Some(*defect))
            }
            None => {
                wdk::println!("squall: Parameters\\Defect: not in the catalogue");
                Err(STATUS_INVALID_PARAMETER)
            }
        }
    }
}

/// Whether the bytes of a `REG_SZ` are this ASCII text. The terminator is customary, not guaranteed.
fn is_text(bytes: &[u8], text: &str) -> bool {
    let bytes = bytes.strip_suffix(&[0, 0]).unwrap_or(bytes);
    bytes.len() == 2 * text.len()
        && bytes.chunks_exact(2).zip(text.bytes()).all(|(unit, ascii)| unit == [ascii, 0])
}
