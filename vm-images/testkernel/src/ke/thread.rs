//! Threads.
//!
//! Every thread is a system thread: there is no user mode. A thread has a priority from 0 to 31, the higher
//! one runs, and those of one priority take turns by the clock. It runs at PASSIVE_LEVEL unless it raises
//! itself, on a stack of its own with a guard page below. ISRs and DPCs that come in between run on that
//! stack too (NT has stacks of their own for them), which is why it is larger than NT's 24 KiB.
//!
//! A thread's record begins with a dispatcher header, so that a driver can wait for it to end.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cell::{Cell, UnsafeCell};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::dispatcher::{self, State};
use super::irql::Irql;
use super::lock::SpinLock;
use super::wait::{self, WaitBlock, Wakeup};
use super::{list, processor};
use crate::arch::context::Context;
use crate::mm::paging::Protection;
use crate::mm::region::{Region, Window};
use crate::nt::{DISPATCHER_HEADER, KQUEUE, KTIMER, LIST_ENTRY, PVOID, object_type};
use crate::selftest::{check, kernel_test};

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
pub fn prepare(
    name: &str,
    priority: u8,
    start: impl FnOnce() + Send + 'static,
) -> Result<Prepared, OutOfMemory> {
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
        super::mutex::abandon_all(&mut dispatcher, thread);
        super::queue::leave(&mut dispatcher, thread);
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

/// Restricts a thread to the processors in `mask`, each of which exists, and moves it there; false where one does not.
pub fn bind(thread: &Thread, mask: u64) -> bool {
    let possible = super::group_affinity::is_set_of_processors(mask);
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

/// The status that a thread ended with; none while it has not.
pub fn outcome(thread: &Thread) -> Option<u32> {
    let _dispatcher = dispatcher::lock();
    // SAFETY: under the dispatcher's lock.
    unsafe {
        let ended = (*thread.header.get()).SignalState != 0;
        ended.then(|| (*thread.scheduling.get()).exit_status)
    }
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

kernel_test! {
    fn threads_run_and_are_waited_for() {
        static SUM: AtomicU32 = AtomicU32::new(0);
        SUM.store(0, Ordering::Relaxed);
        let add = |n| {
            move || {
                SUM.fetch_add(n, Ordering::Relaxed);
            }
        };
        let threads: Vec<_> =
            (1..=20).filter_map(|n| spawn("adder", NORMAL_PRIORITY, add(n)).ok()).collect();
        check!(threads.len() == 20);
        check!(threads.iter().all(|thread| thread.join(Some(5_000_000_000))));
        check!(SUM.load(Ordering::Relaxed) == 210);
    }

    fn every_processor_runs_threads() {
        for number in 0..processor::count() {
            let seen = alloc::sync::Arc::new(AtomicU32::new(99));
            let there = alloc::sync::Arc::clone(&seen);
            let thread = spawn("visitor", NORMAL_PRIORITY, move || {
                set_affinity(1 << number);
                there.store(processor::current().number() as u32, Ordering::Relaxed);
            });
            check!(thread.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
            check!(seen.load(Ordering::Relaxed) == number as u32);
        }
    }

    fn a_more_important_thread_runs_at_once() {
        let old = set_affinity(1);
        let ran = alloc::sync::Arc::new(AtomicU32::new(0));
        let shared = alloc::sync::Arc::clone(&ran);
        let thread = spawn("urgent", NORMAL_PRIORITY + 8, move || {
            set_affinity(1);
            shared.store(1, Ordering::Relaxed);
        });
        check!(thread.is_ok());
        if processor::count() == 1 {
            check!(ran.load(Ordering::Relaxed) == 1);
        }
        check!(thread.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
        set_affinity(old);
    }

    fn threads_of_one_priority_take_turns() {
        static TURNS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
        static STOP: AtomicU32 = AtomicU32::new(0);
        STOP.store(0, Ordering::Relaxed);
        let spinner = |index: usize| {
            spawn("spinner", NORMAL_PRIORITY - 1, move || {
                set_affinity(1);
                while STOP.load(Ordering::Relaxed) == 0 {
                    TURNS[index].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = [spinner(0), spinner(1)];
        sleep_ns(100_000_000);
        STOP.store(1, Ordering::Relaxed);
        for thread in threads {
            check!(thread.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
        }
        check!(TURNS.iter().all(|turns| turns.load(Ordering::Relaxed) > 0));
    }

    fn what_ended_threads_held_comes_back() {
        let stacks = || {
            for _ in 0..10 {
                if let Ok(thread) = spawn("short", NORMAL_PRIORITY, || {}) {
                    thread.join(None);
                }
            }
            reap();
            crate::mm::frame::free_count()
        };
        // The first round makes page tables and the heap grow.
        stacks();
        let before = stacks();
        check!(stacks() >= before);
    }

    fn xmm_registers_survive_a_thread_switch() {
        let mut kept: u64;
        let other = spawn("clobber", NORMAL_PRIORITY + 8, || {
            set_affinity(1);
            // SAFETY: the kernel itself uses no XMM register; the thread's own state is lost with it.
            unsafe { core::arch::asm!("pcmpeqd xmm6, xmm6", "pcmpeqd xmm15, xmm15") };
        });
        let old = set_affinity(1);
        // SAFETY: as above; the sleep below is a call that keeps to the ABI by itself.
        unsafe { core::arch::asm!("movq xmm6, {}", in(reg) 0x1234_5678_9ABC_DEF0_u64) };
        sleep_ns(1_000_000);
        // SAFETY: as above.
        unsafe { core::arch::asm!("movq {}, xmm6", out(reg) kept) };
        set_affinity(old);
        check!(kept == 0x1234_5678_9ABC_DEF0);
        check!(other.is_ok_and(|thread| thread.join(Some(5_000_000_000))));
    }
}
