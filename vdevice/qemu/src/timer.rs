//! A timer in the guest's time.

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::abi::{CLOCK_VIRTUAL, Room, SCALE_NS};
use crate::symbols::qemu;

/// A timer of QEMU's main loop. It is cancelled when dropped.
pub(crate) struct Timer {
    room: *mut Room,
}

// SAFETY: QEMU's timers may be set and cancelled by any thread; they have a lock of their own.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    /// A timer that will call `callback` with `opaque`, under the big lock.
    ///
    /// # Safety
    /// `callback` may be called with `opaque`, whenever the timer has been set, until it is dropped.
    pub(crate) unsafe fn new(callback: unsafe extern "C" fn(*mut c_void), opaque: *mut c_void) -> Self {
        let room = Box::into_raw(Room::zeroed());
        // SAFETY: the room is large and aligned enough for a QEMUTimer; the null list group is the main
        // loop's.
        unsafe { (qemu().timer_init_full)(room, null_mut(), CLOCK_VIRTUAL, SCALE_NS, 0, callback, opaque) };
        Self { room }
    }

    /// Sets the timer to a virtual time, or cancels it.
    pub(crate) fn set(&self, deadline: Option<u64>) {
        match deadline {
            Some(ns) => {
                let ns = i64::try_from(ns).unwrap_or(i64::MAX);
                // SAFETY: initialised in `new`, and alive.
                unsafe { (qemu().timer_mod_ns)(self.room, ns) };
            }
            // SAFETY: initialised in `new`, and alive.
            None => unsafe { (qemu().timer_del)(self.room) },
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.set(None);
        // SAFETY: from `Box::into_raw` in `new`; a cancelled timer is in none of QEMU's lists.
        drop(unsafe { Box::from_raw(self.room) });
    }
}
