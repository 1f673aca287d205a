//! The processors that a thread runs on, in a machine with groups of them; this one has group 0.

use super::{processor, thread};
use crate::ldr::export::export;
use crate::nt::KAFFINITY;
use crate::selftest::{check, kernel_test};

/// `GROUP_AFFINITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GROUP_AFFINITY {
    /// Processors of the group.
    pub mask: KAFFINITY,
    /// The group.
    pub group: u16,
    /// 0.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<GROUP_AFFINITY>() == 16);

/// Whether there is a processor for each bit, and one at least.
pub fn is_set_of_processors(mask: KAFFINITY) -> bool {
    mask != 0 && mask & !processor::all_mask() == 0
}

impl GROUP_AFFINITY {
    /// No processors: a thread that nobody has bound.
    pub const NONE: Self = Self::of(0);

    /// These processors of group 0.
    pub const fn of(mask: KAFFINITY) -> Self {
        Self { mask, group: 0, reserved: [0; 3] }
    }

    fn is_possible(&self) -> bool {
        self.group == 0 && self.reserved == [0; 3] && is_set_of_processors(self.mask)
    }
}

export! {
    /// *KeSetSystemGroupAffinityThread function (wdm.h)*: the calling thread runs on these processors only when this returns. What was
    /// before, where it is asked for, has no processors where the thread was not bound, or is not bound now as the new affinity
    /// cannot be.
    pub unsafe extern "win64" fn KeSetSystemGroupAffinityThread(
        affinity: *const GROUP_AFFINITY,
        previous: *mut GROUP_AFFINITY,
    ) {
        // SAFETY: the caller's.
        let wanted = unsafe { affinity.read() };
        let before = if wanted.is_possible() { thread::set_affinity(wanted.mask) } else { KAFFINITY::MAX };
        if !previous.is_null() {
            let before = if before == KAFFINITY::MAX { GROUP_AFFINITY::NONE } else { GROUP_AFFINITY::of(before) };
            // SAFETY: the caller's.
            unsafe { previous.write(before) };
        }
    }

    /// *KeRevertToUserGroupAffinityThread function (wdm.h)*: the processors of before; every one where there are none in it.
    pub unsafe extern "win64" fn KeRevertToUserGroupAffinityThread(previous: *const GROUP_AFFINITY) {
        // SAFETY: the caller's.
        let previous = unsafe { previous.read() };
        if previous.mask == 0 {
            thread::set_affinity(KAFFINITY::MAX);
        } else if previous.is_possible() {
            thread::set_affinity(previous.mask);
        }
    }
}

kernel_test! {
    /// *KeSetSystemGroupAffinityThread function (wdm.h)*: nested, and each undone by what it gave.
    fn a_thread_is_bound_and_let_go_again() {
        let mut first = GROUP_AFFINITY::of(9);
        let mut second = GROUP_AFFINITY::of(9);
        let last = processor::count() - 1;
        let (one, other) = (GROUP_AFFINITY::of(1), GROUP_AFFINITY::of(1 << last));
        let nowhere = GROUP_AFFINITY { group: 1, ..one };
        // SAFETY: all are locals.
        unsafe {
            KeSetSystemGroupAffinityThread(&raw const one, &raw mut first);
            check!(first == GROUP_AFFINITY::NONE && processor::current_number() == 0);
            KeSetSystemGroupAffinityThread(&raw const other, &raw mut second);
            check!(second == one && processor::current_number() == last);
            KeRevertToUserGroupAffinityThread(&raw const second);
            check!(processor::current_number() == 0);
            KeSetSystemGroupAffinityThread(&raw const nowhere, &raw mut second);
            check!(second == GROUP_AFFINITY::NONE && processor::current_number() == 0);
            KeRevertToUserGroupAffinityThread(&raw const first);
            check!(thread::set_affinity(KAFFINITY::MAX) == KAFFINITY::MAX);
        }
    }
}
