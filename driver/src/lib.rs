//! A legacy driver as they were, and are, written: no plug and play, resources from the registry, one interrupt, one DPC.
//!
//! The card samples something ([`squall_registers`] is its data sheet). The driver's parts are those of every such driver:
//!
//! - [`start`]: DriverEntry finds the card, connects its interrupt and only then lets it interrupt;
//! - [`service`]: the ISR acknowledges and queues the DPC, the DPC drains the card and completes a waiting read;
//! - [`dispatch`] and [`read`]: opening, reading, cancelling, closing;
//! - [`unload`](mod@unload): everything again in the documented order, which is what this driver exists for.
//!
//! Below them is a thin layer over `wdk-sys`: one file for each thing that the kernel lends to a driver ([`device`], [`interrupt`],
//! [`claim`], [`link`], [`registry`], [`lock`]). What is lent is a value that gives it back when dropped, so a DriverEntry that fails
//! half-way returns exactly what it had, and Unload can be read as a list of what is given back, and when.
//!
//! With the feature `defects` the registry value `Parameters\Defect` makes Unload leave something out; see `defect.rs`. The product
//! image has none of that code.
#![no_std]

// The panic handler: a bugcheck of its own code that carries the source position.
extern crate wdk_panic;

mod card;
mod claim;
#[cfg(feature = "defects")]
mod defect;
mod device;
mod dispatch;
mod extension;
mod interrupt;
mod irp;
mod layout;
mod line;
mod link;
mod lock;
mod parameters;
mod port;
mod read;
mod registry;
mod service;
mod start;
mod status;
mod text;
mod unload;

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
