//! WMI providers: devices that say what they can tell about themselves.
//!
//! A device that is registered is asked for it: IRP_MN_REGINFO_EX goes to the top of its stack, in a system thread and a moment later,
//! since whoever registers may hold what its dispatch routine wants. Nobody asks for the data then. A registration holds a
//! reference on its device, so that a driver that forgets to take it back stays in memory, as on Windows.
//!
//! A routine may be registered in place of a device, as trace providers of older kinds do. It is never called: no session traces.
//!
//! Sources: *IoWMIRegistrationControl function (wdm.h)*, *IRP_MN_REGINFO_EX*.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use super::{device, request};
use crate::ke::lock::SpinLock;
use crate::ke::thread::{self, NORMAL_PRIORITY};
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_EXISTS, STATUS_SUCCESS,
};
use crate::ob;

/// `WMIREG_ACTION_*`.
mod action {
    pub const REGISTER: u32 = 1;
    pub const DEREGISTER: u32 = 2;
    pub const REREGISTER: u32 = 3;
    pub const UPDATE_GUIDS: u32 = 4;
    pub const BLOCK_IRPS: u32 = 5;
    /// The rest are flags.
    pub const MASK: u32 = 0xFFFF;
}

/// `WMIREG_FLAG_CALLBACK`: a routine, and no device.
const CALLBACK: u32 = 0x8000_0000;
/// What the request says it is for: `WMIREGISTER`, `WMIUPDATE`.
const FOR_REGISTRATION: usize = 0;
const FOR_UPDATE: usize = 1;

struct Registration {
    is_callback: bool,
    /// No more requests, says its driver.
    blocked: bool,
    /// Requests that are on their way to it.
    asking: u32,
    /// Lies in the image whose registration it is.
    owner: u64,
}

/// By the provider's address.
static PROVIDERS: SpinLock<BTreeMap<usize, Registration>> = SpinLock::new(BTreeMap::new());

/// Providers of the image in `range` that are registered.
pub fn registered_by(range: &Range<u64>) -> Vec<usize> {
    let providers = PROVIDERS.lock();
    providers
        .iter()
        .filter(|(_, registration)| range.contains(&registration.owner))
        .map(|(provider, _)| *provider)
        .collect()
}

/// A routine within `range` that is registered in place of a device.
pub fn callback_in(range: &Range<u64>) -> Option<usize> {
    let providers = PROVIDERS.lock();
    let mut callbacks = providers.iter().filter(|(_, registration)| registration.is_callback);
    callbacks.find(|(routine, _)| range.contains(&(**routine as u64))).map(|(routine, _)| *routine)
}

/// An image is gone: its routines are no providers any more.
pub fn forget(range: &Range<u64>) {
    let mut providers = PROVIDERS.lock();
    providers
        .retain(|routine, registration| !(registration.is_callback && range.contains(&(*routine as u64))));
}

/// Whether this device, or routine, is registered.
pub fn is_registered(provider: usize) -> bool {
    PROVIDERS.lock().contains_key(&provider)
}

fn register(provider: *mut DEVICE_OBJECT, is_callback: bool) -> NTSTATUS {
    let address = provider.expose_provenance();
    let owner = if is_callback {
        address as u64
    } else if device::is_there(address) {
        // SAFETY: the device exists, and keeps its driver.
        unsafe { (*(*provider).DriverObject).DriverStart.addr() as u64 }
    } else {
        return STATUS_INVALID_PARAMETER;
    };
    {
        let mut providers = PROVIDERS.lock();
        if providers.contains_key(&address) {
            return STATUS_OBJECT_NAME_EXISTS;
        }
        if !is_callback && !ob::reference(address) {
            return STATUS_INVALID_PARAMETER;
        }
        providers.insert(address, Registration { is_callback, blocked: false, asking: 0, owner });
    }
    ask(address, FOR_REGISTRATION)
}

/// Takes a registration back; when this returns no request is on its way.
fn deregister(address: usize) -> NTSTATUS {
    loop {
        {
            let mut providers = PROVIDERS.lock();
            match providers.get_mut(&address) {
                None => return STATUS_INVALID_PARAMETER,
                Some(registration) if registration.asking == 0 => {
                    let is_callback = registration.is_callback;
                    providers.remove(&address);
                    drop(providers);
                    if !is_callback {
                        ob::dereference(address);
                    }
                    return STATUS_SUCCESS;
                }
                Some(registration) => registration.blocked = true,
            }
        }
        thread::sleep_ns(1_000_000);
    }
}

/// Has a provider asked what it has.
fn ask(address: usize, why: usize) -> NTSTATUS {
    {
        let mut providers = PROVIDERS.lock();
        match providers.get_mut(&address) {
            None => return STATUS_INVALID_PARAMETER,
            Some(registration) if registration.is_callback || registration.blocked => return STATUS_SUCCESS,
            Some(registration) => registration.asking += 1,
        }
    }
    let started = thread::spawn("WMI", NORMAL_PRIORITY, move || {
        let provider = core::ptr::with_exposed_provenance_mut::<DEVICE_OBJECT>(address);
        // SAFETY: the registration's reference keeps the device, and stays as long as it is being asked. What it answers is for
        // whoever reads WMI data; nobody does.
        let _ = unsafe { request::registration_info(device::top(provider), address, why) };
        answered(address);
    });
    if started.is_err() {
        answered(address);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    STATUS_SUCCESS
}

fn answered(address: usize) {
    if let Some(registration) = PROVIDERS.lock().get_mut(&address) {
        registration.asking -= 1;
    }
}

export! {
    /// *IoWMIRegistrationControl function (wdm.h)*: registers a device as a provider, takes that back, or says that what it has to tell
    /// has changed. STATUS_INVALID_PARAMETER where the action is none, or the device is not registered.
    pub unsafe extern "win64" fn IoWMIRegistrationControl(provider: *mut DEVICE_OBJECT, action: u32) -> NTSTATUS {
        let address = provider.addr();
        match action & action::MASK {
            action::REGISTER => register(provider, action & CALLBACK != 0),
            action::DEREGISTER => deregister(address),
            action::REREGISTER | action::UPDATE_GUIDS => ask(address, FOR_UPDATE),
            action::BLOCK_IRPS => match PROVIDERS.lock().get_mut(&address) {
                None => STATUS_INVALID_PARAMETER,
                Some(registration) => {
                    registration.blocked = true;
                    STATUS_SUCCESS
                }
            },
            _ => STATUS_INVALID_PARAMETER,
        }
    }
}
