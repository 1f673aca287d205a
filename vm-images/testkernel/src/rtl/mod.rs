//! The run-time library: strings, memory, version, and the registry by table.

pub mod ansi;
pub mod bitmap;
pub mod crt;
pub mod exception;
pub mod format;
pub mod generic_table;
pub mod memory;
pub mod names;
pub mod registry;
pub mod run_once;
pub mod security;
pub mod stack_probe;
pub mod string;
pub mod time;
pub mod version;
