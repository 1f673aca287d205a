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

struct Head(LIST_ENTRY);

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
        Self { head: InterruptLock::new(Head(list::UNLINKED)), in_order: AtomicBool::new(true) }
    }

    /// Changes the list, which `change` is given the head of.
    pub fn changing<T>(&self, change: impl FnOnce(*mut LIST_ENTRY) -> T) -> T {
        let mut registered = self.head.lock();
        self.in_order.store(false, Ordering::Release);
        let head = &raw mut registered.0;
        // SAFETY: the head is ours, under the lock.
        unsafe {
            if (*head).Flink.is_null() {
                list::initialize(head);
            }
        }
        let result = change(head);
        self.in_order.store(true, Ordering::Release);
        result
    }

    /// Visits every record that can still be read, in the order of registration. For the owner of a bug check, all others
    /// stopped; none is visited where somebody was stopped in the middle of a change.
    pub fn for_each_at_the_end<R>(&self, visit: impl FnMut(*mut R)) {
        if !self.in_order.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: nobody else runs, and nobody was changing the list.
        let Some(registered) = (unsafe { self.head.peek() }) else { return };
        walk(&raw const registered.0, visit);
    }

    /// The records whose routine, by `routine_of`, lies in `range`: as many as there is room for.
    pub fn leading_into<R>(
        &self,
        range: &Range<u64>,
        found: &mut [(usize, u64)],
        routine_of: impl Fn(*const R) -> u64,
    ) -> usize {
        let mut count = 0;
        self.changing(|head| {
            walk(head, |record: *mut R| {
                let routine = routine_of(record);
                if range.contains(&routine)
                    && let Some(slot) = found.get_mut(count)
                {
                    *slot = (record.addr(), routine);
                    count += 1;
                }
            });
        });
        count
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
