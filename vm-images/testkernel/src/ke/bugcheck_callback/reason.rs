//! Bug check callbacks for a reason: to add pages to the dump, to see it written, or to add data of the driver's own.
//!
//! This guest writes no dump: the host takes it, of all memory, when the guest has told of its end. So pages that a driver
//! adds are in it anyway, and are only counted. The data that a driver adds is told on the console with its GUID, and lies in the
//! dump as any memory does. And who wants to see the dump written is shown what the guest itself has of it, in order, as a file
//! that is written sequentially: the header, each driver's data, and the end. The body is the host's.
//!
//! Sources: *Writing a Bug Check Reason Callback Routine*, *KBUGCHECK_REASON_CALLBACK_ROUTINE callback function (wdm.h)*,
//! *BugCheckSecondaryDumpDataCallback routine*, *BugCheckDumpIoCallback routine*, *BugCheckAddPagesCallback routine*.

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::offset_of;
use core::ops::Range;
use core::ptr;

use super::records::{Records, is_readable, state};
use crate::console::print_unlocked;
use crate::crash::dump;
use crate::ldr::export::export;
use crate::mm::frame::PAGE_SIZE;
use crate::nt::{BOOLEAN, FALSE, GUID, LIST_ENTRY, PVOID, TRUE};
use crate::selftest::{check, kernel_test};

/// `KBUGCHECK_CALLBACK_REASON`. Those that came with Windows 8 and later are not called here, and cannot be registered for.
mod why {
    pub const SECONDARY_DUMP_DATA: u32 = 2;
    pub const DUMP_IO: u32 = 3;
    pub const ADD_PAGES: u32 = 4;
}

/// `KBUGCHECK_REASON_CALLBACK_ROUTINE`.
pub type ReasonRoutine =
    unsafe extern "win64" fn(reason: u32, record: *mut ReasonRecord, data: PVOID, length: u32);

/// `KBUGCHECK_REASON_CALLBACK_RECORD`.
#[derive(Debug)]
#[repr(C)]
pub struct ReasonRecord {
    entry: LIST_ENTRY,
    routine: Option<ReasonRoutine>,
    component: *const u8,
    checksum: usize,
    reason: u32,
    state: u8,
}

/// `KBUGCHECK_SECONDARY_DUMP_DATA`.
#[repr(C)]
struct SecondaryData {
    in_buffer: PVOID,
    in_length: u32,
    maximum: u32,
    guid: GUID,
    out_buffer: PVOID,
    out_length: u32,
}

/// `KBUGCHECK_DUMP_IO`.
#[repr(C)]
struct DumpIo {
    offset: u64,
    buffer: PVOID,
    length: u32,
    kind: u32,
}

/// `KBUGCHECK_DUMP_IO_TYPE`.
mod io_type {
    pub const HEADER: u32 = 1;
    pub const SECONDARY_DATA: u32 = 3;
    pub const COMPLETE: u32 = 4;
}

/// `KBUGCHECK_ADD_PAGES`.
#[repr(C)]
struct AddPages {
    context: PVOID,
    flags: u32,
    code: u32,
    address: usize,
    count: usize,
}

/// `KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST`.
const MORE_RANGES: u32 = 1 << 31;

const _: () = {
    assert!(size_of::<ReasonRecord>() == 0x30 && offset_of!(ReasonRecord, state) == 0x2C);
    assert!(size_of::<SecondaryData>() == 0x30 && offset_of!(SecondaryData, out_buffer) == 0x20);
    assert!(size_of::<DumpIo>() == 0x18 && offset_of!(DumpIo, kind) == 0x14);
    assert!(size_of::<AddPages>() == 0x20 && offset_of!(AddPages, address) == 0x10);
};

static REGISTERED: Records = Records::new();

/// The most ranges that one callback adds: one that always has another goes on for ever.
const MOST_RANGES: usize = 1024;
/// The most data that one callback adds, in bytes.
const MOST_DATA: u32 = 1 << 20;
/// The file's offset where it is written sequentially.
const SEQUENTIAL: u64 = u64::MAX;

/// What callbacks may put their data in.
#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u8; PAGE_SIZE]>);

// SAFETY: only the owner of a bug check uses it.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; PAGE_SIZE]));

impl ReasonRecord {
    fn routine(&self) -> usize {
        self.routine.map_or(0, |routine| routine as usize)
    }

    fn sum(&self) -> usize {
        self.routine().wrapping_add(self.reason as usize).wrapping_add(self.component.addr())
    }
}

/// A component's name, as far as it can be read.
struct Component(*const u8);

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..32 {
            let at = self.0.wrapping_add(index);
            if !is_readable(at.addr(), 1) {
                break;
            }
            // SAFETY: the byte can be read.
            match unsafe { at.read() } {
                0 => break,
                byte @ b' '..0x7F => write!(f, "{}", byte as char)?,
                _ => f.write_str(".")?,
            }
        }
        Ok(())
    }
}

/// Calls `with` for each record of this reason that is what was registered.
fn each(reason: u32, mut with: impl FnMut(*mut ReasonRecord, ReasonRoutine)) {
    REGISTERED.for_each_at_the_end(|record: *mut ReasonRecord| {
        // SAFETY: a record that is visited can be read.
        let (wanted, routine) = unsafe {
            let is_whole = (*record).state == state::INSERTED && (*record).checksum == (*record).sum();
            (is_whole && (*record).reason == reason, (*record).routine)
        };
        if let Some(routine) = routine.filter(|_| wanted) {
            with(record, routine);
        }
    });
}

/// One call, with the state that shows it. What `data` leads to is what the reason has.
///
/// # Safety
/// `data` is the structure of `reason`.
unsafe fn call<T>(record: *mut ReasonRecord, routine: ReasonRoutine, reason: u32, data: &mut T, after: u8) {
    // SAFETY: the record can be written, as it could be registered; the caller's for the structure.
    unsafe {
        (*record).state = state::STARTED;
        routine(reason, record, ptr::from_mut(data).cast(), size_of::<T>() as u32);
        (*record).state = after;
    }
}

/// Calls every routine that is registered for a reason, at a bug check with this code. For its owner, all others stopped, at
/// HIGH_LEVEL, when the dump's header is complete.
pub fn call_all(code: u32) {
    add_pages(code);
    let (header, bytes) = dump::header();
    show(io_type::HEADER, header.cast_mut().cast(), bytes as u32, state::INSERTED);
    secondary_data();
    show(io_type::COMPLETE, ptr::null_mut(), 0, state::FINISHED);
}

/// *BugCheckAddPagesCallback routine*: called again as long as there are more ranges; the context is the driver's.
fn add_pages(code: u32) {
    each(why::ADD_PAGES, |record, routine| {
        let mut data = AddPages { context: ptr::null_mut(), flags: 0, code, address: 0, count: 0 };
        let mut pages = 0_usize;
        for _ in 0..MOST_RANGES {
            data.flags = 0;
            // SAFETY: the structure of this reason.
            unsafe { call(record, routine, why::ADD_PAGES, &mut data, state::FINISHED) };
            pages = pages.saturating_add(data.count);
            if data.flags & MORE_RANGES == 0 {
                break;
            }
        }
        // SAFETY: the record can be read.
        let component = Component(unsafe { (*record).component });
        print_unlocked(format_args!("*** {component} adds {pages} pages to the dump\n"));
    });
}

/// *BugCheckSecondaryDumpDataCallback routine*: asked first how much it is, then for the data.
fn secondary_data() {
    each(why::SECONDARY_DUMP_DATA, |record, routine| {
        let in_buffer: PVOID = BUFFER.0.get().cast();
        let guid = GUID { Data1: 0, Data2: 0, Data3: 0, Data4: [0; 8] };
        let in_length = PAGE_SIZE as u32;
        let out_buffer = ptr::null_mut();
        let mut data =
            SecondaryData { in_buffer, in_length, maximum: MOST_DATA, guid, out_buffer, out_length: 0 };
        // SAFETY: the structure of this reason.
        unsafe { call(record, routine, why::SECONDARY_DUMP_DATA, &mut data, state::FINISHED) };
        if data.out_length == 0 || data.out_length > MOST_DATA {
            return;
        }
        data.out_buffer = in_buffer;
        // SAFETY: as above.
        unsafe { call(record, routine, why::SECONDARY_DUMP_DATA, &mut data, state::FINISHED) };
        let most = if data.out_buffer == in_buffer { in_length } else { MOST_DATA };
        let (at, bytes) = (data.out_buffer.addr(), data.out_length as usize);
        let pages = (at..at.saturating_add(bytes)).step_by(PAGE_SIZE);
        let there = is_readable(at, bytes) && pages.into_iter().all(|page| is_readable(page, 1));
        if bytes == 0 || data.out_length > most || !there {
            return;
        }
        // SAFETY: the record can be read.
        let component = Component(unsafe { (*record).component });
        print_unlocked(format_args!(
            "*** {component} adds {bytes} bytes to the dump as {}\n",
            Name(&data.guid)
        ));
        show(io_type::SECONDARY_DATA, data.out_buffer, data.out_length, state::INSERTED);
    });
}

/// *BugCheckDumpIoCallback routine*: each is shown a piece of the dump.
fn show(kind: u32, buffer: PVOID, length: u32, after: u8) {
    each(why::DUMP_IO, |record, routine| {
        let mut data = DumpIo { offset: SEQUENTIAL, buffer, length, kind };
        // SAFETY: the structure of this reason.
        unsafe { call(record, routine, why::DUMP_IO, &mut data, after) };
    });
}

/// A GUID as people write it.
struct Name<'a>(&'a GUID);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GUID { Data1, Data2, Data3, Data4: [a, b, rest @ ..] } = self.0;
        write!(f, "{Data1:08x}-{Data2:04x}-{Data3:04x}-{a:02x}{b:02x}-")?;
        rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Records whose routines lie in `range`.
pub fn leading_into(range: &Range<u64>, found: &mut [(usize, u64)]) {
    REGISTERED.leading_into(range, found);
}

export! {
    /// *KeRegisterBugCheckReasonCallback function (wdm.h)*: FALSE where the record is registered already, or the reason is none
    /// that this guest has.
    pub unsafe extern "win64" fn KeRegisterBugCheckReasonCallback(
        record: *mut ReasonRecord,
        routine: Option<ReasonRoutine>,
        reason: u32,
        component: *const u8,
    ) -> BOOLEAN {
        if !(why::SECONDARY_DUMP_DATA..=why::ADD_PAGES).contains(&reason) {
            return FALSE;
        }
        // SAFETY: the caller's record, which it keeps until it deregisters it.
        let prepare = || unsafe {
            if (*record).state != state::EMPTY {
                return false;
            }
            (*record).routine = routine;
            (*record).reason = reason;
            (*record).component = component;
            (*record).checksum = (*record).sum();
            (*record).state = state::INSERTED;
            true
        };
        let at = routine.map_or(0, |routine| routine as usize);
        // SAFETY: as above.
        unsafe { REGISTERED.insert(record, at, prepare) }.into()
    }

    /// *KeDeregisterBugCheckReasonCallback function (wdm.h)*: FALSE where the record is not registered.
    pub unsafe extern "win64" fn KeDeregisterBugCheckReasonCallback(record: *mut ReasonRecord) -> BOOLEAN {
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
    /// *KeRegisterBugCheckReasonCallback function (wdm.h)*: a record is registered once at a time, for a reason that exists.
    fn a_record_with_a_reason_is_registered_once() {
        unsafe extern "win64" fn routine(_: u32, _: *mut ReasonRecord, _: PVOID, _: u32) {}
        // SAFETY: zero is a record that was initialized, and it lives until it is deregistered.
        unsafe {
            let mut record = core::mem::MaybeUninit::<ReasonRecord>::zeroed();
            let record = record.as_mut_ptr();
            let register = |reason| KeRegisterBugCheckReasonCallback(record, Some(routine), reason, c"test".as_ptr().cast());
            check!(register(0) == FALSE && register(1) == FALSE && register(5) == FALSE);
            for reason in 2..=4 {
                check!(register(reason) == TRUE && (*record).reason == reason && (*record).state == state::INSERTED);
                check!((*record).checksum == (*record).sum() && register(reason) == FALSE);
                check!(KeDeregisterBugCheckReasonCallback(record) == TRUE);
                check!(KeDeregisterBugCheckReasonCallback(record) == FALSE);
            }
        }
    }
}
