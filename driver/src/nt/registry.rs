//! Values under the driver's service key.

use core::{mem::offset_of, ptr};

use wdk_sys::{
    _KEY_VALUE_INFORMATION_CLASS::KeyValuePartialInformation,
    HANDLE, KEY_READ, KEY_VALUE_PARTIAL_INFORMATION, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE,
    OBJECT_ATTRIBUTES, PCUNICODE_STRING, REG_DWORD, STATUS_OBJECT_TYPE_MISMATCH, ULONG, UNICODE_STRING,
    ntddk::{ZwClose, ZwOpenKey, ZwQueryValueKey},
};

use super::status::{Result, check};

/// An open registry key; closed when dropped.
#[derive(Debug)]
pub(crate) struct Key(HANDLE);

impl Key {
    /// Opens the key of that full path.
    ///
    /// # Safety
    ///
    /// `path` is valid while the call lasts.
    pub(crate) unsafe fn open(path: PCUNICODE_STRING) -> Result<Self> {
        // SAFETY: handed on.
        unsafe { Self::open_below(ptr::null_mut(), path) }
    }

    /// Opens a key below this one.
    pub(crate) fn subkey(&self, name: &UNICODE_STRING) -> Result<Self> {
        // SAFETY: `name` is borrowed for the call.
        unsafe { Self::open_below(self.0, name) }
    }

    /// # Safety
    ///
    /// `name` is valid while the call lasts.
    unsafe fn open_below(root: HANDLE, name: PCUNICODE_STRING) -> Result<Self> {
        let mut attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as ULONG,
            RootDirectory: root,
            ObjectName: name.cast_mut(),
            Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
            SecurityDescriptor: ptr::null_mut(),
            SecurityQualityOfService: ptr::null_mut(),
        };
        let mut handle = ptr::null_mut();
        // SAFETY: both pointers are to locals; the name is valid by our contract and is only read.
        check(unsafe { ZwOpenKey(&mut handle, KEY_READ, &mut attributes) })?;
        Ok(Self(handle))
    }

    /// A `REG_DWORD`.
    pub(crate) fn dword(&self, name: &UNICODE_STRING) -> Result<u32> {
        let value = self.value(name)?;
        match (value.kind, value.data()) {
            (REG_DWORD, &[a, b, c, d]) => Ok(u32::from_le_bytes([a, b, c, d])),
            _ => Err(STATUS_OBJECT_TYPE_MISMATCH),
        }
    }

    /// Any value that fits.
    pub(crate) fn value(&self, name: &UNICODE_STRING) -> Result<Value> {
        let mut value = Value { _title: 0, kind: 0, length: 0, data: [0; Value::ROOM] };
        let mut needed = 0;
        // SAFETY: `value` has the layout of the structure asked for, with more room behind it, and its whole size is
        // given. The name is borrowed for the call and only read.
        check(unsafe {
            ZwQueryValueKey(
                self.0,
                ptr::from_ref(name).cast_mut(),
                KeyValuePartialInformation,
                ptr::from_mut(&mut value).cast(),
                size_of::<Value>() as ULONG,
                &mut needed,
            )
        })?;
        Ok(value)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: opened by `open_below`, and closed here alone. The status says only whether the handle was one.
        let _ = unsafe { ZwClose(self.0) };
    }
}

/// `KEY_VALUE_PARTIAL_INFORMATION` with room for its data.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Value {
    _title: u32,
    /// `REG_DWORD`, `REG_SZ` and so on.
    pub(crate) kind: u32,
    length: u32,
    data: [u8; Self::ROOM],
}

const _: () = assert!(offset_of!(Value, kind) == offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Type));
const _: () = assert!(offset_of!(Value, length) == offset_of!(KEY_VALUE_PARTIAL_INFORMATION, DataLength));
const _: () = assert!(offset_of!(Value, data) == offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data));

impl Value {
    /// Bytes of data; a longer value is `STATUS_BUFFER_OVERFLOW`.
    const ROOM: usize = 244;

    /// The value's bytes.
    pub(crate) fn data(&self) -> &[u8] {
        self.data.get(..self.length as usize).unwrap_or(&self.data)
    }
}
