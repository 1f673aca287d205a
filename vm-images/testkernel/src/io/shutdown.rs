//! Shutdown notification: drivers that are told before the system goes down.
//!
//! A device that is registered gets `IRP_MJ_SHUTDOWN`: those of IoRegisterShutdownNotification while files can still be written, those
//! of the last chance at the very end. Who registered last is told first. The agent's verb `shutdown` tells them all; the
//! machine itself goes on, so that what they did can be seen, and QEMU be ended by whoever runs it.

use alloc::vec::Vec;

use super::{device, request};
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{DEVICE_OBJECT, IRP_MJ_SHUTDOWN, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use crate::ob;

/// `DO_SHUTDOWN_REGISTERED`.
const REGISTERED: u32 = 0x0000_0800;
const MAX_REGISTERED: usize = 256;

/// When a device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chance {
    First,
    Last,
}

static DEVICES: SpinLock<Vec<(usize, Chance)>> = SpinLock::new(Vec::new());

fn register(device: *mut DEVICE_OBJECT, chance: Chance) -> NTSTATUS {
    let mut devices = DEVICES.lock();
    if devices.len() == MAX_REGISTERED || !ob::reference(device.addr()) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    devices.push((device.expose_provenance(), chance));
    // SAFETY: the caller's device, on which a reference is held now.
    unsafe { (*device).Flags |= REGISTERED };
    STATUS_SUCCESS
}

/// Forgets every registration of a device.
pub fn forget(device: *mut DEVICE_OBJECT) {
    let mut count = 0;
    DEVICES.lock().retain(|(address, _)| {
        let is_it = *address == device.addr();
        count += usize::from(is_it);
        !is_it
    });
    if count > 0 {
        // SAFETY: each registration held a reference.
        unsafe { (*device).Flags &= !REGISTERED };
    }
    for _ in 0..count {
        ob::dereference(device.addr());
    }
}

/// Tells every device; gives how many there were. In a system thread, at PASSIVE_LEVEL.
pub fn notify() -> usize {
    let mut told = 0;
    for chance in [Chance::First, Chance::Last] {
        loop {
            let next = {
                let mut devices = DEVICES.lock();
                let place = devices.iter().rposition(|(_, when)| *when == chance);
                place.map(|place| devices.remove(place).0)
            };
            let Some(address) = next else { break };
            let registered = core::ptr::with_exposed_provenance_mut::<DEVICE_OBJECT>(address);
            // SAFETY: the registration's reference keeps the device until it is given up.
            unsafe {
                let _ = request::to_device(device::top(registered), IRP_MJ_SHUTDOWN);
                (*registered).Flags &= !REGISTERED;
            }
            ob::dereference(address);
            told += 1;
        }
    }
    told
}

export! {
    /// *IoRegisterShutdownNotification function (wdm.h)*: once for each IRP_MJ_SHUTDOWN that is wanted.
    pub unsafe extern "win64" fn IoRegisterShutdownNotification(device: *mut DEVICE_OBJECT) -> NTSTATUS {
        register(device, Chance::First)
    }

    /// *IoRegisterLastChanceShutdownNotification function (ntddk.h)*: after the others, when files are no more.
    pub unsafe extern "win64" fn IoRegisterLastChanceShutdownNotification(device: *mut DEVICE_OBJECT) -> NTSTATUS {
        register(device, Chance::Last)
    }

    /// *IoUnregisterShutdownNotification function (wdm.h)*: of either kind.
    pub unsafe extern "win64" fn IoUnregisterShutdownNotification(device: *mut DEVICE_OBJECT) {
        forget(device);
    }
}
