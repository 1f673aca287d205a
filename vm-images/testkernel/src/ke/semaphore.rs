//! Semaphores.

use super::{dispatcher, list, wait};
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::ldr::raising::may_raise;
use crate::nt::{BOOLEAN, DISPATCHER_HEADER, KSEMAPHORE, NTSTATUS, object_type};

/// `STATUS_SEMAPHORE_LIMIT_EXCEEDED`.
const LIMIT_EXCEEDED: NTSTATUS = NTSTATUS::from_bits(0xC000_0047);

/// # Safety
/// The call must be one of KeReleaseSemaphore's.
unsafe extern "win64" fn release(call: &Call<4>, raised: &mut NTSTATUS) -> i32 {
    let [semaphore, increment, adjustment, wait] = call.arguments;
    let semaphore = core::ptr::with_exposed_provenance_mut::<KSEMAPHORE>(semaphore);
    let adjustment = adjustment as i32;
    let mut guard = dispatcher::lock();
    // SAFETY: the caller's semaphore, under the lock.
    let old = unsafe {
        let old = (*semaphore).Header.SignalState;
        match old.checked_add(adjustment).filter(|&new| adjustment >= 0 && new <= (*semaphore).Limit) {
            Some(new) => (*semaphore).Header.SignalState = new,
            None => {
                *raised = LIMIT_EXCEEDED;
                return old;
            }
        }
        guard.signalled(&raw mut (*semaphore).Header, increment as i32);
        old
    };
    wait::follows(guard, wait as BOOLEAN);
    old
}

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
    /// it raises STATUS_SEMAPHORE_LIMIT_EXCEEDED. Increment and wait as of KeSetEvent.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn KeReleaseSemaphore(
        semaphore: *mut KSEMAPHORE,
        increment: i32,
        adjustment: i32,
        wait: BOOLEAN,
    ) -> i32 {
        may_raise!(release)
    }

    /// *KeReadStateSemaphore function (wdm.h)*: the count.
    pub unsafe extern "win64" fn KeReadStateSemaphore(semaphore: *mut KSEMAPHORE) -> i32 {
        // SAFETY: the caller's semaphore.
        unsafe { (&raw const (*semaphore).Header.SignalState).read_volatile() }
    }
}
