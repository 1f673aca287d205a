//! Data shared between DPCs on several processors and threads.

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
};

use wdk_sys::{
    KIRQL, KSPIN_LOCK,
    ntddk::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock},
};

/// A value behind a kernel spin lock. Holding it raises to DISPATCH_LEVEL, where no thread switch and no DPC gets in.
///
/// Not for an ISR: that runs above DISPATCH_LEVEL, and would wait for what it interrupted.
pub(crate) struct SpinLock<T> {
    raw: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one processor at a time at the value, so the value only moves between them.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An open lock. (x64's `KeInitializeSpinLock` is an inline that stores zero.)
    pub(crate) const fn new(value: T) -> Self {
        Self { raw: UnsafeCell::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock. At DISPATCH_LEVEL or below.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // SAFETY: the lock is initialized and lives in non-paged memory, as `self` is part of the device extension.
        let before = unsafe { KeAcquireSpinLockRaiseToDpc(self.raw.get()) };
        Guard { lock: self, before }
    }
}

/// The right to the value, until dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    /// The IRQL to go back to.
    before: KIRQL,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and this borrow of the guard is the only one.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: taken in `lock` on this processor, at that IRQL.
        unsafe { KeReleaseSpinLock(self.lock.raw.get(), self.before) };
    }
}
