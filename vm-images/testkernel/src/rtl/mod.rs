//! The run-time library: strings, memory, version, and the registry by table.

pub mod ansi;
pub mod avl_table;
pub mod bitmap;
pub mod bitmap_runs;
pub mod counted;
pub mod crt;
pub mod dos_error;
pub mod exception;
pub mod format;
pub mod generic_table;
pub mod mem_io;
pub mod memory;
pub mod names;
pub mod oem;
pub mod random;
pub mod registry;
pub mod run_once;
pub mod security;
pub mod stack_probe;
pub mod string;
pub mod time;
pub mod utf8;
pub mod version;
