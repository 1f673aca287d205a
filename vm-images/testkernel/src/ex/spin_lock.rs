//! Reader/writer spin locks: many readers, or one writer.
//!
//! One 32-bit word: the top bit is the writer's, the rest counts readers. A writer that waits takes its bit
//! first, so that no new readers come, and then lets those that are in leave.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::ke::irql::{self, Irql};
use crate::ldr::export::export;
use crate::nt::KIRQL;
use crate::selftest::{check, kernel_test};

const WRITER: u32 = 1 << 31;

/// # Safety
/// Everywhere below: `lock` is a live EX_SPIN_LOCK.
unsafe fn word<'a>(lock: *mut u32) -> &'a AtomicU32 {
    // SAFETY: the caller's; it only changes atomically.
    unsafe { AtomicU32::from_ptr(lock) }
}

fn read(word: &AtomicU32) {
    let free = |value: u32| (value & WRITER == 0).then_some(value + 1);
    while word.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).is_err() {
        core::hint::spin_loop();
    }
}

fn write(word: &AtomicU32) {
    while word.fetch_or(WRITER, Ordering::Acquire) & WRITER != 0 {
        core::hint::spin_loop();
    }
    while word.load(Ordering::Acquire) != WRITER {
        core::hint::spin_loop();
    }
}

export! {
    /// *ExAcquireSpinLockShared function (wdm.h)*: at DISPATCH_LEVEL; returns the IRQL before.
    pub unsafe extern "win64" fn ExAcquireSpinLockShared(lock: *mut u32) -> KIRQL {
        let old = irql::raise(Irql::DISPATCH);
        // SAFETY: the caller's lock.
        read(unsafe { word(lock) });
        old.0
    }

    /// *ExAcquireSpinLockSharedAtDpcLevel function (wdm.h)*.
    pub unsafe extern "win64" fn ExAcquireSpinLockSharedAtDpcLevel(lock: *mut u32) {
        // SAFETY: the caller's lock.
        read(unsafe { word(lock) });
    }

    /// *ExReleaseSpinLockShared function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseSpinLockShared(lock: *mut u32, old: KIRQL) {
        // SAFETY: the caller's lock.
        unsafe { word(lock) }.fetch_sub(1, Ordering::Release);
        irql::lower(Irql(old));
    }

    /// *ExReleaseSpinLockSharedFromDpcLevel function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseSpinLockSharedFromDpcLevel(lock: *mut u32) {
        // SAFETY: the caller's lock.
        unsafe { word(lock) }.fetch_sub(1, Ordering::Release);
    }

    /// *ExAcquireSpinLockExclusive function (wdm.h)*: at DISPATCH_LEVEL; returns the IRQL before.
    pub unsafe extern "win64" fn ExAcquireSpinLockExclusive(lock: *mut u32) -> KIRQL {
        let old = irql::raise(Irql::DISPATCH);
        // SAFETY: the caller's lock.
        write(unsafe { word(lock) });
        old.0
    }

    /// *ExAcquireSpinLockExclusiveAtDpcLevel function (wdm.h)*.
    pub unsafe extern "win64" fn ExAcquireSpinLockExclusiveAtDpcLevel(lock: *mut u32) {
        // SAFETY: the caller's lock.
        write(unsafe { word(lock) });
    }

    /// *ExReleaseSpinLockExclusive function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseSpinLockExclusive(lock: *mut u32, old: KIRQL) {
        // SAFETY: the caller's lock.
        unsafe { word(lock) }.fetch_and(!WRITER, Ordering::Release);
        irql::lower(Irql(old));
    }

    /// *ExReleaseSpinLockExclusiveFromDpcLevel function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseSpinLockExclusiveFromDpcLevel(lock: *mut u32) {
        // SAFETY: the caller's lock.
        unsafe { word(lock) }.fetch_and(!WRITER, Ordering::Release);
    }

    /// *ExTryAcquireSpinLockSharedAtDpcLevel function (wdm.h)*: 1 where no writer has it or waits for it.
    pub unsafe extern "win64" fn ExTryAcquireSpinLockSharedAtDpcLevel(lock: *mut u32) -> u32 {
        let free = |value: u32| (value & WRITER == 0).then_some(value + 1);
        // SAFETY: the caller's lock.
        unsafe { word(lock) }.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).is_ok().into()
    }

    /// *ExTryAcquireSpinLockExclusiveAtDpcLevel function (wdm.h)*: 1 where nobody has it.
    pub unsafe extern "win64" fn ExTryAcquireSpinLockExclusiveAtDpcLevel(lock: *mut u32) -> u32 {
        // SAFETY: the caller's lock.
        unsafe { word(lock) }.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok().into()
    }

    /// *ExTryConvertSharedSpinLockExclusive function (wdm.h)*: 1 where the caller was the only reader.
    pub unsafe extern "win64" fn ExTryConvertSharedSpinLockExclusive(lock: *mut u32) -> i32 {
        // SAFETY: the caller's lock.
        let word = unsafe { word(lock) };
        word.compare_exchange(1, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok().into()
    }
}

kernel_test! {
    /// *ExTryConvertSharedSpinLockExclusive function (wdm.h)*: only the only reader becomes the writer.
    fn readers_share_and_the_only_one_may_write() {
        let mut lock = 0;
        let lock = &raw mut lock;
        // SAFETY: the lock lives until the end of the test.
        unsafe {
            let old = ExAcquireSpinLockShared(lock);
            let level = irql::current();
            ExAcquireSpinLockSharedAtDpcLevel(lock);
            let two = ExTryConvertSharedSpinLockExclusive(lock);
            ExReleaseSpinLockSharedFromDpcLevel(lock);
            let one = ExTryConvertSharedSpinLockExclusive(lock);
            ExReleaseSpinLockExclusive(lock, old);
            check!(level == Irql::DISPATCH && two == 0 && one == 1 && *lock == 0);
            let old = irql::raise(Irql::DISPATCH);
            let shared = [(); 2].map(|()| ExTryAcquireSpinLockSharedAtDpcLevel(lock));
            let refused = ExTryAcquireSpinLockExclusiveAtDpcLevel(lock);
            shared.iter().for_each(|_| ExReleaseSpinLockSharedFromDpcLevel(lock));
            let exclusive = ExTryAcquireSpinLockExclusiveAtDpcLevel(lock);
            let locked_out = ExTryAcquireSpinLockSharedAtDpcLevel(lock);
            ExReleaseSpinLockExclusiveFromDpcLevel(lock);
            irql::lower(old);
            check!(shared == [1, 1] && refused == 0 && exclusive == 1 && locked_out == 0 && *lock == 0);
        }
    }

    /// *ExAcquireSpinLockExclusive function (wdm.h)*: the writer is alone.
    fn writers_on_every_processor_do_not_overlap() {
        use crate::ke::{processor, thread};
        use alloc::sync::Arc;
        let shared = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let writers: alloc::vec::Vec<_> = (0..processor::count())
            .filter_map(|number| {
                let shared = Arc::clone(&shared);
                let write_often = move || {
                    thread::set_affinity(1 << number);
                    for _ in 0..500 {
                        // SAFETY: the lock lives as long as the last writer.
                        unsafe {
                            let old = ExAcquireSpinLockExclusive(shared.0.as_ptr());
                            // Not atomic as a whole: two at once would lose one.
                            let value = shared.1.load(Ordering::Relaxed);
                            core::hint::spin_loop();
                            shared.1.store(value + 1, Ordering::Relaxed);
                            ExReleaseSpinLockExclusive(shared.0.as_ptr(), old);
                        }
                    }
                };
                thread::spawn("writer", 8, write_often).ok()
            })
            .collect();
        check!(writers.iter().all(|writer| writer.join(Some(20_000_000_000))));
        check!(shared.1.load(Ordering::Relaxed) as usize == 500 * processor::count());
    }
}
