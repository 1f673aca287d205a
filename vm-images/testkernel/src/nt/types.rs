//! Strings, lists and other small change of the kernel.

use core::ffi::c_void;

use super::{NTSTATUS, layout};

/// An untyped pointer, as the headers spell it.
pub type PVOID = *mut c_void;
/// One byte that is 0 (`FALSE`) or not.
pub type BOOLEAN = u8;
/// The false [`BOOLEAN`].
pub const FALSE: BOOLEAN = 0;
/// The true [`BOOLEAN`].
pub const TRUE: BOOLEAN = 1;
/// An interrupt request level as it crosses the driver ABI; the kernel's own type is `ke::irql::Irql`.
pub type KIRQL = u8;
/// `KernelMode` or `UserMode`.
pub type KPROCESSOR_MODE = i8;
/// The kernel's own processor mode; the guest has no other.
pub const KERNEL_MODE: KPROCESSOR_MODE = 0;
/// A set of processors, bit *n* for processor *n*.
pub type KAFFINITY = u64;
/// A spin lock's storage.
pub type KSPIN_LOCK = usize;
/// A physical address as the headers pass it.
pub type PHYSICAL_ADDRESS = i64;
/// A handle to a kernel object.
pub type HANDLE = PVOID;

/// A doubly linked list's head or entry: a ring, so that an empty list's head points at itself.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LIST_ENTRY {
    /// The next entry.
    pub Flink: *mut LIST_ENTRY,
    /// The previous entry.
    pub Blink: *mut LIST_ENTRY,
}
layout!(LIST_ENTRY, size 0x10);

/// A singly linked list's head or entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SINGLE_LIST_ENTRY {
    /// The next entry, null at the end.
    pub Next: *mut SINGLE_LIST_ENTRY,
}

/// A counted UTF-16 string. Lengths are in bytes; no terminator is promised.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct UNICODE_STRING {
    /// Bytes in use.
    pub Length: u16,
    /// Bytes of `Buffer`.
    pub MaximumLength: u16,
    /// The code units.
    pub Buffer: *mut u16,
}
layout!(UNICODE_STRING, size 0x10, Buffer @ 0x8);

/// A counted string of bytes; `ANSI_STRING` and `OEM_STRING` are the same thing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct STRING {
    /// Bytes in use.
    pub Length: u16,
    /// Bytes of `Buffer`.
    pub MaximumLength: u16,
    /// The bytes.
    pub Buffer: *mut u8,
}
layout!(STRING, size 0x10, Buffer @ 0x8);
/// A counted string in the system's code page.
pub type ANSI_STRING = STRING;

/// What names an object that a `Zw` routine opens.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OBJECT_ATTRIBUTES {
    /// Size of this structure.
    pub Length: u32,
    /// The name is relative to this open object, where not null.
    pub RootDirectory: HANDLE,
    /// The name.
    pub ObjectName: *mut UNICODE_STRING,
    /// `OBJ_*` flags.
    pub Attributes: u32,
    /// Ignored: the guest has no security.
    pub SecurityDescriptor: PVOID,
    /// Ignored.
    pub SecurityQualityOfService: PVOID,
}
layout!(OBJECT_ATTRIBUTES, size 0x30, ObjectName @ 0x10, Attributes @ 0x18);

/// How an I/O request ended.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_STATUS_BLOCK {
    /// The status; shares its eight bytes with a pointer that the I/O manager does not use here.
    pub Status: NTSTATUS,
    _pad: u32,
    /// What the status is about: bytes transferred, most often.
    pub Information: usize,
}
layout!(IO_STATUS_BLOCK, size 0x10, Information @ 0x8);

impl IO_STATUS_BLOCK {
    /// A block that holds `status` and `information`.
    pub const fn new(status: NTSTATUS, information: usize) -> Self {
        Self { Status: status, _pad: 0, Information: information }
    }
}

/// Head of an interlocked singly linked list: 16 bytes that change with one 128-bit compare-exchange.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct SLIST_HEADER {
    /// Bits 0 to 15 depth, 16 to 63 sequence.
    pub Alignment: u64,
    /// Bits 4 to 63 the first entry's address.
    pub Region: u64,
}
layout!(SLIST_HEADER, size 0x10);

/// An entry of an interlocked list; 16-byte aligned, as the header has no room for the low address bits.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct SLIST_ENTRY {
    /// The next entry, null at the end.
    pub Next: *mut SLIST_ENTRY,
}
layout!(SLIST_ENTRY, size 0x10);

/// `RTL_OSVERSIONINFOW`, which `RTL_OSVERSIONINFOEXW` extends.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RTL_OSVERSIONINFOEXW {
    /// Size of the structure that the caller passed; says which of the two it is.
    pub dwOSVersionInfoSize: u32,
    /// 10 for Windows 10 and 11.
    pub dwMajorVersion: u32,
    /// 0.
    pub dwMinorVersion: u32,
    /// The build number.
    pub dwBuildNumber: u32,
    /// 2: NT.
    pub dwPlatformId: u32,
    /// Service pack, empty.
    pub szCSDVersion: [u16; 128],
    /// From here on only in the extended form.
    pub wServicePackMajor: u16,
    /// 0.
    pub wServicePackMinor: u16,
    /// 0.
    pub wSuiteMask: u16,
    /// 1: workstation.
    pub wProductType: u8,
    /// 0.
    pub wReserved: u8,
}
layout!(RTL_OSVERSIONINFOEXW, size 284, szCSDVersion @ 20, wServicePackMajor @ 276);
