//! Events.

use alloc::boxed::Box;
use core::cell::UnsafeCell;

use super::wait::{self, Deadline, Wakeup};
use super::{dispatcher, list};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DISPATCHER_HEADER, FALSE, KEVENT, object_type};
use crate::selftest::{check, kernel_test};

/// Fills in a KEVENT that nobody waits for.
///
/// # Safety
/// `event` is writable. Everywhere below: it was initialized, and is alive.
pub unsafe fn initialize(event: *mut KEVENT, kind: u8, signalled: bool) {
    // SAFETY: the caller's.
    unsafe {
        (*event).Header = DISPATCHER_HEADER {
            Type: kind,
            Flags: 0,
            Size: (size_of::<KEVENT>() / 4) as u8,
            Inserted: 0,
            SignalState: i32::from(signalled),
            WaitListHead: list::UNLINKED,
        };
        list::initialize(&raw mut (*event).Header.WaitListHead);
    }
}

/// Signals the event and returns its state before.
///
/// # Safety
/// As above.
pub unsafe fn set(event: *mut KEVENT) -> i32 {
    // SAFETY: the caller's.
    unsafe { set_with(event, 0, FALSE) }
}

/// The same: whoever is let go has its priority raised by `increment`; with `wait` the calling thread waits next.
///
/// # Safety
/// As above.
pub unsafe fn set_with(event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32 {
    let mut guard = dispatcher::lock();
    // SAFETY: the caller's, under the lock.
    let old = unsafe {
        let old = core::mem::replace(&mut (*event).Header.SignalState, 1);
        guard.signalled(&raw mut (*event).Header, increment);
        old
    };
    wait::follows(guard, wait);
    old
}

/// Takes the signal away and returns the state before.
///
/// # Safety
/// As above.
pub unsafe fn reset(event: *mut KEVENT) -> i32 {
    let _guard = dispatcher::lock();
    // SAFETY: the caller's, under the lock.
    unsafe { core::mem::replace(&mut (*event).Header.SignalState, 0) }
}

/// An event of the kernel's own. The KEVENT has a place of its own on the heap, since waiters' lists point
/// into it.
#[derive(Debug)]
pub struct Event(Box<UnsafeCell<KEVENT>>);

// SAFETY: the KEVENT is only touched under the dispatcher's lock.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn new(kind: u8) -> Self {
        let header = DISPATCHER_HEADER {
            Type: kind,
            Flags: 0,
            Size: 0,
            Inserted: 0,
            SignalState: 0,
            WaitListHead: list::UNLINKED,
        };
        let event = Self(Box::new(UnsafeCell::new(KEVENT { Header: header })));
        // SAFETY: just made, and the box keeps it where it is.
        unsafe { initialize(event.0.get(), kind, false) };
        event
    }

    /// An event that stays signalled until it is reset.
    pub fn new_notification() -> Self {
        Self::new(object_type::EVENT_NOTIFICATION)
    }

    /// An event that lets one waiter go and is reset by that.
    pub fn new_synchronization() -> Self {
        Self::new(object_type::EVENT_SYNCHRONIZATION)
    }

    /// Signals it. At DISPATCH_LEVEL or below.
    pub fn set(&self) {
        // SAFETY: alive as long as this.
        unsafe { set(self.0.get()) };
    }

    /// Takes the signal away.
    pub fn reset(&self) {
        // SAFETY: as above.
        unsafe { reset(self.0.get()) };
    }

    /// Waits for it, for `timeout_ns` at most: false where that passed first.
    pub fn wait(&self, timeout_ns: Option<u64>) -> bool {
        // SAFETY: as above; the borrow outlasts the wait.
        unsafe { wait::for_one(self.0.get().cast(), timeout_ns.map(Deadline::after_ns)) != Wakeup::Timeout }
    }

    /// The KEVENT inside, for code that shares it with a driver.
    pub fn as_ptr(&self) -> *mut KEVENT {
        self.0.get()
    }
}

export! {
    /// *KeInitializeEvent function (wdm.h)*: a notification or synchronization event, signalled or not.
    pub unsafe extern "win64" fn KeInitializeEvent(event: *mut KEVENT, kind: u32, state: BOOLEAN) {
        let kind =
            if kind == 0 { object_type::EVENT_NOTIFICATION } else { object_type::EVENT_SYNCHRONIZATION };
        // SAFETY: the caller's storage.
        unsafe { initialize(event, kind, state != 0) };
    }

    /// *KeSetEvent function (wdm.h)*: returns the state before. Whoever is let go has its priority raised by the increment; with `wait`
    /// the caller, who waits next, stays at DISPATCH_LEVEL until then.
    pub unsafe extern "win64" fn KeSetEvent(event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32 {
        // SAFETY: the caller's event.
        unsafe { set_with(event, increment, wait) }
    }

    /// *KeResetEvent function (wdm.h)*: not signalled any more; returns the state before.
    pub unsafe extern "win64" fn KeResetEvent(event: *mut KEVENT) -> i32 {
        // SAFETY: the caller's event.
        unsafe { reset(event) }
    }

    /// *KePulseEvent function (ntddk.h)*: lets those go who wait now, and nobody after them; returns the state before. Increment and wait
    /// as of KeSetEvent.
    pub unsafe extern "win64" fn KePulseEvent(event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32 {
        let mut guard = dispatcher::lock();
        // SAFETY: the caller's event, under the lock.
        let old = unsafe {
            let old = core::mem::replace(&mut (*event).Header.SignalState, 1);
            guard.signalled(&raw mut (*event).Header, increment);
            (*event).Header.SignalState = 0;
            old
        };
        wait::follows(guard, wait);
        old
    }

    /// *KeClearEvent function (wdm.h)*: KeResetEvent without the answer.
    pub unsafe extern "win64" fn KeClearEvent(event: *mut KEVENT) {
        // SAFETY: the caller's event.
        unsafe { reset(event) };
    }

    /// *KeReadStateEvent function (wdm.h)*: not 0 where it is signalled.
    pub unsafe extern "win64" fn KeReadStateEvent(event: *mut KEVENT) -> i32 {
        // SAFETY: the caller's event.
        unsafe { (&raw const (*event).Header.SignalState).read_volatile() }
    }
}

kernel_test! {
    fn a_synchronization_event_lets_one_waiter_go_each_time() {
        use alloc::sync::Arc;
        use core::sync::atomic::{AtomicU32, Ordering};
        let event = Arc::new(Event::new_synchronization());
        let gone = Arc::new(AtomicU32::new(0));
        let waiters: alloc::vec::Vec<_> = (0..3)
            .filter_map(|_| {
                let (event, gone) = (Arc::clone(&event), Arc::clone(&gone));
                super::thread::spawn("waiter", 8, move || {
                    event.wait(None);
                    gone.fetch_add(1, Ordering::Relaxed);
                })
                .ok()
            })
            .collect();
        check!(waiters.len() == 3);
        for expected in 1..=3 {
            check!(gone.load(Ordering::Relaxed) == expected - 1);
            event.set();
            // As long as the host takes, but not for ever.
            let mut patience = 5000;
            while gone.load(Ordering::Relaxed) < expected && patience > 0 {
                super::thread::sleep_ns(1_000_000);
                patience -= 1;
            }
            super::thread::sleep_ns(5_000_000);
            check!(gone.load(Ordering::Relaxed) == expected);
        }
        check!(waiters.iter().all(|waiter| waiter.join(Some(1_000_000_000))));
        check!(!event.wait(Some(0)));
    }

    fn a_notification_event_stays_until_it_is_reset() {
        let event = Event::new_notification();
        check!(!event.wait(Some(0)));
        event.set();
        check!(event.wait(Some(0)) && event.wait(None));
        event.reset();
        check!(!event.wait(Some(1_000_000)));
    }
}
