//! What drivers want to do when the system stops: bug check callbacks.
//!
//! A driver registers a record of its own memory and a routine that brings its device to rest. The routine is
//! called at HIGH_LEVEL after the crash record is written, every other processor stopped; one that faults does
//! no harm to what has been told.

use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, Ordering};

use super::list;
use super::lock::InterruptLock;
use crate::ldr::export::export;
use crate::mm::paging;
use crate::nt::{BOOLEAN, FALSE, LIST_ENTRY, PVOID, TRUE};
use crate::selftest::{check, kernel_test};

/// `KBUGCHECK_CALLBACK_ROUTINE`.
pub type CallbackRoutine = unsafe extern "win64" fn(buffer: PVOID, length: u32);

/// `KBUGCHECK_BUFFER_DUMP_STATE`.
mod state {
    pub const EMPTY: u8 = 0;
    pub const INSERTED: u8 = 1;
    pub const STARTED: u8 = 2;
    pub const FINISHED: u8 = 3;
}

/// `KBUGCHECK_CALLBACK_RECORD`.
#[derive(Debug)]
#[repr(C)]
pub struct CallbackRecord {
    entry: LIST_ENTRY,
    routine: Option<CallbackRoutine>,
    buffer: PVOID,
    length: u32,
    component: *const u8,
    checksum: usize,
    state: u8,
}

const _: () = {
    assert!(size_of::<CallbackRecord>() == 0x40);
    assert!(offset_of!(CallbackRecord, routine) == 0x10);
    assert!(offset_of!(CallbackRecord, component) == 0x28);
    assert!(offset_of!(CallbackRecord, state) == 0x38);
};

struct Registered(LIST_ENTRY);

// SAFETY: the list's entries are drivers' memory, which belongs to no processor.
unsafe impl Send for Registered {}

static REGISTERED: InterruptLock<Registered> = InterruptLock::new(Registered(list::UNLINKED));
/// Set while the list is in order, and not while it is being changed.
static IN_ORDER: AtomicBool = AtomicBool::new(true);

/// More callbacks than this are a list that leads nowhere.
const MOST: usize = 64;

fn changing<T>(change: impl FnOnce(*mut LIST_ENTRY) -> T) -> T {
    let mut registered = REGISTERED.lock();
    IN_ORDER.store(false, Ordering::Release);
    let head = &raw mut registered.0;
    // SAFETY: the head is ours, under the lock.
    unsafe {
        if (*head).Flink.is_null() {
            list::initialize(head);
        }
    }
    let result = change(head);
    IN_ORDER.store(true, Ordering::Release);
    result
}

fn readable(record: *const CallbackRecord) -> bool {
    let last = record.addr().wrapping_add(size_of::<CallbackRecord>() - 1);
    paging::is_present(record.addr() as u64) && paging::is_present(last as u64)
}

impl CallbackRecord {
    fn sum(&self) -> usize {
        let routine = self.routine.map_or(0, |routine| routine as usize);
        routine
            .wrapping_add(self.buffer.addr())
            .wrapping_add(self.length as usize)
            .wrapping_add(self.component.addr())
    }
}

/// Calls every routine that is registered. For the owner of a bug check, all others stopped, at HIGH_LEVEL.
pub fn call_all() {
    if !IN_ORDER.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: nobody else runs, and nobody was changing the list.
    let Some(registered) = (unsafe { REGISTERED.peek() }) else { return };
    let head = &raw const registered.0;
    let mut link = registered.0.Flink;
    for _ in 0..MOST {
        if link.is_null() || core::ptr::eq(link, head) {
            return;
        }
        let record = link.cast::<CallbackRecord>();
        if !readable(record) {
            return;
        }
        // SAFETY: the record can be read; its checksum says whether it still is what was registered.
        unsafe {
            link = (*record).entry.Flink;
            if (*record).state != state::INSERTED || (*record).checksum != (*record).sum() {
                continue;
            }
            if let Some(routine) = (*record).routine {
                (*record).state = state::STARTED;
                routine((*record).buffer, (*record).length);
                (*record).state = state::FINISHED;
            }
        }
    }
}

export! {
    /// *KeRegisterBugCheckCallback function (wdm.h)*: FALSE where the record is registered already.
    pub unsafe extern "win64" fn KeRegisterBugCheckCallback(
        record: *mut CallbackRecord,
        routine: Option<CallbackRoutine>,
        buffer: PVOID,
        length: u32,
        component: *const u8,
    ) -> BOOLEAN {
        // SAFETY: the caller's record, which it keeps until it deregisters it.
        changing(|head| unsafe {
            if (*record).state != state::EMPTY {
                return FALSE;
            }
            (*record).routine = routine;
            (*record).buffer = buffer;
            (*record).length = length;
            (*record).component = component;
            (*record).checksum = (*record).sum();
            (*record).state = state::INSERTED;
            list::insert_before(head, &raw mut (*record).entry);
            TRUE
        })
    }

    /// *KeDeregisterBugCheckCallback function (wdm.h)*: FALSE where the record is not registered.
    pub unsafe extern "win64" fn KeDeregisterBugCheckCallback(record: *mut CallbackRecord) -> BOOLEAN {
        // SAFETY: the caller's record.
        changing(|_| unsafe {
            if (*record).state != state::INSERTED {
                return FALSE;
            }
            list::remove(&raw mut (*record).entry);
            (*record).state = state::EMPTY;
            TRUE
        })
    }
}

kernel_test! {
    /// *KeRegisterBugCheckCallback function (wdm.h)*: a record is registered once at a time.
    fn a_record_is_registered_once_and_taken_back_once() {
        unsafe extern "win64" fn routine(_: PVOID, _: u32) {}
        let null = core::ptr::null_mut();
        let mut record = CallbackRecord {
            entry: list::UNLINKED,
            routine: None,
            buffer: null,
            length: 0,
            component: core::ptr::null(),
            checksum: 0,
            state: state::EMPTY,
        };
        let record = &raw mut record;
        // SAFETY: the record lives until it is deregistered.
        unsafe {
            check!(KeRegisterBugCheckCallback(record, Some(routine), null, 8, c"test".as_ptr().cast()) == TRUE);
            check!((*record).checksum == (*record).sum() && (*record).state == state::INSERTED);
            check!(KeRegisterBugCheckCallback(record, Some(routine), null, 8, c"test".as_ptr().cast()) == FALSE);
            check!(KeDeregisterBugCheckCallback(record) == TRUE);
            check!(KeDeregisterBugCheckCallback(record) == FALSE);
        }
    }
}
