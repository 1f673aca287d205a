//! The run-time library: strings, memory, version, and the registry by table.

pub mod memory;
pub mod registry;
pub mod string;
pub mod version;
