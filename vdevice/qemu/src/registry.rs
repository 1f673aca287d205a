//! Our devices, by QEMU's object.
//!
//! Where in an object of QEMU's our state could sit depends on the size of its parent, which differs between
//! versions. So the objects are the parent's size exactly, and our state is found here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::abi::Object;
use crate::device::Device;

/// One entry: the address of QEMU's object, and the device that it stands for.
type Entry = (usize, Arc<Device>);

static DEVICES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn devices() -> MutexGuard<'static, Vec<Entry>> {
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new object has a device.
pub(crate) fn add(object: *mut Object, device: Device) {
    devices().push((object.addr(), Arc::new(device)));
}

/// The device of an object.
pub(crate) fn device_of(object: *mut Object) -> Option<Arc<Device>> {
    devices().iter().find(|(address, _)| *address == object.addr()).map(|(_, device)| Arc::clone(device))
}

/// The object is gone.
pub(crate) fn remove(object: *mut Object) -> Option<Arc<Device>> {
    let mut devices = devices();
    let index = devices.iter().position(|(address, _)| *address == object.addr())?;
    Some(devices.swap_remove(index).1)
}

/// Every device.
pub(crate) fn all() -> Vec<Arc<Device>> {
    devices().iter().map(|(_, device)| Arc::clone(device)).collect()
}
