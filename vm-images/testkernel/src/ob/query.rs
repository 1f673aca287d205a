//! What there is to know of an object: its name, its type, how many handles and references it has.

use alloc::vec::Vec;

use squall_testkernel_pure::utf16;

use super::types::Kind;
use super::{handle, names};
use crate::cm::key;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, FILE_OBJECT, HANDLE, NTSTATUS, PVOID, STATUS_INFO_LENGTH_MISMATCH,
    STATUS_INVALID_INFO_CLASS, STATUS_SUCCESS, TRUE, UNICODE_STRING,
};

/// `ObjectBasicInformation`, `ObjectNameInformation`, `ObjectTypeInformation`.
const BASIC: u32 = 0;
const NAME: u32 = 1;
const TYPE: u32 = 2;
/// Bytes of `PUBLIC_OBJECT_BASIC_INFORMATION` and of `PUBLIC_OBJECT_TYPE_INFORMATION`.
const BASIC_SIZE: usize = 56;
const TYPE_SIZE: usize = 16 + 22 * 4;

/// The name of an object as it was given, nothing where it has none.
///
/// # Safety
/// `object` must be referred to by the caller.
pub unsafe fn name_of(object: usize) -> Vec<u16> {
    let named =
        |object: usize| names::with(|names| names.spelled(|named| named == object)).unwrap_or_default();
    match super::kind(object) {
        Some(Kind::Key) => {
            // SAFETY: the caller's reference keeps the object, and with it its path.
            key::path_of(object).map(|path| unsafe { (*path).units() }.to_vec()).unwrap_or_default()
        }
        Some(Kind::File) => {
            let file = core::ptr::with_exposed_provenance::<FILE_OBJECT>(object);
            // SAFETY: the caller's reference keeps the file.
            unsafe { [named((*file).DeviceObject.addr()), (*file).FileName.units().to_vec()].concat() }
        }
        _ => named(object),
    }
}

/// Hands out a structure that begins with a string, and the string behind it, with a terminator.
///
/// # Safety
/// `to` must lead to `length` bytes, `needed` to a number or nowhere.
unsafe fn answer(text: &[u16], fixed: usize, to: PVOID, length: u32, needed: *mut u32) -> NTSTATUS {
    let bytes = text.len() * 2;
    let total = fixed + if bytes == 0 { 0 } else { bytes + 2 };
    // SAFETY: the caller's contract; nothing is written beyond what there is room for.
    unsafe {
        if !needed.is_null() {
            needed.write(total as u32);
        }
        if (length as usize) < total {
            return STATUS_INFO_LENGTH_MISMATCH;
        }
        to.cast::<u8>().write_bytes(0, total);
        if bytes > 0 {
            let buffer = to.wrapping_byte_add(fixed).cast::<u16>();
            text.as_ptr().copy_to_nonoverlapping(buffer, text.len());
            let string =
                UNICODE_STRING { Length: bytes as u16, MaximumLength: bytes as u16 + 2, Buffer: buffer };
            to.cast::<UNICODE_STRING>().write_unaligned(string);
        }
    }
    STATUS_SUCCESS
}

export! {
    /// *ObQueryNameString function (ntifs.h)*: the name as it was given, in the caller's buffer behind the structure; of an object without
    /// one an empty string. STATUS_INFO_LENGTH_MISMATCH with the length that it takes.
    pub unsafe extern "win64" fn ObQueryNameString(
        object: PVOID,
        information: PVOID,
        length: u32,
        needed: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller refers to the object, and gives a buffer of that length and storage for the length.
        unsafe { answer(&name_of(object.addr()), size_of::<UNICODE_STRING>(), information, length, needed) }
    }

    /// *ObGetObjectType function*: what *ExEventObjectType and its like lead to.
    pub unsafe extern "win64" fn ObGetObjectType(object: PVOID) -> PVOID {
        super::kind(object.addr()).map_or(core::ptr::null_mut(), Kind::object_type)
    }

    /// *ObIsKernelHandle function (ntifs.h)*: handles of the system's own have their sign bit set, but for those of the current process and
    /// thread.
    pub unsafe extern "win64" fn ObIsKernelHandle(handle: HANDLE) -> BOOLEAN {
        let number = handle.addr() as isize;
        if number < 0 && number != -1 && number != -2 { TRUE } else { FALSE }
    }

    /// *ObCloseHandle function (ntifs.h)*.
    pub unsafe extern "win64" fn ObCloseHandle(handle: HANDLE, _mode: i8) -> NTSTATUS {
        handle::close(handle)
    }

    /// *ObReferenceObjectSafe function (ntifs.h)*: FALSE where the object is being deleted.
    pub unsafe extern "win64" fn ObReferenceObjectSafe(object: PVOID) -> BOOLEAN {
        if super::reference(object.addr()) { TRUE } else { FALSE }
    }

    /// *ZwQueryObject function (ntifs.h)*: basic information, the name and the type's name. STATUS_INFO_LENGTH_MISMATCH where the buffer
    /// is too short.
    pub unsafe extern "win64" fn ZwQueryObject(
        handle: HANDLE,
        class: u32,
        information: PVOID,
        length: u32,
        needed: *mut u32,
    ) -> NTSTATUS {
        let (object, granted) = match handle::object(handle) {
            Ok(found) => found,
            Err(status) => return status,
        };
        if !super::reference(object) {
            return crate::nt::STATUS_INVALID_HANDLE;
        }
        // SAFETY: referred to; the caller gives a buffer of that length and storage for the length.
        let status = unsafe {
            match class {
                BASIC => basic(object, granted, information, length, needed),
                NAME => answer(&name_of(object), size_of::<UNICODE_STRING>(), information, length, needed),
                TYPE => {
                    let name = super::kind(object).map(|kind| utf16::encode(&alloc::format!("{kind:?}")));
                    answer(&name.unwrap_or_default(), TYPE_SIZE, information, length, needed)
                }
                _ => STATUS_INVALID_INFO_CLASS,
            }
        };
        super::dereference(object);
        status
    }
}

/// Attributes, rights, how many handles, how many references besides that of whoever asks.
///
/// # Safety
/// As of [`answer`].
unsafe fn basic(object: usize, granted: u32, to: PVOID, length: u32, needed: *mut u32) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        if !needed.is_null() {
            needed.write(BASIC_SIZE as u32);
        }
        if length as usize != BASIC_SIZE {
            return STATUS_INFO_LENGTH_MISMATCH;
        }
        to.cast::<u8>().write_bytes(0, BASIC_SIZE);
        let references = super::references(object).unwrap_or(1) - 1;
        let words = [0, granted, handle::count_for(object) as u32, references as u32];
        to.cast::<[u32; 4]>().write_unaligned(words);
    }
    STATUS_SUCCESS
}
