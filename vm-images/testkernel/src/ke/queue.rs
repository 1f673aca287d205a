//! Queues: entries that threads take, no more threads at once than the queue lets.
//!
//! A thread that takes an entry belongs to the queue from then on, and counts as one that works on it until it comes for the next. Where
//! it waits for something else meanwhile it does not count, and another that waits for an entry is let go in its place: so there are
//! always as many at work as were asked for, and the one that waited last is woken first, as its cache is the warmest.
//!
//! Everything happens under the dispatcher's lock; the fields are the driver's KQUEUE.

use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::dispatcher::{self, Guard};
use super::irql::Irql;
use super::thread::{self, Scheduling, Thread};
use super::wait::{self, Deadline, Wakeup};
use super::{list, processor};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DISPATCHER_HEADER, KPROCESSOR_MODE, KQUEUE, LIST_ENTRY, NTSTATUS, STATUS_TIMEOUT, object_type,
};
use crate::selftest::{check, kernel_test};

/// `STATUS_ABANDONED`: the queue was run down.
const ABANDONED: NTSTATUS = NTSTATUS::from_bits(0x80);

/// # Safety
/// Everywhere below: under the dispatcher's lock; queues and threads are alive, and a queue's threads and entries are its own.
unsafe fn part<'a>(thread: *mut Thread) -> &'a mut Scheduling {
    // SAFETY: the caller's; one thread's part is used at a time.
    unsafe { &mut *(*thread).scheduling.get() }
}

fn thread_of_link(link: *mut LIST_ENTRY) -> *mut Thread {
    const OFFSET: usize = offset_of!(Thread, scheduling) + offset_of!(Scheduling, queue_link);
    link.wrapping_byte_sub(OFFSET).cast()
}

/// Takes the first entry, which there is.
///
/// # Safety
/// As above.
unsafe fn take(queue: *mut KQUEUE) -> *mut LIST_ENTRY {
    // SAFETY: the caller's.
    unsafe {
        let entry = (*queue).EntryListHead.Flink;
        list::remove(entry);
        (*entry).Flink = ptr::null_mut();
        (*queue).Header.SignalState -= 1;
        entry
    }
}

/// Takes as many entries as there are and as there is room for.
///
/// # Safety
/// As above.
unsafe fn take_some(queue: *mut KQUEUE, room: &mut [*mut LIST_ENTRY]) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let count = ((*queue).Header.SignalState.max(0) as usize).min(room.len());
        room[..count].iter_mut().for_each(|place| *place = take(queue));
        count
    }
}

/// Lets the thread that has waited least go, with `entry`; false where none waits, or enough are at work.
///
/// # Safety
/// As above.
unsafe fn hand_over(guard: &mut Guard, queue: *mut KQUEUE, entry: *mut LIST_ENTRY) -> bool {
    // SAFETY: the caller's. The list's blocks are of threads that wait.
    unsafe {
        let head = &raw mut (*queue).Header.WaitListHead;
        if (*queue).CurrentCount >= (*queue).MaximumCount || list::is_empty(head) {
            return false;
        }
        let thread = wait::thread_of((*head).Blink);
        part(thread).entry = entry;
        wait::end_wait(guard, thread, Wakeup::Object(0), 0);
    }
    true
}

/// One thread fewer works for `queue`: another may.
///
/// # Safety
/// As above.
unsafe fn one_less(guard: &mut Guard, queue: *mut KQUEUE) {
    // SAFETY: the caller's.
    unsafe {
        (*queue).CurrentCount = (*queue).CurrentCount.saturating_sub(1);
        let waits = !list::is_empty(&raw mut (*queue).Header.WaitListHead);
        if waits && (*queue).CurrentCount < (*queue).MaximumCount && (*queue).Header.SignalState > 0 {
            let entry = take(queue);
            hand_over(guard, queue, entry);
        }
    }
}

/// `thread` is about to wait, for whatever it is.
///
/// # Safety
/// As above.
pub unsafe fn waits(guard: &mut Guard, thread: *mut Thread) {
    // SAFETY: the caller's.
    unsafe {
        let queue = part(thread).queue;
        if !queue.is_null() {
            one_less(guard, queue);
        }
    }
}

/// The wait of `thread` is over.
///
/// # Safety
/// As above.
pub unsafe fn goes_on(thread: *mut Thread) {
    // SAFETY: the caller's.
    unsafe {
        if let Some(queue) = part(thread).queue.as_mut() {
            queue.CurrentCount += 1;
        }
    }
}

/// `thread` works for no queue any more.
///
/// # Safety
/// As above; it runs.
pub unsafe fn leave(guard: &mut Guard, thread: *mut Thread) {
    // SAFETY: the caller's.
    unsafe {
        let queue = core::mem::replace(&mut part(thread).queue, ptr::null_mut());
        if !queue.is_null() {
            WORKING.fetch_sub(1, Ordering::Relaxed);
            list::remove(&raw mut part(thread).queue_link);
            one_less(guard, queue);
        }
    }
}

/// Threads that work for a queue.
static WORKING: AtomicUsize = AtomicUsize::new(0);

/// The memory in `range` goes, and with it what queues there are in it that were not run down: who worked for one does not any more.
pub fn memory_goes(range: &Range<usize>) {
    if WORKING.load(Ordering::Relaxed) == 0 {
        return;
    }
    thread::each(|thread| {
        let _guard = dispatcher::lock();
        // SAFETY: under the lock; the thread is alive.
        let part = unsafe { part(thread) };
        if range.contains(&part.queue.addr()) {
            part.queue = ptr::null_mut();
            WORKING.fetch_sub(1, Ordering::Relaxed);
        }
    });
}

/// The calling thread works for `queue` from now on.
///
/// # Safety
/// As above.
unsafe fn join(guard: &mut Guard, thread: *mut Thread, queue: *mut KQUEUE) {
    // SAFETY: the caller's.
    unsafe {
        if part(thread).queue != queue {
            leave(guard, thread);
            part(thread).queue = queue;
            WORKING.fetch_add(1, Ordering::Relaxed);
            list::insert_before(&raw mut (*queue).ThreadListHead, &raw mut part(thread).queue_link);
            (*queue).CurrentCount += 1;
        }
    }
}

/// Puts `entry` into the queue, or hands it to a thread that waits; how many entries there were.
///
/// # Safety
/// `queue` was initialized, `entry` is in no list.
unsafe fn insert(queue: *mut KQUEUE, entry: *mut LIST_ENTRY, first: bool) -> i32 {
    let mut guard = dispatcher::lock();
    // SAFETY: the caller's, under the lock.
    unsafe {
        let before = (*queue).Header.SignalState;
        (*entry).Flink = ptr::null_mut();
        if before > 0 || !hand_over(&mut guard, queue, entry) {
            (*queue).Header.SignalState += 1;
            let head = &raw mut (*queue).EntryListHead;
            if first { list::insert_first(head, entry) } else { list::insert_before(head, entry) }
        }
        before
    }
}

/// Takes up to `room.len()` entries, one at least, which is waited for until `deadline`.
///
/// # Safety
/// `queue` was initialized.
unsafe fn remove(
    queue: *mut KQUEUE,
    deadline: Option<Deadline>,
    room: &mut [*mut LIST_ENTRY],
) -> Result<usize, NTSTATUS> {
    let mut guard = dispatcher::lock();
    let thread = processor::current().thread();
    let level = wait::ends_follow_up(&mut guard, thread);
    // SAFETY: the caller's, under the lock.
    unsafe {
        join(&mut guard, thread, queue);
        // It has done what it took before: it does not count among those that are at work.
        (*queue).CurrentCount -= 1;
        if (*queue).Header.SignalState > 0 && (*queue).CurrentCount < (*queue).MaximumCount {
            (*queue).CurrentCount += 1;
            return Ok(take_some(queue, room));
        }
        if deadline.is_some_and(Deadline::is_over) {
            (*queue).CurrentCount += 1;
            return Err(STATUS_TIMEOUT);
        }
        if level >= Irql::DISPATCH {
            wait::stop_at_dispatch(thread);
        }
        part(thread).entry = ptr::null_mut();
        match wait::block_for_queue(&mut guard, thread, &raw mut (*queue).Header, deadline) {
            Wakeup::Timeout => Err(STATUS_TIMEOUT),
            Wakeup::Object(_) => {
                let entry = core::mem::replace(&mut part(thread).entry, ptr::null_mut());
                if entry.is_null() {
                    return Err(ABANDONED);
                }
                room[0] = entry;
                Ok(1 + take_some(queue, &mut room[1..]))
            }
        }
    }
}

export! {
    /// *KeInitializeQueue function (ntifs.h)*: empty; `count` threads may work at once, as many as there are processors for 0.
    pub unsafe extern "win64" fn KeInitializeQueue(queue: *mut KQUEUE, count: u32) {
        let count = if count == 0 { processor::count() as u32 } else { count };
        let header = DISPATCHER_HEADER {
            Type: object_type::QUEUE,
            Flags: 0,
            Size: (size_of::<KQUEUE>() / 4) as u8,
            Inserted: 0,
            SignalState: 0,
            WaitListHead: list::UNLINKED,
        };
        let (unlinked, CurrentCount, MaximumCount) = (list::UNLINKED, 0, count);
        // SAFETY: the caller's storage.
        unsafe {
            queue.write(KQUEUE { Header: header, EntryListHead: unlinked, CurrentCount, MaximumCount, ThreadListHead: unlinked });
            for head in [&raw mut (*queue).Header.WaitListHead, &raw mut (*queue).EntryListHead, &raw mut (*queue).ThreadListHead] {
                list::initialize(head);
            }
        }
    }

    /// *KeInsertQueue function (ntifs.h)*: at the end, or to a thread that waits; how many entries there were. At DISPATCH_LEVEL or below.
    pub unsafe extern "win64" fn KeInsertQueue(queue: *mut KQUEUE, entry: *mut LIST_ENTRY) -> i32 {
        // SAFETY: the caller's.
        unsafe { insert(queue, entry, false) }
    }

    /// *KeInsertHeadQueue function (ntifs.h)*: as KeInsertQueue, before the others.
    pub unsafe extern "win64" fn KeInsertHeadQueue(queue: *mut KQUEUE, entry: *mut LIST_ENTRY) -> i32 {
        // SAFETY: the caller's.
        unsafe { insert(queue, entry, true) }
    }

    /// *KeReadStateQueue function (ntifs.h)*: how many entries there are.
    pub unsafe extern "win64" fn KeReadStateQueue(queue: *mut KQUEUE) -> i32 {
        // SAFETY: the caller's queue.
        unsafe { (&raw const (*queue).Header.SignalState).read_volatile() }
    }

    /// *KeRemoveQueue function (ntifs.h)*: the first entry; STATUS_TIMEOUT, or STATUS_ABANDONED where the queue is run down meanwhile, in the place of a pointer
    /// to one.
    pub unsafe extern "win64" fn KeRemoveQueue(
        queue: *mut KQUEUE,
        _mode: KPROCESSOR_MODE,
        timeout: *const i64,
    ) -> *mut LIST_ENTRY {
        let mut room = [ptr::null_mut()];
        // SAFETY: the caller's queue and timeout.
        match unsafe { remove(queue, wait::deadline_from(timeout), &mut room) } {
            Ok(_) => room[0],
            Err(status) => ptr::without_provenance_mut(status.bits() as usize),
        }
    }

    /// *KeRemoveQueueEx function (ntifs.h)*: several entries, how many there are of them; STATUS_TIMEOUT or STATUS_ABANDONED likewise.
    pub unsafe extern "win64" fn KeRemoveQueueEx(
        queue: *mut KQUEUE,
        _mode: KPROCESSOR_MODE,
        _alertable: BOOLEAN,
        timeout: *const i64,
        entries: *mut *mut LIST_ENTRY,
        count: u32,
    ) -> u32 {
        if count == 0 {
            return 0;
        }
        // SAFETY: the caller's room, queue and timeout.
        unsafe {
            let room = core::slice::from_raw_parts_mut(entries, count as usize);
            match remove(queue, wait::deadline_from(timeout), room) {
                Ok(taken) => taken as u32,
                Err(status) => status.bits(),
            }
        }
    }

    /// *KeRundownQueue function (ntifs.h)*: no thread works for it any more, and those that wait are let go; the first of the entries that are left, which are
    /// linked with each other, or null.
    pub unsafe extern "win64" fn KeRundownQueue(queue: *mut KQUEUE) -> *mut LIST_ENTRY {
        let mut guard = dispatcher::lock();
        // SAFETY: the caller's queue, under the lock.
        unsafe {
            let threads = &raw mut (*queue).ThreadListHead;
            while let Some(link) = list::first(threads) {
                list::remove(link);
                part(thread_of_link(link)).queue = ptr::null_mut();
                WORKING.fetch_sub(1, Ordering::Relaxed);
            }
            let waiting = &raw mut (*queue).Header.WaitListHead;
            while let Some(block) = list::first(waiting) {
                wait::end_wait(&mut guard, wait::thread_of(block), Wakeup::Object(0), 0);
            }
            let entries = &raw mut (*queue).EntryListHead;
            let left = list::first(entries).unwrap_or(ptr::null_mut());
            list::remove(entries);
            list::initialize(entries);
            (*queue).Header.SignalState = 0;
            (*queue).CurrentCount = 0;
            left
        }
    }
}

kernel_test! {
    /// *KeInsertQueue function (ntifs.h)* and *KeRemoveQueue function (ntifs.h)*: no more threads at work than the queue lets, unless one of them waits.
    fn a_queue_keeps_as_many_threads_at_work_as_it_lets() {
        use super::event::Event;
        use alloc::sync::Arc;
        use core::sync::atomic::AtomicU32;

        let mut storage = core::mem::MaybeUninit::<KQUEUE>::uninit();
        let queue = storage.as_mut_ptr();
        let address = queue.expose_provenance();
        let mut entries = [list::UNLINKED; 4];
        let begun = Arc::new(AtomicU32::new(0));
        let go_on = Arc::new(Event::new_notification());
        // SAFETY: queue and entries live until the threads have ended.
        unsafe {
            KeInitializeQueue(queue, 1);
            let threads: alloc::vec::Vec<_> = (0..2)
                .filter_map(|_| {
                    let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
                    let work = move || {
                        let queue = ptr::with_exposed_provenance_mut::<KQUEUE>(address);
                        while KeRemoveQueue(queue, 0, ptr::null()).addr() != ABANDONED.bits() as usize {
                            begun.fetch_add(1, Ordering::AcqRel);
                            go_on.wait(None);
                        }
                    };
                    thread::spawn("worker", 10, work).ok()
                })
                .collect();
            check!(threads.len() == 2);
            let settled = |expected| {
                let is_so = || begun.load(Ordering::Acquire) == expected;
                (0..5000).any(|_| is_so() || { thread::sleep_ns(1_000_000); is_so() })
            };
            // Each waits in its work, which lets the other begin.
            for entry in &mut entries {
                KeInsertQueue(queue, entry);
            }
            let both = settled(2);
            let left = KeReadStateQueue(queue);
            go_on.set();
            let all = settled(4);
            check!(both && left == 2 && all);
            // Until both wait for an entry.
            let both_wait = || {
                let head = &raw mut (*queue).Header.WaitListHead;
                let _guard = dispatcher::lock();
                !list::is_empty(head) && (*(*head).Flink).Flink != head
            };
            for _ in 0..5000 {
                if both_wait() {
                    break;
                }
                thread::sleep_ns(1_000_000);
            }
            check!(KeRundownQueue(queue).is_null());
            check!(threads.iter().all(|thread| thread.join(Some(5_000_000_000))));
            let none = 0_i64;
            check!(KeRemoveQueue(queue, 0, &raw const none).addr() == STATUS_TIMEOUT.bits() as usize);
            KeInsertQueue(queue, &raw mut entries[0]);
            check!(KeInsertHeadQueue(queue, &raw mut entries[1]) == 1);
            check!(KeRemoveQueue(queue, 0, ptr::null()) == &raw mut entries[1]);
            check!(KeRundownQueue(queue) == &raw mut entries[0] && KeReadStateQueue(queue) == 0);
            // One that goes without being run down leaves nobody behind.
            KeRemoveQueue(queue, 0, &raw const none);
            let me = super::thread::current().as_ptr();
            let works = part(me).queue == queue;
            memory_goes(&(address..address + size_of::<KQUEUE>()));
            check!(works && part(me).queue.is_null());
        }
    }
}
