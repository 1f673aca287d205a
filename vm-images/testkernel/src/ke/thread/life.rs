//! How a thread begins and ends: its stack, what it runs, and who frees what it leaves.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use super::super::irql::Irql;
use super::super::lock::SpinLock;
use super::super::{dispatcher, mutex, processor, queue};
use super::{
    LIVE, NORMAL_PRIORITY, STACK_PAGES, Start, StartRoutine, SystemRoutine, Thread, ThreadRef, current,
    reference, release,
};
use crate::arch::context::Context;
use crate::mm::paging::Protection;
use crate::mm::region::{Region, Window};
use crate::nt::PVOID;

/// No memory was left for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Stacks of threads that ended, kept mapped: to unmap one would stop every processor for a moment.
static SPARE_STACKS: SpinLock<Vec<Region>> = SpinLock::new(Vec::new());
const MAX_SPARE_STACKS: usize = 32;

/// How many there are.
pub fn spare_stacks() -> usize {
    SPARE_STACKS.lock().len()
}

fn take_stack() -> Option<Region> {
    let spare = SPARE_STACKS.lock().pop();
    spare.or_else(|| Region::map(Window::Dynamic, 1, STACK_PAGES, Protection::ReadWrite))
}

fn give_stack_back(stack: Region) {
    let mut spare = SPARE_STACKS.lock();
    if spare.len() < MAX_SPARE_STACKS {
        spare.push(stack);
    } else {
        drop(spare);
        drop(stack);
    }
}

/// A thread that was made and not started. Dropped like that, it ends without having run anything.
#[derive(Debug)]
pub struct Prepared(Option<ThreadRef>);

impl Prepared {
    /// Starts it.
    pub fn start(mut self) -> Option<ThreadRef> {
        let thread = self.0.take()?;
        dispatcher::lock().ready(thread.0.as_ptr());
        Some(thread)
    }

    /// The thread's record.
    pub fn pointer(&self) -> *mut Thread {
        self.0.as_ref().map_or(ptr::null_mut(), |thread| thread.0.as_ptr())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(thread) = &self.0 {
            // SAFETY: the thread was never started, so its start is still this one's to take.
            drop(unsafe { (*thread.start.get()).take() });
            dispatcher::lock().ready(thread.0.as_ptr());
        }
    }
}

/// Makes a thread that will run `start` at PASSIVE_LEVEL and end when that returns.
///
/// # Errors
/// Where memory is short.
fn prepare(name: &str, priority: u8, start: impl FnOnce() + Send + 'static) -> Result<Prepared, OutOfMemory> {
    make(name, priority, Start::Kernel(Box::new(start)))
}

/// Makes a thread that will have `system` call a driver's routine at PASSIVE_LEVEL. It ends where either of them says so, or
/// when that call returns.
///
/// # Errors
/// Where memory is short.
pub fn prepare_routine(
    name: &str,
    system: SystemRoutine,
    routine: StartRoutine,
    context: PVOID,
) -> Result<Prepared, OutOfMemory> {
    make(name, NORMAL_PRIORITY, Start::Routine(system, routine, context))
}

fn make(name: &str, priority: u8, start: Start) -> Result<Prepared, OutOfMemory> {
    reap();
    let stack = take_stack().ok_or(OutOfMemory)?;
    let end = stack.base() + stack.bytes() as u64;
    let thread = Thread::create(name, priority, Context::running(), Some(start), Some(stack));
    // SAFETY: the stack was just mapped, ends at `end`, and lives as long as the thread; nobody else knows
    // either yet.
    let share = unsafe {
        *(*thread).context.get() = Context::starting(end, run, thread as u64);
        reference(NonNull::new_unchecked(thread))
    };
    LIVE.lock().insert(thread.expose_provenance());
    Ok(Prepared(Some(share)))
}

/// Starts a thread that runs `start` at PASSIVE_LEVEL and ends when that returns.
///
/// # Errors
/// Where memory is short.
pub fn spawn(
    name: &str,
    priority: u8,
    start: impl FnOnce() + Send + 'static,
) -> Result<ThreadRef, OutOfMemory> {
    prepare(name, priority, start)?.start().ok_or(OutOfMemory)
}

/// Where every thread begins: the dispatcher's lock is held, as after any switch.
extern "C" fn run(thread: u64) -> ! {
    drop(dispatcher::adopt(Irql::PASSIVE));
    let thread = thread as *mut Thread;
    // SAFETY: only the thread itself takes its start.
    match unsafe { (*(*thread).start.get()).take() } {
        Some(Start::Kernel(start)) => start(),
        Some(Start::Routine(system, routine, context)) => system(routine, context),
        None => {}
    }
    exit(0)
}

/// Ends the thread that calls this.
pub fn exit(status: u32) -> ! {
    LIVE.lock().remove(&current().as_ptr().addr());
    crate::ps::thread::ending();
    let mut dispatcher = dispatcher::lock();
    let thread = processor::current().thread();
    // SAFETY: the thread runs, so its record is alive; under the dispatcher's lock.
    unsafe {
        (*(*thread).scheduling.get()).exit_status = status;
        mutex::abandon_all(&mut dispatcher, thread);
        queue::leave(&mut dispatcher, thread);
        (*(*thread).header.get()).SignalState = 1;
        dispatcher.signalled((*thread).header.get(), 0);
    }
    dispatcher.bury(thread)
}

/// Frees what ended threads left: their stacks, and their own shares in their records.
pub fn reap() {
    let mut next = dispatcher::lock().take_zombies();
    while !next.is_null() {
        let thread = next;
        // SAFETY: the thread ended and was switched away from, so nobody runs on its stack; the share
        // released is the thread's own.
        unsafe {
            next = (*thread).next_zombie.load(Ordering::Relaxed);
            if let Some(stack) = (*(*thread).stack.get()).take() {
                give_stack_back(stack);
            }
            release(thread);
        }
    }
}
