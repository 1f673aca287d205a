//! The object manager: which objects there are, who still needs them, what they are called.
//!
//! An object lives as long as somebody holds a reference. The counts are kept apart from the objects, which are memory
//! that drivers write to: a driver may spoil its device object, but not the answer to "does this object exist?".
//! Deletion may have to wait or to call drivers, so it happens at PASSIVE_LEVEL: where the last reference goes at a
//! higher level, a thread of its own ([`init`]) does it a moment later.

pub mod by_name;
pub mod directory;
pub mod filter;
pub mod handle;
pub mod named;
pub mod names;
pub mod query;
pub mod symbolic_link;
pub mod tagged;
pub mod types;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ex;
use crate::ke::bugcheck::bugcheck;
use crate::ke::event::Event;
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::ke::thread::{self, OutOfMemory};
use crate::ldr::export::export;
use crate::mm;
use crate::nt::{
    HANDLE, KERNEL_MODE, NTSTATUS, PVOID, STATUS_ACCESS_DENIED, STATUS_INVALID_HANDLE,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};
use crate::ps;
use crate::se;
use crate::selftest::{check, kernel_test};

use types::Kind;

const REFERENCE_BY_POINTER: u32 = 0x18;
const REAPER_PRIORITY: u8 = 16;

/// What becomes of an object that nobody needs any more; called once, at PASSIVE_LEVEL.
pub type Delete = fn(address: usize);

#[derive(Clone, Copy)]
struct Entry {
    kind: Kind,
    references: usize,
    delete: Delete,
}

static OBJECTS: SpinLock<BTreeMap<usize, Entry>> = SpinLock::new(BTreeMap::new());

/// Objects whose last reference went above PASSIVE_LEVEL.
static DOOMED: SpinLock<Vec<(usize, Delete)>> = SpinLock::new(Vec::new());
static WAKE: SpinLock<Option<&'static Event>> = SpinLock::new(None);

/// Starts the thread that deletes what could not be deleted on the spot.
pub fn init() -> Result<(), OutOfMemory> {
    let wake: &'static Event = Box::leak(Box::new(Event::new_synchronization()));
    *WAKE.lock() = Some(wake);
    types::init();
    ps::process::init();
    se::token::init();
    mm::section_object::init();
    ex::callback::init();
    thread::spawn("object reaper", REAPER_PRIORITY, move || {
        loop {
            wake.wait(None);
            let doomed = core::mem::take(&mut *DOOMED.lock());
            for (address, delete) in doomed {
                delete(address);
            }
        }
    })?;
    Ok(())
}

/// Makes the object at `address` known, with one reference.
pub fn insert(address: usize, kind: Kind, delete: Delete) {
    OBJECTS.lock().insert(address, Entry { kind, references: 1, delete });
}

/// Another reference to an object; false where there is no object at `address`.
pub fn reference(address: usize) -> bool {
    reference_known(address) || (ps::thread::adopt(address) && reference_known(address))
}

fn reference_known(address: usize) -> bool {
    match OBJECTS.lock().get_mut(&address) {
        Some(entry) => {
            entry.references += 1;
            true
        }
        None => false,
    }
}

/// Another reference to an object, if it is of the type that is asked for ([`types::ANY`]: whatever it is).
pub fn reference_of_type(address: usize, wanted: PVOID) -> Result<(), NTSTATUS> {
    if !reference(address) {
        return Err(STATUS_INVALID_HANDLE);
    }
    // The reference keeps the entry.
    if kind(address).is_some_and(|kind| kind.is(wanted)) {
        return Ok(());
    }
    dereference(address);
    Err(STATUS_OBJECT_TYPE_MISMATCH)
}

/// What the object at `address` is.
pub fn kind(address: usize) -> Option<Kind> {
    OBJECTS.lock().get(&address).map(|entry| entry.kind)
}

/// How many references an object has.
pub fn references(address: usize) -> Option<usize> {
    OBJECTS.lock().get(&address).map(|entry| entry.references)
}

/// One reference less; gives how many are left, or nothing where there is no such object.
pub fn dereference(address: usize) -> Option<usize> {
    let (left, delete) = {
        let mut objects = OBJECTS.lock();
        let entry = objects.get_mut(&address)?;
        entry.references -= 1;
        let found = (entry.references, entry.delete);
        if found.0 == 0 {
            objects.remove(&address);
        }
        found
    };
    if left == 0 {
        if irql::current() == Irql::PASSIVE {
            delete(address);
        } else {
            doom(address, delete);
        }
    }
    Some(left)
}

/// Leaves the deletion to the thread that is there for it.
fn doom(address: usize, delete: Delete) {
    DOOMED.lock().push((address, delete));
    let wake = *WAKE.lock();
    if let Some(wake) = wake {
        wake.set();
    }
}

/// One reference less; if it was the last, the object is not deleted by the caller but a moment later.
fn dereference_later(address: usize) {
    let doomed = {
        let mut objects = OBJECTS.lock();
        let Some(entry) = objects.get_mut(&address) else { no_such_object(address) };
        entry.references -= 1;
        if entry.references > 0 { None } else { objects.remove(&address) }
    };
    if let Some(entry) = doomed {
        doom(address, entry.delete);
    }
}

/// What Windows does with a reference count that cannot be.
fn no_such_object(address: usize) -> ! {
    bugcheck(REFERENCE_BY_POINTER, [0, address as u64, 0, 0])
}

export! {
    /// *ObReferenceObject macro (wdm.h)*, which is this: returns the new count.
    pub unsafe extern "win64" fn ObfReferenceObject(object: PVOID) -> isize {
        if !reference(object.addr()) {
            no_such_object(object.addr());
        }
        references(object.addr()).unwrap_or_default() as isize
    }

    /// *ObDereferenceObject macro (wdm.h)*, which is this: returns the new count.
    pub unsafe extern "win64" fn ObfDereferenceObject(object: PVOID) -> isize {
        dereference(object.addr()).unwrap_or_else(|| no_such_object(object.addr())) as isize
    }

    /// *ObReferenceObjectByPointer function (wdm.h)*: STATUS_OBJECT_TYPE_MISMATCH where a type is given and the object is
    /// of another. Access is not checked: the guest has no security.
    pub unsafe extern "win64" fn ObReferenceObjectByPointer(
        object: PVOID,
        _access: u32,
        kind: PVOID,
        _mode: i8,
    ) -> NTSTATUS {
        match reference_of_type(object.addr(), kind) {
            Ok(()) => STATUS_SUCCESS,
            Err(STATUS_INVALID_HANDLE) => no_such_object(object.addr()),
            Err(status) => status,
        }
    }

    /// *ObReferenceObjectByHandle function (wdm.h)*: STATUS_OBJECT_TYPE_MISMATCH where a type is given and the object is of
    /// another, STATUS_ACCESS_DENIED where a caller in user mode asks for more than the handle grants.
    pub unsafe extern "win64" fn ObReferenceObjectByHandle(
        handle: HANDLE,
        access: u32,
        kind: PVOID,
        mode: i8,
        object: *mut PVOID,
        information: *mut OBJECT_HANDLE_INFORMATION,
    ) -> NTSTATUS {
        // SAFETY: the caller gives storage for the pointer.
        unsafe { object.write(core::ptr::null_mut()) };
        let (address, granted) = match handle::object(handle) {
            Ok(found) => found,
            Err(status) => return status,
        };
        if mode != KERNEL_MODE && access & !granted != 0 {
            return STATUS_ACCESS_DENIED;
        }
        if let Err(status) = reference_of_type(address, kind) {
            return status;
        }
        // SAFETY: the caller gives storage for the pointer, and for the information or null.
        unsafe {
            object.write(core::ptr::with_exposed_provenance_mut(address));
            if !information.is_null() {
                information.write(OBJECT_HANDLE_INFORMATION { attributes: 0, granted });
            }
        }
        STATUS_SUCCESS
    }

    /// *ObOpenObjectByPointer function (ntifs.h)*: a handle for an object that somebody holds a reference on.
    pub unsafe extern "win64" fn ObOpenObjectByPointer(
        object: PVOID,
        _attributes: u32,
        _access_state: PVOID,
        access: u32,
        kind: PVOID,
        _mode: i8,
        handle: *mut HANDLE,
    ) -> NTSTATUS {
        let address = object.addr();
        let opened = match reference_of_type(address, kind) {
            Ok(()) => handle::create_with(address, access),
            Err(STATUS_INVALID_HANDLE) => no_such_object(address),
            Err(status) => return status,
        };
        match opened {
            Ok(opened) => {
                // SAFETY: the caller gives storage for the handle.
                unsafe { handle.write(opened) };
                STATUS_SUCCESS
            }
            Err(status) => {
                dereference(address);
                status
            }
        }
    }
}

/// `OBJECT_HANDLE_INFORMATION`.
#[derive(Debug)]
#[repr(C)]
pub struct OBJECT_HANDLE_INFORMATION {
    attributes: u32,
    granted: u32,
}

kernel_test! {
    fn the_last_reference_deletes_and_never_above_passive_level() {
        use core::sync::atomic::{AtomicUsize, Ordering};
        static DELETED: AtomicUsize = AtomicUsize::new(0);
        let delete: Delete = |address| {
            if irql::current() == Irql::PASSIVE {
                DELETED.store(address, Ordering::Release);
            }
        };
        insert(0x10, Kind::Event, delete);
        check!(reference(0x10) && references(0x10) == Some(2));
        check!(dereference(0x10) == Some(1) && DELETED.load(Ordering::Acquire) == 0);
        let old = irql::raise(Irql::DISPATCH);
        let left = dereference(0x10);
        irql::lower(old);
        check!(left == Some(0) && !reference(0x10) && dereference(0x10).is_none());
        let mut patience = 1000;
        while DELETED.load(Ordering::Acquire) == 0 && patience > 0 {
            thread::sleep_ns(1_000_000);
            patience -= 1;
        }
        check!(DELETED.load(Ordering::Acquire) == 0x10);
    }

    fn a_handle_holds_a_reference_until_it_is_closed() {
        insert(0x20, Kind::Event, |_| {});
        let Ok(handle) = handle::create(0x20) else { return Ok(()) };
        let mut object = core::ptr::null_mut();
        // SAFETY: the pointer has room for the answer.
        let status =
            unsafe { ObReferenceObjectByHandle(handle, 0, types::ANY, 0, &raw mut object, core::ptr::null_mut()) };
        check!(status == STATUS_SUCCESS && object.addr() == 0x20 && references(0x20) == Some(2));
        let file = Kind::File.object_type();
        // SAFETY: as above.
        let status =
            unsafe { ObReferenceObjectByHandle(handle, 0, file, 0, &raw mut object, core::ptr::null_mut()) };
        check!(status == STATUS_OBJECT_TYPE_MISMATCH && object.is_null() && references(0x20) == Some(2));
        check!(handle::close(handle) == STATUS_SUCCESS && references(0x20) == Some(1));
        check!(handle::close(handle) == STATUS_INVALID_HANDLE);
        check!(dereference(0x20) == Some(0));
    }
}
