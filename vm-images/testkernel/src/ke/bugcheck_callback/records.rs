//! The lists that bug check records are kept in: links through drivers' own memory, changed at any IRQL and walked when
//! nothing can be relied on any more.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::ke::list;
use crate::ke::lock::InterruptLock;
use crate::mm::paging;
use crate::nt::LIST_ENTRY;

/// `KBUGCHECK_BUFFER_DUMP_STATE`: where a record is in its life.
pub mod state {
    /// KeInitializeCallbackRecord makes it this: in no list.
    pub const EMPTY: u8 = 0;
    /// Registered.
    pub const INSERTED: u8 = 1;
    /// Its routine has been called, and has not returned.
    pub const STARTED: u8 = 2;
    /// Its routine has returned.
    pub const FINISHED: u8 = 3;
}

/// More records than this are a list that leads nowhere.
const MOST: usize = 64;

/// The list's head, and what is known of its records without a look at their memory: where each is, and its routine.
struct Head {
    links: LIST_ENTRY,
    known: [(usize, u64); MOST],
}

// SAFETY: the list's entries are drivers' memory, which belongs to no processor.
unsafe impl Send for Head {}

/// A list of records, each of which begins with its links.
pub struct Records {
    head: InterruptLock<Head>,
    /// Set while the list is in order, and not while it is being changed.
    in_order: AtomicBool,
}

impl Records {
    /// None yet.
    pub const fn new() -> Self {
        let head = Head { links: list::UNLINKED, known: [(0, 0); MOST] };
        Self { head: InterruptLock::new(head), in_order: AtomicBool::new(true) }
    }

    /// Changes the list.
    fn changing<T>(&self, change: impl FnOnce(&mut Head) -> T) -> T {
        let mut registered = self.head.lock();
        self.in_order.store(false, Ordering::Release);
        // SAFETY: the head is ours, under the lock.
        unsafe {
            let links = &raw mut registered.links;
            if (*links).Flink.is_null() {
                list::initialize(links);
            }
        }
        let result = change(&mut registered);
        self.in_order.store(true, Ordering::Release);
        result
    }

    /// Registers a record that `prepare` has filled in; false where that says that it cannot be registered.
    ///
    /// # Safety
    /// The record begins with its links, and is the list's until it is removed.
    pub unsafe fn insert<R>(&self, record: *mut R, routine: usize, prepare: impl FnOnce() -> bool) -> bool {
        self.changing(|head| {
            if !prepare() {
                return false;
            }
            if let Some(place) = head.known.iter_mut().find(|(known, _)| *known == 0) {
                *place = (record.addr(), routine as u64);
            }
            // SAFETY: the head is ours, the record the caller's.
            unsafe { list::insert_before(&raw mut head.links, record.cast()) };
            true
        })
    }

    /// Takes a record out, which `is_in` says is in it; false where that says otherwise.
    ///
    /// # Safety
    /// As for [`insert`](Self::insert).
    pub unsafe fn remove<R>(&self, record: *mut R, is_in: impl FnOnce() -> bool) -> bool {
        self.changing(|head| {
            if !is_in() {
                return false;
            }
            if let Some(place) = head.known.iter_mut().find(|(known, _)| *known == record.addr()) {
                *place = (0, 0);
            }
            // SAFETY: it is in the list.
            unsafe { list::remove(record.cast::<LIST_ENTRY>()) };
            true
        })
    }

    /// Visits every record that can still be read, in the order of registration. For the owner of a bug check, all others
    /// stopped; none is visited where somebody was stopped in the middle of a change.
    pub fn for_each_at_the_end<R>(&self, visit: impl FnMut(*mut R)) {
        if !self.in_order.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: nobody else runs, and nobody was changing the list.
        let Some(registered) = (unsafe { self.head.peek() }) else { return };
        walk(&raw const registered.links, visit);
    }

    /// The records whose routine lies in `range`, as many as there is room for; be their memory a record's still or not.
    pub fn leading_into(&self, range: &Range<u64>, found: &mut [(usize, u64)]) {
        self.changing(|head| {
            let left = head.known.iter().filter(|(record, routine)| *record != 0 && range.contains(routine));
            found.iter_mut().zip(left).for_each(|(slot, left)| *slot = *left);
        });
    }
}

fn walk<R>(head: *const LIST_ENTRY, mut visit: impl FnMut(*mut R)) {
    // SAFETY: the head is the kernel's.
    let mut link = unsafe { (*head).Flink };
    for _ in 0..MOST {
        if link.is_null() || core::ptr::eq(link, head) || !is_readable(link.addr(), size_of::<R>()) {
            return;
        }
        // The routine may do anything to its record: the next is looked up first.
        // SAFETY: the record can be read.
        let next = unsafe { (*link).Flink };
        visit(link.cast());
        link = next;
    }
}

/// Whether memory of at most a page is there.
pub fn is_readable(address: usize, bytes: usize) -> bool {
    let last = address.wrapping_add(bytes.saturating_sub(1));
    paging::is_present(address as u64) && paging::is_present(last as u64)
}
