//! Timers.
//!
//! A timer is signalled when its time has come, and may queue a DPC then. Each processor keeps those that were set on it,
//! sorted by time, and has its clock set to the first. NT looks only at its clock's ticks, every 15.6 ms by default; here a
//! timer expires when it is due.
//!
//! The queue runs through the drivers' own KTIMERs. One that is freed while it runs therefore hurts exactly as it does on
//! Windows: here, some time later, in the kernel.

use core::cell::UnsafeCell;
use core::ptr;

use super::dispatcher::Guard;
use super::processor::{self, Processor};
use super::{clock, dpc, list};
use crate::nt::{DISPATCHER_HEADER, KTIMER, LIST_ENTRY, object_type};

/// 100 ns units in a millisecond.
const UNITS_PER_MS: u64 = 10_000;

/// A timer that was never initialized.
pub const UNUSED: KTIMER = KTIMER {
    Header: DISPATCHER_HEADER {
        Type: object_type::TIMER_NOTIFICATION,
        Flags: 0,
        Size: 0,
        Inserted: 0,
        SignalState: 0,
        WaitListHead: list::UNLINKED,
    },
    DueTime: 0,
    TimerListEntry: list::UNLINKED,
    Dpc: ptr::null_mut(),
    Processor: 0,
    Period: 0,
};

/// One processor's timers, the first due first.
#[derive(Debug)]
pub struct TimerQueue(UnsafeCell<LIST_ENTRY>);

impl TimerQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(list::UNLINKED))
    }

    /// The list's head, initialized on first use: the queue must have found its place by then.
    fn head(&self) -> *mut LIST_ENTRY {
        let head = self.0.get();
        // SAFETY: under the dispatcher's lock, as everything here.
        unsafe {
            if (*head).Flink.is_null() {
                list::initialize(head);
            }
        }
        head
    }

    /// When the first is due.
    pub fn first_due(&self) -> Option<u64> {
        // SAFETY: under the lock; entries are links of timers that run.
        unsafe { list::first(self.head()).map(|link| (*timer_of_link(link)).DueTime) }
    }
}

fn timer_of_link(link: *mut LIST_ENTRY) -> *mut KTIMER {
    link.wrapping_byte_sub(core::mem::offset_of!(KTIMER, TimerListEntry)).cast()
}

/// Makes `timer` one that does not run.
///
/// # Safety
/// `timer` is writable and not running. Everywhere below: under the dispatcher's lock, `timer` alive.
pub unsafe fn initialize(timer: *mut KTIMER, kind: u8) {
    // SAFETY: the caller's.
    unsafe {
        timer.write(KTIMER { ..UNUSED });
        (*timer).Header.Type = kind;
        (*timer).Header.Size = (size_of::<KTIMER>() / 4) as u8;
        list::initialize(&raw mut (*timer).Header.WaitListHead);
    }
}

/// Starts `timer`, which does not run, on this processor.
///
/// # Safety
/// As above.
pub unsafe fn insert(timer: *mut KTIMER, due: u64) {
    let processor = processor::current();
    let head = processor.timers.head();
    // SAFETY: the caller's; the queue's entries are timers that run.
    unsafe {
        (*timer).DueTime = due;
        (*timer).Processor = processor.number() as u32;
        (*timer).Header.Inserted = 1;
        (*timer).Header.SignalState = 0;
        let mut before = (*head).Flink;
        while before != head && (*timer_of_link(before)).DueTime <= due {
            before = (*before).Flink;
        }
        list::insert_before(before, &raw mut (*timer).TimerListEntry);
    }
    clock::arm(processor);
}

/// Stops `timer`; false where it was not running.
///
/// # Safety
/// As above.
pub unsafe fn remove(timer: *mut KTIMER) -> bool {
    // SAFETY: the caller's.
    unsafe {
        if (*timer).Header.Inserted == 0 {
            return false;
        }
        (*timer).Header.Inserted = 0;
        list::remove(&raw mut (*timer).TimerListEntry);
    }
    true
}

/// `timer`'s time has come.
///
/// # Safety
/// As above; it is in no queue.
unsafe fn fire(guard: &mut Guard, timer: *mut KTIMER) {
    // SAFETY: the caller's.
    unsafe {
        let (dpc, period, due) = ((*timer).Dpc, (*timer).Period, (*timer).DueTime);
        (*timer).Header.SignalState = 1;
        guard.signalled(&raw mut (*timer).Header);
        if period != 0 {
            insert_again(timer, due.saturating_add(u64::from(period) * UNITS_PER_MS));
        }
        if !dpc.is_null() {
            let now = clock::system_time();
            dpc::insert(dpc, (now & 0xFFFF_FFFF) as *mut _, (now >> 32) as *mut _);
        }
    }
}

/// A periodic timer goes on, signalled as it may be.
///
/// # Safety
/// As above.
unsafe fn insert_again(timer: *mut KTIMER, due: u64) {
    // SAFETY: the caller's.
    unsafe {
        let signalled = (*timer).Header.SignalState;
        insert(timer, due);
        (*timer).Header.SignalState = signalled;
    }
}

/// Sets `timer` as a driver asks; true where it was running.
///
/// # Safety
/// As above.
pub unsafe fn set(
    guard: &mut Guard,
    timer: *mut KTIMER,
    due: u64,
    period: u32,
    dpc: *mut crate::nt::KDPC,
) -> bool {
    // SAFETY: the caller's.
    unsafe {
        let running = remove(timer);
        (*timer).Dpc = dpc;
        (*timer).Period = period;
        (*timer).Header.SignalState = 0;
        if due <= clock::interrupt_time() {
            (*timer).DueTime = clock::interrupt_time();
            fire(guard, timer);
        } else {
            insert(timer, due);
        }
        running
    }
}

/// Fires what is due on `processor`, which runs this.
pub fn expire(guard: &mut Guard, processor: &Processor) {
    let now = clock::interrupt_time();
    // SAFETY: under the lock; entries are links of timers that run. If a driver freed one, this is where it shows.
    unsafe {
        while let Some(link) = list::first(processor.timers.head()) {
            let timer = timer_of_link(link);
            if (*timer).DueTime > now {
                break;
            }
            remove(timer);
            fire(guard, timer);
        }
    }
}
