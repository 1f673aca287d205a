//! The whole chain: our device in the real QEMU, the embedded guest, the real driver, a verdict.
//!
//! `cargo xtask test` builds what these tests need and names it in `SQUALL_ARTIFACTS`.

// A test says what it expects; what else can happen ends it. clippy knows that of functions marked as tests, not of
// their helpers.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod bad_input;
mod bench;
mod bugcheck_callbacks;
mod built_driver;
mod c_drivers;
mod conformance;
mod crash_dump;
mod guest;
mod halting_kernel;
mod handed_over;
mod hostile;
mod injection;
mod killed;
mod listeners;
mod other_drivers;
#[path = "../../src/testing/pe.rs"]
mod pe;
mod reads;
mod selftest;
mod series;
mod signed;
mod statistics;
mod stress;
mod trials;
mod verifier_stops;
mod victims;
mod violations;
