//! Objects that may have a name, and handles for them.

use alloc::vec::Vec;

use super::handle;
use super::types::Kind;
use super::{Delete, directory, names};
use crate::nt::{
    HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};

/// `OBJ_OPENIF`.
pub const OPEN_IF: u32 = 0x80;
/// `OBJ_PERMANENT`.
pub const PERMANENT: u32 = 0x10;

/// The flags of object attributes; none where there are no attributes.
///
/// # Safety
/// `attributes` must be null or valid.
pub unsafe fn flags_of(attributes: *const OBJECT_ATTRIBUTES) -> u32 {
    // SAFETY: the caller's contract.
    unsafe { attributes.as_ref() }.map_or(0, |attributes| attributes.Attributes)
}

/// The whole name that object attributes give, where they give one.
///
/// # Safety
/// `attributes` must be null or valid, with a name or none.
pub unsafe fn name_of(attributes: *const OBJECT_ATTRIBUTES) -> Result<Option<Vec<u16>>, NTSTATUS> {
    // SAFETY: the caller's contract.
    let given = unsafe { attributes.as_ref().map(|given| (given.RootDirectory, given.ObjectName.as_ref())) };
    let Some((root, Some(name))) = given else { return Ok(None) };
    let mut path = if root.is_null() { Vec::new() } else { directory::path_below(root)? };
    // SAFETY: the caller's contract.
    path.extend_from_slice(unsafe { name.units() });
    Ok(Some(path))
}

/// Makes an object known, with one reference and perhaps a name. Where the name cannot be given, the object is deleted.
pub fn insert(address: usize, kind: Kind, delete: Delete, name: Option<&[u16]>) -> Result<usize, NTSTATUS> {
    super::insert(address, kind, delete);
    if let Some(name) = name
        && let Err(error) = names::with(|names| names.insert(name, address))
    {
        super::dereference(address);
        return Err(names::status_of(error));
    }
    Ok(address)
}

/// The object is being deleted, and so has no name any more.
pub fn forget(address: usize) {
    names::with(|names| names.remove(|object| object == address));
}

/// The object of that name and kind, with one more reference.
pub fn open(name: &[u16], kind: Kind) -> Result<usize, NTSTATUS> {
    let (address, rest) = names::with(|names| names.resolve(name)).map_err(names::status_of)?;
    if !rest.is_empty() {
        return Err(STATUS_OBJECT_TYPE_MISMATCH);
    }
    super::reference_of_type(address, kind.object_type())?;
    Ok(address)
}

/// What was made; or, where its name is taken and the flags say so, what has it.
pub fn made_or_there(
    made: Result<usize, NTSTATUS>,
    name: Option<&[u16]>,
    kind: Kind,
    flags: u32,
) -> Result<(usize, NTSTATUS), NTSTATUS> {
    match (made, name) {
        (Err(STATUS_OBJECT_NAME_COLLISION), Some(name)) if flags & OPEN_IF != 0 => {
            open(name, kind).map(|address| (address, STATUS_OBJECT_NAME_EXISTS))
        }
        (made, _) => made.map(|address| (address, STATUS_SUCCESS)),
    }
}

/// A handle for an object, which takes over a reference.
pub fn handle_for(address: usize, access: u32) -> Result<HANDLE, NTSTATUS> {
    handle::create_with(address, access).inspect_err(|_| {
        super::dereference(address);
    })
}

/// Gives a handle for an object that was made or opened with that status; its reference becomes the handle's.
///
/// # Safety
/// `to` must have room for the handle.
pub unsafe fn give(to: *mut HANDLE, found: Result<(usize, NTSTATUS), NTSTATUS>, access: u32) -> NTSTATUS {
    match found.and_then(|(address, status)| Ok((handle_for(address, access)?, status))) {
        Ok((handle, status)) => {
            // SAFETY: the caller's contract.
            unsafe { to.write(handle) };
            status
        }
        Err(status) => status,
    }
}

/// Does something with the object behind a handle, which is referred to meanwhile.
pub fn with_object<R>(handle: HANDLE, kind: Kind, action: impl FnOnce(usize) -> R) -> Result<R, NTSTATUS> {
    let (address, _) = handle::object(handle)?;
    super::reference_of_type(address, kind.object_type())?;
    let result = action(address);
    super::dereference(address);
    Ok(result)
}
