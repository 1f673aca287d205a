//! Work items: a routine to be called in a thread of the system's, at PASSIVE_LEVEL.
//!
//! Workers are started as they are needed: where an item comes and no worker of its queue is idle, another
//! one is made, up to a few. An item that waits for a later one is therefore not lost, unless many do.

use core::ops::Range;
use core::ptr;

use squall_testkernel_pure::bugcheck::WORKER_INVALID;

use super::pool;
use crate::ke::bugcheck::bugcheck;
use crate::ke::call;
use crate::ke::event::Event;
use crate::ke::list;
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::export::export;
use crate::nt::{LIST_ENTRY, PVOID};
use crate::selftest::{check, kernel_test};

use alloc::boxed::Box;

/// `WORKER_THREAD_ROUTINE`.
pub type WorkerRoutine = unsafe extern "win64" fn(parameter: PVOID);

/// `WORK_QUEUE_ITEM`, which the headers' ExInitializeWorkItem fills in.
#[derive(Debug)]
#[repr(C)]
pub struct WorkItem {
    /// Link in a queue; null while it is in none.
    pub list: LIST_ENTRY,
    /// What to call.
    pub routine: Option<WorkerRoutine>,
    /// With what.
    pub parameter: PVOID,
}

const _: () = assert!(size_of::<WorkItem>() == 0x20);

/// `WORK_QUEUE_TYPE` values with workers of their own, and those workers' priorities; the rest is delayed work.
const CRITICAL: u32 = 0;
const HYPER_CRITICAL: u32 = 2;
const PRIORITIES: [u8; 3] = [12, 13, 15];

/// Of each queue: more than ever wait for each other.
pub const MAX_WORKERS: usize = 32;

struct Queue {
    items: LIST_ENTRY,
    /// Made with the first worker, for ever.
    more: Option<&'static Event>,
    workers: usize,
    idle: usize,
    waiting: usize,
}

// SAFETY: the links are drivers' memory, which belongs to no processor.
unsafe impl Send for Queue {}

static QUEUES: [SpinLock<Queue>; 3] =
    [const { SpinLock::new(Queue { items: list::UNLINKED, more: None, workers: 0, idle: 0, waiting: 0 }) };
        3];

/// `MaximumWorkQueue`; from [`CUSTOM_PRIORITY`] on a number is a priority.
const MAXIMUM_WORK_QUEUE: u32 = 7;
/// `CustomPriorityWorkQueue`, and one more than it and the highest priority.
const CUSTOM_PRIORITY: u32 = 32;
const END_OF_PRIORITIES: u32 = CUSTOM_PRIORITY + 32;

/// *Bug Check 0xE4: WORKER_INVALID*, values 6 and 7: an item for a queue that there is not, or a routine that is none of the system's.
fn judge(item: usize, routine: usize, kind: u32) {
    let is_a_queue = kind < MAXIMUM_WORK_QUEUE || (CUSTOM_PRIORITY..END_OF_PRIORITIES).contains(&kind);
    if !is_a_queue {
        bugcheck(WORKER_INVALID, [6, item as u64, kind.into(), 0]);
    }
    if routine < pool::SYSTEM_START {
        bugcheck(WORKER_INVALID, [7, item as u64, kind.into(), 0]);
    }
}

fn index_of(kind: u32) -> usize {
    match kind {
        CRITICAL => 1,
        HYPER_CRITICAL => 2,
        _ => 0,
    }
}

impl Queue {
    fn head(&mut self) -> *mut LIST_ENTRY {
        let head = &raw mut self.items;
        // SAFETY: the head is ours; null links are those of a queue never used.
        unsafe {
            if (*head).Flink.is_null() {
                list::initialize(head);
            }
        }
        head
    }

    fn take(&mut self) -> Option<*mut WorkItem> {
        let head = self.head();
        // SAFETY: the entries are items that were queued and not begun.
        unsafe {
            let link = list::first(head)?;
            list::remove(link);
            (*link).Flink = ptr::null_mut();
            self.waiting -= 1;
            Some(link.cast())
        }
    }
}

/// A work item that is queued, and for which `is_it`.
fn find_queued(is_it: impl Fn(usize) -> bool) -> Option<usize> {
    QUEUES.iter().find_map(|queue| {
        let mut queue = queue.lock();
        let head = queue.head();
        // SAFETY: the entries are items that were queued and not begun; under the queue's lock.
        unsafe {
            let mut link = (*head).Flink;
            while link != head {
                if is_it(link.addr()) {
                    return Some(link.addr());
                }
                link = (*link).Flink;
            }
        }
        None
    })
}

/// A work item that is queued and lies in `range`.
pub fn first_queued_in(range: &Range<usize>) -> Option<usize> {
    find_queued(|item| range.contains(&item))
}

/// Whether `item` is queued, and its routine has not begun.
pub fn is_queued(item: *const WorkItem) -> bool {
    find_queued(|other| other == item.addr()).is_some()
}

fn work(index: usize, more: &'static Event) {
    loop {
        let item = {
            let mut queue = QUEUES[index].lock();
            let item = queue.take();
            if item.is_none() {
                queue.idle += 1;
            }
            item
        };
        match item {
            Some(item) => {
                // Read before the call: the routine may free the item.
                // SAFETY: the driver keeps the item until its routine is called.
                let (routine, parameter) = unsafe { ((*item).routine, (*item).parameter) };
                if let Some(routine) = routine {
                    // SAFETY: the driver gave the routine for this call. If its image is gone, the call faults: a
                    // bug check.
                    unsafe { routine(parameter) };
                    call::worker_returned(routine as usize, parameter.addr(), item.addr());
                }
            }
            None => {
                more.wait(None);
                QUEUES[index].lock().idle -= 1;
            }
        }
    }
}

/// System worker threads, of every queue: as many as were ever needed at once, and they stay.
pub fn workers() -> usize {
    QUEUES.iter().map(|queue| queue.lock().workers).sum()
}

/// Queues an item, at DISPATCH_LEVEL or below. One that is queued already is a bug check: *Bug Check 0xE4: WORKER_INVALID*,
/// value 1.
///
/// # Safety
/// `item` was initialized, is in no queue, and lives until its routine is called.
pub unsafe fn queue(item: *mut WorkItem, kind: u32) {
    let index = index_of(kind);
    if is_queued(item) {
        bugcheck(WORKER_INVALID, [1, item.addr() as u64, kind.into(), 0]);
    }
    let (more, short) = {
        let mut queue = QUEUES[index].lock();
        let head = queue.head();
        // SAFETY: the caller's.
        unsafe { list::insert_before(head, &raw mut (*item).list) };
        queue.waiting += 1;
        let short = queue.waiting > queue.idle && queue.workers < MAX_WORKERS;
        if short {
            queue.workers += 1;
        }
        let more: &'static Event =
            queue.more.get_or_insert_with(|| Box::leak(Box::new(Event::new_synchronization())));
        (more, short)
    };
    if short && thread::spawn("worker", PRIORITIES[index], move || work(index, more)).is_err() {
        QUEUES[index].lock().workers -= 1;
    }
    more.set();
}

export! {
    /// *ExQueueWorkItem function (wdm.h)*: the routine is called once, in a system thread at PASSIVE_LEVEL. At
    /// DISPATCH_LEVEL or below.
    pub unsafe extern "win64" fn ExQueueWorkItem(item: *mut WorkItem, kind: u32) {
        // SAFETY: the caller's item.
        unsafe {
            judge(item.addr(), (*item).routine.map_or(0, |routine| routine as usize), kind);
            queue(item, kind);
        }
    }
}

kernel_test! {
    /// *ExQueueWorkItem function (wdm.h)*: called at PASSIVE_LEVEL, also when queued at DISPATCH_LEVEL.
    fn work_is_done_at_passive_level_and_items_may_wait_for_one_another() {
        use crate::ke::irql::{self, Irql};
        struct Pair {
            first: Event,
            second: Event,
        }
        unsafe extern "win64" fn waits(pair: PVOID) {
            // SAFETY: the test waits for both items.
            let pair = unsafe { &*pair.cast::<Pair>() };
            if irql::current() == Irql::PASSIVE && pair.second.wait(Some(5_000_000_000)) {
                pair.first.set();
            }
        }
        unsafe extern "win64" fn lets_go(pair: PVOID) {
            // SAFETY: as above.
            unsafe { &*pair.cast::<Pair>() }.second.set();
        }
        let pair = Pair { first: Event::new_notification(), second: Event::new_notification() };
        let parameter: PVOID = (&raw const pair).cast_mut().cast();
        let item = |routine: WorkerRoutine| WorkItem { list: list::UNLINKED, routine: Some(routine), parameter };
        let mut items = [item(waits), item(lets_go)];
        let [first, second] = items.each_mut().map(|item| &raw mut *item);
        // SAFETY: the items live until both have been worked on.
        unsafe {
            let old = irql::raise(Irql::DISPATCH);
            ExQueueWorkItem(first, 1);
            ExQueueWorkItem(second, 1);
            irql::lower(old);
        }
        check!(pair.first.wait(Some(10_000_000_000)));
        check!(items.iter().all(|item| item.list.Flink.is_null()));
    }
}
