//! State that QEMU's big lock protects.
//!
//! QEMU calls a device with its big lock held: for register accesses, properties, timers, resets, and when the machine
//! starts or stops. A lock of our own around the card would be held each time that the big one is, and would cost a tenth
//! of a port access. So the card's state is only marked as taken, which costs nothing, and finds the mistake of taking it
//! twice. What callbacks of translated code want to know, which come without the big lock, is kept in atomics beside it.

use std::cell::{RefCell, RefMut};

use crate::symbols::qemu;

/// A value that is touched with the big lock held, and never otherwise.
pub(crate) struct BigLocked<T>(RefCell<T>);

// SAFETY: `take` is the only way in, and whoever takes holds the big lock, which orders all of them.
unsafe impl<T: Send> Sync for BigLocked<T> {}

impl<T> BigLocked<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// The value, for as long as the big lock is held. Nothing that may come back to the device is called meanwhile.
    ///
    /// Taking it without the big lock, or twice, is a mistake of this library's, and ends QEMU: the first where debug
    /// assertions are on.
    pub(crate) fn take(&self) -> RefMut<'_, T> {
        // SAFETY: looks at a variable of this thread's.
        debug_assert!(unsafe { (qemu().bql_locked)() }, "without the big lock");
        self.0.borrow_mut()
    }
}
