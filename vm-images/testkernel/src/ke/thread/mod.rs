//! Threads.
//!
//! Every thread is a system thread: there is no user mode. A thread has a priority from 0 to 31, the higher
//! one runs, and those of one priority take turns by the clock. It runs at PASSIVE_LEVEL unless it raises
//! itself, on a stack of its own with a guard page below. ISRs and DPCs that come in between run on that
//! stack too (NT has stacks of their own for them), which is why it is larger than NT's 24 KiB.
//!
//! A thread's record begins with a dispatcher header, so that a driver can wait for it to end.

mod life;
mod placement;
mod tests;

pub use self::life::{OutOfMemory, exit, prepare_routine, reap, spare_stacks, spawn};
pub use self::placement::{
    affinity, base_priority, bind, ideal, priority, set_affinity, set_ideal, set_priority,
};

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::cell::{Cell, UnsafeCell};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::dispatcher::{self, State};
use super::list;
use super::lock::SpinLock;
use super::wait::{self, WaitBlock, Wakeup};
use crate::arch::context::Context;
use crate::mm::region::Region;
use crate::nt::{DISPATCHER_HEADER, KQUEUE, KTIMER, LIST_ENTRY, PVOID, object_type};

/// What a system thread gets unless somebody says otherwise.
pub const NORMAL_PRIORITY: u8 = 8;

/// The priority of what goes before every other thread.
pub const HIGHEST_PRIORITY: u8 = 31;
/// From this priority on nobody's is raised or wears off.
pub const REAL_TIME: u8 = 16;
/// Number of priorities.
pub const PRIORITIES: usize = 32;

/// Pages of a thread's stack, beside its guard page.
pub const STACK_PAGES: usize = 12;
const NAME_BYTES: usize = 32;

/// What a thread does.
enum Start {
    /// The kernel's own ones return.
    Kernel(Box<dyn FnOnce() + Send>),
    /// A driver's may end itself anywhere in its routine, and with it goes its stack: so it owns nothing.
    Routine(SystemRoutine, StartRoutine, PVOID),
}

// SAFETY: a driver passes its context to a thread on purpose; the rest may be sent anyway.
unsafe impl Send for Start {}

/// `KSTART_ROUTINE`.
pub type StartRoutine = unsafe extern "win64" fn(context: PVOID);

/// Calls a driver's routine with its context.
pub type SystemRoutine = fn(StartRoutine, PVOID);

/// What the dispatcher knows of a thread; only touched under its lock.
#[derive(Debug)]
pub struct Scheduling {
    /// Where the thread is in its life.
    pub state: State,
    /// 0 to 31: the one that it runs at.
    pub priority: u8,
    /// The one that it was given, above which it may be raised for a while.
    pub base_priority: u8,
    /// The processors it may run on.
    pub affinity: u64,
    /// Where it ran last, and best runs next unless somebody says otherwise.
    pub last_processor: usize,
    /// Where it best runs, says somebody.
    pub ideal_processor: Option<usize>,
    /// Link in a ready queue.
    pub ready_link: LIST_ENTRY,
    /// What the wait was ended by.
    pub wakeup: Wakeup,
    /// The wait blocks in use, in `blocks` or an array of the caller's.
    pub wait_blocks: *mut WaitBlock,
    /// How many of them.
    pub wait_count: usize,
    /// Whether the wait needs all of its objects.
    pub wait_all: bool,
    /// Room for the blocks of small waits, and of the timeout.
    pub blocks: [WaitBlock; wait::BUILT_IN_BLOCKS],
    /// The timeout's block.
    pub timer_block: WaitBlock,
    /// The timeout.
    pub timer: KTIMER,
    /// How the thread ended.
    pub exit_status: u32,
    /// Mutants that it owns and that are abandoned where it ends: see [`super::mutex`].
    pub mutants: LIST_ENTRY,
    /// The queue that it works for, or null: see [`super::queue`].
    pub queue: *mut KQUEUE,
    /// Link in that queue's list of threads.
    pub queue_link: LIST_ENTRY,
    /// What a queue gave it when it woke it.
    pub entry: *mut LIST_ENTRY,
}

/// A thread. Drivers know it as an opaque `KTHREAD` that can be waited for.
#[repr(C)]
pub struct Thread {
    /// Signalled when the thread has ended. First, since drivers wait for a pointer to the thread.
    pub header: UnsafeCell<DISPATCHER_HEADER>,
    /// The processor state while it does not run.
    pub context: UnsafeCell<Context>,
    /// The dispatcher's part.
    pub scheduling: UnsafeCell<Scheduling>,
    start: UnsafeCell<Option<Start>>,
    /// None for the idle threads, which run on the stacks that their processors started on.
    stack: UnsafeCell<Option<Region>>,
    /// Who may still use the record: the thread itself until it has ended, and every [`ThreadRef`].
    references: AtomicUsize,
    /// The next of the threads that have ended and still hold their stack.
    pub next_zombie: AtomicPtr<Thread>,
    /// Critical regions that it is in, and has not left.
    pub kernel_apcs_off: AtomicU32,
    /// Guarded regions likewise.
    pub all_apcs_off: AtomicU32,
    /// It has signalled something and is about to wait: the level before, or [`NO_WAIT_FOLLOWS`].
    pub wait_follows: AtomicU8,
    /// The innermost exception that is being dispatched on it: `rtl::exception`'s.
    pub exceptions: AtomicUsize,
    /// What IoSetTopLevelIrp was given.
    pub top_level_irp: AtomicUsize,
    /// The device that a hard error of its is about.
    pub device_to_verify: AtomicUsize,
    /// Hard errors are not shown to the user.
    pub no_hard_errors: AtomicBool,
    /// The object manager knows it: it owes a reference when it ends.
    pub is_object: AtomicBool,
    /// What it works for, by an identifier: `etw`'s. Only the thread itself touches it.
    pub activity: Cell<[u8; 16]>,
    /// Processor cycles that it has run for, but for those since it came to run last.
    pub cycles: AtomicU64,
    /// The processor's counter when it came to run last.
    pub running_since: AtomicU64,
    id: u32,
    name: [u8; NAME_BYTES],
}

// SAFETY: the cells are only touched under the dispatcher's lock, or by the thread itself.
unsafe impl Sync for Thread {}
// SAFETY: a record belongs to no processor.
unsafe impl Send for Thread {}

/// Threads that have not ended, by address.
static LIVE: SpinLock<BTreeSet<usize>> = SpinLock::new(BTreeSet::new());

/// A share in the live thread for which `is_it`. Idle threads are none.
pub fn find(is_it: impl Fn(&Thread) -> bool) -> Option<ThreadRef> {
    let live = LIVE.lock();
    live.iter().find_map(|&address| {
        let thread = NonNull::new(ptr::with_exposed_provenance_mut::<Thread>(address))?;
        // SAFETY: under the lock a thread that is in the set has not ended, and so has its own share.
        unsafe { is_it(thread.as_ref()).then(|| reference(thread)) }
    })
}

/// Does something with every live thread. It must not start, end or look for one.
pub fn each(mut action: impl FnMut(*mut Thread)) {
    let live = LIVE.lock();
    live.iter().for_each(|&address| action(ptr::with_exposed_provenance_mut(address)));
}

/// Does something with the thread at `address` before it ends; false where there is none.
pub fn with_live(address: usize, action: impl FnOnce(ThreadRef)) -> bool {
    let live = LIVE.lock();
    let thread = live.get(&address).copied().map(ptr::with_exposed_provenance_mut::<Thread>);
    if let Some(thread) = thread.and_then(NonNull::new) {
        // SAFETY: as in `find`.
        action(unsafe { reference(thread) });
        return true;
    }
    false
}

/// Of [`Thread::wait_follows`]: no level.
pub const NO_WAIT_FOLLOWS: u8 = 0xFF;

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Thread {
    fn create(
        name: &str,
        priority: u8,
        context: Context,
        start: Option<Start>,
        stack: Option<Region>,
    ) -> *mut Self {
        let mut name_bytes = [0; NAME_BYTES];
        for (kept, byte) in name_bytes.iter_mut().zip(name.bytes().filter(|byte| (b' '..0x7F).contains(byte)))
        {
            *kept = byte;
        }
        let thread = Box::into_raw(Box::new(Self {
            header: UnsafeCell::new(DISPATCHER_HEADER {
                Type: object_type::THREAD,
                Flags: 0,
                Size: (size_of::<Self>() / 4).min(0xFF) as u8,
                Inserted: 0,
                SignalState: 0,
                WaitListHead: list::UNLINKED,
            }),
            context: UnsafeCell::new(context),
            scheduling: UnsafeCell::new(Scheduling {
                state: State::Initialized,
                priority: priority.min(PRIORITIES as u8 - 1),
                base_priority: priority.min(PRIORITIES as u8 - 1),
                affinity: u64::MAX,
                last_processor: 0,
                ideal_processor: None,
                ready_link: list::UNLINKED,
                wakeup: Wakeup::Timeout,
                wait_blocks: ptr::null_mut(),
                wait_count: 0,
                wait_all: false,
                blocks: [WaitBlock::UNUSED; wait::BUILT_IN_BLOCKS],
                timer_block: WaitBlock::UNUSED,
                timer: super::timer::UNUSED,
                exit_status: 0,
                mutants: list::UNLINKED,
                queue: ptr::null_mut(),
                queue_link: list::UNLINKED,
                entry: ptr::null_mut(),
            }),
            start: UnsafeCell::new(start),
            stack: UnsafeCell::new(stack),
            references: AtomicUsize::new(1),
            next_zombie: AtomicPtr::new(ptr::null_mut()),
            kernel_apcs_off: AtomicU32::new(0),
            all_apcs_off: AtomicU32::new(0),
            wait_follows: AtomicU8::new(NO_WAIT_FOLLOWS),
            exceptions: AtomicUsize::new(0),
            top_level_irp: AtomicUsize::new(0),
            device_to_verify: AtomicUsize::new(0),
            no_hard_errors: AtomicBool::new(false),
            is_object: AtomicBool::new(false),
            activity: Cell::new([0; 16]),
            cycles: AtomicU64::new(0),
            running_since: AtomicU64::new(0),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name_bytes,
        }));
        // SAFETY: the record was just made and is nobody else's yet; it will not move.
        unsafe {
            list::initialize(&raw mut (*(*thread).header.get()).WaitListHead);
            list::initialize(&raw mut (*(*thread).scheduling.get()).mutants);
            super::timer::initialize(
                &raw mut (*(*thread).scheduling.get()).timer,
                object_type::TIMER_NOTIFICATION,
            );
        }
        thread
    }

    /// The idle thread of a processor: the code that runs there now.
    pub fn create_idle() -> *mut Self {
        let thread = Self::create("idle", 0, Context::running(), None, None);
        // SAFETY: nobody else knows the thread yet.
        unsafe { (*(*thread).scheduling.get()).state = State::Running };
        thread
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        let len = self.name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
        core::str::from_utf8(&self.name[..len]).unwrap_or("?")
    }

    /// Its number; no two threads ever share one.
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// A share in a thread's record: it can be waited for and asked, even after the thread has ended.
#[derive(Debug)]
pub struct ThreadRef(NonNull<Thread>);

// SAFETY: a thread record may be used from everywhere.
unsafe impl Send for ThreadRef {}
// SAFETY: as above.
unsafe impl Sync for ThreadRef {}

impl core::ops::Deref for ThreadRef {
    type Target = Thread;
    fn deref(&self) -> &Thread {
        // SAFETY: this share keeps the record alive.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for ThreadRef {
    fn clone(&self) -> Self {
        self.references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for ThreadRef {
    fn drop(&mut self) {
        // SAFETY: the share is this one's own and is not used again.
        unsafe { release(self.0.as_ptr()) };
    }
}

impl ThreadRef {
    /// Hands the share out as a bare pointer, for a driver.
    pub fn into_raw(self) -> *mut Thread {
        let pointer = self.0.as_ptr();
        core::mem::forget(self);
        pointer
    }

    /// Takes back a share that [`into_raw`](Self::into_raw) handed out.
    ///
    /// # Safety
    /// `thread` came from there, once for each call of this.
    pub unsafe fn from_raw(thread: NonNull<Thread>) -> Self {
        Self(thread)
    }

    /// Waits until the thread has ended, or `timeout_ns` has passed: false then.
    pub fn join(&self, timeout_ns: Option<u64>) -> bool {
        let header = self.header.get().cast();
        // SAFETY: the share keeps the header alive.
        unsafe { wait::for_one(header, timeout_ns.map(wait::Deadline::after_ns)) != Wakeup::Timeout }
    }

    /// The status that the thread ended with; 0 before.
    pub fn exit_status(&self) -> u32 {
        let _dispatcher = dispatcher::lock();
        // SAFETY: under the dispatcher's lock.
        unsafe { (*self.scheduling.get()).exit_status }
    }
}

/// Another share in a thread known to be alive.
///
/// # Safety
/// `thread` points at a thread whose record is kept alive by somebody.
pub unsafe fn reference(thread: NonNull<Thread>) -> ThreadRef {
    // SAFETY: the caller's.
    unsafe { thread.as_ref() }.references.fetch_add(1, Ordering::Relaxed);
    ThreadRef(thread)
}

/// # Safety
/// The caller owns a share, and gives it up.
unsafe fn release(thread: *mut Thread) {
    // SAFETY: the share keeps the record alive until here.
    if unsafe { &*thread }.references.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: it was the last one, and `create` made the record as a box.
        drop(unsafe { Box::from_raw(thread) });
    }
}

/// The thread that calls this.
pub fn current() -> NonNull<Thread> {
    let pointer: *mut Thread;
    // SAFETY: one instruction, so that a move to another processor cannot come in between; the processor's
    // record says who runs, and somebody always does.
    unsafe {
        core::arch::asm!("mov {}, gs:[0x188]", out(reg) pointer, options(nostack, preserves_flags, readonly));
        NonNull::new_unchecked(pointer)
    }
}

/// Whether an address lies on the calling thread's stack.
pub fn is_on_stack(address: usize) -> bool {
    let (low, high) = stack_limits();
    (low as usize..high as usize).contains(&address)
}

/// Lowest address and end of the calling thread's own stack; zeroes for an idle thread, which has none.
pub fn stack_limits() -> (u64, u64) {
    // SAFETY: the thread that runs is alive, and nobody takes its stack from it before it has ended.
    let stack = unsafe { (*current().as_ref().stack.get()).as_ref() };
    stack.map_or((0, 0), |stack| (stack.base(), stack.base() + stack.bytes() as u64))
}

/// Sleeps for at least `ns`. At PASSIVE_LEVEL or APC_LEVEL.
pub fn sleep_ns(ns: u64) {
    wait::delay(wait::Deadline::after_ns(ns));
}

/// Lets another thread of the same priority run, where one waits: false otherwise.
pub fn yield_now() -> bool {
    dispatcher::lock().rotate()
}

/// The status that a thread ended with; none while it has not.
pub fn outcome(thread: &Thread) -> Option<u32> {
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    unsafe {
        let ended = (*thread.header.get()).SignalState != 0;
        ended.then(|| (*thread.scheduling.get()).exit_status)
    }
}
