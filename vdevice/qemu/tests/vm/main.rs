//! The device in the real QEMU.
//!
//! Most tests need no guest: QEMU's own test protocol reads and writes ports and reports interrupts, while
//! the processor sleeps in a ROM of four bytes. The others boot a ROM of a few dozen instructions (`guest`).
//!
//! `cargo xtask test` runs them with each QEMU of the tested range. By hand, build the library and name a
//! QEMU: `cargo build -p squall-vdevice && SQUALL_QEMU_COMMAND=/usr/bin/qemu-system-x86_64 cargo test -p
//! squall-vdevice --test vm`.

// A test says what it expects; what else can happen ends it. clippy knows that of functions marked as tests,
// not of their helpers.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod bus;
mod cycles;
mod delivery;
mod guest;
mod hotplug;
mod lifeline;
mod machine;
mod misbehaviour;
mod pci;
mod real_mode;
mod recorder;
mod refusals;
mod registers;
mod schedules;
mod sharing;
mod snapshot;
mod storm;
mod watch;
