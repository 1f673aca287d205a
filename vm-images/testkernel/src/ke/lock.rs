//! Spin locks.
//!
//! A spin lock is held for a short while by code that cannot be descheduled. Two kinds, by what must be kept
//! out:
//!
//! - [`SpinLock`] raises to DISPATCH_LEVEL. No thread switch and no DPC can come between on this processor;
//!   ISRs can, and therefore must not take it.
//! - [`InterruptLock`] turns interrupts off. It is for the few things that ISRs share with everybody: the
//!   console, the DPC queues, the list of interrupt objects.
//!
//! Both own their data: there is no way to it but through a guard.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use super::irql::{self, InterruptsOff, Irql};
use super::processor;

/// The bare lock word: taken or not.
struct LockWord(AtomicBool);

impl LockWord {
    const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn try_acquire(&self) -> bool {
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn acquire(&self) {
        while !self.try_acquire() {
            while self.0.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
    }

    fn release(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A lock that raises to DISPATCH_LEVEL while it is held.
pub struct SpinLock<T: ?Sized> {
    word: LockWord,
    data: UnsafeCell<T>,
}

// SAFETY: the lock word admits one guard at a time, so the data is only ever used by one processor at a time.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock around `data`.
    pub const fn new(data: T) -> Self {
        Self { word: LockWord::new(), data: UnsafeCell::new(data) }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Raises to DISPATCH_LEVEL and takes the lock.
    ///
    /// Above DISPATCH_LEVEL the code that was interrupted may hold the lock, so nobody may be here. The
    /// kernel's own code never is; a driver that calls a routine at too high an IRQL is, and is told so: see
    /// [`irql::require_dispatch`].
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let old = irql::require_dispatch((&raw const *self).addr());
        irql::set(Irql::DISPATCH);
        if old < Irql::DISPATCH {
            processor::kernel_raised(true);
        }
        self.word.acquire();
        SpinLockGuard { lock: self, old }
    }

    /// A guard for a lock that is taken already, which restores `old`.
    ///
    /// # Safety
    /// The lock is held, and whoever took it will not use or drop their guard while this one lives.
    pub unsafe fn adopt(&self, old: Irql) -> SpinLockGuard<'_, T> {
        SpinLockGuard { lock: self, old }
    }
}

impl<T: ?Sized> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

/// The right to a [`SpinLock`]'s data. Dropping it releases the lock, then restores the IRQL.
#[derive(Debug)]
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
    old: Irql,
}

impl<T: ?Sized> SpinLockGuard<'_, T> {
    /// The level to go back to.
    pub fn level(&self) -> Irql {
        self.old
    }

    /// Changes the level to go back to.
    pub fn set_level(&mut self, level: Irql) {
        self.old = level;
    }
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.word.release();
        if self.old < Irql::DISPATCH {
            processor::kernel_raised(false);
        }
        irql::lower(self.old);
    }
}

/// A lock that keeps every interrupt out while it is held; usable at every IRQL, for a few instructions.
pub struct InterruptLock<T: ?Sized> {
    word: LockWord,
    data: UnsafeCell<T>,
}

// SAFETY: as for SpinLock.
unsafe impl<T: ?Sized + Send> Sync for InterruptLock<T> {}

impl<T> InterruptLock<T> {
    /// A free lock around `data`.
    pub const fn new(data: T) -> Self {
        Self { word: LockWord::new(), data: UnsafeCell::new(data) }
    }
}

impl<T: ?Sized> InterruptLock<T> {
    /// Turns interrupts off and takes the lock.
    pub fn lock(&self) -> InterruptLockGuard<'_, T> {
        let off = InterruptsOff::new();
        self.word.acquire();
        InterruptLockGuard { lock: self, _off: off }
    }

    /// The data without the lock; none where somebody was stopped holding it.
    ///
    /// # Safety
    /// No other processor runs any more.
    pub unsafe fn peek(&self) -> Option<&T> {
        if self.word.0.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: nobody holds the lock, and nobody is left to take it.
        Some(unsafe { &*self.data.get() })
    }
}

impl<T: ?Sized> fmt::Debug for InterruptLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptLock").finish_non_exhaustive()
    }
}

/// The right to an [`InterruptLock`]'s data.
#[derive(Debug)]
pub struct InterruptLockGuard<'a, T: ?Sized> {
    lock: &'a InterruptLock<T>,
    // Dropped after the body of `drop` below, so interrupts come back on once the lock is free.
    _off: InterruptsOff,
}

impl<T: ?Sized> Deref for InterruptLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for InterruptLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for InterruptLockGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.word.release();
    }
}
