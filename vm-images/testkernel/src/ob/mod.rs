//! The object manager: which objects there are, who still needs them, what they are called.
//!
//! An object lives as long as somebody holds a reference. The counts are kept apart from the objects, which are memory
//! that drivers write to: a driver may spoil its device object, but not the answer to "does this object exist?".
//! Deletion may have to wait or to call drivers, so it happens at PASSIVE_LEVEL: where the last reference goes at a
//! higher level, a thread of its own ([`init`]) does it a moment later.

pub mod handle;
pub mod names;
pub mod tagged;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ke::bugcheck::bugcheck;
use crate::ke::event::Event;
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::ke::thread::{self, OutOfMemory};
use crate::ldr::export::export;
use crate::nt::{HANDLE, NTSTATUS, PVOID, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

const REFERENCE_BY_POINTER: u32 = 0x18;
const REAPER_PRIORITY: u8 = 16;

/// What becomes of an object that nobody needs any more; called once, at PASSIVE_LEVEL.
pub type Delete = fn(address: usize);

#[derive(Clone, Copy)]
struct Entry {
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
pub fn insert(address: usize, delete: Delete) {
    OBJECTS.lock().insert(address, Entry { references: 1, delete });
}

/// Another reference to an object; false where there is no object at `address`.
pub fn reference(address: usize) -> bool {
    match OBJECTS.lock().get_mut(&address) {
        Some(entry) => {
            entry.references += 1;
            true
        }
        None => false,
    }
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

    /// *ObReferenceObjectByPointer function (wdm.h)*: type and access are not checked.
    pub unsafe extern "win64" fn ObReferenceObjectByPointer(
        object: PVOID,
        _access: u32,
        _kind: PVOID,
        _mode: i8,
    ) -> NTSTATUS {
        if reference(object.addr()) { STATUS_SUCCESS } else { STATUS_INVALID_PARAMETER }
    }

    /// *ObReferenceObjectByHandle function (wdm.h)*: type and access are not checked; handle information is not given.
    pub unsafe extern "win64" fn ObReferenceObjectByHandle(
        handle: HANDLE,
        _access: u32,
        _kind: PVOID,
        _mode: i8,
        object: *mut PVOID,
        _information: PVOID,
    ) -> NTSTATUS {
        match handle::target(handle) {
            Some(handle::Target::Object(address)) if reference(address) => {
                // SAFETY: the caller gives storage for the pointer.
                unsafe { object.write(core::ptr::with_exposed_provenance_mut(address)) };
                STATUS_SUCCESS
            }
            _ => STATUS_INVALID_HANDLE,
        }
    }
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
        insert(0x10, delete);
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
        insert(0x20, |_| {});
        let Ok(handle) = handle::create(handle::Target::Object(0x20)) else { return Ok(()) };
        let mut object = core::ptr::null_mut();
        // SAFETY: the pointer has room for the answer.
        let status =
            unsafe { ObReferenceObjectByHandle(handle, 0, core::ptr::null_mut(), 0, &raw mut object, object) };
        check!(status == STATUS_SUCCESS && object.addr() == 0x20 && references(0x20) == Some(2));
        check!(handle::close(handle) == STATUS_SUCCESS && references(0x20) == Some(1));
        check!(handle::close(handle) == STATUS_INVALID_HANDLE);
        check!(dereference(0x20) == Some(0));
    }
}
