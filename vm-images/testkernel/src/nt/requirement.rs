//! What a driver would take of hardware resources: lists of ranges and alternatives.

use super::layout;

/// In `Option`: an alternative to the one before.
pub const IO_RESOURCE_ALTERNATIVE: u8 = 8;

/// One wish.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_RESOURCE_DESCRIPTOR {
    /// `IO_RESOURCE_*`.
    pub Option: u8,
    /// `CmResourceType*`.
    pub Type: u8,
    /// `CmResourceShare*`.
    pub ShareDisposition: u8,
    /// Reserved.
    pub Spare1: u8,
    /// By type.
    pub Flags: u16,
    /// Reserved.
    pub Spare2: u16,
    /// A range: length, alignment, and the two halves of the lowest and the highest address. Lines: lowest, highest.
    pub Data: [u32; 6],
}
layout!(IO_RESOURCE_DESCRIPTOR, size 32, Flags @ 4, Data @ 8);

/// Wishes that can be fulfilled together; `Count` descriptors follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_RESOURCE_LIST {
    /// 1.
    pub Version: u16,
    /// 1.
    pub Revision: u16,
    /// How many descriptors follow.
    pub Count: u32,
}
layout!(IO_RESOURCE_LIST, size 8, Count @ 4);

/// Alternative lists of wishes, which follow, the best one first.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_RESOURCE_REQUIREMENTS_LIST {
    /// Bytes in all.
    pub ListSize: u32,
    /// `INTERFACE_TYPE`.
    pub InterfaceType: u32,
    /// Which bus of that type.
    pub BusNumber: u32,
    /// Where on the bus.
    pub SlotNumber: u32,
    /// Reserved.
    pub Reserved: [u32; 3],
    /// How many lists follow.
    pub AlternativeLists: u32,
}
layout!(IO_RESOURCE_REQUIREMENTS_LIST, size 32, AlternativeLists @ 28);
