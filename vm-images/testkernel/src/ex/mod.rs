//! The executive's services to drivers: pool, fast mutexes and interlocked lists.

pub mod fast_mutex;
pub mod pool;
pub mod slist;
