//! Opening, reading, closing.

use wdk_sys::{
    DRIVER_OBJECT, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_READ, NTSTATUS, PDEVICE_OBJECT,
    PDRIVER_DISPATCH, PIRP, STATUS_SUCCESS,
};

use crate::{device, irp::Irp, read};

/// Enters the driver's routines. What is not entered is answered by the I/O manager: invalid device request.
pub(crate) fn enter(driver: &mut DRIVER_OBJECT) {
    let routines: [(u32, PDRIVER_DISPATCH); 4] = [
        (IRP_MJ_CREATE, Some(succeed)),
        (IRP_MJ_CLOSE, Some(succeed)),
        (IRP_MJ_CLEANUP, Some(cleanup)),
        (IRP_MJ_READ, Some(read::read)),
    ];
    for (major, routine) in routines {
        if let Some(entry) = driver.MajorFunction.get_mut(major as usize) {
            *entry = routine;
        }
    }
}

/// `IRP_MJ_CREATE` and `IRP_MJ_CLOSE`: anybody may, and nothing is kept.
unsafe extern "C" fn succeed(_device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager calls with a request for this driver.
    unsafe { Irp::new(irp) }.complete(STATUS_SUCCESS, 0)
}

/// `IRP_MJ_CLEANUP`: the last handle of a file is closed, its requests are not wanted any more.
unsafe extern "C" fn cleanup(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager calls with this driver's device.
    let extension = unsafe { device::extension(device) };
    // SAFETY: and with a request for it.
    let irp = unsafe { Irp::new(irp) };
    read::abandon(extension, irp.file());
    irp.complete(STATUS_SUCCESS, 0)
}
