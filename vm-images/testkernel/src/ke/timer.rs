//! Timers.
//!
//! A timer is signalled when its time has come, and may queue a DPC then. Each processor keeps those that
//! were set on it, sorted by time, and has its clock set to the first. NT looks only at its clock's ticks,
//! every 15.6 ms by default; here a timer expires when it is due.
//!
//! The queue runs through the drivers' own KTIMERs. One that is freed while it runs therefore hurts exactly
//! as it does on Windows: here, some time later, in the kernel.

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr;

use super::dispatcher::Guard;
use super::processor::{self, Processor};
use super::wait::Deadline;
use super::{clock, dispatcher, dpc, list, shared_data};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DISPATCHER_HEADER, KDPC, KTIMER, LIST_ENTRY, object_type};
use crate::selftest::{check, kernel_test};

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
        guard.signalled(&raw mut (*timer).Header, 0);
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

/// Shows every timer that runs to `look`, which says whether it has seen enough. It must neither allocate nor take a lock.
fn look_at_running(mut look: impl FnMut(*mut KTIMER) -> bool) {
    let _guard = dispatcher::lock();
    for processor in processor::all() {
        let head = processor.timers.head();
        // SAFETY: under the lock; entries are links of timers that run.
        unsafe {
            let mut link = (*head).Flink;
            while link != head {
                if look(timer_of_link(link)) {
                    return;
                }
                link = (*link).Flink;
            }
        }
    }
}

/// Timers that run and whose DPC's routine lies in `range`: address of the timer and of the routine.
pub fn leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    // Copied out first: what is allocated under the lock would be a lock within it.
    let mut found = [None; 64];
    let mut count = 0;
    look_at_running(|timer| {
        // SAFETY: a timer that runs has its DPC or none.
        let routine = unsafe { (*timer).Dpc.as_ref().and_then(|dpc| dpc.DeferredRoutine) };
        let address = routine.map_or(0, |routine| routine as usize as u64);
        if range.contains(&address) {
            found[count] = Some((timer.addr(), address));
            count += 1;
        }
        count == found.len()
    });
    found.into_iter().flatten().collect()
}

/// A timer that runs and lies in `range`.
pub fn first_in(range: &Range<usize>) -> Option<usize> {
    let mut found = None;
    look_at_running(|timer| {
        found = range.contains(&timer.addr()).then_some(timer.addr());
        found.is_some()
    });
    found
}

/// A DPC in `range` that a timer which runs will queue.
pub fn first_dpc_in(range: &Range<usize>) -> Option<usize> {
    let mut found = None;
    look_at_running(|timer| {
        // SAFETY: the timer runs, so it is alive; its DPC's address is only compared.
        let dpc = unsafe { (*timer).Dpc }.addr();
        found = range.contains(&dpc).then_some(dpc);
        found.is_some()
    });
    found
}

/// Fires what is due on `processor`, which runs this.
pub fn expire(guard: &mut Guard, processor: &Processor) {
    let now = clock::interrupt_time();
    // Whoever a timer wakes may read the time from the shared page, and must not find it before that timer's.
    shared_data::update();
    // SAFETY: under the lock; entries are links of timers that run. If a driver freed one, this is where it
    // shows.
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

export! {
    /// *KeInitializeTimer function (wdm.h)*: a notification timer.
    pub unsafe extern "win64" fn KeInitializeTimer(timer: *mut KTIMER) {
        // SAFETY: the caller's storage.
        unsafe { initialize(timer, object_type::TIMER_NOTIFICATION) };
    }

    /// *KeInitializeTimerEx function (wdm.h)*: a notification or synchronization timer.
    pub unsafe extern "win64" fn KeInitializeTimerEx(timer: *mut KTIMER, kind: u32) {
        let kind =
            if kind == 0 { object_type::TIMER_NOTIFICATION } else { object_type::TIMER_SYNCHRONIZATION };
        // SAFETY: the caller's storage.
        unsafe { initialize(timer, kind) };
    }

    /// *KeSetTimer function (wdm.h)*: once, `due` relative where negative; TRUE where it was running, which
    /// it is not any longer with its old time.
    pub unsafe extern "win64" fn KeSetTimer(timer: *mut KTIMER, due: i64, dpc: *mut KDPC) -> BOOLEAN {
        // SAFETY: the caller's timer and DPC, under the lock.
        BOOLEAN::from(unsafe { set(&mut dispatcher::lock(), timer, Deadline::from_driver(due).0, 0, dpc) })
    }

    /// *KeSetTimerEx function (wdm.h)*: again and again every `period` milliseconds, where that is not 0.
    pub unsafe extern "win64" fn KeSetTimerEx(
        timer: *mut KTIMER,
        due: i64,
        period: i32,
        dpc: *mut KDPC,
    ) -> BOOLEAN {
        let period = u32::try_from(period).unwrap_or(0);
        let due = Deadline::from_driver(due).0;
        // SAFETY: as above.
        BOOLEAN::from(unsafe { set(&mut dispatcher::lock(), timer, due, period, dpc) })
    }

    /// *KeSetCoalescableTimer function (wdm.h)*: as KeSetTimerEx; the tolerance is not made use of.
    pub unsafe extern "win64" fn KeSetCoalescableTimer(
        timer: *mut KTIMER,
        due: i64,
        period: u32,
        _tolerable_delay: u32,
        dpc: *mut KDPC,
    ) -> BOOLEAN {
        let due = Deadline::from_driver(due).0;
        // SAFETY: as above.
        BOOLEAN::from(unsafe { set(&mut dispatcher::lock(), timer, due, period, dpc) })
    }

    /// *KeCancelTimer function (wdm.h)*: TRUE where it was running. A DPC that it has queued already is
    /// queued still.
    pub unsafe extern "win64" fn KeCancelTimer(timer: *mut KTIMER) -> BOOLEAN {
        let _guard = dispatcher::lock();
        // SAFETY: the caller's timer, under the lock.
        BOOLEAN::from(unsafe { remove(timer) })
    }

    /// *KeReadStateTimer function (wdm.h)*: TRUE where it is signalled.
    pub unsafe extern "win64" fn KeReadStateTimer(timer: *mut KTIMER) -> BOOLEAN {
        // SAFETY: the caller's timer.
        BOOLEAN::from(unsafe { (&raw const (*timer).Header.SignalState).read_volatile() } > 0)
    }
}

kernel_test! {
    fn a_timer_queues_its_dpc_and_is_signalled() {
        use super::wait::{self, Wakeup};
        use core::sync::atomic::{AtomicU32, Ordering};
        static FIRED: AtomicU32 = AtomicU32::new(0);
        unsafe extern "win64" fn fired(
            _: *mut KDPC,
            _: *mut core::ffi::c_void,
            _: *mut core::ffi::c_void,
            _: *mut core::ffi::c_void,
        ) {
            FIRED.fetch_add(1, Ordering::Relaxed);
        }
        FIRED.store(0, Ordering::Relaxed);
        let mut timer = UNUSED;
        let mut dpc = dpc::UNUSED;
        let (timer, dpc) = (&raw mut timer, &raw mut dpc);
        // SAFETY: both live until the timer is cancelled and the DPCs are flushed.
        unsafe {
            dpc::initialize(dpc, Some(fired), ptr::null_mut());
            KeInitializeTimer(timer);
            check!(KeSetTimer(timer, -20_000, dpc) == 0);
            check!(wait::for_one(timer.cast(), None) == Wakeup::Object(0));
            dpc::flush_all();
            check!(FIRED.load(Ordering::Relaxed) == 1);

            KeSetTimerEx(timer, -10_000, 2, dpc);
            super::thread::sleep_ns(50_000_000);
            check!(KeCancelTimer(timer) == 1);
            check!(KeCancelTimer(timer) == 0);
            dpc::flush_all();
            let often = FIRED.load(Ordering::Relaxed);
            check!(often >= 4);
            super::thread::sleep_ns(10_000_000);
            check!(FIRED.load(Ordering::Relaxed) == often);

            let mine = |found: &(usize, u64)| found.0 == timer.addr();
            let all = 0..u64::MAX;
            check!(KeSetTimer(timer, -10_000_000, dpc) == 0 && leading_into(&all).iter().any(mine));
            check!(!leading_into(&(0..0x1000)).iter().any(mine));
            check!(KeCancelTimer(timer) == 1 && !leading_into(&all).iter().any(mine));

            check!(KeSetTimer(timer, -10_000_000, ptr::null_mut()) == 0);
            check!(KeSetTimer(timer, -10_000, ptr::null_mut()) == 1);
            check!(wait::for_one(timer.cast(), Some(Deadline::after_ns(900_000_000))) == Wakeup::Object(0));
        }
    }
}
