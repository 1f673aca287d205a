//! Device queues: requests that wait for a device that is busy.
//!
//! The state is one bit. A driver inserts a request: where the device was idle, the request is not queued but
//! begun, and the device is busy from then on. When a request is done, the driver removes the next one: where
//! there is none, the device is idle again. `IoStartPacket` and `IoStartNextPacket` are built on this.

use core::mem::offset_of;
use core::ptr;

use super::irql::{self, Irql};
use super::{list, spinlock};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, KDEVICE_QUEUE, KDEVICE_QUEUE_ENTRY, LIST_ENTRY, TRUE};
use crate::selftest::{check, kernel_test};

/// `DeviceQueueObject` of `KOBJECTS`.
const DEVICE_QUEUE_OBJECT: i16 = 20;

fn entry_of_link(link: *mut LIST_ENTRY) -> *mut KDEVICE_QUEUE_ENTRY {
    link.wrapping_byte_sub(offset_of!(KDEVICE_QUEUE_ENTRY, DeviceListEntry)).cast()
}

/// Runs `change` with the queue's lock held, at DISPATCH_LEVEL.
///
/// # Safety
/// Everywhere below: `queue` was initialized, and it and its entries are alive.
unsafe fn locked<T>(queue: *mut KDEVICE_QUEUE, change: impl FnOnce() -> T) -> T {
    let old = irql::require_dispatch(queue.addr());
    irql::set(Irql::DISPATCH);
    // SAFETY: the caller's queue; the lock is released before this returns.
    let result = unsafe {
        spinlock::acquire(&raw mut (*queue).Lock);
        let result = change();
        spinlock::release(&raw mut (*queue).Lock);
        result
    };
    irql::lower(old);
    result
}

/// Queues `entry` before the first of the entries that `goes_after` names, if the device is busy; makes it
/// busy otherwise.
///
/// # Safety
/// As above.
unsafe fn insert(
    queue: *mut KDEVICE_QUEUE,
    entry: *mut KDEVICE_QUEUE_ENTRY,
    goes_after: impl Fn(*mut KDEVICE_QUEUE_ENTRY) -> bool,
) -> BOOLEAN {
    // SAFETY: the caller's; the entry is in no queue.
    unsafe {
        locked(queue, || {
            let was_busy = (*queue).Busy != FALSE;
            (*queue).Busy = TRUE;
            (*entry).Inserted = was_busy.into();
            if was_busy {
                let head = &raw mut (*queue).DeviceListHead;
                let mut before = (*head).Flink;
                while before != head && !goes_after(entry_of_link(before)) {
                    before = (*before).Flink;
                }
                list::insert_before(before, &raw mut (*entry).DeviceListEntry);
            }
            was_busy.into()
        })
    }
}

/// Takes the first entry that `wanted` names, or else the first at all; the device is idle where there is
/// none. To be called with the lock held.
///
/// # Safety
/// As above.
unsafe fn take(
    queue: *mut KDEVICE_QUEUE,
    wanted: impl Fn(*mut KDEVICE_QUEUE_ENTRY) -> bool,
) -> *mut KDEVICE_QUEUE_ENTRY {
    // SAFETY: the caller's.
    unsafe {
        let head = &raw mut (*queue).DeviceListHead;
        let Some(first) = list::first(head) else {
            (*queue).Busy = FALSE;
            return ptr::null_mut();
        };
        let mut link = first;
        while link != head && !wanted(entry_of_link(link)) {
            link = (*link).Flink;
        }
        let entry = entry_of_link(if link == head { first } else { link });
        list::remove(&raw mut (*entry).DeviceListEntry);
        (*entry).Inserted = FALSE;
        entry
    }
}

export! {
    /// *KeInitializeDeviceQueue function (wdm.h)*: empty, and the device idle.
    pub unsafe extern "win64" fn KeInitializeDeviceQueue(queue: *mut KDEVICE_QUEUE) {
        // SAFETY: the caller's storage.
        unsafe {
            queue.write(KDEVICE_QUEUE {
                Type: DEVICE_QUEUE_OBJECT,
                Size: size_of::<KDEVICE_QUEUE>() as i16,
                DeviceListHead: list::UNLINKED,
                Lock: 0,
                Busy: FALSE,
            });
            list::initialize(&raw mut (*queue).DeviceListHead);
        }
    }

    /// *KeInsertDeviceQueue function (wdm.h)*: FALSE where the device was idle: the entry is not queued then,
    /// and the device is busy with it.
    pub unsafe extern "win64" fn KeInsertDeviceQueue(
        queue: *mut KDEVICE_QUEUE,
        entry: *mut KDEVICE_QUEUE_ENTRY,
    ) -> BOOLEAN {
        // SAFETY: the caller's queue and entry.
        unsafe { insert(queue, entry, |_| false) }
    }

    /// *KeInsertByKeyDeviceQueue function (wdm.h)*: as KeInsertDeviceQueue, in the order of keys; behind those
    /// of the same key.
    pub unsafe extern "win64" fn KeInsertByKeyDeviceQueue(
        queue: *mut KDEVICE_QUEUE,
        entry: *mut KDEVICE_QUEUE_ENTRY,
        key: u32,
    ) -> BOOLEAN {
        // SAFETY: the caller's queue and entry.
        unsafe {
            (*entry).SortKey = key;
            insert(queue, entry, |other| (*other).SortKey > key)
        }
    }

    /// *KeRemoveDeviceQueue function (wdm.h)*: the first entry; null where there is none, and the device is
    /// idle then.
    pub unsafe extern "win64" fn KeRemoveDeviceQueue(queue: *mut KDEVICE_QUEUE) -> *mut KDEVICE_QUEUE_ENTRY {
        // SAFETY: the caller's queue.
        unsafe { locked(queue, || take(queue, |_| true)) }
    }

    /// *KeRemoveByKeyDeviceQueue function (wdm.h)*: the first entry whose key is not below `key`, or else the
    /// first one at all.
    pub unsafe extern "win64" fn KeRemoveByKeyDeviceQueue(
        queue: *mut KDEVICE_QUEUE,
        key: u32,
    ) -> *mut KDEVICE_QUEUE_ENTRY {
        // SAFETY: the caller's queue.
        unsafe { locked(queue, || take(queue, |entry| (*entry).SortKey >= key)) }
    }

    /// *KeRemoveByKeyDeviceQueueIfBusy*: as KeRemoveByKeyDeviceQueue, where the device is busy.
    pub unsafe extern "win64" fn KeRemoveByKeyDeviceQueueIfBusy(
        queue: *mut KDEVICE_QUEUE,
        key: u32,
    ) -> *mut KDEVICE_QUEUE_ENTRY {
        // SAFETY: the caller's queue.
        unsafe {
            locked(queue, || {
                if (*queue).Busy == FALSE {
                    return ptr::null_mut();
                }
                take(queue, |entry| (*entry).SortKey >= key)
            })
        }
    }

    /// *KeRemoveEntryDeviceQueue function (wdm.h)*: takes this entry out; FALSE where it was not queued.
    pub unsafe extern "win64" fn KeRemoveEntryDeviceQueue(
        queue: *mut KDEVICE_QUEUE,
        entry: *mut KDEVICE_QUEUE_ENTRY,
    ) -> BOOLEAN {
        // SAFETY: the caller's queue and entry.
        unsafe {
            locked(queue, || {
                let queued = (*entry).Inserted != FALSE;
                if queued {
                    list::remove(&raw mut (*entry).DeviceListEntry);
                    (*entry).Inserted = FALSE;
                }
                queued.into()
            })
        }
    }
}

/// A queue of the tests', and entries for it.
fn fresh() -> (KDEVICE_QUEUE, [KDEVICE_QUEUE_ENTRY; 4]) {
    let entry = KDEVICE_QUEUE_ENTRY { DeviceListEntry: list::UNLINKED, SortKey: 0, Inserted: FALSE };
    (KDEVICE_QUEUE { Type: 0, Size: 0, DeviceListHead: list::UNLINKED, Lock: 0, Busy: TRUE }, [entry; 4])
}

kernel_test! {
    /// *KeInsertDeviceQueue function (wdm.h)*: the first request of an idle device is not queued.
    fn an_idle_device_begins_and_a_busy_one_queues() {
        let (mut queue, mut entries) = fresh();
        let (queue, [first, second, third, _]) = (&raw mut queue, entries.each_mut().map(|entry| &raw mut *entry));
        // SAFETY: queue and entries live until the end of the test.
        unsafe {
            KeInitializeDeviceQueue(queue);
            check!((*queue).Busy == FALSE && (*queue).Type == 20 && (*queue).Size == 0x28);
            check!(KeInsertDeviceQueue(queue, first) == FALSE && (*queue).Busy == TRUE);
            check!(KeInsertDeviceQueue(queue, second) == TRUE && (*second).Inserted == TRUE);
            check!(KeInsertDeviceQueue(queue, third) == TRUE);
            check!(KeRemoveDeviceQueue(queue) == second && (*second).Inserted == FALSE);
            check!(KeRemoveEntryDeviceQueue(queue, third) == TRUE);
            check!(KeRemoveEntryDeviceQueue(queue, third) == FALSE);
            check!(KeRemoveDeviceQueue(queue).is_null() && (*queue).Busy == FALSE);
        }
    }

    /// *KeRemoveByKeyDeviceQueue function (wdm.h)*: the first key that is not below, then around to the first.
    fn keys_order_the_queue_and_choose_from_it() {
        let (mut queue, mut entries) = fresh();
        let (queue, [busy, ten, twenty, ten_again]) =
            (&raw mut queue, entries.each_mut().map(|entry| &raw mut *entry));
        // SAFETY: queue and entries live until the end of the test.
        unsafe {
            KeInitializeDeviceQueue(queue);
            check!(KeRemoveByKeyDeviceQueueIfBusy(queue, 0).is_null() && (*queue).Busy == FALSE);
            check!(KeInsertByKeyDeviceQueue(queue, busy, 5) == FALSE);
            check!(KeInsertByKeyDeviceQueue(queue, twenty, 20) == TRUE);
            check!(KeInsertByKeyDeviceQueue(queue, ten, 10) == TRUE);
            check!(KeInsertByKeyDeviceQueue(queue, ten_again, 10) == TRUE);
            check!(KeRemoveByKeyDeviceQueue(queue, 15) == twenty);
            check!(KeRemoveByKeyDeviceQueue(queue, 15) == ten);
            check!(KeRemoveByKeyDeviceQueueIfBusy(queue, 10) == ten_again);
            check!(KeRemoveByKeyDeviceQueue(queue, 0).is_null() && (*queue).Busy == FALSE);
        }
    }
}
