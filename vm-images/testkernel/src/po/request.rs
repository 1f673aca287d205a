//! Power requests: objects by which a driver asks that the display stay on or the system awake.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, NTSTATUS, PVOID, STATUS_INVALID_PARAMETER_1, STATUS_INVALID_PARAMETER_2,
    STATUS_INVALID_PARAMETER_3, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use squall_testkernel_pure::agent::finding_kind::FindingKind;

/// `PowerRequestDisplayRequired`, `PowerRequestSystemRequired`, `PowerRequestAwayModeRequired`, `PowerRequestExecutionRequired`.
const KINDS: usize = 4;
/// `POWER_REQUEST_CONTEXT_VERSION`.
const VERSION: u32 = 0;

struct Request {
    owner: usize,
    /// How often each kind is set.
    counts: [u32; KINDS],
}

static REQUESTS: SpinLock<BTreeMap<usize, Request>> = SpinLock::new(BTreeMap::new());

/// Power requests that code in `range` created and did not delete. Told once.
pub fn left_by(range: &Range<u64>) -> Vec<(FindingKind, String, &'static str)> {
    let mut left = Vec::new();
    REQUESTS.lock().retain(|handle, request| {
        let stays = !range.contains(&(request.owner as u64));
        if !stays {
            let object = format!("power request 0x{handle:x}");
            left.push((FindingKind::PowerRequestLeft, object, "PoDeletePowerRequest was not called"));
        }
        stays
    });
    left
}

unsafe extern "win64" fn create(call: &Call<3>) -> NTSTATUS {
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    let [to, device, context] = call.arguments;
    if to == 0 {
        return STATUS_INVALID_PARAMETER_1;
    }
    if device == 0 {
        return STATUS_INVALID_PARAMETER_2;
    }
    // SAFETY: the caller gives a context or none; its version comes first.
    let version = unsafe { core::ptr::with_exposed_provenance::<u32>(context).as_ref() };
    if version.is_some_and(|&version| version != VERSION) {
        return STATUS_INVALID_PARAMETER_3;
    }
    let handle = NEXT.fetch_add(0x10, Ordering::Relaxed);
    REQUESTS.lock().insert(handle, Request { owner: call.caller, counts: [0; KINDS] });
    // SAFETY: the caller gives storage for the object.
    unsafe { core::ptr::with_exposed_provenance_mut::<usize>(to).write(handle) };
    STATUS_SUCCESS
}

/// Changes how often a kind is set.
fn change(request: PVOID, kind: u32, by: i32) -> NTSTATUS {
    let mut requests = REQUESTS.lock();
    let Some(request) = requests.get_mut(&request.addr()) else { return STATUS_INVALID_PARAMETER_1 };
    let Some(count) = request.counts.get_mut(kind as usize) else { return STATUS_INVALID_PARAMETER_2 };
    match count.checked_add_signed(by) {
        Some(changed) => *count = changed,
        None => return STATUS_UNSUCCESSFUL,
    }
    STATUS_SUCCESS
}

export! {
    /// *PoCreatePowerRequest function (ntifs.h)*: at APC_LEVEL or below; none of its kinds is set.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn PoCreatePowerRequest(
        request: *mut PVOID,
        device: *mut DEVICE_OBJECT,
        context: PVOID,
    ) -> NTSTATUS {
        with_caller!(create)
    }

    /// *PoSetPowerRequest function (ntifs.h)*: at APC_LEVEL or below; a kind counts how often it was set.
    pub unsafe extern "win64" fn PoSetPowerRequest(request: PVOID, kind: u32) -> NTSTATUS {
        change(request, kind, 1)
    }

    /// *PoClearPowerRequest function (ntifs.h)*: at APC_LEVEL or below; once for each time that the kind was set.
    /// STATUS_UNSUCCESSFUL where it is not set (inferred).
    pub unsafe extern "win64" fn PoClearPowerRequest(request: PVOID, kind: u32) -> NTSTATUS {
        change(request, kind, -1)
    }

    /// *PoDeletePowerRequest function (ntifs.h)*: at APC_LEVEL or below; whatever is set is not any more.
    pub unsafe extern "win64" fn PoDeletePowerRequest(request: PVOID) {
        REQUESTS.lock().remove(&request.addr());
    }
}
