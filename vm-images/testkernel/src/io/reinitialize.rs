//! Routines that a driver has called once more after DriverEntry, when others may have been loaded.

use alloc::vec::Vec;

use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{DRIVER_OBJECT, DriverReinitialize, PVOID};

struct Registered {
    driver: usize,
    routine: DriverReinitialize,
    context: PVOID,
}

// SAFETY: a driver passes its context to another thread on purpose.
unsafe impl Send for Registered {}

static REGISTERED: SpinLock<Vec<Registered>> = SpinLock::new(Vec::new());

fn next_of(driver: usize) -> Option<Registered> {
    let mut registered = REGISTERED.lock();
    let first = registered.iter().position(|entry| entry.driver == driver)?;
    Some(registered.remove(first))
}

/// Calls the routines of a driver whose DriverEntry has succeeded, until none is registered: a routine may register
/// itself again, and is told how often it was called. At PASSIVE_LEVEL.
///
/// # Safety
/// `driver` must be alive.
pub unsafe fn run(driver: *mut DRIVER_OBJECT) {
    while let Some(Registered { routine, context, .. }) = next_of(driver.addr()) {
        // SAFETY: the caller's contract; the routine is the driver's, whose image is mapped.
        unsafe {
            let count = &mut (*(*driver).DriverExtension).Count;
            *count += 1;
            let count = *count;
            routine(driver, context, count);
        }
    }
}

/// Drops the routines of a driver whose DriverEntry failed.
pub fn forget(driver: usize) {
    REGISTERED.lock().retain(|entry| entry.driver != driver);
}

export! {
    /// *IoRegisterDriverReinitialization function (ntddk.h)*: called after DriverEntry has returned success.
    pub unsafe extern "win64" fn IoRegisterDriverReinitialization(
        driver: *mut DRIVER_OBJECT,
        routine: Option<DriverReinitialize>,
        context: PVOID,
    ) {
        if let Some(routine) = routine {
            REGISTERED.lock().push(Registered { driver: driver.addr(), routine, context });
        }
    }

    /// *IoRegisterBootDriverReinitialization function (ntddk.h)*: every other driver of the boot is there already, so the routine is called when
    /// DriverEntry has returned success.
    pub unsafe extern "win64" fn IoRegisterBootDriverReinitialization(
        driver: *mut DRIVER_OBJECT,
        routine: Option<DriverReinitialize>,
        context: PVOID,
    ) {
        // SAFETY: the contract is the same.
        unsafe { IoRegisterDriverReinitialization(driver, routine, context) };
    }
}
