//! Memory that a driver hangs on its driver object, found again by an address that nobody else uses.

use alloc::vec::Vec;

use crate::ex::pool;
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{
    DRIVER_OBJECT, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_OBJECT_NAME_COLLISION,
    STATUS_SUCCESS,
};

struct Extension {
    driver: usize,
    identifier: usize,
    memory: usize,
}

static EXTENSIONS: SpinLock<Vec<Extension>> = SpinLock::new(Vec::new());

fn find(driver: usize, identifier: usize) -> Option<usize> {
    let extensions = EXTENSIONS.lock();
    let is_it = |entry: &&Extension| entry.driver == driver && entry.identifier == identifier;
    extensions.iter().find(is_it).map(|entry| entry.memory)
}

/// Frees what hangs on a driver object that goes.
pub fn forget(driver: usize) {
    let mut gone = Vec::new();
    EXTENSIONS.lock().retain(|entry| {
        if entry.driver == driver {
            gone.push(entry.memory);
        }
        entry.driver != driver
    });
    gone.into_iter().for_each(|memory| pool::free(memory, 0));
}

export! {
    /// *IoAllocateDriverObjectExtension function (wdm.h)*: zeroed, freed with the driver object;
    /// STATUS_OBJECT_NAME_COLLISION and null where the identifier has one already.
    pub unsafe extern "win64" fn IoAllocateDriverObjectExtension(
        driver: *mut DRIVER_OBJECT,
        identifier: PVOID,
        size: u32,
        extension: *mut PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller gives storage for the pointer.
        unsafe { extension.write(core::ptr::null_mut()) };
        let Some(memory) = pool::allocate_zeroed(size.max(1) as usize, *b"DrvE") else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        let address = memory.as_ptr().expose_provenance();
        if find(driver.addr(), identifier.addr()).is_some() {
            pool::free(address, 0);
            return STATUS_OBJECT_NAME_COLLISION;
        }
        let entry = Extension { driver: driver.addr(), identifier: identifier.addr(), memory: address };
        EXTENSIONS.lock().push(entry);
        // SAFETY: as above.
        unsafe { extension.write(memory.as_ptr().cast()) };
        STATUS_SUCCESS
    }

    /// *IoGetDriverObjectExtension function (wdm.h)*: null where there is none of that identifier.
    pub unsafe extern "win64" fn IoGetDriverObjectExtension(driver: *mut DRIVER_OBJECT, identifier: PVOID) -> PVOID {
        find(driver.addr(), identifier.addr())
            .map_or(core::ptr::null_mut(), core::ptr::with_exposed_provenance_mut)
    }
}
