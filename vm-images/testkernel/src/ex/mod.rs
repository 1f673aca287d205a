//! The executive's services to drivers: pool and interlocked lists.

pub mod pool;
pub mod slist;
