//! What `IoConnectInterruptEx` and `IoDisconnectInterruptEx` take.

use super::{BOOLEAN, DEVICE_OBJECT, KAFFINITY, KIRQL, KSPIN_LOCK, PVOID, layout};

/// An interrupt object. Opaque to drivers: `ke::interrupt` knows what it is.
#[derive(Debug)]
#[repr(C)]
pub struct KINTERRUPT {
    _opaque: [u8; 0],
}

/// `KSERVICE_ROUTINE`: an ISR. True where the interrupt was its device's.
pub type ServiceRoutine = unsafe extern "win64" fn(interrupt: *mut KINTERRUPT, context: PVOID) -> BOOLEAN;
/// `KMESSAGE_SERVICE_ROUTINE`: an ISR for several messages, told which.
pub type MessageServiceRoutine =
    unsafe extern "win64" fn(interrupt: *mut KINTERRUPT, context: PVOID, message: u32) -> BOOLEAN;
/// `KSYNCHRONIZE_ROUTINE`.
pub type SynchronizeRoutine = unsafe extern "win64" fn(context: PVOID) -> BOOLEAN;

/// `CONNECT_FULLY_SPECIFIED`: the driver says vector, IRQL and affinity.
pub const CONNECT_FULLY_SPECIFIED: u32 = 1;
/// `CONNECT_LINE_BASED`: the system looks the line up in the device's resources.
pub const CONNECT_LINE_BASED: u32 = 2;
/// `CONNECT_MESSAGE_BASED`.
pub const CONNECT_MESSAGE_BASED: u32 = 3;
/// `CONNECT_FULLY_SPECIFIED_GROUP`: as 1, with a processor group.
pub const CONNECT_FULLY_SPECIFIED_GROUP: u32 = 4;

/// `KINTERRUPT_MODE::LevelSensitive`.
pub const LEVEL_SENSITIVE: u32 = 0;
/// `KINTERRUPT_MODE::Latched`: edge-triggered.
pub const LATCHED: u32 = 1;

/// `KINTERRUPT_POLARITY::InterruptActiveHigh`; of an edge: rising.
pub const ACTIVE_HIGH: u32 = 1;

/// `GROUP_AFFINITY`: processors of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GROUP_AFFINITY {
    /// Which of the group's.
    pub Mask: KAFFINITY,
    /// The group.
    pub Group: u16,
    /// Zero.
    pub Reserved: [u16; 3],
}
layout!(GROUP_AFFINITY, size 0x10, Group @ 0x8);

/// `IO_CONNECT_INTERRUPT_PARAMETERS` with its `FullySpecified` member, the largest of the union.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_PARAMETERS {
    /// `CONNECT_*`; on return of `STATUS_NOT_SUPPORTED`, what the system does support.
    pub Version: u32,
    /// Valid for the fully specified versions.
    pub FullySpecified: IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
}
layout!(IO_CONNECT_INTERRUPT_PARAMETERS, size 0x50, FullySpecified @ 0x8);

/// `IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
    /// The device's PDO; null is refused.
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    /// Where the interrupt object goes.
    pub InterruptObject: *mut *mut KINTERRUPT,
    /// The ISR.
    pub ServiceRoutine: Option<ServiceRoutine>,
    /// Its context.
    pub ServiceContext: PVOID,
    /// A lock of the driver's, or null for one of the interrupt object's own.
    pub SpinLock: *mut KSPIN_LOCK,
    /// The IRQL at which the ISR runs.
    pub SynchronizeIrql: KIRQL,
    /// Must be false on x64.
    pub FloatingSave: BOOLEAN,
    /// The vector may be shared.
    pub ShareVector: BOOLEAN,
    /// The system vector.
    pub Vector: u32,
    /// The device's IRQL.
    pub Irql: KIRQL,
    /// [`LEVEL_SENSITIVE`] or [`LATCHED`].
    pub InterruptMode: u32,
    /// Which processors may take it.
    pub ProcessorEnableMask: KAFFINITY,
    /// Processor group, version 4 only.
    pub Group: u16,
}
layout!(IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS, size 0x48, InterruptObject @ 0x8,
    ServiceRoutine @ 0x10, ServiceContext @ 0x18, SpinLock @ 0x20, SynchronizeIrql @ 0x28, FloatingSave @ 0x29,
    ShareVector @ 0x2A, Vector @ 0x2C, Irql @ 0x30, InterruptMode @ 0x34, ProcessorEnableMask @ 0x38,
    Group @ 0x40);

/// `IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS`, where the union begins.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
    /// The device's PDO.
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    /// Where the interrupt object goes.
    pub InterruptObject: *mut *mut KINTERRUPT,
    /// The ISR.
    pub ServiceRoutine: Option<ServiceRoutine>,
    /// Its context.
    pub ServiceContext: PVOID,
    /// A lock of the driver's, or null for one of the interrupt object's own.
    pub SpinLock: *mut KSPIN_LOCK,
    /// The IRQL at which the ISR runs; 0: the device's.
    pub SynchronizeIrql: KIRQL,
    /// Must be false on x64.
    pub FloatingSave: BOOLEAN,
}
layout!(IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS, size 0x30, SpinLock @ 0x20, SynchronizeIrql @ 0x28);

/// `IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS`, where the union begins.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS {
    /// The device's PDO.
    pub PhysicalDeviceObject: *mut DEVICE_OBJECT,
    /// Where the message table goes, or the interrupt object of a line.
    pub ConnectionContext: *mut PVOID,
    /// The ISR for messages.
    pub MessageServiceRoutine: Option<MessageServiceRoutine>,
    /// Context of either ISR.
    pub ServiceContext: PVOID,
    /// A lock of the driver's, or null for one of each interrupt object's own.
    pub SpinLock: *mut KSPIN_LOCK,
    /// The IRQL at which the ISR runs; 0: the device's.
    pub SynchronizeIrql: KIRQL,
    /// Must be false on x64.
    pub FloatingSave: BOOLEAN,
    /// The ISR for a line, where the device has no messages; may be null.
    pub FallBackServiceRoutine: Option<ServiceRoutine>,
}
layout!(IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS, size 0x38, MessageServiceRoutine @ 0x10,
    SynchronizeIrql @ 0x28, FallBackServiceRoutine @ 0x30);

/// `IO_INTERRUPT_MESSAGE_INFO_ENTRY`: one message.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_INTERRUPT_MESSAGE_INFO_ENTRY {
    /// Where the device writes.
    pub MessageAddress: i64,
    /// Which processors may take it.
    pub TargetProcessorSet: KAFFINITY,
    /// The interrupt object.
    pub InterruptObject: *mut KINTERRUPT,
    /// What the device writes.
    pub MessageData: u32,
    /// The vector.
    pub Vector: u32,
    /// The IRQL at which the ISR runs for this message.
    pub Irql: KIRQL,
    /// [`LATCHED`].
    pub Mode: u32,
    /// [`ACTIVE_HIGH`].
    pub Polarity: u32,
}
layout!(IO_INTERRUPT_MESSAGE_INFO_ENTRY, size 0x30, MessageData @ 0x18, Irql @ 0x20, Mode @ 0x24);

/// `IO_INTERRUPT_MESSAGE_INFO`; its entries follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_INTERRUPT_MESSAGE_INFO {
    /// The highest IRQL of all.
    pub UnifiedIrql: KIRQL,
    /// How many entries.
    pub MessageCount: u32,
    /// The first of them.
    pub MessageInfo: [IO_INTERRUPT_MESSAGE_INFO_ENTRY; 1],
}
layout!(IO_INTERRUPT_MESSAGE_INFO, size 0x38, MessageCount @ 4, MessageInfo @ 8);

/// `IO_DISCONNECT_INTERRUPT_PARAMETERS`, and `IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS`, which looks the same.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_DISCONNECT_INTERRUPT_PARAMETERS {
    /// The version that connected it, as IoConnectInterruptEx left it.
    pub Version: u32,
    /// What it gave: an interrupt object, or a message table for [`CONNECT_MESSAGE_BASED`].
    pub ConnectionContext: PVOID,
}
layout!(IO_DISCONNECT_INTERRUPT_PARAMETERS, size 0x10, ConnectionContext @ 0x8);
