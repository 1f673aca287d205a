//! Run-down protection: use of an object that may be about to go.
//!
//! Who uses the object acquires protection first, at any IRQL up to DISPATCH_LEVEL, and is refused once the
//! run-down has begun; who takes the object away waits for those that were let in. The reference is one word:
//! bit 0 says that the run-down has begun, and above it is the count or, while somebody waits, where the rest
//! of the count is.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use squall_testkernel_pure::pool::Terms;

use super::pool;
use crate::ke::event::Event;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, TRUE};
use crate::selftest::{check, kernel_test};

/// The run-down has begun.
const BEGUN: usize = 1;
/// One user.
const ONE: usize = 2;

/// Who waits for the last user to go.
struct Waiter {
    left: AtomicUsize,
    gone: Event,
}

/// # Safety
/// Everywhere below: `reference` is a live, initialized EX_RUNDOWN_REF.
unsafe fn word<'a>(reference: *mut usize) -> &'a AtomicUsize {
    // SAFETY: the caller's; it only changes atomically.
    unsafe { AtomicUsize::from_ptr(reference) }
}

/// # Safety
/// As above.
unsafe fn acquire(reference: *mut usize, count: u32) -> bool {
    // SAFETY: the caller's.
    unsafe { word(reference) }
        .fetch_update(Ordering::Acquire, Ordering::Relaxed, |value| {
            (value & BEGUN == 0).then(|| value + ONE * count as usize)
        })
        .is_ok()
}

/// # Safety
/// As above; the caller has that much protection.
unsafe fn release(reference: *mut usize, count: u32) {
    // SAFETY: the caller's.
    let before = unsafe { word(reference) }.fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| {
        (value & BEGUN == 0).then(|| value.wrapping_sub(ONE * count as usize))
    });
    let Err(value) = before else { return };
    // SAFETY: whoever waits does so until all that were let in have come by here.
    let waiter = unsafe { &*core::ptr::with_exposed_provenance::<Waiter>(value & !BEGUN) };
    if waiter.left.fetch_sub(count as usize, Ordering::AcqRel) == count as usize {
        waiter.gone.set();
    }
}

/// # Safety
/// As above.
unsafe fn wait(reference: *mut usize) {
    // SAFETY: the caller's.
    let word = unsafe { word(reference) };
    let waiter = Waiter { left: AtomicUsize::new(0), gone: Event::new_notification() };
    let address = (&raw const waiter).expose_provenance();
    let mut value = word.load(Ordering::Acquire);
    loop {
        if value & BEGUN != 0 {
            return;
        }
        waiter.left.store(value / ONE, Ordering::Relaxed);
        let next = if value == 0 { BEGUN } else { address | BEGUN };
        match word.compare_exchange_weak(value, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(now) => value = now,
        }
    }
    if value != 0 {
        waiter.gone.wait(None);
        word.store(BEGUN, Ordering::Release);
    }
}

export! {
    /// *ExInitializeRundownProtection function (wdm.h)*.
    pub unsafe extern "win64" fn ExInitializeRundownProtection(reference: *mut usize) {
        // SAFETY: the caller's storage.
        unsafe { reference.write(0) };
    }

    /// *ExReInitializeRundownProtection function (wdm.h)*: after the run-down, for another life.
    pub unsafe extern "win64" fn ExReInitializeRundownProtection(reference: *mut usize) {
        // SAFETY: the caller's reference.
        unsafe { word(reference) }.store(0, Ordering::Release);
    }

    /// *ExAcquireRundownProtection function (wdm.h)*: FALSE once the run-down has begun.
    pub unsafe extern "win64" fn ExAcquireRundownProtection(reference: *mut usize) -> BOOLEAN {
        // SAFETY: the caller's reference.
        unsafe { acquire(reference, 1) }.into()
    }

    /// *ExAcquireRundownProtectionEx function (wdm.h)*: several at once.
    pub unsafe extern "win64" fn ExAcquireRundownProtectionEx(reference: *mut usize, count: u32) -> BOOLEAN {
        // SAFETY: the caller's reference.
        unsafe { acquire(reference, count) }.into()
    }

    /// *ExReleaseRundownProtection function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseRundownProtection(reference: *mut usize) {
        // SAFETY: the caller's reference and protection.
        unsafe { release(reference, 1) };
    }

    /// *ExReleaseRundownProtectionEx function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseRundownProtectionEx(reference: *mut usize, count: u32) {
        // SAFETY: the caller's reference and protection.
        unsafe { release(reference, count) };
    }

    /// *ExRundownCompleted function (wdm.h)*: nobody is let in from now on.
    pub unsafe extern "win64" fn ExRundownCompleted(reference: *mut usize) {
        // SAFETY: the caller's reference, waited for before.
        unsafe { word(reference) }.store(BEGUN, Ordering::Release);
    }

    /// *ExWaitForRundownProtectionRelease function (wdm.h)*: nobody is let in any more, and those that were
    /// are gone when this returns.
    pub unsafe extern "win64" fn ExWaitForRundownProtectionRelease(reference: *mut usize) {
        // SAFETY: the caller's reference.
        unsafe { wait(reference) };
    }
}

/// `EX_RUNDOWN_REF_CACHE_AWARE`: opaque to drivers. Windows keeps a count for each processor, so that they do not take a line of memory
/// from each other; what a driver can tell is the same with one count for all, on a line of its own.
const CACHE_AWARE_BYTES: usize = 64;

unsafe extern "win64" fn allocate(kind: u32, tag: u32, caller: usize) -> *mut usize {
    /// `PagedPool`, and what other kinds have in common with it.
    const PAGED: u32 = 1;
    let terms = Terms {
        size: CACHE_AWARE_BYTES,
        tag,
        paged: kind & PAGED != 0,
        cache_aligned: true,
        caller,
        ..Terms::default()
    };
    pool::allocate(terms, true).map_or(core::ptr::null_mut(), |block| block.as_ptr().cast())
}

export! {
    /// *ExAllocateCacheAwareRundownProtection function (wdm.h)*: null where there is no memory.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocateCacheAwareRundownProtection(kind: u32, tag: u32) -> *mut usize {
        naked_asm!("mov r8, [rsp]", "jmp {}", sym allocate)
    }

    /// *ExFreeCacheAwareRundownProtection function (wdm.h)*.
    pub unsafe extern "win64" fn ExFreeCacheAwareRundownProtection(reference: *mut usize) {
        pool::free(reference.addr(), 0);
    }

    /// *ExSizeOfRundownProtectionCacheAware function (wdm.h)*: bytes of memory of the driver's own that will do.
    pub unsafe extern "win64" fn ExSizeOfRundownProtectionCacheAware() -> usize {
        CACHE_AWARE_BYTES
    }

    /// *ExInitializeRundownProtectionCacheAware function (wdm.h)*: in memory of that size.
    pub unsafe extern "win64" fn ExInitializeRundownProtectionCacheAware(reference: *mut usize, _size: usize) {
        // SAFETY: the caller's storage.
        unsafe { reference.write(0) };
    }

    /// *ExReInitializeRundownProtectionCacheAware function (wdm.h)*: after the run-down, for another life.
    pub unsafe extern "win64" fn ExReInitializeRundownProtectionCacheAware(reference: *mut usize) {
        // SAFETY: the caller's reference.
        unsafe { word(reference) }.store(0, Ordering::Release);
    }

    /// *ExAcquireRundownProtectionCacheAware function (wdm.h)*: FALSE once the run-down has begun.
    pub unsafe extern "win64" fn ExAcquireRundownProtectionCacheAware(reference: *mut usize) -> BOOLEAN {
        // SAFETY: the caller's reference.
        unsafe { acquire(reference, 1) }.into()
    }

    /// *ExAcquireRundownProtectionCacheAwareEx function (wdm.h)*: several at once.
    pub unsafe extern "win64" fn ExAcquireRundownProtectionCacheAwareEx(reference: *mut usize, count: u32) -> BOOLEAN {
        // SAFETY: the caller's reference.
        unsafe { acquire(reference, count) }.into()
    }

    /// *ExReleaseRundownProtectionCacheAware function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseRundownProtectionCacheAware(reference: *mut usize) {
        // SAFETY: the caller's reference and protection.
        unsafe { release(reference, 1) };
    }

    /// *ExReleaseRundownProtectionCacheAwareEx function (wdm.h)*.
    pub unsafe extern "win64" fn ExReleaseRundownProtectionCacheAwareEx(reference: *mut usize, count: u32) {
        // SAFETY: the caller's reference and protection.
        unsafe { release(reference, count) };
    }

    /// *ExRundownCompletedCacheAware function (wdm.h)*: nobody is let in from now on.
    pub unsafe extern "win64" fn ExRundownCompletedCacheAware(reference: *mut usize) {
        // SAFETY: the caller's reference, waited for before.
        unsafe { word(reference) }.store(BEGUN, Ordering::Release);
    }

    /// *ExWaitForRundownProtectionReleaseCacheAware function (wdm.h)*: as ExWaitForRundownProtectionRelease.
    pub unsafe extern "win64" fn ExWaitForRundownProtectionReleaseCacheAware(reference: *mut usize) {
        // SAFETY: the caller's reference.
        unsafe { wait(reference) };
    }
}

kernel_test! {
    /// *Run-Down Protection*: after the run-down has begun nobody is let in, and it waits for those that were.
    fn a_run_down_waits_for_whoever_was_let_in() {
        use crate::ke::thread;
        use alloc::sync::Arc;
        let reference = Arc::new(AtomicUsize::new(0));
        let address = reference.as_ptr();
        // SAFETY: the reference outlives every thread that uses it.
        unsafe {
            ExInitializeRundownProtection(address);
            check!(ExAcquireRundownProtection(address) == TRUE);
            check!(ExAcquireRundownProtectionEx(address, 2) == TRUE);
            ExReleaseRundownProtectionEx(address, 2);
            let other = Arc::clone(&reference);
            let waiter =
                thread::spawn("rundown", 10, move || ExWaitForRundownProtectionRelease(other.as_ptr()));
            check!(waiter.is_ok());
            while reference.load(Ordering::Acquire) & BEGUN == 0 {
                thread::sleep_ns(100_000);
            }
            check!(ExAcquireRundownProtection(address) == FALSE);
            check!(waiter.as_ref().is_ok_and(|waiter| !waiter.join(Some(5_000_000))));
            ExReleaseRundownProtection(address);
            check!(waiter.is_ok_and(|waiter| waiter.join(Some(5_000_000_000))));
            check!(ExAcquireRundownProtection(address) == FALSE);
            ExWaitForRundownProtectionRelease(address);
            ExReInitializeRundownProtection(address);
            check!(ExAcquireRundownProtection(address) == TRUE);
            ExReleaseRundownProtection(address);
            ExWaitForRundownProtectionRelease(address);
        }
    }
}
