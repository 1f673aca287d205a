//! Processes and threads, as drivers see them. There is one process, the system's; its threads are
//! [`crate::ke::thread`]'s.

pub mod information;
pub mod notify;
pub mod open;
pub mod process;
pub mod query;
pub mod thread;
