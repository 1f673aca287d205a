//! Registry value types and the structures that queries fill in.

use super::{NTSTATUS, PVOID, layout};

/// No type.
pub const REG_NONE: u32 = 0;
/// A terminated UTF-16 string.
pub const REG_SZ: u32 = 1;
/// The same, with `%NAME%` to be expanded.
pub const REG_EXPAND_SZ: u32 = 2;
/// Bytes.
pub const REG_BINARY: u32 = 3;
/// 32 bits, little-endian.
pub const REG_DWORD: u32 = 4;
/// Terminated strings, then one empty one.
pub const REG_MULTI_SZ: u32 = 7;
/// 64 bits, little-endian.
pub const REG_QWORD: u32 = 11;

/// The name is a path relative to `\Registry\Machine\System\CurrentControlSet\Services`.
pub const RTL_REGISTRY_SERVICES: u32 = 1;
/// Relative to `\Registry\Machine\System\CurrentControlSet\Control`.
pub const RTL_REGISTRY_CONTROL: u32 = 2;
/// Relative to `\Registry\Machine\Software\Microsoft\Windows NT\CurrentVersion`.
pub const RTL_REGISTRY_WINDOWS_NT: u32 = 3;
/// Relative to the user's key: that of the system's process is `\Registry\User\.Default`.
pub const RTL_REGISTRY_USER: u32 = 5;
/// Relative to `\Registry\Machine\Hardware\DeviceMap`.
pub const RTL_REGISTRY_DEVICEMAP: u32 = 4;
/// The name is a whole path.
pub const RTL_REGISTRY_ABSOLUTE: u32 = 0;
/// The name is a handle.
pub const RTL_REGISTRY_HANDLE: u32 = 0x4000_0000;
/// The key may be missing.
pub const RTL_REGISTRY_OPTIONAL: u32 = 0x8000_0000;

/// The entry names a subkey, and the entries after it are about that one.
pub const RTL_QUERY_REGISTRY_SUBKEY: u32 = 0x0000_0001;
/// Back to the first key.
pub const RTL_QUERY_REGISTRY_TOPKEY: u32 = 0x0000_0002;
/// A missing value is an error.
pub const RTL_QUERY_REGISTRY_REQUIRED: u32 = 0x0000_0004;
/// No value: call the routine.
pub const RTL_QUERY_REGISTRY_NOVALUE: u32 = 0x0000_0008;
/// Hand expandable and multiple strings over as they are.
pub const RTL_QUERY_REGISTRY_NOEXPAND: u32 = 0x0000_0010;
/// Store the value at `EntryContext` rather than call a routine.
pub const RTL_QUERY_REGISTRY_DIRECT: u32 = 0x0000_0020;
/// Delete the value once read.
pub const RTL_QUERY_REGISTRY_DELETE: u32 = 0x0000_0040;
/// With DIRECT: the value's type must be the one in the top byte of `DefaultType`.
pub const RTL_QUERY_REGISTRY_TYPECHECK: u32 = 0x0000_0100;
/// Where in `DefaultType` that byte is.
pub const RTL_QUERY_REGISTRY_TYPECHECK_SHIFT: u32 = 24;

/// `RTL_QUERY_REGISTRY_ROUTINE`.
pub type QueryRegistryRoutine = unsafe extern "win64" fn(
    name: *mut u16,
    value_type: u32,
    data: PVOID,
    length: u32,
    context: PVOID,
    entry_context: PVOID,
) -> NTSTATUS;

/// One entry of the table that `RtlQueryRegistryValues` works through.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RTL_QUERY_REGISTRY_TABLE {
    /// Called with the value; null with DIRECT and in the table's last entry.
    pub QueryRoutine: Option<QueryRegistryRoutine>,
    /// `RTL_QUERY_REGISTRY_*`.
    pub Flags: u32,
    /// Terminated name of the value or subkey.
    pub Name: *mut u16,
    /// The routine's, or where DIRECT stores.
    pub EntryContext: PVOID,
    /// Type of the default; with TYPECHECK also the expected type.
    pub DefaultType: u32,
    /// Used where the value is missing.
    pub DefaultData: PVOID,
    /// Its length in bytes.
    pub DefaultLength: u32,
}
layout!(RTL_QUERY_REGISTRY_TABLE, size 0x38, Flags @ 0x8, Name @ 0x10, EntryContext @ 0x18, DefaultType @ 0x20,
    DefaultData @ 0x28, DefaultLength @ 0x30);

/// `KeyBasicInformation`: a key's name.
pub const KEY_BASIC_INFORMATION_CLASS: u32 = 0;
/// `KeyNodeInformation`: and its class.
pub const KEY_NODE_INFORMATION_CLASS: u32 = 1;
/// `KeyFullInformation`: how much is in it.
pub const KEY_FULL_INFORMATION_CLASS: u32 = 2;
/// `KeyNameInformation`: its path.
pub const KEY_NAME_INFORMATION_CLASS: u32 = 3;
/// `KeyCachedInformation`: how much is in it, without a class.
pub const KEY_CACHED_INFORMATION_CLASS: u32 = 4;
/// `KeyValueBasicInformation`: type and name.
pub const KEY_VALUE_BASIC_INFORMATION_CLASS: u32 = 0;
/// `KeyValueFullInformation`: type, name and data.
pub const KEY_VALUE_FULL_INFORMATION_CLASS: u32 = 1;
/// `KeyValuePartialInformation`: type and data.
pub const KEY_VALUE_PARTIAL_INFORMATION_CLASS: u32 = 2;

/// `KeyValueFullInformationAlign64`: the same, aligned.
pub const KEY_VALUE_FULL_INFORMATION_ALIGN64_CLASS: u32 = 3;
/// `KeyValuePartialInformationAlign64`: type and data, aligned.
pub const KEY_VALUE_PARTIAL_INFORMATION_ALIGN64_CLASS: u32 = 4;

/// `ZwCreateKey` made a new key.
pub const REG_CREATED_NEW_KEY: u32 = 1;
/// `ZwCreateKey` opened one that was there.
pub const REG_OPENED_EXISTING_KEY: u32 = 2;
