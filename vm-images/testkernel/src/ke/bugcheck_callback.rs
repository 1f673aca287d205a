//! What drivers want to do when the system stops: bug check callbacks.
//!
//! A driver registers a record of its own memory and a routine that brings its device to rest. The routine is
//! called at HIGH_LEVEL after the crash record is written, every other processor stopped; one that faults does
//! no harm to what has been told.
//!
//! Those that ask to be called for a [`reason`] have a list of their own.

use core::mem::offset_of;
use core::ops::Range;

use super::list;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, LIST_ENTRY, PVOID, TRUE};
use crate::selftest::{check, kernel_test};

pub mod reason;
mod records;

use records::{Records, state};

/// `KBUGCHECK_CALLBACK_ROUTINE`.
pub type CallbackRoutine = unsafe extern "win64" fn(buffer: PVOID, length: u32);

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

static REGISTERED: Records = Records::new();

/// The most records of one image that are told of.
const MOST_OF_AN_IMAGE: usize = 16;

impl CallbackRecord {
    fn routine(&self) -> usize {
        self.routine.map_or(0, |routine| routine as usize)
    }

    fn sum(&self) -> usize {
        self.routine()
            .wrapping_add(self.buffer.addr())
            .wrapping_add(self.length as usize)
            .wrapping_add(self.component.addr())
    }
}

/// Calls every routine that is registered. For the owner of a bug check, all others stopped, at HIGH_LEVEL.
pub fn call_all() {
    // SAFETY: a record that is visited can be read; its checksum says whether it still is what was registered.
    REGISTERED.for_each_at_the_end(|record: *mut CallbackRecord| unsafe {
        if (*record).state != state::INSERTED || (*record).checksum != (*record).sum() {
            return;
        }
        if let Some(routine) = (*record).routine {
            (*record).state = state::STARTED;
            routine((*record).buffer, (*record).length);
            (*record).state = state::FINISHED;
        }
    });
}

/// Records, of both kinds, whose routines lie in `range`, each with its routine.
pub fn leading_into(range: &Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let mut found = [(0, 0); 2 * MOST_OF_AN_IMAGE];
    let (plain, with_reason) = found.split_at_mut(MOST_OF_AN_IMAGE);
    REGISTERED.leading_into(range, plain);
    reason::leading_into(range, with_reason);
    found.into_iter().filter(|(record, _)| *record != 0)
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
        let prepare = || unsafe {
            if (*record).state != state::EMPTY {
                return false;
            }
            (*record).routine = routine;
            (*record).buffer = buffer;
            (*record).length = length;
            (*record).component = component;
            (*record).checksum = (*record).sum();
            (*record).state = state::INSERTED;
            true
        };
        let at = routine.map_or(0, |routine| routine as usize);
        // SAFETY: the caller's record, which it keeps until it deregisters it.
        unsafe { REGISTERED.insert(record, at, prepare) }.into()
    }

    /// *KeDeregisterBugCheckCallback function (wdm.h)*: FALSE where the record is not registered.
    pub unsafe extern "win64" fn KeDeregisterBugCheckCallback(record: *mut CallbackRecord) -> BOOLEAN {
        // SAFETY: the caller's record.
        let is_in = || unsafe {
            let is_in = (*record).state == state::INSERTED;
            if is_in {
                (*record).state = state::EMPTY;
            }
            is_in
        };
        // SAFETY: as above.
        unsafe { REGISTERED.remove(record, is_in) }.into()
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

    /// *KeDeregisterBugCheckCallback function (wdm.h)*: who unloads has to; until then the record is found by its routine.
    fn a_record_is_found_by_where_its_routine_lies() {
        unsafe extern "win64" fn routine(_: PVOID, _: u32) {}
        let null = core::ptr::null_mut();
        // SAFETY: zero is a record that was initialized, and it lives until it is deregistered.
        unsafe {
            let mut record = core::mem::MaybeUninit::<CallbackRecord>::zeroed();
            let record = record.as_mut_ptr();
            let at = routine as *const () as usize as u64;
            check!(KeRegisterBugCheckCallback(record, Some(routine), null, 0, null.cast()) == TRUE);
            check!(leading_into(&(at..at + 1)).eq([(record.addr(), at)]));
            check!(leading_into(&(at + 1..at + 2)).next().is_none());
            // Where its memory was freed and is somebody else's already, it is no less registered.
            let kept = record.read();
            (*record).routine = None;
            check!(leading_into(&(at..at + 1)).eq([(record.addr(), at)]));
            record.write(kept);
            check!(KeDeregisterBugCheckCallback(record) == TRUE);
            check!(leading_into(&(at..at + 1)).next().is_none());
        }
    }
}
