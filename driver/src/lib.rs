//! A legacy driver as they were, and are, written: no plug and play, resources from the registry, one interrupt, one DPC.
//!
//! The card samples something ([`squall_registers`] is its data sheet). The driver's parts are those of every such driver:
//!
//! - [`start`]: DriverEntry finds the card, on ISA by its jumpers or on PCI through the driver that claims it, connects its interrupt and
//!   only then lets it interrupt;
//! - [`service`]: the ISR acknowledges and queues two DPCs, of which one drains the card and one wakes the recorder;
//! - [`dispatch`], [`mod@open`] and [`read`]: opening, reading with a StartIo routine, cancelling, closing;
//! - [`recorder`], [`saver`], [`watch`], [`clock`]: a thread that keeps what came last, a work item that writes to the registry, a timer
//!   that finds lost interrupts, and what is done once a second;
//! - [`unload`](mod@unload): everything again in the documented order, which is what this driver exists for.
//!
//! Below them is [`nt`], a thin layer over `wdk-sys`. What the kernel has lent is in [`held`]; Unload's steps give it back, and the same
//! steps undo a DriverEntry that fails half-way.
//!
//! With the feature `defects` the registry value `Parameters\Defect` makes Unload leave something out; see `defect`. The product
//! image has none of that code.
#![no_std]

// The panic handler: a bugcheck of its own code that carries the source position.
extern crate wdk_panic;

mod card;
mod clock;
#[cfg(feature = "defects")]
mod defect;
mod dispatch;
mod extension;
mod grant;
mod held;
mod nt;
mod open;
mod parameters;
mod read;
mod recorder;
mod saver;
mod service;
mod start;
mod unload;
mod watch;

use wdk_sys::{DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, STATUS_SUCCESS};

/// Called once by the I/O manager, at PASSIVE_LEVEL, when the driver is loaded.
///
/// # Safety
///
/// `driver` is the driver object that the I/O manager made for this image, and `registry_path` names its service key.
#[unsafe(export_name = "DriverEntry")]
pub unsafe extern "system" fn driver_entry(
    driver: &mut DRIVER_OBJECT,
    registry_path: PCUNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: handed on as promised to us.
    match unsafe { start::start(driver, registry_path) } {
        Ok(()) => STATUS_SUCCESS,
        Err(status) => status,
    }
}
