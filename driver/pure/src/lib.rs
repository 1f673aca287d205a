//! The part of the driver that touches neither kernel nor hardware.
//!
//! A driver's image cannot run in a test, and most of its code is about the kernel it runs in. What is not is here: the
//! [ring](SampleRing) between the DPC that drains the card and the reader that asked for samples, and the [rules](Settings) for what
//! may stand in the registry.
#![no_std]

mod ring;
mod settings;

pub use ring::SampleRing;
pub use settings::{Settings, SettingsError};
