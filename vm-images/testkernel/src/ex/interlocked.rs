//! Lists and numbers that change under a driver's spin lock, at any IRQL.
//!
//! ISRs may use these, so interrupts are off while the lock is held, whatever the IRQL. The lock must not be
//! used with the ordinary spin lock routines at the same time.

use core::ptr;

use crate::ke::irql::InterruptsOff;
use crate::ke::{list, spinlock};
use crate::ldr::export::export;
use crate::nt::{KSPIN_LOCK, LIST_ENTRY, SINGLE_LIST_ENTRY};
use crate::selftest::{check, kernel_test};

/// # Safety
/// `lock` is a live spin lock.
unsafe fn locked<T>(lock: *mut KSPIN_LOCK, change: impl FnOnce() -> T) -> T {
    let _off = InterruptsOff::new();
    // SAFETY: the caller's lock, released before this returns.
    unsafe {
        spinlock::acquire(lock);
        let result = change();
        spinlock::release(lock);
        result
    }
}

export! {
    /// *ExInterlockedInsertHeadList function (wdm.h)*: the entry that was first; null where there was none.
    pub unsafe extern "win64" fn ExInterlockedInsertHeadList(
        head: *mut LIST_ENTRY,
        entry: *mut LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut LIST_ENTRY {
        // SAFETY: the caller's list, entry and lock.
        unsafe {
            locked(lock, || {
                let first = list::first(head);
                list::insert_first(head, entry);
                first.unwrap_or(ptr::null_mut())
            })
        }
    }

    /// *ExInterlockedInsertTailList function (wdm.h)*: the entry that was last; null where there was none.
    pub unsafe extern "win64" fn ExInterlockedInsertTailList(
        head: *mut LIST_ENTRY,
        entry: *mut LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut LIST_ENTRY {
        // SAFETY: the caller's list, entry and lock.
        unsafe {
            locked(lock, || {
                let last = (*head).Blink;
                list::insert_before(head, entry);
                if ptr::eq(last, head) { ptr::null_mut() } else { last }
            })
        }
    }

    /// *ExInterlockedRemoveHeadList function (wdm.h)*: null where the list is empty.
    pub unsafe extern "win64" fn ExInterlockedRemoveHeadList(
        head: *mut LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut LIST_ENTRY {
        // SAFETY: the caller's list and lock.
        unsafe {
            locked(lock, || {
                let Some(entry) = list::first(head) else { return ptr::null_mut() };
                list::remove(entry);
                entry
            })
        }
    }

    /// *ExInterlockedPushEntryList function (wdm.h)*: the entry that was first.
    pub unsafe extern "win64" fn ExInterlockedPushEntryList(
        head: *mut SINGLE_LIST_ENTRY,
        entry: *mut SINGLE_LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut SINGLE_LIST_ENTRY {
        // SAFETY: the caller's list, entry and lock.
        unsafe {
            locked(lock, || {
                let first = (*head).Next;
                (*entry).Next = first;
                (*head).Next = entry;
                first
            })
        }
    }

    /// *ExInterlockedPopEntryList function (wdm.h)*: null where the list is empty.
    pub unsafe extern "win64" fn ExInterlockedPopEntryList(
        head: *mut SINGLE_LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut SINGLE_LIST_ENTRY {
        // SAFETY: the caller's list and lock.
        unsafe {
            locked(lock, || {
                let first = (*head).Next;
                if !first.is_null() {
                    (*head).Next = (*first).Next;
                }
                first
            })
        }
    }

    /// *ExInterlockedAddUlong function (wdm.h)*: the value before.
    pub unsafe extern "win64" fn ExInterlockedAddUlong(
        value: *mut u32,
        increment: u32,
        lock: *mut KSPIN_LOCK,
    ) -> u32 {
        // SAFETY: the caller's number and lock.
        unsafe { locked(lock, || core::mem::replace(&mut *value, (*value).wrapping_add(increment))) }
    }

    /// *ExInterlockedAddLargeInteger function (wdm.h)*: the value before.
    pub unsafe extern "win64" fn ExInterlockedAddLargeInteger(
        value: *mut i64,
        increment: i64,
        lock: *mut KSPIN_LOCK,
    ) -> i64 {
        // SAFETY: the caller's number and lock.
        unsafe { locked(lock, || core::mem::replace(&mut *value, (*value).wrapping_add(increment))) }
    }
}

kernel_test! {
    /// *ExInterlockedInsertTailList function (wdm.h)*: returns what was last, null for an empty list.
    fn an_interlocked_list_says_what_it_found() {
        let mut links = [list::UNLINKED; 3];
        let [head, first, second] = links.each_mut().map(|link| &raw mut *link);
        let mut lock: KSPIN_LOCK = 0;
        let lock = &raw mut lock;
        // SAFETY: list and lock live until the end of the test.
        unsafe {
            list::initialize(head);
            check!(ExInterlockedInsertTailList(head, second, lock).is_null());
            check!(ExInterlockedInsertHeadList(head, first, lock) == second);
            check!(ExInterlockedRemoveHeadList(head, lock) == first);
            check!(ExInterlockedInsertTailList(head, first, lock) == second);
            check!(ExInterlockedRemoveHeadList(head, lock) == second);
            check!(ExInterlockedRemoveHeadList(head, lock) == first);
            check!(ExInterlockedRemoveHeadList(head, lock).is_null() && *lock == 0);
        }
    }

    /// *ExInterlockedAddLargeInteger function (wdm.h)*: returns the initial value.
    fn interlocked_sums_return_the_value_before() {
        let (mut small, mut large, mut lock) = (u32::MAX, -1_i64, 0);
        // SAFETY: all three live here.
        unsafe {
            check!(ExInterlockedAddUlong(&raw mut small, 2, &raw mut lock) == u32::MAX && small == 1);
            check!(ExInterlockedAddLargeInteger(&raw mut large, 3, &raw mut lock) == -1 && large == 2);
        }
    }

    /// *ExInterlockedPopEntryList function (wdm.h)*: last in, first out.
    fn a_singly_linked_list_is_a_stack() {
        let mut links = [SINGLE_LIST_ENTRY { Next: ptr::null_mut() }; 3];
        let [head, first, second] = links.each_mut().map(|link| &raw mut *link);
        let mut lock = 0;
        let lock = &raw mut lock;
        // SAFETY: list and lock live until the end of the test.
        unsafe {
            check!(ExInterlockedPushEntryList(head, first, lock).is_null());
            check!(ExInterlockedPushEntryList(head, second, lock) == first);
            check!(ExInterlockedPopEntryList(head, lock) == second);
            check!(ExInterlockedPopEntryList(head, lock) == first);
            check!(ExInterlockedPopEntryList(head, lock).is_null());
        }
    }
}
