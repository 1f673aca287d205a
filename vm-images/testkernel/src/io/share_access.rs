//! Share access: who has a file or device open for what, and what the others may.
//!
//! A driver that allows several openers keeps a `SHARE_ACCESS` in its extension and asks these routines in its create
//! and cleanup routines. Nothing here is shared between callers: the driver serializes them, as documented.

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, FILE_OBJECT, NTSTATUS, STATUS_SHARING_VIOLATION, STATUS_SUCCESS, TRUE};
use crate::selftest::{check, kernel_test};

/// `SHARE_ACCESS`: how many openers there are, how many of them may what, and how many let others do it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ShareAccess {
    open: u32,
    readers: u32,
    writers: u32,
    deleters: u32,
    shared_read: u32,
    shared_write: u32,
    shared_delete: u32,
}

const _: () = assert!(size_of::<ShareAccess>() == 28);

const FILE_READ_DATA: u32 = 0x1;
const FILE_WRITE_DATA: u32 = 0x2;
const FILE_APPEND_DATA: u32 = 0x4;
const FILE_EXECUTE: u32 = 0x20;
const DELETE: u32 = 0x0001_0000;

const SHARE_READ: u32 = 1;
const SHARE_WRITE: u32 = 2;
const SHARE_DELETE: u32 = 4;

/// Puts down in the file object what it was opened for and what it shares; gives whether it counts at all.
fn note(file: &mut FILE_OBJECT, desired: u32, share: u32) -> bool {
    let flag = |set: bool| if set { TRUE } else { FALSE };
    file.ReadAccess = flag(desired & (FILE_READ_DATA | FILE_EXECUTE) != 0);
    file.WriteAccess = flag(desired & (FILE_WRITE_DATA | FILE_APPEND_DATA) != 0);
    file.DeleteAccess = flag(desired & DELETE != 0);
    let counts = accesses(file);
    file.SharedRead = flag(counts && share & SHARE_READ != 0);
    file.SharedWrite = flag(counts && share & SHARE_WRITE != 0);
    file.SharedDelete = flag(counts && share & SHARE_DELETE != 0);
    counts
}

/// Only an opener that may read, write or delete counts.
fn accesses(file: &FILE_OBJECT) -> bool {
    [file.ReadAccess, file.WriteAccess, file.DeleteAccess].iter().any(|&access| access != FALSE)
}

impl ShareAccess {
    /// Adds what a file is opened for, or takes it away.
    fn count(&mut self, file: &FILE_OBJECT, change: impl Fn(&mut u32, u32)) {
        if !accesses(file) {
            return;
        }
        change(&mut self.open, 1);
        change(&mut self.readers, file.ReadAccess.into());
        change(&mut self.writers, file.WriteAccess.into());
        change(&mut self.deleters, file.DeleteAccess.into());
        change(&mut self.shared_read, file.SharedRead.into());
        change(&mut self.shared_write, file.SharedWrite.into());
        change(&mut self.shared_delete, file.SharedDelete.into());
    }

    fn add(&mut self, file: &FILE_OBJECT) {
        self.count(file, |counter, by| *counter = counter.saturating_add(by));
    }

    /// Whether this opener wants what somebody does not share, or does not share what somebody has.
    fn conflicts(&self, file: &FILE_OBJECT) -> bool {
        let wants = |access: BOOLEAN, shared: u32| access != FALSE && shared < self.open;
        let denies = |share: BOOLEAN, holders: u32| share == FALSE && holders > 0;
        wants(file.ReadAccess, self.shared_read)
            || wants(file.WriteAccess, self.shared_write)
            || wants(file.DeleteAccess, self.shared_delete)
            || denies(file.SharedRead, self.readers)
            || denies(file.SharedWrite, self.writers)
            || denies(file.SharedDelete, self.deleters)
    }
}

/// Counts an opener in, the first or one more, unless it and the others do not go together.
pub fn check(
    file: &mut FILE_OBJECT,
    desired: u32,
    share: u32,
    access: &mut ShareAccess,
    first: bool,
) -> Result<(), NTSTATUS> {
    if first {
        *access = ShareAccess::default();
    }
    if note(file, desired, share) && access.conflicts(file) {
        return Err(STATUS_SHARING_VIOLATION);
    }
    access.add(file);
    Ok(())
}

/// Counts an opener out.
pub fn forget(file: &FILE_OBJECT, access: &mut ShareAccess) {
    access.count(file, |counter, by| *counter = counter.saturating_sub(by));
}

export! {
    /// *IoSetShareAccess function (wdm.h)*: of the first opener.
    pub unsafe extern "win64" fn IoSetShareAccess(
        desired: u32,
        share: u32,
        file: *mut FILE_OBJECT,
        access: *mut ShareAccess,
    ) {
        // SAFETY: the caller's file object and structure.
        let (file, access) = unsafe { (&mut *file, &mut *access) };
        *access = ShareAccess::default();
        note(file, desired, share);
        access.add(file);
    }

    /// *IoCheckShareAccess function (wdm.h)*: STATUS_SHARING_VIOLATION where this opener and the others do not go
    /// together; otherwise it counts, if `update` says so.
    pub unsafe extern "win64" fn IoCheckShareAccess(
        desired: u32,
        share: u32,
        file: *mut FILE_OBJECT,
        access: *mut ShareAccess,
        update: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's file object and structure.
        let (file, access) = unsafe { (&mut *file, &mut *access) };
        if note(file, desired, share) && access.conflicts(file) {
            return STATUS_SHARING_VIOLATION;
        }
        if update != FALSE {
            access.add(file);
        }
        STATUS_SUCCESS
    }

    /// *IoUpdateShareAccess function (wdm.h)*: counts an opener that was checked before.
    pub unsafe extern "win64" fn IoUpdateShareAccess(file: *const FILE_OBJECT, access: *mut ShareAccess) {
        // SAFETY: the caller's file object and structure.
        unsafe { (*access).add(&*file) };
    }

    /// *IoRemoveShareAccess function (wdm.h)*: the opener is gone.
    pub unsafe extern "win64" fn IoRemoveShareAccess(file: *const FILE_OBJECT, access: *mut ShareAccess) {
        // SAFETY: the caller's file object and structure.
        unsafe { (*access).count(&*file, |counter, by| *counter = counter.saturating_sub(by)) };
    }
}

kernel_test! {
    /// *IoCheckShareAccess function (wdm.h)*: both ways, and whoever wants nothing is no opener.
    fn openers_go_together_or_do_not() {
        // SAFETY: all zeros is a file object of nothing.
        let (mut first, mut second): (FILE_OBJECT, FILE_OBJECT) = unsafe { core::mem::zeroed() };
        let mut access = ShareAccess::default();
        // SAFETY: the objects are locals.
        unsafe {
            IoSetShareAccess(FILE_READ_DATA, SHARE_READ, &raw mut first, &raw mut access);
            check!(access == ShareAccess { open: 1, readers: 1, shared_read: 1, ..ShareAccess::default() });
            let mut check = |desired, share| IoCheckShareAccess(desired, share, &raw mut second, &raw mut access, FALSE);
            check!(check(FILE_READ_DATA, SHARE_READ) == STATUS_SUCCESS);
            check!(check(FILE_WRITE_DATA, SHARE_READ) == STATUS_SHARING_VIOLATION);
            check!(check(FILE_READ_DATA, 0) == STATUS_SHARING_VIOLATION);
            check!(check(0, 0) == STATUS_SUCCESS);
            check!(check(FILE_EXECUTE, SHARE_READ | SHARE_WRITE) == STATUS_SUCCESS);
            IoUpdateShareAccess(&raw const second, &raw mut access);
            check!(access.open == 2 && access.readers == 2 && access.shared_write == 1);
            IoRemoveShareAccess(&raw const second, &raw mut access);
            IoRemoveShareAccess(&raw const first, &raw mut access);
        }
        check!(access == ShareAccess::default());
    }
}
