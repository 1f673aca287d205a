//! Objects by their names, of whatever type: for drivers that look for other drivers' objects.

use super::names;
use super::{handle, named};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_INVALID,
    STATUS_OBJECT_PATH_NOT_FOUND, STATUS_SUCCESS, UNICODE_STRING,
};

/// The object of that name, with one more reference, if it is of the type that is asked for.
fn find(name: &[u16], kind: PVOID) -> Result<usize, NTSTATUS> {
    if name.is_empty() {
        return Err(STATUS_OBJECT_NAME_INVALID);
    }
    let (object, rest) = names::with(|names| names.resolve(name)).map_err(names::status_of)?;
    if !rest.is_empty() {
        return Err(STATUS_OBJECT_PATH_NOT_FOUND);
    }
    super::reference_of_type(object, kind)?;
    Ok(object)
}

export! {
    /// *ObReferenceObjectByName function*: not in the headers, and called all the same. With a reference;
    /// STATUS_OBJECT_TYPE_MISMATCH where the name is of an object of another type.
    pub unsafe extern "win64" fn ObReferenceObjectByName(
        name: *const UNICODE_STRING,
        _attributes: u32,
        _access_state: PVOID,
        _access: u32,
        kind: PVOID,
        _mode: i8,
        _parse_context: PVOID,
        object: *mut PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller gives a valid string and storage for the pointer.
        unsafe {
            object.write(core::ptr::null_mut());
            let Some(name) = name.as_ref() else { return STATUS_OBJECT_NAME_INVALID };
            match find(name.units(), kind) {
                Ok(found) => {
                    object.write(core::ptr::with_exposed_provenance_mut(found));
                    STATUS_SUCCESS
                }
                Err(status) => status,
            }
        }
    }

    /// *ObOpenObjectByName function*: a handle for what object attributes name.
    pub unsafe extern "win64" fn ObOpenObjectByName(
        attributes: *const OBJECT_ATTRIBUTES,
        kind: PVOID,
        _mode: i8,
        _access_state: PVOID,
        access: u32,
        _parse_context: PVOID,
        to: *mut HANDLE,
    ) -> NTSTATUS {
        // SAFETY: the caller gives valid attributes and storage for the handle.
        unsafe {
            let name = named::name_of(attributes).and_then(|name| name.ok_or(STATUS_INVALID_PARAMETER));
            named::give(to, name.and_then(|name| Ok((find(&name, kind)?, STATUS_SUCCESS))), access)
        }
    }
}

/// `DUPLICATE_CLOSE_SOURCE`, `DUPLICATE_SAME_ACCESS`.
const CLOSE_SOURCE: u32 = 1;
const SAME_ACCESS: u32 = 2;

export! {
    /// *ZwDuplicateObject function (ntifs.h)*: another handle for the same object; both processes are the system's, which has one table.
    /// Without a target the source may be closed and nothing made.
    pub unsafe extern "win64" fn ZwDuplicateObject(
        _source_process: HANDLE,
        source: HANDLE,
        _target_process: HANDLE,
        target: *mut HANDLE,
        access: u32,
        _attributes: u32,
        options: u32,
    ) -> NTSTATUS {
        let (object, granted) = match handle::object(source) {
            Ok(found) => found,
            Err(status) => return status,
        };
        let mut status = STATUS_SUCCESS;
        if !target.is_null() && super::reference(object) {
            let access = if options & SAME_ACCESS != 0 { granted } else { access };
            match handle::duplicate(object, access) {
                // SAFETY: the caller gives storage for the handle.
                Ok(made) => unsafe { target.write(made) },
                Err(error) => {
                    super::dereference(object);
                    status = error;
                }
            }
        }
        if options & CLOSE_SOURCE != 0 {
            let _ = handle::close(source);
        }
        status
    }
}
