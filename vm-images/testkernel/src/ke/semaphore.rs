//! Semaphores.

use super::bugcheck::raise;
use super::{dispatcher, list};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DISPATCHER_HEADER, KSEMAPHORE, object_type};

/// `STATUS_SEMAPHORE_LIMIT_EXCEEDED`.
const LIMIT_EXCEEDED: u32 = 0xC000_0047;

export! {
    /// *KeInitializeSemaphore function (wdm.h)*: `count` to begin with, never more than `limit`.
    pub unsafe extern "win64" fn KeInitializeSemaphore(semaphore: *mut KSEMAPHORE, count: i32, limit: i32) {
        // SAFETY: the caller's storage.
        unsafe {
            (*semaphore).Header = DISPATCHER_HEADER {
                Type: object_type::SEMAPHORE,
                Flags: 0,
                Size: (size_of::<KSEMAPHORE>() / 4) as u8,
                Inserted: 0,
                SignalState: count,
                WaitListHead: list::UNLINKED,
            };
            list::initialize(&raw mut (*semaphore).Header.WaitListHead);
            (*semaphore).Limit = limit;
        }
    }

    /// *KeReleaseSemaphore function (wdm.h)*: adds to the count and returns the one before; above the limit
    /// it raises STATUS_SEMAPHORE_LIMIT_EXCEEDED, which nobody handles.
    pub unsafe extern "win64" fn KeReleaseSemaphore(
        semaphore: *mut KSEMAPHORE,
        _increment: i32,
        adjustment: i32,
        _wait: BOOLEAN,
    ) -> i32 {
        let mut guard = dispatcher::lock();
        // SAFETY: the caller's semaphore, under the lock.
        unsafe {
            let old = (*semaphore).Header.SignalState;
            match old.checked_add(adjustment).filter(|&new| adjustment >= 0 && new <= (*semaphore).Limit) {
                Some(new) => (*semaphore).Header.SignalState = new,
                None => raise(LIMIT_EXCEEDED),
            }
            guard.signalled(&raw mut (*semaphore).Header);
            old
        }
    }

    /// *KeReadStateSemaphore function (wdm.h)*: the count.
    pub unsafe extern "win64" fn KeReadStateSemaphore(semaphore: *mut KSEMAPHORE) -> i32 {
        // SAFETY: the caller's semaphore.
        unsafe { (&raw const (*semaphore).Header.SignalState).read_volatile() }
    }
}
