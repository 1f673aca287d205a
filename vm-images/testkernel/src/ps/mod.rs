//! Processes and threads, as drivers see them. There is one process, the system's; its threads are
//! [`crate::ke::thread`]'s.

pub mod notify;
pub mod process;
pub mod thread;
