//! Phase 1 of the start, as NT calls it: what a thread can do when the kernel runs.
//!
//! Phase 0 is `kernel_main`: one processor, interrupts off, each step a condition of the next. What drivers find later, and
//! nobody needs in order to answer the host, is left to a thread: the object manager, the dump's header, the driver that the host
//! has handed over, the PCI bus, the volume, the devices of the tree. An emulator translates whatever runs for the first time, so
//! that this is half of what there is to do. Whoever starts something that could look for any of it waits first ([`wait`]).

use core::sync::atomic::{AtomicPtr, Ordering};

use alloc::boxed::Box;

use crate::arch::boot::BootInfo;
use crate::console::println;
use crate::ke::event::Event;
use crate::ke::{bugcheck, processor, shared_data, thread};
use crate::{agent, crash, hal, io, mm, ob};

/// Signalled when all is there; null until the thread is made.
static DONE: AtomicPtr<Event> = AtomicPtr::new(core::ptr::null_mut());

/// Has a thread do it.
pub fn start(boot: &BootInfo) {
    let boot = boot.clone();
    let up_in_us = hal::clock::now_ns() / 1000;
    let done: &'static Event = Box::leak(Box::new(Event::new_notification()));
    DONE.store(core::ptr::from_ref(done).cast_mut(), Ordering::Release);
    let started = thread::spawn("phase 1", thread::NORMAL_PRIORITY, move || {
        println!(
            "squall-testkernel {}: {} processors, {} MiB, up in {up_in_us} us",
            env!("CARGO_PKG_VERSION"),
            processor::count(),
            boot.memory_bytes() >> 20,
        );
        run(&boot);
        done.set();
    });
    assert!(started.is_ok(), "not enough memory for the thread of phase 1");
}

fn run(boot: &BootInfo) {
    assert!(mm::region::prepare().is_ok(), "not enough memory for the page tables");
    shared_data::fill_in();
    assert!(ob::init().is_ok(), "not enough memory for the object manager");
    crash::dump::init(boot);
    agent::take_what_was_handed_over();
    hal::pci::init();
    if let Err(status) = io::file_system::start() {
        bugcheck::kernel_fault(format_args!("the volume has no device: {status}"), line!());
    }
    if let Err(status) = io::claim::start(boot) {
        bugcheck::kernel_fault(format_args!("the PCI bus has no devices: {status}"), line!());
    }
}

/// Returns when all of it is done. At PASSIVE_LEVEL.
pub fn wait() {
    // SAFETY: once stored, it lives for ever.
    if let Some(done) = unsafe { DONE.load(Ordering::Acquire).as_ref() } {
        done.wait(None);
    }
}
