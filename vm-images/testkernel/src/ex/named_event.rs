//! Events with a handle: what `ZwCreateEvent` makes, and `IoCreateNotificationEvent` opens or makes by name.
//!
//! The object is a KEVENT, so that a driver that has its address uses it as any other. A name lasts as long as the object.

use alloc::boxed::Box;

use crate::ke::event;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, HANDLE, KEVENT, NTSTATUS, OBJECT_ATTRIBUTES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
    UNICODE_STRING, object_type,
};
use crate::ob::named::{self, OPEN_IF, flags_of, give, handle_for, made_or_there, name_of, with_object};
use crate::ob::types::Kind;

/// `EVENT_ALL_ACCESS`.
const ALL_ACCESS: u32 = 0x001F_0003;

fn delete(address: usize) {
    named::forget(address);
    // SAFETY: made as a box by `make`, and nobody refers to it any more.
    drop(unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<KEVENT>(address)) });
}

/// A new event, with the reference of the handle that it is going to have.
fn make(kind: u8, signalled: bool, name: Option<&[u16]>) -> Result<usize, NTSTATUS> {
    // SAFETY: all zeros is storage for an event, which is initialized before anybody knows it.
    let made = Box::into_raw(Box::new(unsafe { core::mem::zeroed::<KEVENT>() }));
    // SAFETY: as above.
    unsafe { event::initialize(made, kind, signalled) };
    named::insert(made.expose_provenance(), Kind::Event, delete, name)
}

/// Opens or makes, for IoCreateNotificationEvent and its twin; null where neither can be.
///
/// # Safety
/// `name` must be valid, and `to` have room for the handle.
unsafe fn create_by_name(name: *const UNICODE_STRING, to: *mut HANDLE, kind: u8) -> *mut KEVENT {
    // SAFETY: the caller's contract.
    let name = unsafe { (*name).units() };
    let found = made_or_there(make(kind, true, Some(name)), Some(name), Kind::Event, OPEN_IF);
    match found.and_then(|(address, _)| Ok((address, handle_for(address, ALL_ACCESS)?))) {
        Ok((address, handle)) => {
            // SAFETY: the caller's contract.
            unsafe { to.write(handle) };
            core::ptr::with_exposed_provenance_mut(address)
        }
        Err(_) => core::ptr::null_mut(),
    }
}

/// Does something with the event behind a handle.
fn with_event(handle: HANDLE, action: impl FnOnce(*mut KEVENT)) -> NTSTATUS {
    let done =
        with_object(handle, Kind::Event, |address| action(core::ptr::with_exposed_provenance_mut(address)));
    done.map_or_else(|status| status, |()| STATUS_SUCCESS)
}

/// Gives back what an event was before, where that is wanted.
///
/// # Safety
/// `to` must be null or have room for a number.
unsafe fn tell(to: *mut i32, before: i32) {
    if !to.is_null() {
        // SAFETY: the caller's contract.
        unsafe { to.write(before) };
    }
}

export! {
    /// *IoCreateNotificationEvent function (wdm.h)*: the event of that name, made and signalled where there is none.
    pub unsafe extern "win64" fn IoCreateNotificationEvent(
        name: *const UNICODE_STRING,
        to: *mut HANDLE,
    ) -> *mut KEVENT {
        // SAFETY: the caller's.
        unsafe { create_by_name(name, to, object_type::EVENT_NOTIFICATION) }
    }

    /// *IoCreateSynchronizationEvent function (wdm.h)*: the same, and one waiter is let go at a time.
    pub unsafe extern "win64" fn IoCreateSynchronizationEvent(
        name: *const UNICODE_STRING,
        to: *mut HANDLE,
    ) -> *mut KEVENT {
        // SAFETY: the caller's.
        unsafe { create_by_name(name, to, object_type::EVENT_SYNCHRONIZATION) }
    }

    /// *ZwCreateEvent function (ntifs.h)*: STATUS_OBJECT_NAME_COLLISION where the name is taken, or, where OBJ_OPENIF is said,
    /// that event with STATUS_OBJECT_NAME_EXISTS.
    pub unsafe extern "win64" fn ZwCreateEvent(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        kind: u32,
        initial: BOOLEAN,
    ) -> NTSTATUS {
        let kind = match kind {
            0 => object_type::EVENT_NOTIFICATION,
            1 => object_type::EVENT_SYNCHRONIZATION,
            _ => return STATUS_INVALID_PARAMETER,
        };
        // SAFETY: the caller's attributes, and storage for the handle.
        unsafe {
            let found = name_of(attributes).and_then(|name| {
                let name = name.as_deref();
                made_or_there(make(kind, initial != FALSE, name), name, Kind::Event, flags_of(attributes))
            });
            give(to, found, access)
        }
    }

    /// *ZwOpenEvent*: the event of that name.
    pub unsafe extern "win64" fn ZwOpenEvent(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            let name = name_of(attributes).and_then(|name| name.ok_or(STATUS_INVALID_PARAMETER));
            let found = name.and_then(|name| named::open(&name, Kind::Event));
            give(to, found.map(|address| (address, STATUS_SUCCESS)), access)
        }
    }

    /// *ZwSetEvent function (ntifs.h)*.
    pub unsafe extern "win64" fn ZwSetEvent(handle: HANDLE, before: *mut i32) -> NTSTATUS {
        // SAFETY: the event is referred to meanwhile; the caller's storage.
        with_event(handle, |event| unsafe { tell(before, event::set(event)) })
    }

    /// *ZwPulseEvent*.
    pub unsafe extern "win64" fn ZwPulseEvent(handle: HANDLE, before: *mut i32) -> NTSTATUS {
        // SAFETY: as above.
        with_event(handle, |event| unsafe { tell(before, event::KePulseEvent(event, 0, FALSE)) })
    }

    /// *ZwResetEvent*.
    pub unsafe extern "win64" fn ZwResetEvent(handle: HANDLE, before: *mut i32) -> NTSTATUS {
        // SAFETY: as above.
        with_event(handle, |event| unsafe { tell(before, event::KeResetEvent(event)) })
    }

    /// *ZwClearEvent*.
    pub unsafe extern "win64" fn ZwClearEvent(handle: HANDLE) -> NTSTATUS {
        // SAFETY: as above.
        with_event(handle, |event| unsafe { event::KeClearEvent(event) })
    }
}
