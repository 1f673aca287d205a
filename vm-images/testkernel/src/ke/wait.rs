//! Waiting for dispatcher objects.
//!
//! A thread that waits leaves a wait block in the list of each object it waits for. Whoever signals an object
//! walks that list and lets go whom the signal satisfies; which may use the signal up (a synchronization
//! event, a semaphore's count) or not (a notification event, a thread that has ended). A timeout is one more
//! object, a timer of the thread's own.
//!
//! Everything here happens under the dispatcher's lock.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering;

use squall_testkernel_pure::bugcheck::{ATTEMPTED_SWITCH_FROM_DPC, MAXIMUM_WAIT_OBJECTS_EXCEEDED};

use super::dispatcher::{self, Guard, State};
use super::irql::Irql;
use super::thread::{NO_WAIT_FOLLOWS, Scheduling, Thread};
use super::{bugcheck, clock, list, processor, timer};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DISPATCHER_HEADER, FALSE, KMUTANT, KPROCESSOR_MODE, LIST_ENTRY, NTSTATUS, PVOID, object_type,
};
use crate::nt::{STATUS_SUCCESS, STATUS_TIMEOUT};
use crate::selftest::{check, kernel_test};

/// Blocks in each thread's record: `THREAD_WAIT_OBJECTS`.
pub const BUILT_IN_BLOCKS: usize = 3;
/// `MAXIMUM_WAIT_OBJECTS`.
pub const MAX_OBJECTS: usize = 64;

/// One thread's wait for one object: NT's `KWAIT_BLOCK`, which drivers allocate arrays of.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct WaitBlock {
    /// Link in the object's list; null while the block is not in use.
    pub link: LIST_ENTRY,
    /// Who waits.
    pub thread: *mut Thread,
    object: *mut DISPATCHER_HEADER,
    /// What the wait is ended by when it is this object.
    wakeup: Wakeup,
    spare: u64,
}

const _: () = assert!(size_of::<WaitBlock>() == 0x30);

impl WaitBlock {
    /// A block of no wait.
    pub const UNUSED: Self = Self {
        link: list::UNLINKED,
        thread: ptr::null_mut(),
        object: ptr::null_mut(),
        wakeup: Wakeup::Timeout,
        spare: 0,
    };
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Wakeup {
    /// The object with this index, or all of them (0).
    Object(u16),
    /// Time.
    Timeout,
}

impl Wakeup {
    /// The same by an object that its owner had abandoned, where it was: `STATUS_ABANDONED_WAIT_0` and what follows it.
    const fn from(self, abandoned: bool) -> Self {
        match self {
            Self::Object(index) if abandoned => Self::Object(index + 0x80),
            other => other,
        }
    }
}

/// When a wait is over, whatever happens: in 100 ns of interrupt time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u64);

impl Deadline {
    /// Now: look, do not wait.
    pub const NOW: Self = Self(0);

    /// In `ns` from now.
    pub fn after_ns(ns: u64) -> Self {
        if ns == 0 {
            Self::NOW
        } else {
            Self(clock::interrupt_time().saturating_add(ns.div_ceil(100)).max(1))
        }
    }

    /// As drivers give it: negative relative, positive absolute system time, both in 100 ns.
    pub fn from_driver(value: i64) -> Self {
        if value > 0 {
            Self((value as u64).saturating_sub(clock::system_time_at_boot()))
        } else {
            Self::after_ns(value.unsigned_abs().saturating_mul(100))
        }
    }

    /// Whether it is past.
    pub fn is_over(self) -> bool {
        self.0 <= clock::interrupt_time()
    }
}

/// Whether `thread` would not have to wait for the object.
///
/// # Safety
/// Under the lock, the object alive; so everywhere below.
unsafe fn is_signalled(header: *mut DISPATCHER_HEADER, thread: *mut Thread) -> bool {
    // SAFETY: the caller's.
    unsafe {
        (*header).SignalState > 0
            || ((*header).Type == object_type::MUTANT
                && ptr::eq((*header.cast::<KMUTANT>()).OwnerThread.cast(), thread))
    }
}

/// `thread` goes on because the object is signalled: the signal is used up, where the object is of that kind. True where the object is
/// a mutant that its owner had abandoned.
///
/// # Safety
/// As above.
unsafe fn satisfy(header: *mut DISPATCHER_HEADER, thread: *mut Thread) -> bool {
    // SAFETY: the caller's.
    unsafe {
        match (*header).Type & 0x7F {
            object_type::EVENT_SYNCHRONIZATION | object_type::TIMER_SYNCHRONIZATION => {
                (*header).SignalState = 0
            }
            object_type::SEMAPHORE => (*header).SignalState -= 1,
            object_type::MUTANT => return super::mutex::acquired(header.cast(), thread),
            _ => {}
        }
    }
    false
}

/// # Safety
/// Under the lock, and no two at once for one thread.
unsafe fn scheduling<'a>(thread: *mut Thread) -> &'a mut Scheduling {
    // SAFETY: the caller's; a thread that waits is alive.
    unsafe { &mut *(*thread).scheduling.get() }
}

/// As [`satisfy`], of all the objects that a wait is for.
///
/// # Safety
/// As above.
unsafe fn satisfy_all(objects: impl Iterator<Item = *mut DISPATCHER_HEADER>, thread: *mut Thread) -> bool {
    // SAFETY: the caller's. Each is satisfied, whatever the one before was.
    objects.fold(false, |abandoned, object| unsafe { satisfy(object, thread) } | abandoned)
}

/// Ends `thread`'s wait: its blocks leave every list.
///
/// # Safety
/// As above; the thread waits.
pub unsafe fn end_wait(guard: &mut Guard, thread: *mut Thread, wakeup: Wakeup, increment: i32) {
    // SAFETY: the caller's. The blocks are alive until the thread, which is still stopped, returns from its
    // wait.
    unsafe {
        let part = scheduling(thread);
        for index in 0..part.wait_count {
            list::remove(&raw mut (*part.wait_blocks.add(index)).link);
        }
        if !part.timer_block.link.Flink.is_null() {
            list::remove(&raw mut part.timer_block.link);
            part.timer_block.link = list::UNLINKED;
            timer::remove(&raw mut part.timer);
        }
        part.wakeup = wakeup;
        super::queue::goes_on(thread);
        guard.boost(thread, increment);
        guard.ready(thread);
    }
}

/// Lets go whoever waits for the object and need not any longer.
///
/// # Safety
/// As above.
pub unsafe fn release_waiters(guard: &mut Guard, header: *mut DISPATCHER_HEADER, increment: i32) {
    // SAFETY: the caller's. Each block in the list belongs to a thread that waits.
    unsafe {
        let head = &raw mut (*header).WaitListHead;
        let mut link = (*head).Flink;
        while link != head && (*header).SignalState > 0 {
            let block = link.cast::<WaitBlock>();
            link = (*link).Flink;
            let thread = (*block).thread;
            let part = scheduling(thread);
            let is_timeout = matches!((*block).wakeup, Wakeup::Timeout);
            if part.wait_all && !is_timeout {
                let blocks = core::slice::from_raw_parts(part.wait_blocks, part.wait_count);
                if !blocks.iter().all(|block| is_signalled(block.object, thread)) {
                    continue;
                }
                let abandoned = satisfy_all(blocks.iter().map(|block| block.object), thread);
                end_wait(guard, thread, Wakeup::Object(0).from(abandoned), increment);
            } else {
                let abandoned = satisfy(header, thread);
                end_wait(guard, thread, (*block).wakeup.from(abandoned), increment);
            }
            // Ending a wait for several objects may have taken the neighbour out of this very list.
            if part.wait_count > 1 {
                link = (*head).Flink;
            }
        }
    }
}

/// Lets the dispatcher go after something was signalled. Where a `wait` follows, the level stays DISPATCH_LEVEL until then, so that the
/// thread is not preempted in between.
pub fn follows(guard: Guard, wait: BOOLEAN) {
    if wait != FALSE {
        let level = guard.let_go_and_stay();
        // At DISPATCH_LEVEL the thread stays the one that runs here.
        // SAFETY: it runs, so it is alive.
        unsafe { (*processor::current().thread()).wait_follows.store(level.0, Ordering::Relaxed) };
    }
}

/// Whether the calling thread has signalled something and its wait follows. At DISPATCH_LEVEL.
pub fn is_to_follow() -> bool {
    // SAFETY: the thread that runs is alive.
    unsafe { (*processor::current().thread()).wait_follows.load(Ordering::Relaxed) != NO_WAIT_FOLLOWS }
}

/// The calling thread, `thread`, waits: the level that it does so at, which is the one before [`follows`] where that was called.
pub fn ends_follow_up(guard: &mut Guard, thread: *mut Thread) -> Irql {
    // SAFETY: the thread that runs is alive.
    let before = unsafe { (*thread).wait_follows.swap(NO_WAIT_FOLLOWS, Ordering::Relaxed) };
    if before != NO_WAIT_FOLLOWS {
        guard.returns_to(Irql(before));
    }
    guard.level()
}

/// Waits for one of `objects`, or for `all` of them, until `deadline`. `blocks` is needed for more than
/// [`BUILT_IN_BLOCKS`] objects.
///
/// # Safety
/// The objects (and `blocks`, as many as objects) are alive until this returns.
pub unsafe fn for_objects(
    objects: &[*mut DISPATCHER_HEADER],
    all: bool,
    deadline: Option<Deadline>,
    blocks: *mut WaitBlock,
) -> Wakeup {
    let mut guard = dispatcher::lock();
    let thread = processor::current().thread();
    let level = ends_follow_up(&mut guard, thread);
    // SAFETY: the caller's, under the lock.
    unsafe {
        if all {
            if objects.iter().all(|&object| is_signalled(object, thread)) {
                return Wakeup::Object(0).from(satisfy_all(objects.iter().copied(), thread));
            }
        } else if let Some(index) = objects.iter().position(|&object| is_signalled(object, thread)) {
            return Wakeup::Object(index as u16).from(satisfy(objects[index], thread));
        }
        if deadline.is_some_and(Deadline::is_over) {
            return Wakeup::Timeout;
        }
        if level >= Irql::DISPATCH {
            stop_at_dispatch(thread);
        }
        let part = scheduling(thread);
        part.wait_blocks = if objects.len() <= BUILT_IN_BLOCKS { part.blocks.as_mut_ptr() } else { blocks };
        part.wait_count = objects.len();
        part.wait_all = all;
        for (index, &object) in objects.iter().enumerate() {
            let block = part.wait_blocks.add(index);
            block.write(WaitBlock {
                thread,
                object,
                wakeup: Wakeup::Object(index as u16),
                ..WaitBlock::UNUSED
            });
            list::insert_before(&raw mut (*object).WaitListHead, &raw mut (*block).link);
        }
        block(&mut guard, thread, deadline)
    }
}

/// A wait at DISPATCH_LEVEL: NT notices only in a DPC; a wait with a lock held is as wrong.
pub fn stop_at_dispatch(thread: *mut Thread) -> ! {
    bugcheck::bugcheck(ATTEMPTED_SWITCH_FROM_DPC, [thread as u64, 0, 0, 0]);
}

/// The calling thread, whose blocks are in their lists, waits.
///
/// # Safety
/// Under the lock; `thread` is the calling one.
unsafe fn block(guard: &mut Guard, thread: *mut Thread, deadline: Option<Deadline>) -> Wakeup {
    // SAFETY: the caller's.
    unsafe {
        let part = scheduling(thread);
        if let Some(deadline) = deadline {
            let own = &raw mut part.timer;
            part.timer_block = WaitBlock { thread, object: own.cast(), ..WaitBlock::UNUSED };
            list::insert_before(&raw mut (*own).Header.WaitListHead, &raw mut part.timer_block.link);
            timer::insert(own, deadline.0);
        }
        part.state = State::Waiting;
        super::queue::waits(guard, thread);
        guard.block();
        scheduling(thread).wakeup
    }
}

/// The thread that a link in an object's list of waiters belongs to.
///
/// # Safety
/// Under the lock; the link is one of those.
pub unsafe fn thread_of(link: *mut LIST_ENTRY) -> *mut Thread {
    // SAFETY: the caller's; a block begins with its link.
    unsafe { (*link.cast::<WaitBlock>()).thread }
}

/// The calling thread waits for a queue to hand it something.
///
/// # Safety
/// Under the lock; `thread` is the calling one, and counts no more among those that work for its queue.
pub unsafe fn block_for_queue(
    guard: &mut Guard,
    thread: *mut Thread,
    queue: *mut DISPATCHER_HEADER,
    deadline: Option<Deadline>,
) -> Wakeup {
    // SAFETY: the caller's.
    unsafe {
        let part = scheduling(thread);
        part.wait_blocks = part.blocks.as_mut_ptr();
        (part.wait_count, part.wait_all) = (1, false);
        let block_of_queue = part.wait_blocks;
        block_of_queue.write(WaitBlock {
            thread,
            object: queue,
            wakeup: Wakeup::Object(0),
            ..WaitBlock::UNUSED
        });
        list::insert_before(&raw mut (*queue).WaitListHead, &raw mut (*block_of_queue).link);
        // `block` counts it out.
        super::queue::goes_on(thread);
        block(guard, thread, deadline)
    }
}

/// Waits for one object.
///
/// # Safety
/// The object is alive until this returns.
pub unsafe fn for_one(object: *mut c_void, deadline: Option<Deadline>) -> Wakeup {
    // SAFETY: the caller's.
    unsafe { for_objects(&[object.cast()], false, deadline, ptr::null_mut()) }
}

/// Waits for nothing but time.
pub fn delay(deadline: Deadline) {
    if deadline.is_over() {
        // Whoever goes on may read the time from the shared page, and must not find it before the deadline.
        super::shared_data::update();
        let mut guard = dispatcher::lock();
        ends_follow_up(&mut guard, processor::current().thread());
        let _ = guard.rotate();
        return;
    }
    // SAFETY: there are no objects.
    unsafe { for_objects(&[], false, Some(deadline), ptr::null_mut()) };
}

fn status_of(wakeup: Wakeup) -> NTSTATUS {
    match wakeup {
        // STATUS_WAIT_0 and what follows it.
        Wakeup::Object(index) => NTSTATUS::from_bits(u32::from(index)),
        Wakeup::Timeout => STATUS_TIMEOUT,
    }
}

/// A driver's pointer to a timeout; null waits for ever.
///
/// # Safety
/// The pointer is null or readable.
pub unsafe fn deadline_from(timeout: *const i64) -> Option<Deadline> {
    // SAFETY: the caller's.
    unsafe { timeout.as_ref() }.map(|&value| Deadline::from_driver(value))
}

export! {
    /// *KeWaitForSingleObject function (wdm.h)*: 0 where the object let the thread go, STATUS_TIMEOUT where
    /// time did. Not alertable: there is nobody to alert.
    pub unsafe extern "win64" fn KeWaitForSingleObject(
        object: PVOID,
        _reason: u32,
        _mode: KPROCESSOR_MODE,
        _alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS {
        // SAFETY: the caller's object and timeout.
        status_of(unsafe { for_one(object, deadline_from(timeout)) })
    }

    /// *KeWaitForMultipleObjects function (wdm.h)*: any or all of up to 64 objects; more than three need the
    /// caller's array of wait blocks. Beyond that NT stops with 0xC, and so does this.
    pub unsafe extern "win64" fn KeWaitForMultipleObjects(
        count: u32,
        objects: *const PVOID,
        wait_type: u32,
        _reason: u32,
        _mode: KPROCESSOR_MODE,
        _alertable: BOOLEAN,
        timeout: *const i64,
        blocks: *mut WaitBlock,
    ) -> NTSTATUS {
        const WAIT_ALL: u32 = 0;
        let count = count as usize;
        if count == 0 || count > MAX_OBJECTS || (count > BUILT_IN_BLOCKS && blocks.is_null()) {
            bugcheck::bugcheck(MAXIMUM_WAIT_OBJECTS_EXCEEDED, [0; 4]);
        }
        // SAFETY: the caller's objects, blocks and timeout.
        status_of(unsafe {
            let objects = core::slice::from_raw_parts(objects.cast::<*mut DISPATCHER_HEADER>(), count);
            for_objects(objects, wait_type == WAIT_ALL, deadline_from(timeout), blocks)
        })
    }

    /// *KeDelayExecutionThread function (wdm.h)*.
    pub unsafe extern "win64" fn KeDelayExecutionThread(
        _mode: KPROCESSOR_MODE,
        _alertable: BOOLEAN,
        interval: *const i64,
    ) -> NTSTATUS {
        // SAFETY: the caller's interval.
        if let Some(deadline) = unsafe { deadline_from(interval) } {
            delay(deadline);
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    fn a_timeout_takes_its_time_and_not_much_more() {
        let start = clock::interrupt_time();
        delay(Deadline::after_ns(20_000_000));
        let slept = clock::interrupt_time() - start;
        check!(slept >= 200_000);
        // The host may be busy; a lost wake-up would be for ever.
        check!(slept < 100_000_000);
    }

    fn a_wait_for_all_takes_nothing_before_it_takes_all() {
        let [first, second] = [(); 2].map(|()| super::event::Event::new_synchronization());
        let objects = [first.as_ptr().cast(), second.as_ptr().cast()];
        let all = |timeout| {
            // SAFETY: the events live until the end of the test.
            unsafe { for_objects(&objects, true, Some(Deadline::after_ns(timeout)), ptr::null_mut()) }
        };
        first.set();
        check!(all(1_000_000) == Wakeup::Timeout);
        second.set();
        check!(all(1_000_000) == Wakeup::Object(0));
        check!(!first.wait(Some(0)) && !second.wait(Some(0)));
    }

    fn a_wait_for_any_says_which() {
        let [first, second] = [(); 2].map(|()| super::event::Event::new_synchronization());
        let objects = [first.as_ptr().cast(), second.as_ptr().cast()];
        let shared = alloc::sync::Arc::new(second);
        let setter = alloc::sync::Arc::clone(&shared);
        let thread = super::thread::spawn("setter", 8, move || {
            super::thread::sleep_ns(5_000_000);
            setter.set();
        });
        // SAFETY: the events live until the end of the test (the second one's KEVENT did not move with it).
        let wakeup = unsafe { for_objects(&objects, false, None, ptr::null_mut()) };
        check!(wakeup == Wakeup::Object(1));
        check!(thread.is_ok_and(|thread| thread.join(Some(1_000_000_000))));
    }

    fn a_mutex_is_its_owners_as_often_as_it_likes() {
        let mut storage = core::mem::MaybeUninit::<KMUTANT>::uninit();
        let mutex = storage.as_mut_ptr();
        // SAFETY: the mutex lives until the end of the test.
        unsafe {
            super::mutex::KeInitializeMutex(mutex, 0);
            check!(for_one(mutex.cast(), Some(Deadline::NOW)) == Wakeup::Object(0));
            check!(for_one(mutex.cast(), Some(Deadline::NOW)) == Wakeup::Object(0));
            super::mutex::KeReleaseMutex(mutex, 0);
            let address = mutex.addr();
            let try_it = move || {
                let wakeup = for_one(address as *mut c_void, Some(Deadline::NOW));
                super::thread::exit(u32::from(wakeup == Wakeup::Timeout));
            };
            let other = super::thread::spawn("other", 8, try_it);
            check!(other.is_ok_and(|other| other.join(None) && other.exit_status() == 1));
            check!(super::mutex::KeReleaseMutex(mutex, 0) == 0);
            check!((*mutex).Header.SignalState == 1);
        }
    }

    fn a_semaphore_lets_as_many_go_as_it_counts() {
        let mut storage = core::mem::MaybeUninit::<crate::nt::KSEMAPHORE>::uninit();
        let semaphore = storage.as_mut_ptr();
        // SAFETY: the semaphore lives until the end of the test.
        unsafe {
            super::semaphore::KeInitializeSemaphore(semaphore, 1, 3);
            check!(super::semaphore::KeReleaseSemaphore(semaphore, 0, 1, 0) == 1);
            let once = || for_one(semaphore.cast(), Some(Deadline::NOW));
            check!(once() == Wakeup::Object(0) && once() == Wakeup::Object(0) && once() == Wakeup::Timeout);
        }
    }
}
