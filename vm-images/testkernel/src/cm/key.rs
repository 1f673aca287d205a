//! Keys behind handles: what drivers call to read their configuration.

use squall_testkernel_pure::registry::{KeyId, Value};

use super::{status_of, with};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, KEY_VALUE_BASIC_INFORMATION_CLASS, KEY_VALUE_FULL_INFORMATION_ALIGN64_CLASS,
    KEY_VALUE_FULL_INFORMATION_CLASS, KEY_VALUE_PARTIAL_INFORMATION_ALIGN64_CLASS,
    KEY_VALUE_PARTIAL_INFORMATION_CLASS, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, REG_CREATED_NEW_KEY,
    REG_OPENED_EXISTING_KEY, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_HANDLE,
    STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
    UNICODE_STRING,
};
use crate::ob::handle::{self, Target};
use crate::selftest::{check, kernel_test};

/// The key behind a handle.
pub fn of_handle(key: HANDLE) -> Result<KeyId, NTSTATUS> {
    match handle::target(key) {
        Some(Target::Key(key)) => Ok(key),
        Some(Target::Object(_)) => Err(STATUS_OBJECT_TYPE_MISMATCH),
        None => Err(STATUS_INVALID_HANDLE),
    }
}

/// Root and path that object attributes name.
///
/// # Safety
/// `attributes` must lead to valid attributes with a valid name.
unsafe fn path<'a>(attributes: *const OBJECT_ATTRIBUTES) -> Result<(Option<KeyId>, &'a [u16]), NTSTATUS> {
    // SAFETY: the caller's contract.
    let attributes = unsafe { attributes.as_ref() }.ok_or(STATUS_INVALID_PARAMETER)?;
    if attributes.Length as usize != size_of::<OBJECT_ATTRIBUTES>() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let root =
        if attributes.RootDirectory.is_null() { None } else { Some(of_handle(attributes.RootDirectory)?) };
    // SAFETY: the caller's contract.
    let name = unsafe { attributes.ObjectName.as_ref() }.ok_or(STATUS_INVALID_PARAMETER)?;
    // SAFETY: the caller's contract.
    Ok((root, unsafe { name.units() }))
}

/// A value in the form that an information class asks for: a fixed part and what follows it.
pub(super) struct Information {
    /// Words of the fixed part.
    header: [u32; 5],
    /// Bytes of the fixed part.
    fixed: usize,
    /// Where the name goes, if it does.
    name: Option<usize>,
    /// Where the data go, if they do.
    data: Option<usize>,
    /// Bytes in all.
    total: usize,
}

impl Information {
    /// `value` for `class`; none where there is no such class.
    pub(super) fn new(class: u32, value: &Value) -> Option<Self> {
        let (name, data) = (value.name.len() * 2, value.data.len());
        let (kind, data_length, name_length) = (value.kind, data as u32, name as u32);
        Some(match class {
            // TitleIndex, Type, NameLength, Name.
            KEY_VALUE_BASIC_INFORMATION_CLASS => Self {
                header: [0, kind, name_length, 0, 0],
                fixed: 12,
                name: Some(12),
                data: None,
                total: 12 + name,
            },
            // TitleIndex, Type, DataOffset, DataLength, NameLength, Name, and the data on an 8-byte boundary.
            KEY_VALUE_FULL_INFORMATION_CLASS | KEY_VALUE_FULL_INFORMATION_ALIGN64_CLASS => {
                let at = (20 + name).next_multiple_of(8);
                Self {
                    header: [0, kind, at as u32, data_length, name_length],
                    fixed: 20,
                    name: Some(20),
                    data: Some(at),
                    total: at + data,
                }
            }
            // TitleIndex, Type, DataLength, Data.
            KEY_VALUE_PARTIAL_INFORMATION_CLASS => Self {
                header: [0, kind, data_length, 0, 0],
                fixed: 12,
                name: None,
                data: Some(12),
                total: 12 + data,
            },
            // Type, DataLength, Data, which lies on an 8-byte boundary where the structure does.
            KEY_VALUE_PARTIAL_INFORMATION_ALIGN64_CLASS => Self {
                header: [kind, data_length, 0, 0, 0],
                fixed: 8,
                name: None,
                data: Some(8),
                total: 8 + data,
            },
            _ => return None,
        })
    }

    /// Hands the value over, as much as fits, and says what it takes.
    ///
    /// # Safety
    /// `to` must lead to `length` bytes, `result_length` to a number.
    pub(super) unsafe fn answer(
        &self,
        value: &Value,
        to: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        unsafe { result_length.write(self.total as u32) };
        let room = length as usize;
        if room < self.fixed {
            return STATUS_BUFFER_TOO_SMALL;
        }
        // SAFETY: the caller's.
        unsafe { self.write(value, to.cast(), room) };
        if room < self.total { STATUS_BUFFER_OVERFLOW } else { STATUS_SUCCESS }
    }

    /// Writes as much as `room` bytes at `to` hold.
    ///
    /// # Safety
    /// `to` must lead to `room` bytes.
    unsafe fn write(&self, value: &Value, to: *mut u8, room: usize) {
        let put = |at: usize, bytes: &[u8]| {
            let fits = room.saturating_sub(at).min(bytes.len());
            // SAFETY: `at + fits` is within the room.
            unsafe { bytes.as_ptr().copy_to_nonoverlapping(to.wrapping_add(at), fits) };
        };
        for (index, word) in self.header.iter().take(self.fixed / 4).enumerate() {
            put(index * 4, &word.to_le_bytes());
        }
        if let Some(at) = self.name {
            value.name.iter().enumerate().for_each(|(index, unit)| put(at + 2 * index, &unit.to_le_bytes()));
        }
        if let Some(at) = self.data {
            put(at, &value.data);
        }
    }
}

export! {
    /// *ZwOpenKey function (wdm.h)*: access rights are not checked, the guest has no security.
    pub unsafe extern "win64" fn ZwOpenKey(
        key: *mut HANDLE,
        _access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: the caller gives valid attributes.
        let opened = unsafe { path(attributes) }
            .and_then(|(root, path)| with(|registry| registry.open(root, path)).map_err(status_of))
            .and_then(|id| handle::create(Target::Key(id)));
        match opened {
            Ok(handle) => {
                // SAFETY: the caller gives storage for the handle.
                unsafe { key.write(handle) };
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *ZwCreateKey function (wdm.h)*: opens the key, or makes it: STATUS_OBJECT_NAME_NOT_FOUND where the key above it does not
    /// exist.
    pub unsafe extern "win64" fn ZwCreateKey(
        key: *mut HANDLE,
        _access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        _title_index: u32,
        class: *const UNICODE_STRING,
        _options: u32,
        disposition: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller gives valid attributes.
        let made = unsafe { path(attributes) }
            .and_then(|(root, path)| with(|registry| registry.create_in_existing(root, path)).map_err(status_of))
            .and_then(|(id, created)| {
                // SAFETY: the caller gives a valid string or null.
                match unsafe { class.as_ref().map(|class| class.units()) } {
                    Some(class) if created => with(|registry| registry.set_class(id, class)).map_err(status_of)?,
                    _ => {}
                }
                Ok((id, created))
            })
            .and_then(|(id, created)| Ok((handle::create(Target::Key(id))?, created)));
        match made {
            Ok((handle, created)) => {
                // SAFETY: the caller gives storage for the handle, and for the disposition or null.
                unsafe {
                    key.write(handle);
                    if let Some(disposition) = disposition.as_mut() {
                        *disposition = if created { REG_CREATED_NEW_KEY } else { REG_OPENED_EXISTING_KEY };
                    }
                }
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *ZwQueryValueKey function (wdm.h)*: basic, full and partial information, the latter two aligned or not; ResultLength says what it takes.
    pub unsafe extern "win64" fn ZwQueryValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        class: u32,
        information: PVOID,
        length: u32,
        result_length: *mut u32,
    ) -> NTSTATUS {
        let id = match of_handle(key) {
            Ok(id) => id,
            Err(status) => return status,
        };
        // SAFETY: the caller gives a valid name.
        let name = unsafe { (*name).units() };
        // A copy: the caller's buffer may fault, and must not do so under the registry's lock.
        let found = with(|registry| registry.check(id).map(|()| registry.value(id, name).cloned()));
        let value = match found {
            Ok(Some(value)) => value,
            Ok(None) => return STATUS_OBJECT_NAME_NOT_FOUND,
            Err(error) => return status_of(error),
        };
        let Some(form) = Information::new(class, &value) else { return STATUS_INVALID_PARAMETER };
        // SAFETY: the caller gives a buffer of that length, and storage for the length.
        unsafe { form.answer(&value, information, length, result_length) }
    }

    /// *ZwSetValueKey function (wdm.h)*.
    pub unsafe extern "win64" fn ZwSetValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        _title_index: u32,
        kind: u32,
        data: PVOID,
        bytes: u32,
    ) -> NTSTATUS {
        let id = match of_handle(key) {
            Ok(id) => id,
            Err(status) => return status,
        };
        // SAFETY: the caller gives a valid name.
        let name = unsafe { (*name).units() }.to_vec();
        let data = if bytes == 0 || data.is_null() {
            alloc::vec::Vec::new()
        } else {
            // SAFETY: the caller gives that many bytes.
            unsafe { core::slice::from_raw_parts(data.cast::<u8>(), bytes as usize) }.to_vec()
        };
        match with(|registry| registry.set_value(id, &name, kind, &data)) {
            Ok(()) => STATUS_SUCCESS,
            Err(error) => status_of(error),
        }
    }
}

kernel_test! {
    fn a_value_is_set_and_read_back_through_handles() {
        let path: alloc::vec::Vec<u16> = r"\Registry\Machine\Selftest".encode_utf16().collect();
        let name: alloc::vec::Vec<u16> = "Number".encode_utf16().collect();
        let counted = |units: &[u16]| UNICODE_STRING {
            Length: (units.len() * 2) as u16,
            MaximumLength: (units.len() * 2) as u16,
            Buffer: units.as_ptr().cast_mut(),
        };
        let (mut path, mut name) = (counted(&path), counted(&name));
        let attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
            RootDirectory: core::ptr::null_mut(),
            ObjectName: &raw mut path,
            Attributes: 0x40,
            SecurityDescriptor: core::ptr::null_mut(),
            SecurityQualityOfService: core::ptr::null_mut(),
        };
        let mut key = core::ptr::null_mut();
        let mut disposition = 0;
        let mut number = 0x300u32;
        let mut buffer = [0u32; 8];
        let mut length = 0;
        // SAFETY: every pointer leads to a local of the right kind.
        unsafe {
            check!(ZwOpenKey(&raw mut key, 0, &raw const attributes) == STATUS_OBJECT_NAME_NOT_FOUND);
            let made = ZwCreateKey(
                &raw mut key, 0, &raw const attributes, 0, core::ptr::null(), 0, &raw mut disposition,
            );
            check!(made == STATUS_SUCCESS && disposition == REG_CREATED_NEW_KEY);
            let data = (&raw mut number).cast();
            check!(ZwSetValueKey(key, &raw mut name, 0, 4, data, 4) == STATUS_SUCCESS);
            let class = KEY_VALUE_PARTIAL_INFORMATION_CLASS;
            let to = (&raw mut buffer).cast();
            let mut query = |room| ZwQueryValueKey(key, &raw mut name, class, to, room, &raw mut length);
            check!(query(8) == STATUS_BUFFER_TOO_SMALL);
            check!(query(12) == STATUS_BUFFER_OVERFLOW);
            check!(query(32) == STATUS_SUCCESS);
            check!(length == 16 && buffer[1..4] == [4, 4, 0x300]);
            check!(handle::close(key) == STATUS_SUCCESS && handle::close(key) == STATUS_INVALID_HANDLE);
        }
    }
}
