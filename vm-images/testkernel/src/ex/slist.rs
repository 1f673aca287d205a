//! Interlocked singly linked lists.
//!
//! Windows changes the 16-byte head with one 128-bit compare-exchange, at any IRQL. Here a lock does it, which every
//! processor shares: the head's fields stay in their documented form, since drivers read the depth inline.

use crate::ke::lock::InterruptLock;
use crate::ldr::export::export;
use crate::nt::{SLIST_ENTRY, SLIST_HEADER};
use crate::selftest::{check, kernel_test};

static LISTS: InterruptLock<()> = InterruptLock::new(());

fn depth(head: &SLIST_HEADER) -> u16 {
    head.Alignment as u16
}

fn first(head: &SLIST_HEADER) -> *mut SLIST_ENTRY {
    core::ptr::with_exposed_provenance_mut((head.Region & !0xF) as usize)
}

fn set(head: &mut SLIST_HEADER, first: *mut SLIST_ENTRY, depth: u16) {
    // The sequence number above the depth changes each time, as drivers that look at it expect.
    let sequence = (head.Alignment >> 16).wrapping_add(1);
    head.Alignment = sequence << 16 | u64::from(depth);
    head.Region = first.expose_provenance() as u64;
}

export! {
    /// *InitializeSListHead function (ntddk.h)*.
    pub unsafe extern "win64" fn InitializeSListHead(head: *mut SLIST_HEADER) {
        // SAFETY: the caller gives storage for a head.
        unsafe { head.write(SLIST_HEADER { Alignment: 0, Region: 0 }) };
    }

    /// *ExInterlockedPushEntrySList function (wdm.h)*, which is a macro for this: returns what was first.
    pub unsafe extern "win64" fn ExpInterlockedPushEntrySList(
        head: *mut SLIST_HEADER,
        entry: *mut SLIST_ENTRY,
    ) -> *mut SLIST_ENTRY {
        let _lists = LISTS.lock();
        // SAFETY: the caller gives an initialized head, which only changes under the lock.
        let head = unsafe { &mut *head };
        let before = first(head);
        // SAFETY: the caller gives an entry of its own.
        unsafe { (*entry).Next = before };
        set(head, entry, depth(head).wrapping_add(1));
        before
    }

    /// *ExInterlockedPopEntrySList function (wdm.h)*: null where the list is empty.
    pub unsafe extern "win64" fn ExpInterlockedPopEntrySList(head: *mut SLIST_HEADER) -> *mut SLIST_ENTRY {
        let _lists = LISTS.lock();
        // SAFETY: as above.
        let head = unsafe { &mut *head };
        let entry = first(head);
        if !entry.is_null() {
            // SAFETY: an entry in a list stays valid until it is popped; that is the caller's part of the bargain.
            let next = unsafe { (*entry).Next };
            set(head, next, depth(head).wrapping_sub(1));
        }
        entry
    }

    /// *ExInterlockedFlushSList function (wdm.h)*: takes all entries.
    pub unsafe extern "win64" fn ExpInterlockedFlushSList(head: *mut SLIST_HEADER) -> *mut SLIST_ENTRY {
        let _lists = LISTS.lock();
        // SAFETY: as above.
        let head = unsafe { &mut *head };
        let entry = first(head);
        set(head, core::ptr::null_mut(), 0);
        entry
    }

    /// *ExQueryDepthSList function (wdm.h)*.
    pub unsafe extern "win64" fn ExQueryDepthSList(head: *mut SLIST_HEADER) -> u16 {
        // SAFETY: as above; the depth is read in one piece.
        depth(unsafe { &*head })
    }
}

kernel_test! {
    fn entries_come_back_in_the_reverse_of_their_order() {
        let mut head = SLIST_HEADER { Alignment: 0, Region: 0 };
        let head = &raw mut head;
        let mut entries = [SLIST_ENTRY { Next: core::ptr::null_mut() }; 2];
        let [first, second] = &mut entries;
        let (first, second) = (&raw mut *first, &raw mut *second);
        // SAFETY: head and entries outlive the test.
        unsafe {
            InitializeSListHead(head);
            check!(ExpInterlockedPushEntrySList(head, first).is_null());
            check!(ExpInterlockedPushEntrySList(head, second) == first);
            check!(ExQueryDepthSList(head) == 2);
            check!(ExpInterlockedPopEntrySList(head) == second);
            check!(ExpInterlockedFlushSList(head) == first);
            check!(ExpInterlockedPopEntrySList(head).is_null() && ExQueryDepthSList(head) == 0);
        }
    }
}
