//! The run-time library: strings, memory, version, and the registry by table.

pub mod bitmap;
pub mod memory;
pub mod names;
pub mod registry;
pub mod string;
pub mod time;
pub mod version;
