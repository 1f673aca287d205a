//! Timers with a handle: what `ZwCreateTimer` makes.
//!
//! The object is a KTIMER, to be waited for by its handle. A routine that is called when it expires would be an asynchronous
//! procedure call, of which this kernel delivers none: one that is asked for is refused.

use alloc::boxed::Box;

use crate::ke::timer;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, HANDLE, KTIMER, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_SUCCESS, object_type,
};
use crate::ob::named::{self, flags_of, give, made_or_there, name_of, with_object};
use crate::ob::types::Kind;

fn delete(address: usize) {
    named::forget(address);
    let timer = core::ptr::with_exposed_provenance_mut::<KTIMER>(address);
    // SAFETY: made as a box by `make`; nobody refers to it any more, and once it is cancelled not even the clock does.
    unsafe {
        timer::KeCancelTimer(timer);
        drop(Box::from_raw(timer));
    }
}

/// A new timer, with the reference of the handle that it is going to have.
fn make(kind: u8, name: Option<&[u16]>) -> Result<usize, NTSTATUS> {
    // SAFETY: all zeros is storage for a timer, which is initialized before anybody knows it.
    let made = Box::into_raw(Box::new(unsafe { core::mem::zeroed::<KTIMER>() }));
    // SAFETY: as above.
    unsafe { timer::initialize(made, kind) };
    named::insert(made.expose_provenance(), Kind::Timer, delete, name)
}

/// Gives back whether a timer had expired, where that is wanted.
///
/// # Safety
/// `to` must be null or have room for a byte.
unsafe fn tell(to: *mut BOOLEAN, expired: BOOLEAN) {
    if !to.is_null() {
        // SAFETY: the caller's contract.
        unsafe { to.write(expired) };
    }
}

export! {
    /// *ZwCreateTimer function (ntifs.h)*: STATUS_OBJECT_NAME_COLLISION where the name is taken, or, where OBJ_OPENIF is said, that
    /// timer with STATUS_OBJECT_NAME_EXISTS.
    pub unsafe extern "win64" fn ZwCreateTimer(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        kind: u32,
    ) -> NTSTATUS {
        let kind = match kind {
            0 => object_type::TIMER_NOTIFICATION,
            1 => object_type::TIMER_SYNCHRONIZATION,
            _ => return STATUS_INVALID_PARAMETER,
        };
        // SAFETY: the caller's attributes, and storage for the handle.
        unsafe {
            let found = name_of(attributes).and_then(|name| {
                let name = name.as_deref();
                made_or_there(make(kind, name), name, Kind::Timer, flags_of(attributes))
            });
            give(to, found, access)
        }
    }

    /// *ZwOpenTimer function (ntifs.h)*: the timer of that name.
    pub unsafe extern "win64" fn ZwOpenTimer(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            let name = name_of(attributes).and_then(|name| name.ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD));
            let found = name.and_then(|name| named::open(&name, Kind::Timer));
            give(to, found.map(|address| (address, STATUS_SUCCESS)), access)
        }
    }

    /// *ZwSetTimer function (ntifs.h)*: not signalled until it is due, which it is once, or again and again. A routine is refused.
    pub unsafe extern "win64" fn ZwSetTimer(
        handle: HANDLE,
        due: *const i64,
        routine: PVOID,
        _context: PVOID,
        _resume: BOOLEAN,
        period: i32,
        before: *mut BOOLEAN,
    ) -> NTSTATUS {
        if !routine.is_null() || period < 0 {
            return STATUS_INVALID_PARAMETER;
        }
        let set = with_object(handle, Kind::Timer, |address| {
            let timer = core::ptr::with_exposed_provenance_mut::<KTIMER>(address);
            // SAFETY: the timer is referred to meanwhile; the caller's time and storage.
            unsafe {
                let expired = timer::KeReadStateTimer(timer);
                timer::KeSetTimerEx(timer, due.read_unaligned(), period, core::ptr::null_mut());
                tell(before, expired);
            }
        });
        set.map_or_else(|status| status, |()| STATUS_SUCCESS)
    }

    /// *ZwCancelTimer function (ntifs.h)*: it stays as it is, signalled or not.
    pub unsafe extern "win64" fn ZwCancelTimer(handle: HANDLE, state: *mut BOOLEAN) -> NTSTATUS {
        let cancelled = with_object(handle, Kind::Timer, |address| {
            let timer = core::ptr::with_exposed_provenance_mut::<KTIMER>(address);
            // SAFETY: as above.
            unsafe {
                timer::KeCancelTimer(timer);
                tell(state, timer::KeReadStateTimer(timer));
            }
        });
        cancelled.map_or_else(|status| status, |()| STATUS_SUCCESS)
    }
}
