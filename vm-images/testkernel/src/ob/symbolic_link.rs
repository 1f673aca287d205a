//! Symbolic links behind handles.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::named::{give, name_of, with_object};
use super::names;
use super::types::Kind;
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, STATUS_BUFFER_TOO_SMALL, STATUS_OBJECT_PATH_SYNTAX_BAD,
    STATUS_SUCCESS, UNICODE_STRING,
};

/// Where an open link leads. Whoever has it open learns that even after its name has gone.
type Link = Vec<u16>;

fn delete(address: usize) {
    // SAFETY: made as a box when it was opened, and nobody refers to it any more.
    drop(unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Link>(address)) });
}

fn open(name: &[u16]) -> Result<usize, NTSTATUS> {
    let target = names::with(|names| names.target(name).map(<[u16]>::to_vec)).map_err(names::status_of)?;
    let address = Box::into_raw(Box::new(target)).expose_provenance();
    super::insert(address, Kind::SymbolicLink, delete);
    Ok(address)
}

export! {
    /// *ZwOpenSymbolicLinkObject function (wdm.h)*: the link itself, not what it leads to.
    pub unsafe extern "win64" fn ZwOpenSymbolicLinkObject(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: the caller's attributes, and storage for the handle.
        unsafe {
            let name = name_of(attributes).and_then(|name| name.ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD));
            give(to, name.and_then(|name| open(&name)).map(|address| (address, STATUS_SUCCESS)), access)
        }
    }

    /// *ZwQuerySymbolicLinkObject function (wdm.h)*: where it leads; STATUS_BUFFER_TOO_SMALL, and how much it takes, where that does
    /// not fit.
    pub unsafe extern "win64" fn ZwQuerySymbolicLinkObject(
        handle: HANDLE,
        target: *mut UNICODE_STRING,
        length: *mut u32,
    ) -> NTSTATUS {
        let told = with_object(handle, Kind::SymbolicLink, |address| {
            // SAFETY: the object is referred to meanwhile; the caller's string with its buffer, and storage or null.
            unsafe {
                let link = &*core::ptr::with_exposed_provenance::<Link>(address);
                let bytes = link.len() * 2;
                if !length.is_null() {
                    length.write(bytes as u32);
                }
                let target = &mut *target;
                if bytes > target.MaximumLength.into() {
                    return STATUS_BUFFER_TOO_SMALL;
                }
                link.as_ptr().copy_to_nonoverlapping(target.Buffer, link.len());
                target.Length = bytes as u16;
                STATUS_SUCCESS
            }
        });
        told.unwrap_or_else(|status| status)
    }
}
