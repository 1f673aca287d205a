//! The Verifier.
//!
//! Driver Verifier watches a driver by standing between it and the kernel: where a verified driver's image is bound, some
//! of its imports lead to routines of the Verifier's, which look at the call and pass it on. Nothing else in the kernel
//! asks whether anybody is verified, but for a few named hooks where there is no call to stand in: the pool, page faults,
//! and the moment in which an image goes.
//!
//! - [`classes`]: what there is to be checked, by Windows' names and flag bits;
//! - [`verified`]: which drivers are watched, and for what;
//! - [`thunk`]: how a routine is put in an export's place ([`thunk::intercept!`]);
//! - [`stops`]: how the Verifier stops the system;
//! - [`pool_rules`]: the rules of allocating and freeing pool;
//! - [`pool_tracking`]: pool that is left when the driver goes;
//! - [`security`]: what is passed to the `Zw` routines;
//! - [`special_pool`]: each allocation on a page of its own;
//! - [`deadlock`]: the order in which locks are taken;
//! - [`dispatch`] and [`io_rules`]: I/O verification, from both sides;
//! - [`remove_locks`]: under which tags they are held; [`tracing`]: providers that are left;
//! - [`dma`] and [`dma_transfers`]: adapters, what is taken of them, and what is mapped;
//! - [`irql_checks`]: IRQLs of locks, waits and memory, for every verified driver;
//! - [`irql_rules`] and [`ddi_locks`]: at which IRQLs routines may be called, and in which order;
//! - [`mdl_rules`]: memory descriptor lists, by their flags; [`pageable`]: what may be paged out;
//! - [`object_rules`]: objects, handles and references;
//! - [`rehearsal`]: drivers that the kernel's own tests play;
//! - [`census`] and [`freed_memory`]: what is still active in memory that goes;
//! - [`force_irql`]: pageable memory is not there at raised IRQL;
//! - [`deleted_devices`]: device objects that were deleted, and who still touches them;
//! - [`entries`]: what a driver enters into the system's books;
//! - [`page_fault`]: page faults that the Verifier resolves;
//! - [`unload`]: the hooks on an image's way in and out;
//! - [`findings`]: what was left behind that real Windows would not have noticed, for every driver, verified or not.

mod asked;
pub mod census;
pub mod classes;
pub mod ddi_locks;
pub mod deadlock;
pub mod deleted_devices;
pub mod dispatch;
pub mod dma;
mod dma_transfers;
pub mod entries;
pub mod findings;
mod findings_selftest;
pub mod force_irql;
pub mod freed_memory;
mod io_rules;
mod io_selftest;
pub mod irql_checks;
mod irql_rules;
mod mdl_rules;
pub mod noted;
mod object_rules;
pub mod page_fault;
mod pageable;
mod pool_rules;
mod pool_tracking;
mod rehearsal;
mod remove_locks;
mod security;
pub mod special_pool;
pub mod stops;
pub mod thunk;
mod tracing;
pub mod unload;
pub mod verified;
