//! Events with a handle: what `ZwCreateEvent` makes, and `IoCreateNotificationEvent` opens or makes by name.
//!
//! The object is a KEVENT, so that a driver that has its address uses it as any other. A name lasts as long as the object.

use alloc::boxed::Box;

use crate::ke::event;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, HANDLE, KEVENT, NTSTATUS, OBJECT_ATTRIBUTES, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_EXISTS, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
    UNICODE_STRING, object_type,
};
use crate::ob::handle::{self, Target};
use crate::ob::types::Kind;
use crate::ob::{self, names};

/// `EVENT_ALL_ACCESS`.
const ALL_ACCESS: u32 = 0x001F_0003;
/// `OBJ_OPENIF`.
const OPEN_IF: u32 = 0x80;

fn delete(address: usize) {
    names::with(|names| names.remove(|object| object == address));
    // SAFETY: made as a box by `make`, and nobody refers to it any more.
    drop(unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<KEVENT>(address)) });
}

/// A new event, with the reference of the handle that it is going to have.
fn make(kind: u8, signalled: bool, name: Option<&[u16]>) -> Result<usize, NTSTATUS> {
    // SAFETY: all zeros is storage for an event, which is initialized before anybody knows it.
    let made = Box::into_raw(Box::new(unsafe { core::mem::zeroed::<KEVENT>() }));
    // SAFETY: as above.
    unsafe { event::initialize(made, kind, signalled) };
    let address = made.expose_provenance();
    ob::insert(address, Kind::Event, delete);
    if let Some(name) = name
        && let Err(error) = names::with(|names| names.insert(name, address))
    {
        ob::dereference(address);
        return Err(names::status_of(error));
    }
    Ok(address)
}

/// The event of that name, with one more reference.
fn open(name: &[u16]) -> Result<usize, NTSTATUS> {
    let (address, rest) = names::with(|names| names.resolve(name)).map_err(names::status_of)?;
    if !rest.is_empty() {
        return Err(STATUS_OBJECT_TYPE_MISMATCH);
    }
    ob::reference_of_type(address, Kind::Event.object_type())?;
    Ok(address)
}

/// A handle for an event, which takes over a reference.
fn handle_for(address: usize, access: u32) -> Result<HANDLE, NTSTATUS> {
    handle::create_with(Target::Object(address), access).inspect_err(|_| {
        ob::dereference(address);
    })
}

/// # Safety
/// `attributes` must be null or valid, with a name or none.
unsafe fn name_of<'a>(attributes: *const OBJECT_ATTRIBUTES) -> Option<&'a [u16]> {
    // SAFETY: the caller's contract.
    unsafe { Some(attributes.as_ref()?.ObjectName.as_ref()?.units()) }
}

/// Opens or makes, for IoCreateNotificationEvent and its twin; null where neither can be.
///
/// # Safety
/// `name` must be valid, and `to` have room for the handle.
unsafe fn create_by_name(name: *const UNICODE_STRING, to: *mut HANDLE, kind: u8) -> *mut KEVENT {
    // SAFETY: the caller's contract.
    let name = unsafe { (*name).units() };
    let address = match make(kind, true, Some(name)) {
        Err(STATUS_OBJECT_NAME_COLLISION) => open(name),
        made => made,
    };
    match address.and_then(|address| Ok((address, handle_for(address, ALL_ACCESS)?))) {
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
    let found = handle::object(handle)
        .and_then(|(address, _)| ob::reference_of_type(address, Kind::Event.object_type()).map(|()| address));
    match found {
        Ok(address) => {
            action(core::ptr::with_exposed_provenance_mut(address));
            ob::dereference(address);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
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
        // SAFETY: the caller's.
        let (name, flags) =
            unsafe { (name_of(attributes), attributes.as_ref().map_or(0, |attributes| attributes.Attributes)) };
        let made = match (make(kind, initial != FALSE, name), name) {
            (Err(STATUS_OBJECT_NAME_COLLISION), Some(name)) if flags & OPEN_IF != 0 => {
                open(name).map(|address| (address, STATUS_OBJECT_NAME_EXISTS))
            }
            (made, _) => made.map(|address| (address, STATUS_SUCCESS)),
        };
        match made.and_then(|(address, status)| Ok((handle_for(address, access)?, status))) {
            Ok((handle, status)) => {
                // SAFETY: the caller gives storage for the handle.
                unsafe { to.write(handle) };
                status
            }
            Err(status) => status,
        }
    }

    /// *ZwOpenEvent*: the event of that name.
    pub unsafe extern "win64" fn ZwOpenEvent(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        let Some(name) = (unsafe { name_of(attributes) }) else { return STATUS_INVALID_PARAMETER };
        match open(name).and_then(|address| handle_for(address, access)) {
            Ok(handle) => {
                // SAFETY: the caller gives storage for the handle.
                unsafe { to.write(handle) };
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *ZwSetEvent function (ntifs.h)*.
    pub unsafe extern "win64" fn ZwSetEvent(handle: HANDLE, before: *mut i32) -> NTSTATUS {
        // SAFETY: the event is referred to meanwhile; the caller's storage.
        with_event(handle, |event| unsafe { tell(before, event::set(event)) })
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
