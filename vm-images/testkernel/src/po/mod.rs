//! Power: what a driver that is no plug and play driver may ask of the power manager.
//!
//! The machine works until it is shut down: no sleep, no battery, one power scheme. So requests to keep it awake are counted and
//! change nothing, and a power setting is told once, when somebody registers for it, and does not change. What a driver leaves is a
//! finding.

mod request;
mod setting;

use alloc::collections::BTreeMap;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use alloc::string::String;
use alloc::vec::Vec;

use crate::io::irp;
use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{DEVICE_OBJECT, IRP, NTSTATUS, PVOID};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;
use squall_testkernel_pure::agent::finding_kind::FindingKind;

/// `POWER_STATE_TYPE::DevicePowerState`.
const DEVICE_STATE: u32 = 1;
/// What `PoRegisterSystemState` may be asked for: `ES_SYSTEM_REQUIRED`, `ES_DISPLAY_REQUIRED`, `ES_USER_PRESENT`, and
/// `ES_CONTINUOUS`.
const EXECUTION_STATES: u32 = 0x8000_0007;

/// The device power states that drivers told, by device.
static STATES: SpinLock<BTreeMap<usize, u32>> = SpinLock::new(BTreeMap::new());

/// Registrations of PoRegisterSystemState.
static SYSTEM_STATES: Census = Census::new();
static NEXT: AtomicUsize = AtomicUsize::new(0x10);

/// A device is gone.
pub fn device_is_gone(device: usize) {
    STATES.lock().remove(&device);
}

/// What code in `range` registered here and has not given back: kinds of findings, and which ones. It is told once.
pub fn left_by(range: &Range<u64>) -> Vec<(FindingKind, String, &'static str)> {
    let mut left = request::left_by(range);
    left.extend(setting::left_by(range));
    for handle in SYSTEM_STATES.of(range) {
        SYSTEM_STATES.leave(handle);
        let object = alloc::format!("registration 0x{handle:x}");
        left.push((FindingKind::PowerRequestLeft, object, "PoUnregisterSystemState was not called"));
    }
    left
}

unsafe extern "win64" fn register_state(call: &Call<2>) -> PVOID {
    let [handle, flags] = call.arguments;
    if flags as u32 & !EXECUTION_STATES != 0 {
        return core::ptr::null_mut();
    }
    let handle = if SYSTEM_STATES.knows(handle) { handle } else { NEXT.fetch_add(0x10, Ordering::Relaxed) };
    SYSTEM_STATES.enter(handle, call.caller);
    core::ptr::without_provenance_mut(handle)
}

export! {
    /// *PoCallDriver function (ntifs.h)*: at DISPATCH_LEVEL or below. Since Windows Vista what IoCallDriver is.
    pub unsafe extern "win64" fn PoCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { irp::call_driver(device, irp) }
    }

    /// *PoStartNextPowerIrp function (ntifs.h)*: at DISPATCH_LEVEL or below. Since Windows Vista the power manager needs no such hint.
    pub unsafe extern "win64" fn PoStartNextPowerIrp(_irp: *mut IRP) {}

    /// *PoSetPowerState function (ntifs.h)*: at DISPATCH_LEVEL or below; tells in which state a device is, and returns in which it was:
    /// PowerDeviceUnspecified (0) where nobody has said so yet. The system's own state is the power manager's to change: it
    /// is returned, PowerSystemWorking.
    pub unsafe extern "win64" fn PoSetPowerState(device: *mut DEVICE_OBJECT, kind: u32, state: u32) -> u32 {
        const WORKING: u32 = 1;
        if kind != DEVICE_STATE {
            return WORKING;
        }
        STATES.lock().insert(device.addr(), state).unwrap_or(0)
    }

    /// *PoRegisterSystemState function (ntifs.h)*: at PASSIVE_LEVEL; a handle, or null for flags that there are not. The system works on
    /// in any case.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn PoRegisterSystemState(handle: PVOID, flags: u32) -> PVOID {
        with_caller!(register_state)
    }

    /// *PoUnregisterSystemState function (ntifs.h)*.
    pub unsafe extern "win64" fn PoUnregisterSystemState(handle: PVOID) {
        SYSTEM_STATES.leave(handle.addr());
    }

    /// *PoSetSystemState function (ntifs.h)*: the system is busy; it works on in any case.
    pub unsafe extern "win64" fn PoSetSystemState(_flags: u32) {}
}

kernel_test! {
    /// *PoSetPowerState function (ntifs.h)*: the state before.
    fn a_device_has_the_power_state_that_was_told_last() {
        let device = core::ptr::without_provenance_mut::<DEVICE_OBJECT>(0x1230);
        // SAFETY: the device is not looked at.
        let set = |state| unsafe { PoSetPowerState(device, DEVICE_STATE, state) };
        check!(set(1) == 0 && set(4) == 1 && set(1) == 4);
        device_is_gone(device.addr());
        check!(set(1) == 0);
        device_is_gone(device.addr());
    }
}
