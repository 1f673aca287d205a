//! Push locks: one word, shared or exclusive, for threads. They cannot be acquired twice.
//!
//! The word counts those that share it above four bits of flags. Who has to wait is written down beside, under
//! one lock for all push locks, and is given the lock by whoever releases it, in the order of coming.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ptr;

use crate::ke::lock::SpinLock;
use crate::ke::{event, wait};
use crate::ldr::export::export;
use crate::nt::{KEVENT, object_type};
use crate::selftest::{check, kernel_test};

const EXCLUSIVE: usize = 1;
const ONE_SHARE: usize = 16;

struct Waiter {
    lock: usize,
    exclusive: bool,
    granted: *mut KEVENT,
}

struct Waiters(VecDeque<Waiter>);

// SAFETY: the events are on the stacks of threads that wait, and belong to no processor.
unsafe impl Send for Waiters {}

static WAITERS: SpinLock<Waiters> = SpinLock::new(Waiters(VecDeque::new()));

fn taken(value: usize, exclusive: bool) -> Option<usize> {
    match (value, exclusive) {
        (0, true) => Some(EXCLUSIVE),
        (EXCLUSIVE, false) | (1.., true) => None,
        (shares, false) => Some(shares + ONE_SHARE),
    }
}

/// # Safety
/// Everywhere below: `lock` is a live, initialized EX_PUSH_LOCK, which changes only under [`WAITERS`].
unsafe fn acquire(lock: *mut usize, exclusive: bool) {
    let mut granted = core::mem::MaybeUninit::<KEVENT>::uninit();
    let granted = granted.as_mut_ptr();
    {
        let mut waiters = WAITERS.lock();
        let contended = waiters.0.iter().any(|waiter| waiter.lock == lock.addr());
        // SAFETY: the caller's; the event is on this stack until somebody has set it.
        unsafe {
            if !contended && let Some(value) = taken(*lock, exclusive) {
                *lock = value;
                return;
            }
            event::initialize(granted, object_type::EVENT_SYNCHRONIZATION, false);
        }
        waiters.0.push_back(Waiter { lock: lock.addr(), exclusive, granted });
    }
    // SAFETY: as above.
    unsafe { wait::for_one(granted.cast(), None) };
}

/// # Safety
/// As above; the caller has the lock.
unsafe fn release(lock: *mut usize, exclusive: bool) {
    let mut granted = Vec::new();
    {
        let mut waiters = WAITERS.lock();
        // SAFETY: the caller's.
        unsafe {
            *lock = if exclusive { 0 } else { (*lock).saturating_sub(ONE_SHARE) };
            while let Some(index) = waiters.0.iter().position(|waiter| waiter.lock == lock.addr()) {
                let Some(value) = taken(*lock, waiters.0[index].exclusive) else { break };
                *lock = value;
                granted.extend(waiters.0.remove(index).map(|waiter| waiter.granted));
            }
        }
    }
    for event in granted {
        // SAFETY: whoever waits keeps its event until it is set.
        unsafe { event::set(event) };
    }
}

export! {
    /// *ExInitializePushLock function (wdm.h)*: free.
    pub unsafe extern "win64" fn ExInitializePushLock(lock: *mut usize) {
        // SAFETY: the caller's storage.
        unsafe { ptr::write(lock, 0) };
    }

    /// *ExAcquirePushLockExclusiveEx*, what *ExAcquirePushLockExclusive (wdm.h)* is: in a critical region.
    pub unsafe extern "win64" fn ExAcquirePushLockExclusiveEx(lock: *mut usize, _flags: u32) {
        // SAFETY: the caller's lock.
        unsafe { acquire(lock, true) };
    }

    /// *ExAcquirePushLockSharedEx*, what *ExAcquirePushLockShared (wdm.h)* is: in a critical region.
    pub unsafe extern "win64" fn ExAcquirePushLockSharedEx(lock: *mut usize, _flags: u32) {
        // SAFETY: the caller's lock.
        unsafe { acquire(lock, false) };
    }

    /// *ExReleasePushLockExclusiveEx*, what *ExReleasePushLockExclusive (wdm.h)* is.
    pub unsafe extern "win64" fn ExReleasePushLockExclusiveEx(lock: *mut usize, _flags: u32) {
        // SAFETY: the caller's lock.
        unsafe { release(lock, true) };
    }

    /// *ExReleasePushLockSharedEx*, what *ExReleasePushLockShared (wdm.h)* is.
    pub unsafe extern "win64" fn ExReleasePushLockSharedEx(lock: *mut usize, _flags: u32) {
        // SAFETY: the caller's lock.
        unsafe { release(lock, false) };
    }
}

kernel_test! {
    /// *ExAcquirePushLockExclusive macro (wdm.h)*: exclusive access begins when the last share is released.
    fn a_push_lock_is_shared_or_exclusive() {
        use crate::ke::thread;
        let mut lock = usize::MAX;
        let lock = &raw mut lock;
        let address = lock.expose_provenance();
        // SAFETY: the lock lives until the thread has ended.
        unsafe {
            ExInitializePushLock(lock);
            ExAcquirePushLockSharedEx(lock, 0);
            ExAcquirePushLockSharedEx(lock, 0);
            let writer = thread::spawn("writer", 10, move || {
                let lock = ptr::with_exposed_provenance_mut(address);
                ExAcquirePushLockExclusiveEx(lock, 0);
                ExReleasePushLockExclusiveEx(lock, 0);
            });
            let writer_waits = writer.as_ref().is_ok_and(|writer| !writer.join(Some(5_000_000)));
            ExReleasePushLockSharedEx(lock, 0);
            let still = writer.as_ref().is_ok_and(|writer| !writer.join(Some(5_000_000)));
            ExReleasePushLockSharedEx(lock, 0);
            let done = writer.is_ok_and(|writer| writer.join(Some(5_000_000_000)));
            check!(writer_waits && still && done && *lock == 0);
        }
    }
}
