//! Structures of the run-time library.

use super::layout;

/// A bitmap in a driver's memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RTL_BITMAP {
    /// Bits.
    pub SizeOfBitMap: u32,
    /// Words, the lowest bit first.
    pub Buffer: *mut u32,
}
layout!(RTL_BITMAP, size 0x10, Buffer @ 0x8);

/// A date and time of day.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TIME_FIELDS {
    /// From 1601.
    pub Year: i16,
    /// From 1.
    pub Month: i16,
    /// From 1.
    pub Day: i16,
    /// From 0.
    pub Hour: i16,
    /// From 0.
    pub Minute: i16,
    /// From 0.
    pub Second: i16,
    /// From 0.
    pub Milliseconds: i16,
    /// From Sunday, 0.
    pub Weekday: i16,
}
layout!(TIME_FIELDS, size 0x10, Weekday @ 0xE);

/// A globally unique identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GUID {
    /// The first eight digits.
    pub Data1: u32,
    /// The next four.
    pub Data2: u16,
    /// The next four.
    pub Data3: u16,
    /// The last sixteen, byte by byte.
    pub Data4: [u8; 8],
}
layout!(GUID, size 0x10, Data4 @ 0x8);
