//! The kernel proper: IRQLs, locks, threads and the dispatcher, deferred procedure calls, timers, interrupts, and the
//! bug check that ends it all.

pub mod irql;
pub mod lock;
