//! The part of the driver that touches neither kernel nor hardware.
//!
//! A driver's image cannot run in a test, and most of its code is about the kernel it runs in. What is not is here: the
//! [ring](SampleRing) between the DPC that drains the card and the reader that asked for samples, the [chart](Chart) of what came
//! last, the [statistics](Statistics) that a program asks for, the [rules](Settings) for what may stand in the
//! registry, what a PCI card was [granted](Granted), and the
//! [order](Order) of Unload's steps with mistakes in it.
#![no_std]

mod chart;
mod granted;
mod names;
mod order;
mod ring;
mod settings;
mod statistics;

pub use chart::Chart;
pub use granted::{GrantError, Granted, Line};
pub use names::utf16_with_nul;
pub use order::{Mistake, Order, Planned};
pub use ring::SampleRing;
pub use settings::{Settings, SettingsError};
pub use statistics::Statistics;
