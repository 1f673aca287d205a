//! Driver objects and device objects: what `DriverEntry` fills in and `IoCreateDevice` makes.

use super::{IRP, KDEVICE_QUEUE, KDPC, KEVENT, NTSTATUS, PVOID, UNICODE_STRING, irp::IRP_MJ_COUNT, layout};

/// `IO_TYPE_DEVICE`, `IO_TYPE_DRIVER` and their like: the first field of each I/O object.
pub mod io_type {
    /// A controller object.
    pub const CONTROLLER: i16 = 2;
    /// A device object.
    pub const DEVICE: i16 = 3;
    /// A driver object.
    pub const DRIVER: i16 = 4;
    /// A file object.
    pub const FILE: i16 = 5;
    /// An I/O request packet.
    pub const IRP: i16 = 6;
    /// The system's part of a device object.
    pub const DEVICE_OBJECT_EXTENSION: i16 = 13;
}

/// Data of a read or write goes through a system buffer.
pub const DO_BUFFERED_IO: u32 = 0x0000_0004;
/// The device takes one opener at a time.
pub const DO_EXCLUSIVE: u32 = 0x0000_0008;
/// Data of a read or write is described by an MDL.
pub const DO_DIRECT_IO: u32 = 0x0000_0010;
/// The device has a name.
pub const DO_DEVICE_HAS_NAME: u32 = 0x0000_0040;
/// Not to be opened yet; the I/O manager clears it after `DriverEntry`.
pub const DO_DEVICE_INITIALIZING: u32 = 0x0000_0080;
/// A physical device object that a bus reported.
pub const DO_BUS_ENUMERATED_DEVICE: u32 = 0x0000_1000;

/// `DRVO_UNLOAD_INVOKED`: Unload was called.
pub const DRVO_UNLOAD_INVOKED: u32 = 0x0000_0001;
/// `DRVO_LEGACY_DRIVER`: a driver that is not plug and play.
pub const DRVO_LEGACY_DRIVER: u32 = 0x0000_0002;
/// `DRVO_BUILTIN_DRIVER`: part of the kernel itself.
pub const DRVO_BUILTIN_DRIVER: u32 = 0x0000_0004;

/// `DRIVER_INITIALIZE`: `DriverEntry`.
pub type DriverInitialize =
    unsafe extern "win64" fn(driver: *mut DRIVER_OBJECT, registry_path: *mut UNICODE_STRING) -> NTSTATUS;
/// `DRIVER_UNLOAD`.
pub type DriverUnload = unsafe extern "win64" fn(driver: *mut DRIVER_OBJECT);
/// `DRIVER_DISPATCH`.
pub type DriverDispatch = unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS;
/// `DRIVER_STARTIO`.
pub type DriverStartIo = unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, irp: *mut IRP);
/// `DRIVER_REINITIALIZE`.
pub type DriverReinitialize =
    unsafe extern "win64" fn(driver: *mut DRIVER_OBJECT, context: PVOID, count: u32);
/// `DRIVER_ADD_DEVICE`.
pub type DriverAddDevice =
    unsafe extern "win64" fn(driver: *mut DRIVER_OBJECT, pdo: *mut DEVICE_OBJECT) -> NTSTATUS;

/// A loaded driver.
#[derive(Debug)]
#[repr(C)]
pub struct DRIVER_OBJECT {
    /// [`io_type::DRIVER`].
    pub Type: i16,
    /// Size of this structure.
    pub Size: i16,
    /// The first of its devices.
    pub DeviceObject: *mut DEVICE_OBJECT,
    /// `DRVO_*`.
    pub Flags: u32,
    /// Where the image lies.
    pub DriverStart: PVOID,
    /// How large the image is.
    pub DriverSize: u32,
    /// The system's record of the image.
    pub DriverSection: PVOID,
    /// The part that PnP drivers fill in.
    pub DriverExtension: *mut DRIVER_EXTENSION,
    /// `\Driver\name`.
    pub DriverName: UNICODE_STRING,
    /// `\Registry\Machine\Hardware\Description\System`.
    pub HardwareDatabase: *mut UNICODE_STRING,
    /// Entry points for fast I/O; the guest takes none.
    pub FastIoDispatch: PVOID,
    /// `DriverEntry`.
    pub DriverInit: Option<DriverInitialize>,
    /// Takes the next queued request.
    pub DriverStartIo: Option<DriverStartIo>,
    /// The subject of the whole affair.
    pub DriverUnload: Option<DriverUnload>,
    /// Dispatch routines, by major function.
    pub MajorFunction: [Option<DriverDispatch>; IRP_MJ_COUNT],
}
layout!(DRIVER_OBJECT, size 0x150, DeviceObject @ 0x8, DriverStart @ 0x18, DriverExtension @ 0x30,
    DriverName @ 0x38, DriverInit @ 0x58, DriverUnload @ 0x68, MajorFunction @ 0x70);

/// The second part of a driver object.
#[derive(Debug)]
#[repr(C)]
pub struct DRIVER_EXTENSION {
    /// The first part.
    pub DriverObject: *mut DRIVER_OBJECT,
    /// Called for each new device of a PnP driver.
    pub AddDevice: Option<DriverAddDevice>,
    /// How often the reinitialize routine was called.
    pub Count: u32,
    /// The name of the Services key.
    pub ServiceKeyName: UNICODE_STRING,
}
layout!(DRIVER_EXTENSION, size 0x28, AddDevice @ 0x8, ServiceKeyName @ 0x18);

/// A device, as `IoCreateDevice` makes it.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct DEVICE_OBJECT {
    /// [`io_type::DEVICE`].
    pub Type: i16,
    /// Size of this structure with the driver's extension.
    pub Size: u16,
    /// Open handles and other references of the I/O manager's.
    pub ReferenceCount: i32,
    /// Whose device.
    pub DriverObject: *mut DRIVER_OBJECT,
    /// The next device of the same driver.
    pub NextDevice: *mut DEVICE_OBJECT,
    /// The device attached on top of this one.
    pub AttachedDevice: *mut DEVICE_OBJECT,
    /// What StartIo works on.
    pub CurrentIrp: *mut IRP,
    /// The IoTimer.
    pub Timer: PVOID,
    /// `DO_*`.
    pub Flags: u32,
    /// `FILE_*` characteristics.
    pub Characteristics: u32,
    /// The mounted volume; none.
    pub Vpb: PVOID,
    /// The driver's own, or null.
    pub DeviceExtension: PVOID,
    /// `FILE_DEVICE_*`.
    pub DeviceType: u32,
    /// Stack locations that an IRP to this device needs.
    pub StackSize: i8,
    /// `WAIT_CONTEXT_BLOCK` or list entry: for adapter and file-system queues.
    pub Queue: [u64; 9],
    /// Of buffers: alignment minus one.
    pub AlignmentRequirement: u32,
    /// For IoStartPacket.
    pub DeviceQueue: KDEVICE_QUEUE,
    /// For IoInitializeDpcRequest and IoRequestDpc.
    pub Dpc: KDPC,
    /// File systems' own.
    pub ActiveThreadCount: u32,
    /// None.
    pub SecurityDescriptor: PVOID,
    /// Synchronization event of the I/O manager's.
    pub DeviceLock: KEVENT,
    /// Of a mounted volume.
    pub SectorSize: u16,
    /// Reserved.
    pub Spare1: u16,
    /// The system's part.
    pub DeviceObjectExtension: *mut DEVOBJ_EXTENSION,
    /// Reserved.
    pub Reserved: PVOID,
}
layout!(DEVICE_OBJECT, size 0x150, ReferenceCount @ 0x4, DriverObject @ 0x8, NextDevice @ 0x10,
    AttachedDevice @ 0x18, CurrentIrp @ 0x20, Timer @ 0x28, Flags @ 0x30, DeviceExtension @ 0x40,
    DeviceType @ 0x48, StackSize @ 0x4C, AlignmentRequirement @ 0x98, DeviceQueue @ 0xA0, Dpc @ 0xC8,
    DeviceLock @ 0x118, DeviceObjectExtension @ 0x138);

/// The system's part of a device object: the documented beginning; what follows is the I/O manager's.
#[derive(Debug)]
#[repr(C)]
pub struct DEVOBJ_EXTENSION {
    /// [`io_type::DEVICE_OBJECT_EXTENSION`].
    pub Type: i16,
    /// Size of this structure.
    pub Size: u16,
    /// The first part.
    pub DeviceObject: *mut DEVICE_OBJECT,
}
layout!(DEVOBJ_EXTENSION, size 0x10, DeviceObject @ 0x8);

/// Counts of some kinds of device, which drivers keep (`IoGetConfigurationInformation`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CONFIGURATION_INFORMATION {
    /// Fixed disks.
    pub DiskCount: u32,
    /// Floppy disks.
    pub FloppyCount: u32,
    /// Optical drives.
    pub CdRomCount: u32,
    /// Tapes.
    pub TapeCount: u32,
    /// SCSI adapters.
    pub ScsiPortCount: u32,
    /// Serial ports.
    pub SerialCount: u32,
    /// Parallel ports.
    pub ParallelCount: u32,
    /// Somebody claimed the primary AT disk port range.
    pub AtDiskPrimaryAddressClaimed: u8,
    /// Somebody claimed the secondary one.
    pub AtDiskSecondaryAddressClaimed: u8,
    /// Size of this structure.
    pub Version: u32,
    /// Medium changers.
    pub MediumChangerCount: u32,
}
layout!(CONFIGURATION_INFORMATION, size 40, AtDiskPrimaryAddressClaimed @ 28, Version @ 32);

/// `FILE_DEVICE_UNKNOWN`.
pub const FILE_DEVICE_UNKNOWN: u32 = 0x22;
/// `FILE_DEVICE_CONTROLLER`.
pub const FILE_DEVICE_CONTROLLER: u32 = 0x04;
