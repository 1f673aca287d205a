//! Power settings: whoever registers for one is told its value at once, in a thread of the system's, and whenever it changes.
//!
//! Nothing changes here. Two settings have a value on any machine, also one without battery and display: where its power comes
//! from, and whether its console shows anything.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, GUID, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use squall_testkernel_pure::agent::finding_kind::FindingKind;

/// `POWER_SETTING_CALLBACK`.
type Callback = unsafe extern "win64" fn(
    setting: *const GUID,
    value: *const u32,
    length: u32,
    context: PVOID,
) -> NTSTATUS;

/// `GUID_ACDC_POWER_SOURCE`, `GUID_CONSOLE_DISPLAY_STATE` and `GUID_MONITOR_POWER_ON`, with their values: mains (`PoAc`), and on.
const SETTINGS: [(GUID, u32); 3] = [
    (guid(0x5D3E_9A59, 0xE9D5, 0x4B00, [0xA6, 0xBD, 0xFF, 0x34, 0xFF, 0x51, 0x65, 0x48]), 0),
    (guid(0x6FE6_9556, 0x704A, 0x47A0, [0x8F, 0x24, 0xC2, 0x8D, 0x93, 0x6F, 0xDA, 0x47]), 1),
    (guid(0x0273_1015, 0x4510, 0x4526, [0x99, 0xE6, 0xE5, 0xA1, 0x7E, 0xBD, 0x1A, 0xEA]), 1),
];

const fn guid(data1: u32, data2: u16, data3: u16, data4: [u8; 8]) -> GUID {
    GUID { Data1: data1, Data2: data2, Data3: data3, Data4: data4 }
}

struct Registration {
    owner: usize,
    handle: usize,
    /// Cleared when it is unregistered.
    wanted: AtomicBool,
    /// The thread that is calling it, or about to; 0 for none.
    calling: AtomicUsize,
}

impl Registration {
    /// When this returns the routine runs nowhere, unless it is the routine itself that has it end.
    fn end(&self) {
        self.wanted.store(false, Ordering::SeqCst);
        let this = thread::current().as_ptr().addr();
        while ![0, this].contains(&self.calling.load(Ordering::SeqCst)) {
            thread::sleep_ns(100_000);
        }
    }
}

static REGISTERED: SpinLock<Vec<Arc<Registration>>> = SpinLock::new(Vec::new());

/// Callbacks of code in `range` that are still registered. Told once.
pub fn left_by(range: &Range<u64>) -> Vec<(FindingKind, String, &'static str)> {
    let gone: Vec<Arc<Registration>> =
        REGISTERED.lock().extract_if(.., |other| range.contains(&(other.owner as u64))).collect();
    let tell = |registration: Arc<Registration>| {
        registration.end();
        let object = format!("power setting callback 0x{:x}", registration.handle);
        (FindingKind::PowerSettingCallbackLeft, object, "PoUnregisterPowerSettingCallback was not called")
    };
    gone.into_iter().map(tell).collect()
}

/// What a driver gave, which a thread of the system's passes back.
struct Told {
    setting: GUID,
    value: u32,
    callback: Callback,
    context: usize,
}

unsafe extern "win64" fn register(call: &Call<5>) -> NTSTATUS {
    static NEXT: AtomicUsize = AtomicUsize::new(0x10);
    let [_device, setting, callback, context, to] = call.arguments;
    // SAFETY: the caller gives a setting, and a routine of this type.
    let (setting, callback) = unsafe {
        let setting = core::ptr::with_exposed_provenance::<GUID>(setting).as_ref().copied();
        (setting, core::mem::transmute::<usize, Option<Callback>>(callback))
    };
    let (Some(setting), Some(callback)) = (setting, callback) else { return STATUS_INVALID_PARAMETER };
    let handle = NEXT.fetch_add(0x10, Ordering::Relaxed);
    let registration = Arc::new(Registration {
        owner: call.caller,
        handle,
        wanted: AtomicBool::new(true),
        calling: AtomicUsize::new(0),
    });
    // The handle first: the callback may come, and end the registration, before this returns.
    // SAFETY: the caller gives storage for the handle, or none.
    unsafe {
        if let Some(to) = core::ptr::with_exposed_provenance_mut::<usize>(to).as_mut() {
            *to = handle;
        }
    }
    REGISTERED.lock().push(registration.clone());
    let Some((_, value)) = SETTINGS.iter().find(|(known, _)| *known == setting) else {
        return STATUS_SUCCESS;
    };
    let told = Told { setting, value: *value, callback, context };
    let tell = move || {
        registration.calling.store(thread::current().as_ptr().addr(), Ordering::SeqCst);
        if registration.wanted.load(Ordering::SeqCst) {
            let Told { setting, value, callback, context } = &told;
            let context = core::ptr::with_exposed_provenance_mut(*context);
            // SAFETY: the driver gave the routine for this call, and its image stays until the registration has ended.
            let _ = unsafe { callback(setting, value, size_of::<u32>() as u32, context) };
        }
        registration.calling.store(0, Ordering::SeqCst);
    };
    match thread::spawn("power setting", 8, tell) {
        Ok(_) => STATUS_SUCCESS,
        Err(_) => {
            REGISTERED.lock().retain(|other| other.handle != handle);
            STATUS_INSUFFICIENT_RESOURCES
        }
    }
}

export! {
    /// *PoRegisterPowerSettingCallback function (ntifs.h)*: the routine is told the setting's value at once, at PASSIVE_LEVEL in a thread of
    /// the system's. A setting that this machine has no value for is never told.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn PoRegisterPowerSettingCallback(
        device: *mut DEVICE_OBJECT,
        setting: *const GUID,
        callback: PVOID,
        context: PVOID,
        handle: *mut PVOID,
    ) -> NTSTATUS {
        with_caller!(register)
    }

    /// *PoUnregisterPowerSettingCallback function (ntifs.h)*: when it returns, the routine runs nowhere. STATUS_INVALID_PARAMETER for what
    /// is no handle.
    pub unsafe extern "win64" fn PoUnregisterPowerSettingCallback(handle: PVOID) -> NTSTATUS {
        let found = {
            let mut registered = REGISTERED.lock();
            let index = registered.iter().position(|other| other.handle == handle.addr());
            index.map(|index| registered.swap_remove(index))
        };
        let Some(registration) = found else { return STATUS_INVALID_PARAMETER };
        registration.end();
        STATUS_SUCCESS
    }
}
