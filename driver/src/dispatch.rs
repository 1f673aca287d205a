//! The way of a request into the driver.

use wdk_sys::{
    DRIVER_OBJECT, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP,
    IRP_MJ_POWER, IRP_MJ_READ, IRP_MJ_SYSTEM_CONTROL, NTSTATUS, PDEVICE_OBJECT, PDRIVER_DISPATCH, PIRP,
};

use crate::{
    extension::Extension,
    nt::{device, irp::Irp},
    open, read, recorder,
};

/// Enters the driver's routines. What is not entered is answered by the I/O manager: invalid device request.
pub(crate) fn enter(driver: &mut DRIVER_OBJECT) {
    let routines: [(u32, PDRIVER_DISPATCH); 8] = [
        (IRP_MJ_CREATE, Some(dispatch::<Create>)),
        (IRP_MJ_CLEANUP, Some(dispatch::<Cleanup>)),
        (IRP_MJ_CLOSE, Some(dispatch::<Close>)),
        (IRP_MJ_READ, Some(dispatch::<Read>)),
        (IRP_MJ_DEVICE_CONTROL, Some(dispatch::<Control>)),
        (IRP_MJ_PNP, Some(dispatch::<Pass>)),
        (IRP_MJ_POWER, Some(dispatch::<Pass>)),
        (IRP_MJ_SYSTEM_CONTROL, Some(dispatch::<Pass>)),
    ];
    for (major, routine) in routines {
        if let Some(entry) = driver.MajorFunction.get_mut(major as usize) {
            *entry = routine;
        }
    }
    driver.DriverStartIo = Some(read::start_io);
}

/// What is done with one kind of request.
trait Dispatch {
    fn dispatch(device: PDEVICE_OBJECT, extension: &Extension, irp: Irp) -> NTSTATUS;
}

/// Called by the I/O manager with a request.
unsafe extern "C" fn dispatch<D: Dispatch>(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    // SAFETY: the I/O manager calls with this driver's device.
    let extension = unsafe { device::extension(device) };
    // SAFETY: and with a request for it.
    D::dispatch(device, extension, unsafe { Irp::new(irp) })
}

/// Says what is done, in one line each.
macro_rules! dispatches {
    ($($name:ident = |$device:ident, $extension:ident, $irp:ident| $does:expr;)*) => {
        $(
            struct $name;

            impl Dispatch for $name {
                fn dispatch($device: PDEVICE_OBJECT, $extension: &Extension, $irp: Irp) -> NTSTATUS {
                    $does
                }
            }
        )*
    };
}

dispatches! {
    Create = |_device, extension, irp| open::create(extension, irp);
    Cleanup = |_device, extension, irp| open::cleanup(extension, irp);
    Close = |_device, extension, irp| open::close(extension, irp);
    Read = |device, _extension, irp| read::read(device, irp);
    Control = |_device, extension, irp| recorder::answer(extension, irp);
    // Plug and play, power and management requests are the lower device's: this driver is a legacy one.
    // SAFETY: the device that DriverEntry attached ours to.
    Pass = |_device, extension, irp| unsafe { irp.pass(extension.set_up.get().lower) };
}
