//! Events.

use alloc::boxed::Box;
use core::cell::UnsafeCell;

use super::wait::{self, Deadline, Wakeup};
use super::{dispatcher, list};
use crate::nt::{DISPATCHER_HEADER, KEVENT, object_type};

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
    let mut guard = dispatcher::lock();
    // SAFETY: the caller's, under the lock.
    unsafe {
        let old = core::mem::replace(&mut (*event).Header.SignalState, 1);
        guard.signalled(&raw mut (*event).Header);
        old
    }
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

/// An event of the kernel's own. The KEVENT has a place of its own on the heap, since waiters' lists point into it.
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
