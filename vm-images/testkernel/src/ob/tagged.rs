//! References with a tag.
//!
//! Windows counts them by tag where object tracing is on; nobody traces here, so that a tagged reference is a reference.

use super::{
    OBJECT_HANDLE_INFORMATION, ObReferenceObjectByHandle, ObReferenceObjectByPointer, ObfDereferenceObject,
    ObfReferenceObject,
};
use crate::ldr::export::export;
use crate::nt::{HANDLE, NTSTATUS, PVOID};

export! {
    /// *ObReferenceObjectWithTag macro (wdm.h)*, which is this: returns the new count.
    pub unsafe extern "win64" fn ObfReferenceObjectWithTag(object: PVOID, _tag: u32) -> isize {
        // SAFETY: the caller's.
        unsafe { ObfReferenceObject(object) }
    }

    /// *ObDereferenceObjectWithTag macro (wdm.h)*, which is this: returns the new count.
    pub unsafe extern "win64" fn ObfDereferenceObjectWithTag(object: PVOID, _tag: u32) -> isize {
        // SAFETY: the caller's.
        unsafe { ObfDereferenceObject(object) }
    }

    /// *ObDereferenceObjectDeferDelete function (wdm.h)*: as every last reference does above PASSIVE_LEVEL.
    pub unsafe extern "win64" fn ObDereferenceObjectDeferDelete(object: PVOID) {
        super::dereference_later(object.addr());
    }

    /// *ObDereferenceObjectDeferDeleteWithTag function (wdm.h)*.
    pub unsafe extern "win64" fn ObDereferenceObjectDeferDeleteWithTag(object: PVOID, _tag: u32) {
        super::dereference_later(object.addr());
    }

    /// *ObReferenceObjectByPointerWithTag function (wdm.h)*.
    pub unsafe extern "win64" fn ObReferenceObjectByPointerWithTag(
        object: PVOID,
        access: u32,
        kind: PVOID,
        mode: i8,
        _tag: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { ObReferenceObjectByPointer(object, access, kind, mode) }
    }

    /// *ObReferenceObjectByHandleWithTag function (wdm.h)*.
    pub unsafe extern "win64" fn ObReferenceObjectByHandleWithTag(
        handle: HANDLE,
        access: u32,
        kind: PVOID,
        mode: i8,
        _tag: u32,
        object: *mut PVOID,
        information: *mut OBJECT_HANDLE_INFORMATION,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { ObReferenceObjectByHandle(handle, access, kind, mode, object, information) }
    }
}
