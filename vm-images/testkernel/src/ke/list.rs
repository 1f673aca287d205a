//! NT's doubly linked lists, which run through drivers' own memory.
//!
//! The links of a KEVENT or KTIMER belong to the kernel but live wherever the driver put the object, so they
//! are worth exactly what the driver's memory is worth. As NT does since Windows 8, an entry whose neighbours
//! do not point back stops the system (0x139, 3) before the damage spreads.

use core::ptr;

use squall_testkernel_pure::bugcheck::KERNEL_SECURITY_CHECK_FAILURE;

use super::bugcheck;
use crate::nt::LIST_ENTRY;

/// `FAST_FAIL_CORRUPT_LIST_ENTRY`.
const CORRUPT_LIST_ENTRY: u64 = 3;

/// An entry or head that is in no list yet.
pub const UNLINKED: LIST_ENTRY = LIST_ENTRY { Flink: ptr::null_mut(), Blink: ptr::null_mut() };

/// Makes `head` an empty list.
///
/// # Safety
/// `head` is writable, and nobody else uses it meanwhile. The same holds for every entry below, and for its
/// neighbours.
pub unsafe fn initialize(head: *mut LIST_ENTRY) {
    // SAFETY: the caller's.
    unsafe { head.write(LIST_ENTRY { Flink: head, Blink: head }) };
}

/// Whether the list is empty.
///
/// # Safety
/// As for [`initialize`].
pub unsafe fn is_empty(head: *const LIST_ENTRY) -> bool {
    // SAFETY: the caller's.
    unsafe { ptr::eq((*head).Flink, head) }
}

/// Links `entry` in before `before`: at the tail, where that is the head.
///
/// # Safety
/// As for [`initialize`].
pub unsafe fn insert_before(before: *mut LIST_ENTRY, entry: *mut LIST_ENTRY) {
    // SAFETY: the caller's.
    unsafe {
        let previous = (*before).Blink;
        if (*previous).Flink != before {
            corrupt(before);
        }
        entry.write(LIST_ENTRY { Flink: before, Blink: previous });
        (*previous).Flink = entry;
        (*before).Blink = entry;
    }
}

/// Links `entry` in as the first.
///
/// # Safety
/// As for [`initialize`].
pub unsafe fn insert_first(head: *mut LIST_ENTRY, entry: *mut LIST_ENTRY) {
    // SAFETY: the caller's.
    unsafe { insert_before((*head).Flink, entry) };
}

/// Takes `entry` out of whichever list it is in.
///
/// # Safety
/// As for [`initialize`]; the entry is in a list.
pub unsafe fn remove(entry: *mut LIST_ENTRY) {
    // SAFETY: the caller's.
    unsafe {
        let LIST_ENTRY { Flink: next, Blink: previous } = *entry;
        if (*next).Blink != entry || (*previous).Flink != entry {
            corrupt(entry);
        }
        (*previous).Flink = next;
        (*next).Blink = previous;
        // A second removal would not go unnoticed.
        initialize(entry);
    }
}

/// The first entry, where there is one.
///
/// # Safety
/// As for [`initialize`].
pub unsafe fn first(head: *mut LIST_ENTRY) -> Option<*mut LIST_ENTRY> {
    // SAFETY: the caller's.
    unsafe { (!is_empty(head)).then(|| (*head).Flink) }
}

fn corrupt(entry: *const LIST_ENTRY) -> ! {
    bugcheck::bugcheck(KERNEL_SECURITY_CHECK_FAILURE, [CORRUPT_LIST_ENTRY, entry.addr() as u64, 0, 0])
}
