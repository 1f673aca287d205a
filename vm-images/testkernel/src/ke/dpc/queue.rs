//! The list of one processor's DPCs, through the KDPCs themselves.

use core::ptr;

use super::importance;
use crate::nt::{KDPC, SINGLE_LIST_ENTRY};

/// One processor's DPCs.
#[derive(Debug)]
pub struct DpcQueue {
    first: *mut SINGLE_LIST_ENTRY,
    last: *mut SINGLE_LIST_ENTRY,
}

// SAFETY: the entries belong to no processor; whoever holds the queue's lock may use them.
unsafe impl Send for DpcQueue {}

fn dpc_of_link(link: *mut SINGLE_LIST_ENTRY) -> *mut KDPC {
    link.wrapping_byte_sub(core::mem::offset_of!(KDPC, DpcListEntry)).cast()
}

fn link_of(dpc: *mut KDPC) -> *mut SINGLE_LIST_ENTRY {
    dpc.wrapping_byte_add(core::mem::offset_of!(KDPC, DpcListEntry)).cast()
}

impl DpcQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { first: ptr::null_mut(), last: ptr::null_mut() }
    }

    /// # Safety
    /// `dpc` and whatever is queued are alive, and `dpc` is in no queue. Below likewise.
    pub(super) unsafe fn push(&mut self, dpc: *mut KDPC) {
        let link = link_of(dpc);
        // SAFETY: the caller's.
        unsafe {
            if self.first.is_null() {
                (*link).Next = ptr::null_mut();
                (self.first, self.last) = (link, link);
            } else if (*dpc).Importance == importance::HIGH {
                (*link).Next = self.first;
                self.first = link;
            } else {
                (*link).Next = ptr::null_mut();
                (*self.last).Next = link;
                self.last = link;
            }
        }
    }

    /// # Safety
    /// As above.
    pub(super) unsafe fn pop(&mut self) -> Option<*mut KDPC> {
        if self.first.is_null() {
            return None;
        }
        let link = self.first;
        // SAFETY: the caller's.
        self.first = unsafe { (*link).Next };
        if self.first.is_null() {
            self.last = ptr::null_mut();
        }
        Some(dpc_of_link(link))
    }

    /// # Safety
    /// As above.
    pub(super) unsafe fn remove(&mut self, dpc: *mut KDPC) -> bool {
        let wanted = link_of(dpc);
        let mut previous: *mut SINGLE_LIST_ENTRY = ptr::null_mut();
        let mut link = self.first;
        while !link.is_null() {
            // SAFETY: the caller's.
            unsafe {
                let next = (*link).Next;
                if link == wanted {
                    if previous.is_null() {
                        self.first = next;
                    } else {
                        (*previous).Next = next;
                    }
                    if next.is_null() {
                        self.last = previous;
                    }
                    return true;
                }
                (previous, link) = (link, next);
            }
        }
        false
    }

    /// The one that would be taken next; null for none.
    pub(super) fn first(&self) -> *mut KDPC {
        if self.first.is_null() { ptr::null_mut() } else { dpc_of_link(self.first) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// The DPCs, in order.
    ///
    /// # Safety
    /// As above, as long as the iterator is used.
    pub(super) unsafe fn iter(&self) -> impl Iterator<Item = *mut KDPC> {
        let mut link = self.first;
        core::iter::from_fn(move || {
            let this = link;
            if this.is_null() {
                return None;
            }
            // SAFETY: the caller's.
            link = unsafe { (*this).Next };
            Some(dpc_of_link(this))
        })
    }
}
