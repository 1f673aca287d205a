//! What is in a key, and how it goes away.

use alloc::vec::Vec;

use squall_testkernel_pure::registry::{Description, KeyId, Registry};

use super::callback;
use super::key::{Information, Opened, ZwOpenKey};
use super::{status_of, with};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, KEY_BASIC_INFORMATION_CLASS, KEY_CACHED_INFORMATION_CLASS, KEY_FULL_INFORMATION_CLASS,
    KEY_NAME_INFORMATION_CLASS, KEY_NODE_INFORMATION_CLASS, NTSTATUS, OBJECT_ATTRIBUTES, PVOID,
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_NO_MORE_ENTRIES,
    STATUS_SUCCESS, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// A class that is not there: its offset.
const NO_CLASS: u32 = u32::MAX;

/// A key in the form that an information class asks for, and how much of it is the fixed part.
fn form(class: u32, key: &Description) -> Option<(Vec<u8>, usize)> {
    let bytes = |name: &[u16]| name.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<_>>();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let written = |rest: &[u32]| [&key.written.to_le_bytes()[..], &words(rest)].concat();
    let (name, path, class_name) = (bytes(&key.name), bytes(&key.path), bytes(&key.class));
    let (length, class_length) = (name.len() as u32, class_name.len() as u32);
    // Where the class begins, behind what lies before it.
    let class_at = |before: usize| if class_name.is_empty() { NO_CLASS } else { before as u32 };
    let longest =
        [key.longest_subkey, key.longest_class, key.longest_value_name].map(|units| 2 * units as u32);
    let (subkeys, values, longest_value) = (key.subkeys as u32, key.values as u32, key.longest_value as u32);
    let (mut fixed, rest) = match class {
        // LastWriteTime, TitleIndex, NameLength, Name.
        KEY_BASIC_INFORMATION_CLASS => (written(&[0, length]), name),
        // LastWriteTime, TitleIndex, ClassOffset, ClassLength, NameLength, Name, Class.
        KEY_NODE_INFORMATION_CLASS => {
            let padding = (24 + name.len()).next_multiple_of(4) - (24 + name.len());
            let padded = if class_name.is_empty() { name } else { [name, alloc::vec![0; padding]].concat() };
            let at = class_at(24 + padded.len());
            (written(&[0, at, class_length, length]), [padded, class_name].concat())
        }
        // LastWriteTime, TitleIndex, ClassOffset, ClassLength, SubKeys, MaxNameLen, MaxClassLen, Values,
        // MaxValueNameLen, MaxValueDataLen, Class.
        KEY_FULL_INFORMATION_CLASS => {
            let [name, class, value_name] = longest;
            let numbers =
                [0, class_at(44), class_length, subkeys, name, class, values, value_name, longest_value];
            (written(&numbers), class_name)
        }
        // NameLength, Name: the whole path.
        KEY_NAME_INFORMATION_CLASS => (words(&[path.len() as u32]), path),
        // LastWriteTime, TitleIndex, SubKeys, MaxNameLen, Values, MaxValueNameLen, MaxValueDataLen, NameLength.
        KEY_CACHED_INFORMATION_CLASS => {
            let [name, _, value_name] = longest;
            (written(&[0, subkeys, name, values, value_name, longest_value, length, 0]), Vec::new())
        }
        _ => return None,
    };
    let size = fixed.len();
    fixed.extend(rest);
    Some((fixed, size))
}

/// Hands a form over.
///
/// # Safety
/// `to` must lead to `length` bytes, and `result_length` to a number.
unsafe fn answer(
    (form, fixed): (Vec<u8>, usize),
    to: PVOID,
    length: u32,
    result_length: *mut u32,
) -> NTSTATUS {
    let room = length as usize;
    // SAFETY: the caller's.
    unsafe { result_length.write(form.len() as u32) };
    if room < fixed {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller's; no more than fits.
    unsafe { form.as_ptr().copy_to_nonoverlapping(to.cast(), room.min(form.len())) };
    if room < form.len() { STATUS_BUFFER_OVERFLOW } else { STATUS_SUCCESS }
}

/// # Safety
/// As of [`answer`].
unsafe fn tell(key: KeyId, class: u32, to: PVOID, length: u32, result_length: *mut u32) -> NTSTATUS {
    let description = match with(|registry| registry.describe(key)) {
        Ok(description) => description,
        Err(error) => return status_of(error),
    };
    match form(class, &description) {
        // SAFETY: the caller's.
        Some(form) => unsafe { answer(form, to, length, result_length) },
        None => STATUS_INVALID_PARAMETER,
    }
}

export! {
    /// *ZwOpenKeyEx function (wdm.h)*: ZwOpenKey; options are for backup programs and links, of which there are none.
    pub unsafe extern "win64" fn ZwOpenKeyEx(
        key: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        _options: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { ZwOpenKey(key, access, attributes) }
    }

    /// *ZwQueryKey function (wdm.h)*: basic, node, full, name and cached information; ResultLength says what it takes.
    pub unsafe extern "win64" fn ZwQueryKey(
        key: HANDLE,
        class: u32,
        information: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let words = [
            class.into(),
            information.expose_provenance() as u64,
            length.into(),
            result_length.expose_provenance() as u64,
        ];
        match Opened::of(key) {
            // SAFETY: the caller gives a buffer of that length, and storage for the length.
            Ok(key) => unsafe {
                key.around::<8>(callback::QUERY_KEY, &words, || tell(key.id, class, information, length, result_length))
            },
            Err(status) => status,
        }
    }

    /// *ZwEnumerateKey function (wdm.h)*: the subkeys by number, in the order of their names; basic, node and full
    /// information. STATUS_NO_MORE_ENTRIES behind the last.
    pub unsafe extern "win64" fn ZwEnumerateKey(
        key: HANDLE,
        index: u32,
        class: u32,
        information: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let key = match Opened::of(key) {
            Ok(key) => key,
            Err(status) => return status,
        };
        if class > KEY_FULL_INFORMATION_CLASS {
            return STATUS_INVALID_PARAMETER;
        }
        let words = [
            u64::from(index) | u64::from(class) << 32,
            information.expose_provenance() as u64,
            length.into(),
            result_length.expose_provenance() as u64,
        ];
        // SAFETY: the caller gives a buffer of that length, and storage for the length.
        unsafe {
            key.around::<8>(callback::ENUMERATE_KEY, &words, || {
                match with(|registry| Ok(registry.subkeys(key.id)?.nth(index as usize))) {
                    Ok(Some(subkey)) => tell(subkey, class, information, length, result_length),
                    Ok(None) => STATUS_NO_MORE_ENTRIES,
                    Err(error) => status_of(error),
                }
            })
        }
    }

    /// *ZwEnumerateValueKey function (wdm.h)*: the values by number, in the order of their names; basic, full and
    /// partial information. STATUS_NO_MORE_ENTRIES behind the last.
    pub unsafe extern "win64" fn ZwEnumerateValueKey(
        key: HANDLE,
        index: u32,
        class: u32,
        information: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let key = match Opened::of(key) {
            Ok(key) => key,
            Err(status) => return status,
        };
        let words = [
            u64::from(index) | u64::from(class) << 32,
            information.expose_provenance() as u64,
            length.into(),
            result_length.expose_provenance() as u64,
        ];
        let nth = |registry: &mut Registry| registry.values(key.id).nth(index as usize).cloned();
        // SAFETY: the caller gives a buffer of that length, and storage for the length.
        unsafe {
            key.around::<8>(callback::ENUMERATE_VALUE, &words, || {
                match with(|registry| registry.check(key.id).map(|()| nth(registry))) {
                    Ok(Some(value)) => match Information::new(class, &value) {
                        Some(form) => form.answer(&value, information, length, result_length),
                        None => STATUS_INVALID_PARAMETER,
                    },
                    Ok(None) => STATUS_NO_MORE_ENTRIES,
                    Err(error) => status_of(error),
                }
            })
        }
    }

    /// *ZwDeleteKey function (wdm.h)*: a key without subkeys; its handles are good for nothing but to be closed.
    pub unsafe extern "win64" fn ZwDeleteKey(key: HANDLE) -> NTSTATUS {
        match Opened::of(key) {
            // SAFETY: the structure has no other words.
            Ok(key) => unsafe {
                key.around::<4>(callback::DELETE_KEY, &[], || {
                    with(|registry| registry.delete(key.id)).map_or_else(status_of, |()| STATUS_SUCCESS)
                })
            },
            Err(status) => status,
        }
    }

    /// *ZwDeleteValueKey function (wdm.h)*: STATUS_OBJECT_NAME_NOT_FOUND where there is none of that name.
    pub unsafe extern "win64" fn ZwDeleteValueKey(key: HANDLE, name: *const UNICODE_STRING) -> NTSTATUS {
        match Opened::of(key) {
            // SAFETY: the caller gives a valid name.
            Ok(key) => unsafe { key.delete_value(name) },
            Err(status) => status,
        }
    }

    /// *ZwFlushKey function (wdm.h)*: the registry is in memory and nowhere else, so everything is written already.
    pub unsafe extern "win64" fn ZwFlushKey(key: HANDLE) -> NTSTATUS {
        match Opened::of(key) {
            // SAFETY: the structure has no other words.
            Ok(key) => unsafe { key.around::<4>(callback::FLUSH_KEY, &[], || STATUS_SUCCESS) },
            Err(status) => status,
        }
    }
}

kernel_test! {
    /// *ZwEnumerateKey function (wdm.h)* and its like, to the end and into buffers that are too small.
    fn a_key_is_enumerated_and_deleted() {
        use crate::nt::{STATUS_CANNOT_DELETE, STATUS_KEY_DELETED};
        use crate::cm::key::object_for;
        use crate::ob::handle;
        let path = |text: &str| squall_testkernel_pure::utf16::encode(text);
        let opened = with(|registry| -> Result<_, _> {
            let (key, _) = registry.create(None, &path(r"\Registry\Machine\Enumerated"))?;
            registry.create(Some(key), &path("First"))?;
            registry.create(Some(key), &path("Second"))?;
            registry.set_value(key, &path("One"), 4, &[1, 0, 0, 0])?;
            let second = registry.open(Some(key), &path("Second"))?;
            Ok::<_, squall_testkernel_pure::registry::RegistryError>((key, second))
        });
        check!(opened.is_ok());
        let Ok((key, second)) = opened else { return Ok(()) };
        let (Ok(key), Ok(second)) = (handle::create(object_for(key)), handle::create(object_for(second))) else {
            return Ok(());
        };
        let mut buffer = [0u32; 64];
        let to = (&raw mut buffer).cast();
        let mut length = 0;
        // SAFETY: every pointer leads to a local of the right kind and size.
        unsafe {
            check!(ZwEnumerateKey(key, 1, KEY_BASIC_INFORMATION_CLASS, to, 256, &raw mut length) == STATUS_SUCCESS);
            check!(length == 16 + 12 && buffer[3] == 12 && buffer[4] == 0x0065_0053);
            let short = ZwEnumerateKey(key, 1, KEY_BASIC_INFORMATION_CLASS, to, 15, &raw mut length);
            check!(short == STATUS_BUFFER_TOO_SMALL && length == 28);
            let cut = ZwEnumerateKey(key, 1, KEY_BASIC_INFORMATION_CLASS, to, 20, &raw mut length);
            check!(cut == STATUS_BUFFER_OVERFLOW && length == 28);
            let end = ZwEnumerateKey(key, 2, KEY_BASIC_INFORMATION_CLASS, to, 256, &raw mut length);
            check!(end == STATUS_NO_MORE_ENTRIES);
            check!(ZwQueryKey(key, KEY_FULL_INFORMATION_CLASS, to, 256, &raw mut length) == STATUS_SUCCESS);
            check!(length == 44 && buffer[5] == 2 && buffer[8] == 1 && buffer[9] == 6 && buffer[10] == 4);
            check!(ZwEnumerateValueKey(key, 0, 2, to, 256, &raw mut length) == STATUS_SUCCESS);
            check!(buffer[1..4] == [4, 4, 1]);
            check!(ZwEnumerateValueKey(key, 1, 2, to, 256, &raw mut length) == STATUS_NO_MORE_ENTRIES);
            check!(ZwDeleteKey(key) == STATUS_CANNOT_DELETE);
            check!(ZwDeleteKey(second) == STATUS_SUCCESS && ZwDeleteKey(second) == STATUS_KEY_DELETED);
            check!(ZwFlushKey(key) == STATUS_SUCCESS);
        }
        check!(handle::close(key) == STATUS_SUCCESS && handle::close(second) == STATUS_SUCCESS);
    }
}
