//! The I/O manager: drivers, their devices, and the requests that travel between them.

pub mod attach;
pub mod build;
pub mod cancel;
pub mod claim;
pub mod config;
pub mod controller;
pub mod csq;
pub mod device;
pub mod driver;
pub mod error_log;
pub mod file;
pub mod interrupt;
pub mod irp;
pub mod link;
pub mod mdl;
pub mod pci;
pub mod pnp;
pub mod reinitialize;
pub mod remove_lock;
pub mod request;
pub mod resource;
pub mod selftest;
pub mod start_io;
pub mod timer;
pub mod unload;
pub mod work_item;
