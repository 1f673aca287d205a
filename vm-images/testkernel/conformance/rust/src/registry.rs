//! The driver's own key.

use alloc::vec;
use core::ptr;

use wdk_sys::{
    _KEY_VALUE_INFORMATION_CLASS::KeyValuePartialInformation,
    HANDLE, KEY_ALL_ACCESS, KEY_VALUE_PARTIAL_INFORMATION, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE,
    OBJECT_ATTRIBUTES, PCUNICODE_STRING, REG_BINARY, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
    ntddk::{ZwClose, ZwDeleteValueKey, ZwOpenKey, ZwQueryValueKey, ZwSetValueKey},
};

use crate::{
    check::{Suite, holds, rule},
    text::{counted, wide},
};

/// # Safety
///
/// `path` names the driver's key, and is valid while this lasts.
pub(crate) unsafe fn rules(suite: &mut Suite, path: PCUNICODE_STRING) {
    rule!(
        suite,
        "ZwQueryValueKey function",
        "gives what ZwSetValueKey set, and how much room it takes",
        |rule| {
            let mut attributes = OBJECT_ATTRIBUTES {
                Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
                RootDirectory: ptr::null_mut(),
                ObjectName: path.cast_mut(),
                Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
                SecurityDescriptor: ptr::null_mut(),
                SecurityQualityOfService: ptr::null_mut(),
            };
            let mut key: HANDLE = ptr::null_mut();
            // SAFETY: the name is valid by contract.
            let opened = unsafe { ZwOpenKey(&mut key, KEY_ALL_ACCESS, &mut attributes) };
            if !holds!(rule, opened == STATUS_SUCCESS) {
                return;
            }
            let mut units = wide("Samples");
            let mut name = counted(&mut units);
            let mut data: alloc::vec::Vec<u8> = (0..=255).collect();
            // SAFETY: the name and the data are ours.
            let set = unsafe { ZwSetValueKey(key, &mut name, 0, REG_BINARY, data.as_mut_ptr().cast(), 256) };
            holds!(rule, set == STATUS_SUCCESS);
            let mut query = |room: &mut [u64]| {
                let mut needed = 0;
                // SAFETY: the name is ours, and the room is as large as is said.
                let status = unsafe {
                    ZwQueryValueKey(
                        key,
                        &mut name,
                        KeyValuePartialInformation,
                        room.as_mut_ptr().cast(),
                        size_of_val(room) as u32,
                        &mut needed,
                    )
                };
                (status, needed as usize)
            };
            let header = core::mem::offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
            holds!(rule, query(&mut []) == (STATUS_BUFFER_TOO_SMALL, header + 256));
            holds!(rule, query(&mut [0; 2]) == (STATUS_BUFFER_OVERFLOW, header + 256));
            let mut room = vec![0u64; 40];
            holds!(rule, query(&mut room) == (STATUS_SUCCESS, header + 256));
            let bytes: alloc::vec::Vec<u8> =
                room.iter().flat_map(|word| word.to_ne_bytes()).skip(header).take(256).collect();
            holds!(rule, bytes == data);
            // SAFETY: the name is ours.
            let deleted = unsafe { ZwDeleteValueKey(key, &mut name) };
            holds!(rule, deleted == STATUS_SUCCESS);
            let mut query = |room: &mut [u64]| {
                let mut needed = 0;
                // SAFETY: as above.
                unsafe {
                    ZwQueryValueKey(
                        key,
                        &mut name,
                        KeyValuePartialInformation,
                        room.as_mut_ptr().cast(),
                        size_of_val(room) as u32,
                        &mut needed,
                    )
                }
            };
            holds!(rule, query(&mut room) == STATUS_OBJECT_NAME_NOT_FOUND);
            // SAFETY: opened above.
            holds!(rule, unsafe { ZwClose(key) } == STATUS_SUCCESS);
        }
    );
}
