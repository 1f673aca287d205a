//! Miscellaneous checks of what tells others about a driver: its event providers and its WMI registrations.
//!
//! Who listens calls back into the driver. One that goes with a provider registered is called where it no longer is.
//!
//! Source: *Miscellaneous Checks*, and *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0xDA to 0xDD. Of 0xDC the
//! page tells no parameter but the first; the handle is the second here.

use core::ops::Range;

use squall_testkernel_pure::bugcheck::DRIVER_VERIFIER_DETECTED_VIOLATION;

use super::stops::stop;
use super::thunk::intercept;
use crate::etw;
use crate::io::wmi;
use crate::nt::{DEVICE_OBJECT, NTSTATUS};
use crate::selftest::{check, kernel_test};

/// The image is about to go: 0xDA for a routine of its that is registered with WMI, 0xDD for a provider of events.
pub fn before_image_goes(image: &Range<u64>) {
    if let Some(routine) = wmi::callback_in(image) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xDA, image.start, routine as u64, 0]);
    }
    let left = etw::registered_by(image).first().copied();
    if let Some((handle, caller)) = left.and_then(|handle| Some((handle, etw::registrar(handle)?))) {
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xDD, caller as u64, image.start, handle as u64]);
    }
}

intercept! {
    for Miscellaneous;

    /// 0xDC.
    before fn EtwUnregister(site; handle: u64) -> NTSTATUS {
        if etw::registrar(handle as usize).is_none() {
            stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xDC, handle, 0, 0]);
        }
        None
    }

    /// 0xDB.
    before fn IoDeleteDevice(site; device: *mut DEVICE_OBJECT) {
        if wmi::is_registered(device.addr()) {
            stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xDB, device.addr() as u64, 0, 0]);
        }
        None
    }
}

kernel_test! {
    /// Values 0xDC and 0xDD.
    fn providers_are_unregistered_once_and_before_their_driver_goes() {
        use super::rehearsal::{import, stop_of};
        use crate::etw::{EtwRegister, EtwUnregister};
        use crate::nt::GUID;
        const MISCELLANEOUS: u32 = super::classes::Class::Miscellaneous as u32;
        let twice = stop_of(MISCELLANEOUS, |driver| {
            let unregister = import!(driver, EtwUnregister: fn(u64) -> NTSTATUS);
            let provider = GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] };
            let (mut handle, null) = (0, core::ptr::null_mut);
            // SAFETY: identifier and handle are locals.
            let _ = unsafe {
                let _ = EtwRegister(&raw const provider, null(), null(), &raw mut handle);
                let _ = unregister(handle);
                unregister(handle)
            };
        });
        check!(twice.is_some_and(|(code, [what, handle, ..])| (code, what) == (0xC4, 0xDC) && handle != 0));
        let left = stop_of(MISCELLANEOUS, |_| {
            let provider = GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] };
            let (mut handle, null) = (0, core::ptr::null_mut);
            // SAFETY: as above.
            let _ = unsafe { EtwRegister(&raw const provider, null(), null(), &raw mut handle) };
            // Whoever registered is a part of this kernel.
            before_image_goes(&crate::mm::paging::kernel_text());
        });
        let text = crate::mm::paging::kernel_text();
        check!(left.is_some_and(|(_, [what, caller, start, handle])| {
            what == 0xDD && text.contains(&caller) && start == text.start && etw::registrar(handle as usize).is_some()
        }));
        etw::forget(&text);
    }
}
