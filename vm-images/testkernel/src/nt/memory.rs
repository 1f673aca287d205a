//! Memory descriptor lists and pool flags.

use super::{PVOID, layout};

/// Describes the pages of a buffer; the page frame numbers follow the structure.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MDL {
    /// The next buffer of the same request.
    pub Next: *mut MDL,
    /// Size of this structure with its page frame numbers.
    pub Size: i16,
    /// `MDL_*`.
    pub MdlFlags: i16,
    /// Reserved.
    pub AllocationProcessorNumber: u16,
    /// Reserved.
    pub Reserved: u16,
    /// Whose pages; null for the system's.
    pub Process: PVOID,
    /// The buffer in system space.
    pub MappedSystemVa: PVOID,
    /// Page-aligned address of the buffer's first page.
    pub StartVa: PVOID,
    /// Length.
    pub ByteCount: u32,
    /// Offset in the first page.
    pub ByteOffset: u32,
}
layout!(MDL, size 0x30, Size @ 0x8, MdlFlags @ 0xA, MappedSystemVa @ 0x18, StartVa @ 0x20, ByteCount @ 0x28,
    ByteOffset @ 0x2C);

/// `MDL_MAPPED_TO_SYSTEM_VA`: `MappedSystemVa` is valid, and `MmGetSystemAddressForMdlSafe` (inline) uses it.
pub const MDL_MAPPED_TO_SYSTEM_VA: i16 = 0x0001;
/// `MDL_PAGES_LOCKED`.
pub const MDL_PAGES_LOCKED: i16 = 0x0002;
/// `MDL_SOURCE_IS_NONPAGED_POOL`: the same, for a buffer that needs no mapping of its own.
pub const MDL_SOURCE_IS_NONPAGED_POOL: i16 = 0x0004;
/// `MDL_ALLOCATED_FIXED_SIZE`.
pub const MDL_ALLOCATED_FIXED_SIZE: i16 = 0x0008;
/// `MDL_PARTIAL`: describes a part of what another describes.
pub const MDL_PARTIAL: i16 = 0x0010;

/// `POOL_FLAG_UNINITIALIZED`: do not zero.
pub const POOL_FLAG_UNINITIALIZED: u64 = 0x0000_0000_0000_0002;
/// `POOL_FLAG_SESSION`.
pub const POOL_FLAG_SESSION: u64 = 0x0000_0000_0000_0004;
/// `POOL_FLAG_CACHE_ALIGNED`.
pub const POOL_FLAG_CACHE_ALIGNED: u64 = 0x0000_0000_0000_0008;
/// `POOL_FLAG_RAISE_ON_FAILURE`.
pub const POOL_FLAG_RAISE_ON_FAILURE: u64 = 0x0000_0000_0000_0020;
/// `POOL_FLAG_NON_PAGED`.
pub const POOL_FLAG_NON_PAGED: u64 = 0x0000_0000_0000_0040;
/// `POOL_FLAG_NON_PAGED_EXECUTE`.
pub const POOL_FLAG_NON_PAGED_EXECUTE: u64 = 0x0000_0000_0000_0080;
/// `POOL_FLAG_PAGED`.
pub const POOL_FLAG_PAGED: u64 = 0x0000_0000_0000_0100;
