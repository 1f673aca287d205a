//! Event tracing for Windows: providers register, and nobody listens.
//!
//! A provider's registration is real, down to the finding where it is left behind: Windows would call the provider's
//! enable callback in an image that is gone. No trace session exists, so no provider is ever enabled, and an event that
//! is written is dropped, as on a Windows where nobody traces.

mod wpp;

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::ex::system::ExUuidCreate;
use crate::ke::thread;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, GUID, NTSTATUS, PVOID, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// `REGHANDLE`: opaque to drivers, never 0.
type RegHandle = u64;

/// Registrations by handle, with the code that made them.
static PROVIDERS: Census = Census::new();
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Handles of the providers that code in `range` has registered.
pub fn registered_by(range: &Range<u64>) -> Vec<usize> {
    PROVIDERS.of(range)
}

/// The code that registered a provider.
pub fn registrar(handle: usize) -> Option<usize> {
    PROVIDERS.owner(handle)
}

/// Forgets what code in `range` registered: its image is gone.
pub fn forget(range: &Range<u64>) {
    for handle in PROVIDERS.of(range) {
        PROVIDERS.leave(handle);
    }
}

unsafe extern "win64" fn register(call: &Call<4>) -> NTSTATUS {
    let [provider, _callback, _context, handle] = call.arguments;
    if provider == 0 || handle == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PROVIDERS.enter(number, call.caller);
    // SAFETY: the caller gives storage for the handle.
    unsafe { core::ptr::with_exposed_provenance_mut::<RegHandle>(handle).write(number as RegHandle) };
    STATUS_SUCCESS
}

unsafe extern "win64" fn register_classic(call: &Call<5>) -> NTSTATUS {
    let [provider, _kind, callback, context, handle] = call.arguments;
    // SAFETY: the same call without the type.
    unsafe { register(&Call { caller: call.caller, arguments: [provider, callback, context, handle] }) }
}

/// `EVENT_ACTIVITY_CTRL_*`.
mod control {
    pub const GET: u32 = 1;
    pub const SET: u32 = 2;
    pub const CREATE: u32 = 3;
    pub const GET_SET: u32 = 4;
    pub const CREATE_SET: u32 = 5;
}

fn dropped(handle: RegHandle) -> NTSTATUS {
    if PROVIDERS.knows(handle as usize) { STATUS_SUCCESS } else { STATUS_INVALID_HANDLE }
}

export! {
    /// *EtwRegister function (wdm.h)*: the enable callback is never called, as nobody enables.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn EtwRegister(
        provider: *const GUID,
        callback: PVOID,
        context: PVOID,
        handle: *mut RegHandle,
    ) -> NTSTATUS {
        with_caller!(register)
    }

    /// *EtwRegisterClassicProvider*, which WPP's code looks up by name: as EtwRegister, the type of a provider meaning nothing here.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn EtwRegisterClassicProvider(
        provider: *const GUID,
        kind: u32,
        callback: PVOID,
        context: PVOID,
        handle: *mut RegHandle,
    ) -> NTSTATUS {
        with_caller!(register_classic)
    }

    /// *EtwActivityIdControl function (wdm.h)*: the calling thread's activity, and new identifiers. STATUS_INVALID_PARAMETER for a code
    /// that is none.
    pub unsafe extern "win64" fn EtwActivityIdControl(code: u32, id: *mut [u8; 16]) -> NTSTATUS {
        // SAFETY: the thread that runs is alive.
        let activity = unsafe { &thread::current().as_ref().activity };
        // SAFETY: the caller's; bytes need no alignment.
        unsafe {
            match code {
                control::GET => id.write(activity.get()),
                control::SET => activity.set(id.read()),
                control::CREATE => return ExUuidCreate(id),
                control::GET_SET => id.write(activity.replace(id.read())),
                control::CREATE_SET => {
                    let mut new = [0; 16];
                    let _ = ExUuidCreate(&raw mut new);
                    id.write(activity.replace(new));
                }
                _ => return STATUS_INVALID_PARAMETER,
            }
        }
        STATUS_SUCCESS
    }

    /// *EtwUnregister function (wdm.h)*: STATUS_INVALID_HANDLE where the handle is none.
    pub unsafe extern "win64" fn EtwUnregister(handle: RegHandle) -> NTSTATUS {
        if PROVIDERS.leave(handle as usize) { STATUS_SUCCESS } else { STATUS_INVALID_HANDLE }
    }

    /// *EtwEventEnabled function (wdm.h)*: FALSE, nobody listens.
    pub unsafe extern "win64" fn EtwEventEnabled(_handle: RegHandle, _descriptor: PVOID) -> BOOLEAN {
        FALSE
    }

    /// *EtwProviderEnabled function (wdm.h)*: FALSE, nobody listens.
    pub unsafe extern "win64" fn EtwProviderEnabled(_handle: RegHandle, _level: u8, _keyword: u64) -> BOOLEAN {
        FALSE
    }

    /// *EtwWrite function (wdm.h)*: an event of a registered provider is dropped.
    pub unsafe extern "win64" fn EtwWrite(
        handle: RegHandle,
        _descriptor: PVOID,
        _activity: *const GUID,
        _count: u32,
        _data: PVOID,
    ) -> NTSTATUS {
        dropped(handle)
    }

    /// *EtwWriteEx function (wdm.h)*: an event of a registered provider is dropped.
    pub unsafe extern "win64" fn EtwWriteEx(
        handle: RegHandle,
        _descriptor: PVOID,
        _filter: u64,
        _flags: u32,
        _activity: *const GUID,
        _related: *const GUID,
        _count: u32,
        _data: PVOID,
    ) -> NTSTATUS {
        dropped(handle)
    }

    /// *EtwWriteTransfer function (wdm.h)*: an event of a registered provider is dropped.
    pub unsafe extern "win64" fn EtwWriteTransfer(
        handle: RegHandle,
        _descriptor: PVOID,
        _activity: *const GUID,
        _related: *const GUID,
        _count: u32,
        _data: PVOID,
    ) -> NTSTATUS {
        dropped(handle)
    }

    /// *EtwWriteString function (wdm.h)*: an event of a registered provider is dropped.
    pub unsafe extern "win64" fn EtwWriteString(
        handle: RegHandle,
        _level: u8,
        _keyword: u64,
        _activity: *const GUID,
        _string: *const u16,
    ) -> NTSTATUS {
        dropped(handle)
    }
}

kernel_test! {
    /// *EtwRegister function (wdm.h)*: a handle is good until it is given back.
    fn a_provider_registers_writes_into_the_void_and_goes() {
        let provider = GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] };
        let mut handle = 0;
        let null = core::ptr::null_mut;
        // SAFETY: identifier and handle are locals.
        unsafe {
            check!(EtwRegister(&raw const provider, null(), null(), &raw mut handle) == STATUS_SUCCESS && handle != 0);
            check!(EtwProviderEnabled(handle, 0, 0) == FALSE && EtwEventEnabled(handle, null()) == FALSE);
            check!(EtwWrite(handle, null(), core::ptr::null(), 0, null()) == STATUS_SUCCESS);
            check!(EtwUnregister(handle) == STATUS_SUCCESS && EtwUnregister(handle) == STATUS_INVALID_HANDLE);
            check!(EtwWriteString(handle, 0, 0, core::ptr::null(), core::ptr::null()) == STATUS_INVALID_HANDLE);
        }
    }
}
