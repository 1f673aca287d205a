//! The layouts that this driver and the kernel agree on, as Windows has them on x64.
//!
//! The bindings are made from headers at hand, Microsoft's or open ones. Whichever they were, a build with other numbers than these
//! is not for Windows, and does not compile.

use core::mem::{align_of, offset_of, size_of};

use wdk_sys::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_LIST, DEVICE_DESCRIPTION, DEVICE_OBJECT, DMA_ADAPTER,
    DMA_OPERATIONS, DRIVER_OBJECT, IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_INTERRUPT_PARAMETERS,
    IO_STACK_LOCATION, IRP, KDPC, KEY_VALUE_PARTIAL_INFORMATION, OBJECT_ATTRIBUTES, UNICODE_STRING,
};

/// `Type, size` and then `field: offset`.
macro_rules! layout {
    ($($type:ident is $size:literal { $($field:ident at $offset:literal),* })*) => {
        $(
            const _: () = assert!(size_of::<$type>() == $size, concat!("size of ", stringify!($type)));
            $(
                const _: () = assert!(
                    offset_of!($type, $field) == $offset,
                    concat!("offset of ", stringify!($type), "::", stringify!($field))
                );
            )*
        )*
    };
}

layout! {
    DRIVER_OBJECT is 0x150 { DeviceObject at 0x08, DriverUnload at 0x68, MajorFunction at 0x70 }
    DEVICE_OBJECT is 0x150 { Flags at 0x30, DeviceExtension at 0x40, Dpc at 0xC8 }
    IRP is 0xD0 { AssociatedIrp at 0x18, IoStatus at 0x30, Cancel at 0x44, CancelIrql at 0x45, CancelRoutine at 0x68, Tail at 0x78 }
    IO_STACK_LOCATION is 0x48 { Control at 0x03, Parameters at 0x08, DeviceObject at 0x28, FileObject at 0x30 }
    DMA_ADAPTER is 0x10 { DmaOperations at 0x08 }
    KDPC is 0x40 { DeferredRoutine at 0x18, DeferredContext at 0x20 }
    IO_CONNECT_INTERRUPT_PARAMETERS is 0x50 { Version at 0x00 }
    IO_DISCONNECT_INTERRUPT_PARAMETERS is 0x10 { ConnectionContext at 0x08 }
    CM_PARTIAL_RESOURCE_DESCRIPTOR is 20 { Flags at 2, u at 4 }
    CM_RESOURCE_LIST is 40 { List at 4 }
    OBJECT_ATTRIBUTES is 0x30 { RootDirectory at 0x08, ObjectName at 0x10, Attributes at 0x18 }
    KEY_VALUE_PARTIAL_INFORMATION is 16 { Data at 12 }
    UNICODE_STRING is 16 { Buffer at 8 }
}

// Newer kits have more fields at the end of these two.
const _: () = assert!(offset_of!(DMA_OPERATIONS, PutDmaAdapter) == 0x08);
const _: () = assert!(offset_of!(DMA_OPERATIONS, FreeCommonBuffer) == 0x18);
const _: () = assert!(offset_of!(DEVICE_DESCRIPTION, InterfaceType) == 0x14);
const _: () = assert!(offset_of!(DEVICE_DESCRIPTION, MaximumLength) == 0x20);

const _: () = assert!(align_of::<DEVICE_OBJECT>() == 16, "MEMORY_ALLOCATION_ALIGNMENT");
const _: () = assert!(align_of::<IRP>() == 16, "MEMORY_ALLOCATION_ALIGNMENT");
