//! Hardware resources as the plug and play manager writes them: raw (bus-relative) or translated.

use super::layout;

/// `CmResourceTypePort`.
pub const CM_RESOURCE_TYPE_PORT: u8 = 1;
/// `CmResourceTypeInterrupt`.
pub const CM_RESOURCE_TYPE_INTERRUPT: u8 = 2;
/// `CmResourceTypeMemory`.
pub const CM_RESOURCE_TYPE_MEMORY: u8 = 3;

/// `CmResourceShareDeviceExclusive`.
pub const CM_SHARE_DEVICE_EXCLUSIVE: u8 = 1;
/// `CmResourceShareShared`.
pub const CM_SHARE_SHARED: u8 = 3;

/// `CM_RESOURCE_INTERRUPT_LATCHED`: edge-triggered; level-sensitive is 0.
pub const CM_RESOURCE_INTERRUPT_LATCHED: u16 = 1;
/// `CM_RESOURCE_INTERRUPT_MESSAGE`: a message, not a line.
pub const CM_RESOURCE_INTERRUPT_MESSAGE: u16 = 2;
/// `CM_RESOURCE_PORT_IO`.
pub const CM_RESOURCE_PORT_IO: u16 = 1;
/// `CM_RESOURCE_PORT_16_BIT_DECODE`.
pub const CM_RESOURCE_PORT_16_BIT_DECODE: u16 = 0x10;
/// `CM_RESOURCE_MEMORY_READ_WRITE`.
pub const CM_RESOURCE_MEMORY_READ_WRITE: u16 = 0;

/// `INTERFACE_TYPE::Isa`.
pub const INTERFACE_TYPE_ISA: u32 = 1;
/// `INTERFACE_TYPE::PCIBus`.
pub const INTERFACE_TYPE_PCI_BUS: u32 = 5;

/// One resource: 20 bytes, packed to four.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub struct CM_PARTIAL_RESOURCE_DESCRIPTOR {
    /// `CmResourceType*`.
    pub Type: u8,
    /// `CmResourceShare*`.
    pub ShareDisposition: u8,
    /// By type.
    pub Flags: u16,
    /// By type; see the constructors.
    pub Data: [u32; 4],
}
layout!(CM_PARTIAL_RESOURCE_DESCRIPTOR, size 20, Flags @ 2, Data @ 4);

impl CM_PARTIAL_RESOURCE_DESCRIPTOR {
    /// `u.Interrupt`: level, vector, affinity. Raw: both are the line. Translated: IRQL and system vector.
    pub const fn interrupt(share: u8, flags: u16, level: u32, vector: u32, affinity: u64) -> Self {
        Self {
            Type: CM_RESOURCE_TYPE_INTERRUPT,
            ShareDisposition: share,
            Flags: flags,
            Data: [level, vector, affinity as u32, (affinity >> 32) as u32],
        }
    }

    /// `u.MessageInterrupt.Raw`: how many messages, the first one's vector, affinity.
    pub const fn raw_message(count: u16, vector: u32, affinity: u64) -> Self {
        let flags = CM_RESOURCE_INTERRUPT_MESSAGE | CM_RESOURCE_INTERRUPT_LATCHED;
        Self::interrupt(CM_SHARE_DEVICE_EXCLUSIVE, flags, (count as u32) << 16, vector, affinity)
    }

    /// `u.MessageInterrupt.Translated`: IRQL, vector, affinity.
    pub const fn translated_message(irql: u32, vector: u32, affinity: u64) -> Self {
        let flags = CM_RESOURCE_INTERRUPT_MESSAGE | CM_RESOURCE_INTERRUPT_LATCHED;
        Self::interrupt(CM_SHARE_DEVICE_EXCLUSIVE, flags, irql, vector, affinity)
    }

    /// `u.Port` and `u.Memory`: where it starts, how long it is.
    pub const fn range(kind: u8, share: u8, flags: u16, start: u64, length: u32) -> Self {
        Self {
            Type: kind,
            ShareDisposition: share,
            Flags: flags,
            Data: [start as u32, (start >> 32) as u32, length, 0],
        }
    }

    /// `u.Interrupt.Level`, `.Vector` and `.Affinity` of an interrupt descriptor.
    pub fn as_interrupt(&self) -> Option<(u32, u32, u64)> {
        let [level, vector, low, high] = self.Data;
        (self.Type == CM_RESOURCE_TYPE_INTERRUPT)
            .then(|| (level, vector, u64::from(low) | u64::from(high) << 32))
    }
}

/// A list of resources on one bus; `Count` descriptors follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CM_PARTIAL_RESOURCE_LIST {
    /// 1.
    pub Version: u16,
    /// 1.
    pub Revision: u16,
    /// How many descriptors follow.
    pub Count: u32,
    /// The first of them.
    pub PartialDescriptors: [CM_PARTIAL_RESOURCE_DESCRIPTOR; 1],
}
layout!(CM_PARTIAL_RESOURCE_LIST, size 28, Count @ 4, PartialDescriptors @ 8);

/// The resources of one bus.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CM_FULL_RESOURCE_DESCRIPTOR {
    /// `INTERFACE_TYPE`.
    pub InterfaceType: u32,
    /// Which bus of that type.
    pub BusNumber: u32,
    /// The resources.
    pub PartialResourceList: CM_PARTIAL_RESOURCE_LIST,
}
layout!(CM_FULL_RESOURCE_DESCRIPTOR, size 36, PartialResourceList @ 8);

/// The resources of a device.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CM_RESOURCE_LIST {
    /// How many full descriptors follow; 1 nearly always.
    pub Count: u32,
    /// The first of them.
    pub List: [CM_FULL_RESOURCE_DESCRIPTOR; 1],
}
layout!(CM_RESOURCE_LIST, size 40, List @ 4);
