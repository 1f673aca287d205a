//! The thin layer over `wdk-sys`: one file for each thing that the kernel lends to a driver.
//!
//! What is lent is a value. It is made by the call that borrows, it gives back when dropped, and it has a method of its own that does so
//! by name, for who has to say *when*: Unload. Where the kernel works on the driver's own memory (a DPC, a timer, an event, a lookaside
//! list) there are two things: the memory, which stays where it is, and the value, which says that the kernel has it.

pub(crate) mod claim;
pub(crate) mod configuration;
pub(crate) mod contiguous;
pub(crate) mod controller;
pub(crate) mod device;
pub(crate) mod device_map;
pub(crate) mod dma;
pub(crate) mod dpc;
pub(crate) mod event;
pub(crate) mod interrupt;
pub(crate) mod io_timer;
pub(crate) mod irp;
mod layout;
pub(crate) mod line;
pub(crate) mod link;
pub(crate) mod lock;
pub(crate) mod lookaside;
pub(crate) mod lower;
pub(crate) mod mapping;
pub(crate) mod pool;
pub(crate) mod port;
pub(crate) mod registry;
pub(crate) mod status;
pub(crate) mod text;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod work_item;
