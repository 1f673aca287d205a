//! Squall's sampling card as a device of stock QEMU.
//!
//! QEMU has no interface for devices in libraries. It has one for *plugins*, which watch translated code; and
//! a plugin is a shared object in QEMU's own address space, loaded after the accelerator is chosen and before
//! the first device is made. Distributions build QEMU with loadable modules, and so export its internal
//! functions to whatever is loaded. This library is loaded as a plugin (`-plugin
//! file=libsquall_vdevice.so,lifeline=FD`), finds the internal functions that it needs by name, and registers
//! a type with QEMU's object model. From then on `-device squall-isa`, `squall-pci` and
//! `squall-pcie` work like any other device.
//!
//! The inside of QEMU is not a stable interface. So:
//!
//! - every function is looked up when the library is loaded, and if one is missing the library refuses to
//!   load and says which (`symbols`): never a crash later;
//! - of QEMU's structures only three layouts are relied on (`abi`); what else must be known of an object is found
//!   by its content, or refused (`config_space`); objects of QEMU's that we must provide
//!   room for are opaque and larger than they need to be; our own state is kept apart from QEMU's objects, in
//!   a table (`registry`);
//! - what the card *does* is in `squall-model`, which knows nothing of QEMU. This crate only carries calls in
//!   and effects out (`device`).
//!
//! # Locks
//!
//! QEMU's devices run under its big lock. So do we: register accesses, properties, timers, resets and work
//! items all come with it held, and it is what protects the card (`big_lock`). Only the callbacks of translated
//! code come without it (`watch`); what they ask of a card is kept apart for them. The card is let go of
//! before QEMU is asked to move an interrupt line, since what hangs on that line is QEMU's business; that the
//! order of movements is kept is the big lock's doing.
//!
//! # Panics
//!
//! None is meant to be possible. Should one happen, it stops at the `extern "C"` function that QEMU called,
//! which aborts the process: it never unwinds into QEMU.

mod abi;
mod big_lock;
mod clock;
mod config_space;
mod description;
mod device;
mod error;
mod isa;
mod lifeline;
mod line;
mod memory;
mod pci;
mod plugin;
mod processor;
mod properties;
mod qom;
mod recorder;
mod registry;
mod snapshot;
mod symbols;
mod timer;
mod translations;
mod visitor;
mod watch;
