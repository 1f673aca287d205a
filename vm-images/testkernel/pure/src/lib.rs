//! The embedded guest's thinking, apart from its hardware.
//!
//! Whatever the kernel decides from plain values (which bug check a fault becomes, which vector a line gets,
//! what a protocol message means) is decided here, so that it can be unit-tested on the host in milliseconds.
//! Nothing in this crate touches a processor, a port or raw memory.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address_window;
pub mod agent;
pub mod bugcheck;
pub mod crash_dump;
pub mod crash_record;
pub mod dma;
pub mod dma_controller;
pub mod frames;
pub mod lock_order;
pub mod name_expression;
pub mod namespace;
pub mod pci;
pub mod pe;
pub mod pool;
pub mod printf;
pub mod registry;
pub mod resources;
pub mod security;
pub mod special_page;
pub mod unwind;
pub mod utf16;
pub mod utf8;
pub mod vectors;
pub mod version;
