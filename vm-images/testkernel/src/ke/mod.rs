//! The kernel proper: IRQLs, locks, threads and the dispatcher, deferred procedure calls, timers, interrupts,
//! and the bug check that ends it all.

pub mod apc;
pub mod bugcheck;
pub mod bugcheck_callback;
pub mod call;
pub mod claims;
pub mod clock;
pub mod device_queue;
pub mod dispatcher;
pub mod dpc;
pub mod event;
pub mod expand_stack;
pub mod extended_state;
pub mod group_affinity;
pub mod interrupt;
pub mod irql;
pub mod list;
pub mod lock;
pub mod mutex;
pub mod nmi;
pub mod processor;
pub mod processor_change;
pub mod queue;
pub mod rendezvous;
pub mod run_time;
pub mod semaphore;
pub mod shared_data;
pub mod spinlock;
pub mod thread;
pub mod timer;
pub mod topology;
pub mod wait;
