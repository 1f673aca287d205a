//! Drivers that load and unload others, by the path of their service's key.

use alloc::string::String;
use alloc::sync::Arc;

use squall_testkernel_pure::utf16;

use super::driver::Refusal;
use crate::agent::services::{self, NotLoaded};
use crate::cm::{self, SERVICES};
use crate::ke::lock::SpinLock;
use crate::ke::thread::{self, NORMAL_PRIORITY};
use crate::ldr::export::export;
use crate::ldr::image::LoadError;
use crate::nt::{
    NTSTATUS, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, STATUS_IMAGE_ALREADY_LOADED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_IMAGE_FORMAT, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS, UNICODE_STRING,
};

/// The service whose key is at `path`, which has to exist.
///
/// # Safety
/// `path` must be a valid name.
unsafe fn service(path: *const UNICODE_STRING) -> Result<String, NTSTATUS> {
    // SAFETY: the caller's contract.
    let units = unsafe { (*path).units() };
    cm::with(|registry| registry.open(None, units)).map_err(cm::status_of)?;
    let text = utf16::display(units);
    let name = text.get(SERVICES.len()..).and_then(|rest| rest.strip_prefix('\\'));
    let is_a_service = text.get(..SERVICES.len()).is_some_and(|start| start.eq_ignore_ascii_case(SERVICES));
    name.filter(|name| is_a_service && !name.contains('\\')).map(Into::into).ok_or(STATUS_INVALID_PARAMETER)
}

/// Runs `work` in a system thread of its own, as Windows does, and waits for what it gives.
fn in_a_system_thread(work: impl FnOnce() -> NTSTATUS + Send + 'static) -> NTSTATUS {
    let answer = Arc::new(SpinLock::new(STATUS_INSUFFICIENT_RESOURCES));
    let theirs = Arc::clone(&answer);
    if let Ok(thread) = thread::spawn("load", NORMAL_PRIORITY, move || {
        let status = work();
        *theirs.lock() = status;
    }) {
        thread.join(None);
    }
    let answer = answer.lock();
    *answer
}

fn load(service: &str) -> NTSTATUS {
    services::adopt(service);
    match services::load(service, None) {
        Ok(_) => STATUS_SUCCESS,
        Err(NotLoaded::Refused(_)) if services::is_loaded(service) => STATUS_IMAGE_ALREADY_LOADED,
        Err(NotLoaded::Refused(_)) => STATUS_OBJECT_NAME_NOT_FOUND,
        Err(NotLoaded::Driver(Refusal::Status(status) | Refusal::Entry { status, .. })) => status,
        Err(NotLoaded::Driver(Refusal::Image(error))) => match error {
            LoadError::Invalid(_) => STATUS_INVALID_IMAGE_FORMAT,
            LoadError::MissingImports(_) => STATUS_DRIVER_ENTRYPOINT_NOT_FOUND,
            LoadError::NoMemory => STATUS_INSUFFICIENT_RESOURCES,
        },
    }
}

export! {
    /// *ZwLoadDriver function (wdm.h)*: STATUS_IMAGE_ALREADY_LOADED, STATUS_OBJECT_NAME_NOT_FOUND without key or file, or what
    /// its DriverEntry returns, which runs in a system thread.
    pub unsafe extern "win64" fn ZwLoadDriver(path: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller gives a valid name.
        match unsafe { service(path) } {
            Ok(service) => in_a_system_thread(move || load(&service)),
            Err(status) => status,
        }
    }

    /// *ZwUnloadDriver function (wdm.h)*: STATUS_OBJECT_NAME_NOT_FOUND where it is not loaded, STATUS_INVALID_DEVICE_REQUEST where it
    /// cannot be unloaded.
    pub unsafe extern "win64" fn ZwUnloadDriver(path: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller gives a valid name.
        match unsafe { service(path) } {
            Ok(service) => in_a_system_thread(move || match services::is_loaded(&service) {
                false => STATUS_OBJECT_NAME_NOT_FOUND,
                true => match services::unload(&service) {
                    Ok(_) => STATUS_SUCCESS,
                    Err(_) => STATUS_INVALID_DEVICE_REQUEST,
                },
            }),
            Err(status) => status,
        }
    }
}
