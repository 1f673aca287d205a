//! Directories of the name space, behind handles.
//!
//! Those that every system has are there for ever. One that a driver makes goes with its last handle, unless it is permanent; what
//! is in it then keeps it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::named::{OPEN_IF, PERMANENT, flags_of, give, name_of, with_object};
use super::types::Kind;
use super::{handle, names};
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_SUCCESS,
};

/// Where an open directory is.
struct Directory {
    place: Vec<u16>,
}

/// Directories that drivers made: the object of each, and whether it is permanent, which is a reference of its own.
static MADE: SpinLock<BTreeMap<Vec<u16>, (usize, bool)>> = SpinLock::new(BTreeMap::new());

fn delete(address: usize) {
    // SAFETY: made as a box by `object_at`, and nobody refers to it any more.
    let directory = unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Directory>(address)) };
    let was_made = {
        let mut made = MADE.lock();
        made.get(&directory.place).is_some_and(|entry| entry.0 == address)
            && made.remove(&directory.place).is_some()
    };
    if was_made {
        // What is still in it keeps its name.
        let _ = names::with(|names| names.remove_directory(&directory.place));
    }
}

/// An object for the directory there, with one reference.
fn object_at(place: Vec<u16>) -> usize {
    let address = Box::into_raw(Box::new(Directory { place })).expose_provenance();
    super::insert(address, Kind::Directory, delete);
    address
}

/// The directory of that name, with one more reference.
fn open(name: &[u16]) -> Result<usize, NTSTATUS> {
    let place = names::with(|names| names.directory(name)).map_err(names::status_of)?;
    let known = MADE.lock().get(&place).map(|entry| entry.0);
    match known {
        Some(address) if super::reference(address) => Ok(address),
        _ => Ok(object_at(place)),
    }
}

/// Makes one, permanent or not.
fn make(name: &[u16], permanent: bool) -> Result<usize, NTSTATUS> {
    let place = names::with(|names| {
        names.make_directory(name)?;
        names.directory(name)
    });
    let place = place.map_err(names::status_of)?;
    let address = object_at(place.clone());
    if permanent {
        super::reference(address);
    }
    MADE.lock().insert(place, (address, permanent));
    Ok(address)
}

/// What names below the directory behind a handle begin with.
pub fn path_below(handle: HANDLE) -> Result<Vec<u16>, NTSTATUS> {
    with_object(handle, Kind::Directory, |address| {
        // SAFETY: the object is referred to meanwhile.
        let directory = unsafe { &*core::ptr::with_exposed_provenance::<Directory>(address) };
        let mut path = directory.place.clone();
        path.push(b'\\'.into());
        path
    })
}

/// # Safety
/// `attributes` must be null or valid.
unsafe fn required_name(attributes: *const OBJECT_ATTRIBUTES) -> Result<Vec<u16>, NTSTATUS> {
    // SAFETY: the caller's contract.
    unsafe { name_of(attributes) }?.ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD)
}

export! {
    /// *ZwCreateDirectoryObject function (wdm.h)*: a new directory; or the one that is there, where OBJ_OPENIF is said.
    pub unsafe extern "win64" fn ZwCreateDirectoryObject(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: the caller's attributes, and storage for the handle.
        unsafe {
            let flags = flags_of(attributes);
            let found = required_name(attributes).and_then(|name| match make(&name, flags & PERMANENT != 0) {
                Err(STATUS_OBJECT_NAME_COLLISION) if flags & OPEN_IF != 0 => {
                    open(&name).map(|address| (address, STATUS_OBJECT_NAME_EXISTS))
                }
                made => made.map(|address| (address, STATUS_SUCCESS)),
            });
            give(to, found, access)
        }
    }

    /// *ZwOpenDirectoryObject function (ntifs.h)*: the directory of that name.
    pub unsafe extern "win64" fn ZwOpenDirectoryObject(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            let found = required_name(attributes).and_then(|name| open(&name));
            give(to, found.map(|address| (address, STATUS_SUCCESS)), access)
        }
    }

    /// *ZwMakeTemporaryObject function (wdm.h)*: a permanent directory goes with its last handle from now on. Everything else is
    /// temporary as it is.
    pub unsafe extern "win64" fn ZwMakeTemporaryObject(handle: HANDLE) -> NTSTATUS {
        let address = match handle::object(handle) {
            Ok((address, _)) => address,
            Err(status) => return status,
        };
        let was_permanent = {
            let mut made = MADE.lock();
            let entry = made.values_mut().find(|entry| entry.0 == address);
            entry.is_some_and(|entry| core::mem::replace(&mut entry.1, false))
        };
        if was_permanent {
            super::dereference(address);
        }
        STATUS_SUCCESS
    }
}
