//! The executive's services to drivers: pool and lookaside lists, mutexes and run-down protection, interlocked
//! lists, work items.

pub mod callback;
pub mod fast_mutex;
pub mod interlocked;
pub mod lookaside;
pub mod named_event;
pub mod named_timer;
pub mod pool;
pub mod push_lock;
pub mod resource;
pub mod rundown;
pub mod slist;
pub mod spin_lock;
pub mod system;
pub mod timer;
pub mod timer_resolution;
pub mod work;
pub mod zone;
