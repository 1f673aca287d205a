//! Rules that a driver in Rust holds the kernel against.
//!
//! The families in C beside this folder check routine by routine. What a driver in Rust leans on is more than that: a global
//! allocator on pool, closures as contexts, stack frames that the compiler probes, floating-point arithmetic that has to survive
//! whatever comes in between, and structures as `wdk-sys` declares them. Each rule names the page that promises it.
#![no_std]

extern crate alloc;
// The panic handler: a bugcheck of its own code that carries the source position.
extern crate wdk_panic;

mod check;
mod deferred;
mod io;
mod irql;
mod memory;
mod registry;
mod sync;
mod text;
mod thread;

use wdk_alloc::WdkAllocator;
use wdk_sys::{DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, STATUS_SUCCESS};

#[global_allocator]
static POOL: WdkAllocator = WdkAllocator;

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
    driver.DriverUnload = Some(unload);
    let mut suite = check::Suite::new("Rust");
    memory::rules(&mut suite);
    text::rules(&mut suite);
    thread::rules(&mut suite);
    sync::rules(&mut suite);
    deferred::rules(&mut suite);
    // SAFETY: as promised to us.
    unsafe { registry::rules(&mut suite, registry_path) };
    io::rules(&mut suite, driver);
    suite.end();
    STATUS_SUCCESS
}

extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    check::unloaded();
}
