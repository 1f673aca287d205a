//! Which thread runs, and where: priorities and processors.

use super::super::{dispatcher, group_affinity, processor};
use super::{PRIORITIES, Thread};

/// Restricts a thread to the processors in `mask`, each of which exists, and moves it there; false where one does not.
pub fn bind(thread: &Thread, mask: u64) -> bool {
    let possible = group_affinity::is_set_of_processors(mask);
    if possible {
        dispatcher::lock().bind(thread, mask);
    }
    possible
}

/// Where a thread best runs.
pub fn ideal(thread: &Thread) -> usize {
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    let part = unsafe { &*thread.scheduling.get() };
    part.ideal_processor.unwrap_or(part.last_processor)
}

/// Says where a thread best runs; none where there is no such processor.
pub fn set_ideal(thread: &Thread, number: usize) -> Option<()> {
    processor::get(number)?;
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    unsafe { (*thread.scheduling.get()).ideal_processor = Some(number) };
    Some(())
}

/// Restricts the calling thread to the processors in `mask`, moves it there, and returns the set before.
/// Processors that are not there do not count; where none remains, nothing changes.
pub fn set_affinity(mask: u64) -> u64 {
    dispatcher::lock().set_affinity(mask)
}

/// A thread's priority.
pub fn priority(thread: &Thread) -> u8 {
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    unsafe { (*thread.scheduling.get()).priority }
}

/// The processors that a thread may run on.
pub fn affinity(thread: &Thread) -> u64 {
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    unsafe { (*thread.scheduling.get()).affinity }
}

/// The priority that a thread was given, whether it is raised just now or not.
pub fn base_priority(thread: &Thread) -> u8 {
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    unsafe { (*thread.scheduling.get()).base_priority }
}

/// Changes a thread's priority and returns the one before.
pub fn set_priority(thread: &Thread, priority: u8) -> u8 {
    dispatcher::lock().set_priority(thread, priority.min(PRIORITIES as u8 - 1))
}
