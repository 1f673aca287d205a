//! Remove locks of verified drivers: who acquired one, under which tag, releases it under that tag, and one is made once.
//!
//! A tag says for what the lock is held. Windows keeps tags only in locks of a checked build; for a verified driver the Verifier
//! keeps them beside the lock, as here. A lock that nobody verified has initialized is not looked at.
//!
//! Source: *I/O Verification*, and *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0xD5 to 0xD7. The Verifier's own
//! lock, 0xD7's second parameter, is here the driver's.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::stops::stop;
use super::thunk::intercept;
use crate::io::remove_lock;
use crate::ke::lock::SpinLock;
use crate::nt::{IO_REMOVE_LOCK, NTSTATUS, PVOID};
use crate::selftest::{check, kernel_test};

/// The tags that each lock is held under, by its address; the last acquired last.
static LOCKS: SpinLock<BTreeMap<usize, Vec<usize>>> = SpinLock::new(BTreeMap::new());

/// Memory went, and what locks there were in it.
pub fn forget(range: &Range<usize>) {
    let gone: Vec<_> = {
        let mut locks = LOCKS.lock();
        let addresses: Vec<usize> = locks.range(range.clone()).map(|(address, _)| *address).collect();
        addresses.iter().filter_map(|address| locks.remove(address)).collect()
    };
    drop(gone);
}

/// Gives a tag up; false, with the tag that was acquired last, where the lock is not held under it. A lock that is not known is held.
fn give_up(lock: usize, tag: usize) -> Result<(), usize> {
    let mut locks = LOCKS.lock();
    let Some(tags) = locks.get_mut(&lock) else { return Ok(()) };
    match tags.iter().rposition(|&held| held == tag) {
        Some(index) => {
            tags.swap_remove(index);
            Ok(())
        }
        None => Err(tags.last().copied().unwrap_or(0)),
    }
}

fn violation(what: u64, parameters: [usize; 3]) -> ! {
    let [second, third, fourth] = parameters.map(|parameter| parameter as u64);
    stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [what, second, third, fourth])
}

intercept! {
    for Io;

    /// 0xD7: threads may still be about to ask for a lock that was waited for.
    before fn IoInitializeRemoveLockEx(site; lock: *mut IO_REMOVE_LOCK) {
        let known = LOCKS.lock().insert(lock.addr(), Vec::new());
        if known.is_some() {
            violation(0xD7, [lock.addr(), lock.addr(), 0]);
        }
        None
    }

    /// The tag is noted.
    around fn IoAcquireRemoveLockEx(
        site;
        lock: *mut IO_REMOVE_LOCK,
        tag: PVOID,
        file: *const u8,
        line: u32,
        size: u32,
    ) -> NTSTATUS {
        // SAFETY: the driver's arguments.
        let status = unsafe { (site.next)(lock, tag, file, line, size) };
        if status.is_success()
            && let Some(tags) = LOCKS.lock().get_mut(&lock.addr())
        {
            tags.push(tag.addr());
        }
        status
    }

    /// 0xD5.
    before fn IoReleaseRemoveLockEx(site; lock: *mut IO_REMOVE_LOCK, tag: PVOID) {
        if give_up(lock.addr(), tag.addr()).is_err() {
            violation(0xD5, [lock.addr(), tag.addr(), 0]);
        }
        None
    }

    /// 0xD6.
    before fn IoReleaseRemoveLockAndWaitEx(site; lock: *mut IO_REMOVE_LOCK, tag: PVOID) {
        if let Err(last) = give_up(lock.addr(), tag.addr()) {
            violation(0xD6, [lock.addr(), tag.addr(), last]);
        }
        None
    }
}

kernel_test! {
    /// Values 0xD5 to 0xD7, and that a lock used as documented passes, under one tag twice too.
    fn a_remove_lock_is_released_under_the_tag_it_was_acquired_under() {
        use super::rehearsal::{Driver, import, stop_of};
        use core::cell::UnsafeCell;
        use core::mem::MaybeUninit;
        use remove_lock::{
            IoAcquireRemoveLockEx, IoInitializeRemoveLockEx, IoReleaseRemoveLockAndWaitEx, IoReleaseRemoveLockEx,
        };

        struct Shared(UnsafeCell<MaybeUninit<IO_REMOVE_LOCK>>);
        // SAFETY: used by one scene at a time.
        unsafe impl Sync for Shared {}
        static LOCK: Shared = Shared(UnsafeCell::new(MaybeUninit::uninit()));
        fn lock() -> *mut IO_REMOVE_LOCK {
            LOCK.0.get().cast()
        }
        fn tag(number: usize) -> PVOID {
            core::ptr::without_provenance_mut(number)
        }
        fn initialize(driver: Driver) {
            let initialize = import!(driver, IoInitializeRemoveLockEx: fn(*mut IO_REMOVE_LOCK, u32, u32, u32, u32));
            // SAFETY: the lock is the test's.
            unsafe { initialize(lock(), 0, 0, 0, 0x20) };
        }
        fn acquire(driver: Driver, number: usize) {
            let acquire = import!(driver, IoAcquireRemoveLockEx: fn(*mut IO_REMOVE_LOCK, PVOID, *const u8, u32, u32) -> NTSTATUS);
            // SAFETY: as above.
            let _ = unsafe { acquire(lock(), tag(number), core::ptr::null(), 0, 0x20) };
        }
        fn release(driver: Driver, number: usize) {
            let release = import!(driver, IoReleaseRemoveLockEx: fn(*mut IO_REMOVE_LOCK, PVOID, u32));
            // SAFETY: as above.
            unsafe { release(lock(), tag(number), 0x20) };
        }
        fn wait(driver: Driver, number: usize) {
            let wait = import!(driver, IoReleaseRemoveLockAndWaitEx: fn(*mut IO_REMOVE_LOCK, PVOID, u32));
            // SAFETY: as above.
            unsafe { wait(lock(), tag(number), 0x20) };
        }
        let address = lock().addr();
        let io = super::classes::Class::Io as u32;
        let said = |scene: fn(Driver)| {
            forget(&(address..address + 1));
            stop_of(io, scene).map(|(_, [what, lock, third, fourth])| (what, lock == address as u64, third, fourth))
        };
        check!(said(|driver| {
            initialize(driver);
            for number in [5, 0, 5, 7] {
                acquire(driver, number);
            }
            for number in [5, 5, 0] {
                release(driver, number);
            }
            wait(driver, 7);
        }).is_none());
        check!(said(|driver| {
            initialize(driver);
            acquire(driver, 5);
            release(driver, 6);
        }) == Some((0xD5, true, 6, 0)));
        check!(said(|driver| {
            initialize(driver);
            acquire(driver, 5);
            wait(driver, 6);
        }) == Some((0xD6, true, 6, 5)));
        check!(said(|driver| {
            initialize(driver);
            acquire(driver, 5);
            wait(driver, 5);
            initialize(driver);
        }) == Some((0xD7, true, address as u64, 0)));
        forget(&(address..address + 1));
    }
}
