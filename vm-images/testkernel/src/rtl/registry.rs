//! The registry by table: one call that fetches all of a driver's parameters.
//!
//! Each entry of the table names a value (or moves to a subkey) and says what is to become of it: a routine is called
//! with it, or, with DIRECT, it is stored. Missing values have defaults or are errors.

use alloc::vec::Vec;

use squall_testkernel_pure::registry::{KeyId, Value};
use squall_testkernel_pure::utf16;

use super::string::terminated;
use crate::cm;
use crate::cm::key::{self, Opened};
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, PVOID, REG_EXPAND_SZ, REG_MULTI_SZ, REG_NONE, REG_SZ, RTL_QUERY_REGISTRY_DELETE,
    RTL_QUERY_REGISTRY_DIRECT, RTL_QUERY_REGISTRY_NOEXPAND, RTL_QUERY_REGISTRY_NOVALUE,
    RTL_QUERY_REGISTRY_REQUIRED, RTL_QUERY_REGISTRY_SUBKEY, RTL_QUERY_REGISTRY_TABLE,
    RTL_QUERY_REGISTRY_TOPKEY, RTL_QUERY_REGISTRY_TYPECHECK, RTL_QUERY_REGISTRY_TYPECHECK_SHIFT,
    RTL_REGISTRY_ABSOLUTE, RTL_REGISTRY_CONTROL, RTL_REGISTRY_DEVICEMAP, RTL_REGISTRY_HANDLE,
    RTL_REGISTRY_OPTIONAL, RTL_REGISTRY_SERVICES, RTL_REGISTRY_USER, RTL_REGISTRY_WINDOWS_NT,
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::selftest::{check, kernel_test};

/// The path of a key that is not given as a handle.
///
/// # Safety
/// `path` must be null or a terminated string.
unsafe fn full_path(relative_to: u32, path: *const u16) -> Result<Vec<u16>, NTSTATUS> {
    let base = match relative_to & 0xFFFF {
        RTL_REGISTRY_ABSOLUTE => "",
        RTL_REGISTRY_SERVICES => cm::SERVICES,
        RTL_REGISTRY_CONTROL => r"\Registry\Machine\System\CurrentControlSet\Control",
        RTL_REGISTRY_WINDOWS_NT => r"\Registry\Machine\Software\Microsoft\Windows NT\CurrentVersion",
        RTL_REGISTRY_DEVICEMAP => r"\Registry\Machine\Hardware\DeviceMap",
        RTL_REGISTRY_USER => r"\Registry\User\.Default",
        _ => return Err(STATUS_INVALID_PARAMETER),
    };
    let mut name = utf16::encode(base);
    if !path.is_null() {
        if !base.is_empty() {
            name.push(u16::from(b'\\'));
        }
        // SAFETY: the caller's contract.
        name.extend_from_slice(unsafe { terminated(path) });
    }
    // A path of nothing is the key itself.
    if !base.is_empty() && name.last() == Some(&u16::from(b'\\')) {
        name.pop();
    }
    Ok(name)
}

/// The key that the call is about; `None` where it is optional and missing.
///
/// # Safety
/// `path` must be what `relative_to` says: a handle or a terminated string.
unsafe fn top_key(relative_to: u32, path: *const u16) -> Result<Option<KeyId>, NTSTATUS> {
    if relative_to & RTL_REGISTRY_HANDLE != 0 {
        return key::of_handle(path.cast_mut().cast()).map(Some);
    }
    // SAFETY: the caller's contract.
    let name = unsafe { full_path(relative_to, path) }?;
    match cm::with(|registry| registry.open(None, &name)) {
        Ok(key) => Ok(Some(key)),
        Err(_) if relative_to & RTL_REGISTRY_OPTIONAL != 0 => Ok(None),
        Err(error) => Err(cm::status_of(error)),
    }
}

/// A value for an entry: the registry's or the entry's default.
///
/// # Safety
/// `entry` must be a valid entry of a table.
unsafe fn value_for(entry: &RTL_QUERY_REGISTRY_TABLE, key: Option<KeyId>) -> Result<Option<Value>, NTSTATUS> {
    // SAFETY: the name of an entry that wants a value is a terminated string.
    let name = unsafe { terminated(entry.Name) };
    let stored = key.and_then(|key| cm::with(|registry| registry.value(key, name).cloned()));
    if stored.is_some() {
        return Ok(stored);
    }
    if entry.Flags & RTL_QUERY_REGISTRY_REQUIRED != 0 {
        return Err(STATUS_OBJECT_NAME_NOT_FOUND);
    }
    // The top byte is the type that TYPECHECK expects.
    let kind = entry.DefaultType & 0x00FF_FFFF;
    if kind == REG_NONE || entry.DefaultData.is_null() {
        return Ok(None);
    }
    let data = if entry.DefaultLength == 0 && matches!(kind, REG_SZ | REG_EXPAND_SZ) {
        // SAFETY: without a length, a default string is terminated.
        let text = unsafe { terminated(entry.DefaultData.cast()) };
        text.iter().chain(&[0]).flat_map(|unit| unit.to_le_bytes()).collect()
    } else if entry.DefaultLength == 0 && kind == REG_MULTI_SZ {
        // SAFETY: without a length, default strings end with an empty one.
        unsafe { terminated_list(entry.DefaultData.cast()) }
            .iter()
            .flat_map(|unit| unit.to_le_bytes())
            .collect()
    } else {
        // SAFETY: the entry gives that many bytes.
        unsafe { core::slice::from_raw_parts(entry.DefaultData.cast::<u8>(), entry.DefaultLength as usize) }
            .to_vec()
    };
    Ok(Some(Value { name: name.to_vec(), kind, data }))
}

/// Terminated strings and the empty one behind the last, terminators and all.
///
/// # Safety
/// `strings` must lead to such a list.
unsafe fn terminated_list<'a>(strings: *const u16) -> &'a [u16] {
    let mut length = 0;
    // SAFETY: everything up to the empty string can be read.
    unsafe {
        while strings.add(length).read() != 0 {
            length += terminated(strings.add(length)).len() + 1;
        }
        core::slice::from_raw_parts(strings, length + 1)
    }
}

/// Hands a value to the entry's routine, one string at a time where it holds several.
///
/// # Safety
/// `entry` must be a valid entry with a routine.
unsafe fn call(entry: &RTL_QUERY_REGISTRY_TABLE, value: &Value, context: PVOID) -> NTSTATUS {
    let Some(routine) = entry.QueryRoutine else { return STATUS_SUCCESS };
    let mut name: Vec<u16> = value.name.iter().copied().chain([0]).collect();
    let mut hand_over = |kind: u32, data: &[u8]| {
        // Aligned for the strings and numbers that it holds, and the routine's to scribble on.
        let mut words: Vec<u64> = alloc::vec![0; data.len().div_ceil(8).max(1)];
        // SAFETY: the words hold at least that many bytes.
        unsafe { data.as_ptr().copy_to_nonoverlapping(words.as_mut_ptr().cast(), data.len()) };
        let data_pointer = words.as_mut_ptr().cast();
        // SAFETY: the driver's routine, with what its documentation promises.
        let status = unsafe {
            routine(name.as_mut_ptr(), kind, data_pointer, data.len() as u32, context, entry.EntryContext)
        };
        // *QUERY_REGISTRY_ROUTINE*: a routine with too little room goes on with the next value.
        if status == STATUS_BUFFER_TOO_SMALL { STATUS_SUCCESS } else { status }
    };
    let expand = entry.Flags & RTL_QUERY_REGISTRY_NOEXPAND == 0;
    if value.kind != REG_MULTI_SZ || !expand {
        // There is no environment to expand from, so the text itself is the expansion.
        let kind = if value.kind == REG_EXPAND_SZ && expand { REG_SZ } else { value.kind };
        return hand_over(kind, &value.data);
    }
    let units: Vec<u16> =
        value.data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    for text in units.split(|&unit| unit == 0).take_while(|text| !text.is_empty()) {
        let data: Vec<u8> = text.iter().chain(&[0]).flat_map(|unit| unit.to_le_bytes()).collect();
        let status = hand_over(REG_SZ, &data);
        if !status.is_success() {
            return status;
        }
    }
    STATUS_SUCCESS
}

/// Stores a value where the entry's context points.
///
/// # Safety
/// `entry.EntryContext` must be what the documentation of DIRECT asks for, for this type of value.
unsafe fn store(entry: &RTL_QUERY_REGISTRY_TABLE, value: &Value) -> NTSTATUS {
    let expected = entry.DefaultType >> RTL_QUERY_REGISTRY_TYPECHECK_SHIFT;
    if entry.Flags & RTL_QUERY_REGISTRY_TYPECHECK != 0 && expected != value.kind {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    let data = &value.data;
    if matches!(value.kind, REG_SZ | REG_EXPAND_SZ | REG_MULTI_SZ) {
        // SAFETY: for strings the context is a counted string.
        let string = unsafe { &mut *entry.EntryContext.cast::<UNICODE_STRING>() };
        let bytes = data.len().min(0xFFFE);
        if string.Buffer.is_null() {
            let Some(buffer) = pool::allocate_zeroed(bytes.max(2), *b"qrRq") else { return STATUS_NO_MEMORY };
            *string =
                UNICODE_STRING { Length: 0, MaximumLength: bytes as u16, Buffer: buffer.as_ptr().cast() };
        } else if bytes > string.MaximumLength.into() {
            return STATUS_BUFFER_TOO_SMALL;
        }
        // SAFETY: the buffer holds that many bytes.
        unsafe { data.as_ptr().copy_to_nonoverlapping(string.Buffer.cast(), bytes) };
        // The last stored terminator is not part of the counted string.
        let ends_with_zero = data[..bytes].ends_with(&[0, 0]);
        string.Length = (bytes - if ends_with_zero { 2 } else { 0 }) as u16;
        return STATUS_SUCCESS;
    }
    let to = entry.EntryContext.cast::<u8>();
    if data.len() <= size_of::<u32>() {
        // SAFETY: for small values the context is a ULONG.
        unsafe { data.as_ptr().copy_to_nonoverlapping(to, data.len()) };
        return STATUS_SUCCESS;
    }
    // SAFETY: for larger values the context begins with its size: negative for the bytes alone, positive for length,
    // type and bytes.
    let room = unsafe { to.cast::<i32>().read_unaligned() };
    let (header, room) = if room < 0 { (0, room.unsigned_abs() as usize) } else { (8, room as usize) };
    if header + data.len() > room {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: header and data fit the room.
    unsafe {
        if header > 0 {
            to.cast::<u32>().write_unaligned(data.len() as u32);
            to.add(4).cast::<u32>().write_unaligned(value.kind);
        }
        data.as_ptr().copy_to_nonoverlapping(to.add(header), data.len());
    }
    STATUS_SUCCESS
}

/// Whether an entry's flags go with the rest of it: what is stored, deleted or moved to has a name, and what is stored has no
/// routine.
fn is_sensible(entry: &RTL_QUERY_REGISTRY_TABLE) -> bool {
    let has = |flags: u32| entry.Flags & flags != 0;
    let named = !entry.Name.is_null();
    let direct = has(RTL_QUERY_REGISTRY_DIRECT);
    (named || !(direct || has(RTL_QUERY_REGISTRY_SUBKEY | RTL_QUERY_REGISTRY_DELETE)))
        && !(direct && (has(RTL_QUERY_REGISTRY_SUBKEY) || entry.QueryRoutine.is_some()))
}

/// One entry that asks for a value or for all of them.
///
/// # Safety
/// `entry` must be a valid entry of a table.
unsafe fn query(entry: &RTL_QUERY_REGISTRY_TABLE, key: Option<KeyId>, context: PVOID) -> NTSTATUS {
    if entry.Flags & RTL_QUERY_REGISTRY_NOVALUE != 0 {
        // There is no value, hence neither its name nor its data.
        let (name, data) = (core::ptr::null_mut(), core::ptr::null_mut());
        return entry.QueryRoutine.map_or(STATUS_SUCCESS, |routine| {
            // SAFETY: the driver's routine, with what its documentation promises.
            let status = unsafe { routine(name, REG_NONE, data, 0, context, entry.EntryContext) };
            if status == STATUS_BUFFER_TOO_SMALL { STATUS_SUCCESS } else { status }
        });
    }
    if entry.Name.is_null() {
        let all = key.map(|key| cm::with(|registry| registry.values(key).cloned().collect::<Vec<_>>()));
        let all = all.unwrap_or_default();
        if all.is_empty() && entry.Flags & RTL_QUERY_REGISTRY_REQUIRED != 0 {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        }
        for value in all {
            // SAFETY: the caller's contract.
            let status = unsafe { call(entry, &value, context) };
            if !status.is_success() {
                return status;
            }
        }
        return STATUS_SUCCESS;
    }
    // SAFETY: the caller's contract.
    let value = match unsafe { value_for(entry, key) } {
        Ok(Some(value)) => value,
        Ok(None) => return STATUS_SUCCESS,
        Err(status) => return status,
    };
    // SAFETY: the caller's contract.
    let status = unsafe {
        if entry.Flags & RTL_QUERY_REGISTRY_DIRECT != 0 {
            store(entry, &value)
        } else {
            call(entry, &value, context)
        }
    };
    if status.is_success()
        && entry.Flags & RTL_QUERY_REGISTRY_DELETE != 0
        && let Some(key) = key
    {
        cm::with(|registry| registry.delete_value(key, &value.name));
    }
    status
}

export! {
    /// *RtlQueryRegistryValues function (wdm.h)*: every flag but expansion from an environment, which is none here. A subkey that is
    /// missing ends it, unless the key above is optional and missing itself.
    pub unsafe extern "win64" fn RtlQueryRegistryValues(
        relative_to: u32,
        path: *const u16,
        table: *const RTL_QUERY_REGISTRY_TABLE,
        context: PVOID,
        _environment: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller gives what `relative_to` says.
        let top = match unsafe { top_key(relative_to, path) } {
            Ok(top) => top,
            Err(status) => return status,
        };
        let mut key = top;
        let mut at = table;
        loop {
            // SAFETY: the table goes on until an entry without routine and name.
            let entry = unsafe { &*at };
            let stores = entry.Flags & (RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_SUBKEY) != 0;
            if entry.QueryRoutine.is_none() && !stores {
                return STATUS_SUCCESS;
            }
            if !is_sensible(entry) {
                return STATUS_INVALID_PARAMETER;
            }
            if entry.Flags & (RTL_QUERY_REGISTRY_TOPKEY | RTL_QUERY_REGISTRY_SUBKEY) != 0 {
                key = top;
            }
            if entry.Flags & RTL_QUERY_REGISTRY_SUBKEY != 0 {
                // SAFETY: a name is a terminated string.
                let name = unsafe { terminated(entry.Name) };
                key = top.and_then(|top| cm::with(|registry| registry.open(Some(top), name)).ok());
                if key.is_none() && top.is_some() {
                    return STATUS_OBJECT_NAME_NOT_FOUND;
                }
            }
            let only_moves = entry.Flags & RTL_QUERY_REGISTRY_SUBKEY != 0 && entry.QueryRoutine.is_none();
            if !only_moves {
                let all_of_subkey = RTL_QUERY_REGISTRY_TABLE { Name: core::ptr::null_mut(), ..*entry };
                let moved = entry.Flags & RTL_QUERY_REGISTRY_SUBKEY != 0;
                // SAFETY: a valid entry; with SUBKEY the name was the key's, and the routine wants all its values.
                let status = unsafe { query(if moved { &all_of_subkey } else { entry }, key, context) };
                if !status.is_success() {
                    return status;
                }
            }
            at = at.wrapping_add(1);
        }
    }
}

/// The path that a key is relative to, with the rest appended; a handle has none.
///
/// # Safety
/// `path` must be what `relative_to` says.
unsafe fn existing(relative_to: u32, path: *const u16) -> Result<KeyId, NTSTATUS> {
    // SAFETY: the caller's contract.
    unsafe { top_key(relative_to & !RTL_REGISTRY_OPTIONAL, path) }?.ok_or(STATUS_OBJECT_NAME_NOT_FOUND)
}

/// The key itself, made where it is missing.
///
/// # Safety
/// As for [`existing`].
unsafe fn made(relative_to: u32, path: *const u16) -> Result<KeyId, NTSTATUS> {
    if relative_to & RTL_REGISTRY_HANDLE != 0 {
        return key::of_handle(path.cast_mut().cast());
    }
    // SAFETY: the caller's contract.
    let name = unsafe { full_path(relative_to, path) }?;
    cm::with(|registry| registry.create(None, &name)).map(|(key, _)| key).map_err(cm::status_of)
}

/// What an operation on a key that was found came to, or why there is none.
fn outcome(result: Result<NTSTATUS, NTSTATUS>) -> NTSTATUS {
    result.unwrap_or_else(|status| status)
}

/// A name as the operations on keys take it; no name is that of the value without one.
///
/// # Safety
/// `name` must be null or terminated.
unsafe fn counted(name: *const u16) -> UNICODE_STRING {
    if name.is_null() {
        return UNICODE_STRING::EMPTY;
    }
    // SAFETY: the caller's contract.
    let bytes = (unsafe { terminated(name) }.len() * 2) as u16;
    UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: name.cast_mut() }
}

export! {
    /// *RtlWriteRegistryValue function (wdm.h)*: makes the key where it is missing.
    pub unsafe extern "win64" fn RtlWriteRegistryValue(
        relative_to: u32,
        path: *const u16,
        name: *const u16,
        kind: u32,
        data: PVOID,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller gives terminated strings, or a handle, and that many bytes. They are copied before the
        // registry is locked.
        outcome(unsafe {
            let name = counted(name);
            made(relative_to, path).map(|key| Opened::new(key).set_value(&raw const name, kind, data, length))
        })
    }

    /// *RtlDeleteRegistryValue function (wdm.h)*: STATUS_OBJECT_NAME_NOT_FOUND where there is none.
    pub unsafe extern "win64" fn RtlDeleteRegistryValue(
        relative_to: u32,
        path: *const u16,
        name: *const u16,
    ) -> NTSTATUS {
        // SAFETY: the caller gives terminated strings, or a handle.
        outcome(unsafe {
            let name = counted(name);
            existing(relative_to, path).map(|key| Opened::new(key).delete_value(&raw const name))
        })
    }

    /// *RtlCheckRegistryKey function (wdm.h)*: STATUS_SUCCESS where the key exists.
    pub unsafe extern "win64" fn RtlCheckRegistryKey(relative_to: u32, path: *const u16) -> NTSTATUS {
        // SAFETY: the caller gives a terminated string.
        outcome(unsafe { existing(relative_to, path) }.map(|_| STATUS_SUCCESS))
    }

    /// *RtlCreateRegistryKey function (wdm.h)*: one that exists is no error.
    pub unsafe extern "win64" fn RtlCreateRegistryKey(relative_to: u32, path: *const u16) -> NTSTATUS {
        // SAFETY: the caller gives a terminated string.
        outcome(unsafe { made(relative_to, path) }.map(|_| STATUS_SUCCESS))
    }
}

kernel_test! {
    /// *RtlWriteRegistryValue function*: key and value are made, read by others, and deleted again.
    fn values_under_device_map_are_written_checked_and_deleted() {
        let zero = |text: &str| text.encode_utf16().chain([0]).collect::<Vec<u16>>();
        let (path, name) = (zero(r"Selftest\Card"), zero("\\Device\\Card0"));
        let (path, name, map) = (path.as_ptr(), name.as_ptr(), RTL_REGISTRY_DEVICEMAP);
        let mut number = 7u32;
        let data = (&raw mut number).cast();
        // SAFETY: terminated strings and a local.
        unsafe {
            check!(RtlCheckRegistryKey(map, path) == STATUS_OBJECT_NAME_NOT_FOUND);
            check!(RtlDeleteRegistryValue(map, path, name) == STATUS_OBJECT_NAME_NOT_FOUND);
            check!(RtlWriteRegistryValue(map, path, name, 4, data, 4) == STATUS_SUCCESS);
            check!(RtlCheckRegistryKey(map, path) == STATUS_SUCCESS && RtlCreateRegistryKey(map, path) == STATUS_SUCCESS);
            let key = existing(map, path);
            let units = terminated(name).to_vec();
            let value = key.ok().and_then(|key| cm::with(|registry| registry.value(key, &units).cloned()));
            check!(value.is_some_and(|value| value.kind == 4 && value.data == 7u32.to_le_bytes()));
            check!(RtlDeleteRegistryValue(map, path, name) == STATUS_SUCCESS);
            check!(RtlDeleteRegistryValue(map, path, name) == STATUS_OBJECT_NAME_NOT_FOUND);
            check!(RtlWriteRegistryValue(0x33, path, name, 4, data, 4) == STATUS_INVALID_PARAMETER);
        }
    }
}
