//! Controller objects, the wait blocks of devices that want one, and entries of the error log.

use super::{DEVICE_OBJECT, IRP, KDEVICE_QUEUE, KDEVICE_QUEUE_ENTRY, KDPC, NTSTATUS, PVOID, layout};

/// `DeallocateObject` of `IO_ALLOCATION_ACTION`: the controller is given back at once.
pub const DEALLOCATE_OBJECT: u32 = 2;

/// `DRIVER_CONTROL`; returns an `IO_ALLOCATION_ACTION`.
pub type DriverControl = unsafe extern "win64" fn(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    map_register_base: PVOID,
    context: PVOID,
) -> u32;

/// What several devices share.
#[derive(Debug)]
#[repr(C)]
pub struct CONTROLLER_OBJECT {
    /// `io_type::CONTROLLER`.
    pub Type: i16,
    /// Size with the extension.
    pub Size: i16,
    /// The driver's own.
    pub ControllerExtension: PVOID,
    /// Devices that wait for it.
    pub DeviceWaitQueue: KDEVICE_QUEUE,
    /// Reserved.
    pub Spare1: u32,
    /// Reserved.
    pub Spare2: i64,
}
layout!(CONTROLLER_OBJECT, size 0x48, ControllerExtension @ 0x8, DeviceWaitQueue @ 0x10);

/// `DEVICE_OBJECT::Queue` of a device that waits for a controller or an adapter.
#[derive(Debug)]
#[repr(C)]
pub struct WAIT_CONTEXT_BLOCK {
    /// In the queue of what it waits for.
    pub WaitQueueEntry: KDEVICE_QUEUE_ENTRY,
    /// Called when it has it.
    pub DeviceRoutine: Option<DriverControl>,
    /// Its context.
    pub DeviceContext: PVOID,
    /// Of an adapter.
    pub NumberOfMapRegisters: u32,
    /// The device.
    pub DeviceObject: PVOID,
    /// Its current packet.
    pub CurrentIrp: PVOID,
    /// Unused.
    pub BufferChainingDpc: *mut KDPC,
}
layout!(WAIT_CONTEXT_BLOCK, size 0x48, DeviceRoutine @ 0x18, DeviceContext @ 0x20);

/// An entry of the error log, as the driver fills it in; dump data and strings follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IO_ERROR_LOG_PACKET {
    /// Of the request.
    pub MajorFunctionCode: u8,
    /// How often it was tried.
    pub RetryCount: u8,
    /// Bytes of dump data.
    pub DumpDataSize: u16,
    /// How many strings follow.
    pub NumberOfStrings: u16,
    /// Where.
    pub StringOffset: u16,
    /// Of the message.
    pub EventCategory: u16,
    /// The message's number.
    pub ErrorCode: NTSTATUS,
    /// Where in the driver.
    pub UniqueErrorValue: u32,
    /// How the request ended.
    pub FinalStatus: NTSTATUS,
    /// Of the request.
    pub SequenceNumber: u32,
    /// Of a control request.
    pub IoControlCode: u32,
    /// Where on the device.
    pub DeviceOffset: i64,
    /// The first of the dump data.
    pub DumpData: [u32; 1],
}
layout!(IO_ERROR_LOG_PACKET, size 0x30, ErrorCode @ 0xC, FinalStatus @ 0x14, DeviceOffset @ 0x20, DumpData @ 0x28);
