//! Puts a Windows legacy driver through an interrupt storm and says what happened.
//!
//! The data goes one way, and each step is a module:
//!
//! ```text
//! scenario -> session -> run -> evidence -> verdict -> report
//! ```
//!
//! A [`scenario`] says what is to be done to which driver. A session is QEMU up, the card attached, the guest's
//! agent answering. A run loads the driver, lets the storm blow, unloads the driver in the middle of it, and watches.
//! All that is seen on the way is evidence, in order; the verdict is a pure function of it, so that it can be
//! computed again from a run directory at any time.
//!
//! Nothing here asks which guest it has before it: what differs between guests is data, in a [`profile`].

pub mod agent;
pub mod artifacts;
pub mod c_drivers;
pub mod catalogue;
mod conversation;
pub mod crash;
pub mod device;
pub mod evidence;
pub mod flight;
pub mod handover;
pub mod hex;
pub mod image;
mod line_limit;
pub mod misbehaviour;
pub mod profile;
pub mod qemu;
pub mod qmp;
pub mod report;
pub mod run;
pub mod run_dir;
pub mod scenario;
pub mod series;
pub mod session;
pub mod signing;
pub mod snapshot;
pub mod storm;
pub mod stress;
pub mod symbols;
pub mod toolbox;
pub mod trace;
pub mod trial;
pub mod verdict;
pub mod wdk;

#[cfg(test)]
mod testing;
