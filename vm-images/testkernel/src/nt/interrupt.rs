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

/// `IO_DISCONNECT_INTERRUPT_PARAMETERS`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_DISCONNECT_INTERRUPT_PARAMETERS {
    /// The version that connected it.
    pub Version: u32,
    /// `ConnectionContext.InterruptObject`.
    pub InterruptObject: *mut KINTERRUPT,
}
layout!(IO_DISCONNECT_INTERRUPT_PARAMETERS, size 0x10, InterruptObject @ 0x8);
