//! The dispatcher: which thread runs where.
//!
//! One lock guards all of it: the ready queues, every waitable object, every timer. A machine of a few
//! processors does not notice, and there is only one order to get right. The lock is held *across* the
//! context switch: the thread that is switched to releases what the thread that it was switched from took.
//! Thus nobody can see a thread as ready while its registers are still on their way to memory.
//!
//! A processor that should switch is told by the software interrupt of DISPATCH_LEVEL, itself or another's
//! alike; it comes in when the IRQL falls below, runs the DPCs first, and then [`Guard::preempt`].

use core::ptr;
use core::sync::atomic::Ordering;

use squall_testkernel_pure::bugcheck::ATTEMPTED_SWITCH_FROM_DPC;
use squall_testkernel_pure::vectors::DISPATCH_VECTOR;

use super::irql::Irql;
use super::lock::{SpinLock, SpinLockGuard};
use super::processor::{self, Processor};
use super::thread::{PRIORITIES, REAL_TIME, Scheduling, Thread};
use super::wait;
use super::{bugcheck, clock, list, run_time};
use crate::arch::context;
use crate::hal::apic;
use crate::nt::{DISPATCHER_HEADER, LIST_ENTRY};
use crate::selftest::{check, kernel_test};

/// Where a thread is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Initialized,
    /// In a ready queue.
    Ready,
    /// Chosen to run next on a processor.
    Standby,
    /// On a processor.
    Running,
    /// Waiting for objects.
    Waiting,
    /// Ended.
    Terminated,
}

/// What the lock guards.
struct Dispatcher {
    /// Threads that could run, by priority. Heads are initialized on first use.
    ready: [LIST_ENTRY; PRIORITIES],
    /// Bit *n*: queue *n* is not empty.
    ready_mask: u32,
    zombies: *mut Thread,
}

// SAFETY: the pointers are to thread records, which belong to no processor.
unsafe impl Send for Dispatcher {}

static DISPATCHER: SpinLock<Dispatcher> = SpinLock::new(Dispatcher {
    ready: [list::UNLINKED; PRIORITIES],
    ready_mask: 0,
    zombies: ptr::null_mut(),
});

/// The dispatcher, locked.
#[derive(Debug)]
pub struct Guard(SpinLockGuard<'static, Dispatcher>);

impl core::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Dispatcher").field("ready_mask", &self.ready_mask).finish_non_exhaustive()
    }
}

/// Locks the dispatcher. At DISPATCH_LEVEL or below.
pub fn lock() -> Guard {
    Guard(DISPATCHER.lock())
}

/// The lock, as a new thread finds it: taken for it by whoever switched. Dropping it lowers to `irql`.
pub fn adopt(irql: Irql) -> Guard {
    // SAFETY: called where a new thread begins; the switch that led there left its guard behind on another
    // stack, and that guard is not dropped before this one: it wakes holding the lock again.
    Guard(unsafe { DISPATCHER.adopt(irql) })
}

/// Makes `processor` run its DPCs and look for a better thread, as soon as its IRQL allows.
pub fn request(processor: &Processor) {
    if ptr::eq(processor, processor::current()) {
        apic::interrupt_self(DISPATCH_VECTOR);
    } else {
        apic::interrupt(processor.apic_id, DISPATCH_VECTOR);
    }
}

fn scheduling<'a>(thread: *mut Thread) -> &'a mut Scheduling {
    // SAFETY: private to this module, whose callers hold the lock and use one thread's part at a time;
    // records outlive their being scheduled.
    unsafe { &mut *(*thread).scheduling.get() }
}

fn thread_of_link(link: *mut LIST_ENTRY) -> *mut Thread {
    const OFFSET: usize =
        core::mem::offset_of!(Thread, scheduling) + core::mem::offset_of!(Scheduling, ready_link);
    link.wrapping_byte_sub(OFFSET).cast()
}

impl Guard {
    fn queue(&mut self, priority: usize) -> *mut LIST_ENTRY {
        let head = &raw mut self.0.ready[priority];
        // SAFETY: the head is ours; null links are those of a queue never used.
        unsafe {
            if (*head).Flink.is_null() {
                list::initialize(head);
            }
        }
        head
    }

    fn enqueue(&mut self, thread: *mut Thread, first: bool) {
        let part = scheduling(thread);
        part.state = State::Ready;
        let priority = usize::from(part.priority);
        let head = self.queue(priority);
        // SAFETY: the thread is in no queue: it ran, waited or was chosen until now.
        unsafe {
            if first {
                list::insert_first(head, &raw mut part.ready_link);
            } else {
                list::insert_before(head, &raw mut part.ready_link);
            }
        }
        self.0.ready_mask |= 1 << priority;
    }

    fn dequeue(&mut self, thread: *mut Thread) {
        let part = scheduling(thread);
        let head = self.queue(usize::from(part.priority));
        // SAFETY: the thread is ready, so it is in that queue.
        unsafe {
            list::remove(&raw mut part.ready_link);
            if list::is_empty(head) {
                self.0.ready_mask &= !(1 << part.priority);
            }
        }
    }

    /// The best ready thread that may run on `processor` and has at least `lowest` priority, no longer
    /// queued.
    fn take_ready(&mut self, processor: &Processor, lowest: u8) -> Option<*mut Thread> {
        let mut mask = self.0.ready_mask & (u32::MAX << lowest);
        while mask != 0 {
            let priority = 31 - mask.leading_zeros();
            let head = self.queue(priority as usize);
            // SAFETY: the queue's entries are links of ready threads, which only change under the lock.
            let mut link = unsafe { (*head).Flink };
            while link != head {
                let thread = thread_of_link(link);
                if scheduling(thread).affinity & processor.bit() != 0 {
                    self.dequeue(thread);
                    return Some(thread);
                }
                // SAFETY: as above.
                link = unsafe { (*link).Flink };
            }
            mask &= !(1 << priority);
        }
        None
    }

    /// What `processor` will run once it gets round to it, and at what priority; idle is below all.
    fn runs(processor: &Processor) -> (i16, *mut Thread) {
        let next = processor.next.get();
        let thread = if next.is_null() { processor.thread() } else { next };
        if thread == processor.idle.load(Ordering::Relaxed) {
            return (-1, thread);
        }
        (i16::from(scheduling(thread).priority), thread)
    }

    /// `thread` can run from now on: on an idle processor, instead of somebody less important, or later.
    ///
    /// Of processors that are equally good the one that runs this is the best: it will get to it, while another
    /// may be kept at DISPATCH_LEVEL by a driver that never comes back. One that is in the middle of a DPC may be
    /// as well, though it looks idle.
    pub fn ready(&mut self, thread: *mut Thread) {
        let (affinity, last, priority) = {
            let part = scheduling(thread);
            let best = part.ideal_processor.unwrap_or(part.last_processor);
            (part.affinity, best, i16::from(part.priority))
        };
        let candidates = || processor::all().filter(move |processor| affinity & processor.bit() != 0);
        let here = |processor: &Processor| ptr::eq(processor, processor::current());
        let kept =
            |processor: &Processor| !here(processor) && processor.dpc_active.load(Ordering::Relaxed) != 0;
        let order = |processor: &Processor| (!here(processor), processor.number() != last);
        let target = candidates()
            .filter(|processor| processor.is_idle() && !kept(processor))
            .min_by_key(|processor| order(processor))
            .or_else(|| {
                candidates()
                    .min_by_key(|processor| (kept(processor), Self::runs(processor).0, order(processor)))
                    .filter(|processor| Self::runs(processor).0 < priority)
            });
        match target {
            Some(processor) => {
                let displaced = processor.next.replace(thread);
                scheduling(thread).state = State::Standby;
                if !displaced.is_null() {
                    self.enqueue(displaced, true);
                }
                request(processor);
            }
            None => self.enqueue(thread, false),
        }
    }

    /// Switches this processor to `next`. Returns when the calling thread runs again, perhaps on another
    /// processor, with the lock held as before.
    fn switch_to(&mut self, next: *mut Thread) {
        let processor = processor::current();
        let current = processor.thread();
        scheduling(next).state = State::Running;
        scheduling(next).last_processor = processor.number();
        if current == next {
            return;
        }
        if processor.dpc_active.load(Ordering::Relaxed) != 0 {
            bugcheck::bugcheck(ATTEMPTED_SWITCH_FROM_DPC, [current as u64, next as u64, 0, 0]);
        }
        processor.set_thread(next);
        // SAFETY: both records are alive.
        unsafe { run_time::passes_from(&*current, &*next) };
        clock::thread_changes(processor, next == processor.idle.load(Ordering::Relaxed));
        // SAFETY: at DISPATCH_LEVEL with the lock held; `next` was ready, so no processor runs it and its
        // context is whole; both records outlive the switch (an ended thread is only reaped under the lock).
        unsafe { context::switch((*current).context.get(), (*next).context.get()) };
    }

    /// The thread to run on `processor` when its current one cannot go on.
    fn choose(&mut self, processor: &Processor) -> *mut Thread {
        let next = processor.next.replace(ptr::null_mut());
        if !next.is_null() {
            return next;
        }
        self.take_ready(processor, 0).unwrap_or_else(|| processor.idle.load(Ordering::Relaxed))
    }

    /// The calling thread, whose state says why, does not run on; returns when it does again.
    pub fn block(&mut self) {
        let next = self.choose(processor::current());
        self.switch_to(next);
    }

    /// Called by the dispatch interrupt: runs the better thread that was chosen for this processor, or, at
    /// the end of a time slice, another one of the same priority.
    pub fn preempt(&mut self, slice_over: bool) {
        let processor = processor::current();
        let current = processor.thread();
        let idle = current == processor.idle.load(Ordering::Relaxed);
        if !idle && scheduling(current).affinity & processor.bit() == 0 {
            // Its affinity was changed at DISPATCH_LEVEL.
            self.ready(current);
            self.block();
            return;
        }
        let next = processor.next.replace(ptr::null_mut());
        if !next.is_null() {
            if !idle {
                self.enqueue(current, true);
            }
            self.switch_to(next);
        } else if slice_over && !idle {
            self.boost_wears_off(current);
            let _ = self.rotate();
        }
    }

    /// A time slice at a raised priority is over: the next one is at a lower priority, down to the thread's own.
    fn boost_wears_off(&mut self, thread: *mut Thread) {
        let part = scheduling(thread);
        if part.priority > part.base_priority {
            part.priority -= 1;
        }
    }

    /// The wait of `thread`, which is in no queue, is satisfied by somebody who raises its priority by `increment`: from its own, within
    /// the variable range, until its time slices are over.
    pub fn boost(&mut self, thread: *mut Thread, increment: i32) {
        let part = scheduling(thread);
        if part.base_priority < REAL_TIME && increment > 0 {
            let raised =
                i32::from(part.base_priority).saturating_add(increment).min(i32::from(REAL_TIME) - 1);
            part.priority = part.priority.max(raised as u8);
        }
    }

    /// The level that is returned to with this guard.
    pub fn level(&self) -> Irql {
        self.0.level()
    }

    /// Lets the dispatcher go and stays at DISPATCH_LEVEL, whatever the level was before.
    pub fn let_go_and_stay(mut self) -> Irql {
        let before = self.0.level();
        self.0.set_level(Irql::DISPATCH);
        drop(self);
        processor::kernel_raised(false);
        before
    }

    /// Makes this guard one that returns to `level`.
    pub fn returns_to(&mut self, level: Irql) {
        self.0.set_level(level);
    }

    /// The calling thread goes to the end of its queue, where another one of its priority or above is ready: false where none is.
    pub fn rotate(&mut self) -> bool {
        let processor = processor::current();
        let current = processor.thread();
        let next = processor.next.replace(ptr::null_mut());
        let next = if next.is_null() {
            self.take_ready(processor, scheduling(current).priority)
        } else {
            Some(next)
        };
        let Some(next) = next else { return false };
        self.enqueue(current, false);
        self.switch_to(next);
        true
    }

    /// See [`super::thread::bind`].
    pub fn bind(&mut self, thread: &Thread, mask: u64) {
        let thread = ptr::from_ref(thread).cast_mut();
        if thread == processor::current().thread() {
            self.set_affinity(mask);
            return;
        }
        match scheduling(thread).state {
            State::Ready => {
                self.dequeue(thread);
                scheduling(thread).affinity = mask;
                self.ready(thread);
            }
            State::Standby => {
                // It goes where it may, and somebody else to where it was to go.
                let chosen = processor::all().find(|processor| processor.next.get() == thread);
                scheduling(thread).affinity = mask;
                if let Some(processor) = chosen.filter(|processor| mask & processor.bit() == 0) {
                    processor.next.set(ptr::null_mut());
                    self.ready(thread);
                }
            }
            State::Running => {
                scheduling(thread).affinity = mask;
                processor::all().filter(|processor| processor.thread() == thread).for_each(request);
            }
            State::Initialized | State::Waiting | State::Terminated => scheduling(thread).affinity = mask,
        }
    }

    /// See [`super::thread::set_affinity`].
    pub fn set_affinity(&mut self, mask: u64) -> u64 {
        let processor = processor::current();
        let current = processor.thread();
        let old = scheduling(current).affinity;
        if mask & processor::all_mask() != 0 {
            scheduling(current).affinity = mask;
            if mask & processor.bit() == 0 {
                if self.level() >= Irql::DISPATCH {
                    // *KeSetSystemAffinityThreadEx*: deferred until the IRQL falls below.
                    request(processor);
                } else {
                    self.ready(current);
                    self.block();
                }
            }
        }
        old
    }

    /// See [`super::thread::set_priority`].
    pub fn set_priority(&mut self, thread: &Thread, priority: u8) -> u8 {
        let thread = ptr::from_ref(thread).cast_mut();
        let old = scheduling(thread).priority;
        scheduling(thread).base_priority = priority;
        if scheduling(thread).state == State::Ready {
            self.dequeue(thread);
            scheduling(thread).priority = priority;
            self.ready(thread);
        } else {
            scheduling(thread).priority = priority;
            // It may be less important now than one that waits.
            if priority < old {
                processor::all().for_each(|processor| {
                    if processor.thread() == thread {
                        processor.next_tick.store(0, Ordering::Relaxed);
                        request(processor);
                    }
                });
            }
        }
        old
    }

    /// The object is signalled: whoever can go on because of that does, with its priority raised by `increment`.
    ///
    /// # Safety
    /// `header` is a live dispatcher object.
    pub unsafe fn signalled(&mut self, header: *mut DISPATCHER_HEADER, increment: i32) {
        // SAFETY: the caller's, under the lock.
        unsafe { wait::release_waiters(self, header, increment) };
    }

    /// The calling thread ends; its remains wait for [`super::thread::reap`].
    pub fn bury(mut self, thread: *mut Thread) -> ! {
        scheduling(thread).state = State::Terminated;
        // SAFETY: the record lives until it is reaped.
        unsafe { (*thread).next_zombie.store(self.0.zombies, Ordering::Relaxed) };
        self.0.zombies = thread;
        self.block();
        unreachable!("a thread ran on after its end")
    }

    /// The threads that have ended since the last call, chained.
    pub fn take_zombies(&mut self) -> *mut Thread {
        core::mem::replace(&mut self.0.zombies, ptr::null_mut())
    }
}

kernel_test! {
    /// *Guidelines for Writing DPC Routines*: a DPC that does not return keeps its processor, and no other.
    fn a_thread_does_not_wait_for_a_processor_that_a_dpc_keeps() {
        use core::ffi::c_void;
        use core::sync::atomic::AtomicBool;

        use super::event::Event;
        use super::{dpc, thread};
        use crate::hal::clock::now_ns;
        use crate::nt::KDPC;

        static ENTERED: AtomicBool = AtomicBool::new(false);
        static RELEASED: AtomicBool = AtomicBool::new(false);
        unsafe extern "win64" fn spin(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
            ENTERED.store(true, Ordering::Release);
            let end = now_ns() + 300_000_000;
            while !RELEASED.load(Ordering::Acquire) && now_ns() < end {
                core::hint::spin_loop();
            }
        }

        if processor::count() < 2 {
            return Ok(());
        }
        ENTERED.store(false, Ordering::Relaxed);
        RELEASED.store(false, Ordering::Relaxed);
        let old_affinity = thread::set_affinity(1);
        let event = alloc::sync::Arc::new(Event::new_synchronization());
        let waited_for = event.clone();
        let waiter = thread::spawn("waiter", 24, move || {
            // Where it ran last is where it would best run next.
            thread::set_affinity(2);
            thread::set_affinity(u64::MAX);
            waited_for.wait(None);
            RELEASED.store(true, Ordering::Release);
        });
        thread::sleep_ns(5_000_000);
        let mut dpc = dpc::UNUSED;
        // SAFETY: it has run when the DPCs are flushed below.
        unsafe {
            dpc::initialize(&raw mut dpc, Some(spin), ptr::null_mut());
            dpc::set_target(&raw mut dpc, 1);
            dpc::insert(&raw mut dpc, ptr::null_mut(), ptr::null_mut());
        }
        while !ENTERED.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let start = now_ns();
        event.set();
        let joined = waiter.is_ok_and(|waiter| waiter.join(Some(1_000_000_000)));
        let elapsed = now_ns() - start;
        dpc::flush_all();
        thread::set_affinity(old_affinity);
        check!(joined && elapsed < 250_000_000);
    }
}
