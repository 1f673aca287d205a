//! Sections that may be paged, and routines found by name.
//!
//! Every section of a driver is resident from load to unload, unless the Verifier forces IRQL checking: then what is locked
//! here stays, and the rest comes and goes ([`force_irql`]).

use squall_testkernel_pure::bugcheck::MEMORY_MANAGEMENT;

use super::modules;
use crate::ke::bugcheck::bugcheck;
use crate::ldr::export::{self, Module, export};
use crate::nt::{BOOLEAN, FALSE, PVOID, UNICODE_STRING};
use crate::selftest::{check, kernel_test};

use crate::vf::force_irql;

use alloc::string::String;
use core::ops::Range;

/// The loaded image that holds `address`; anything else is a bug check.
fn image_of(address: PVOID) -> Range<u64> {
    match modules::lookup(address.addr() as u64) {
        Some((module, _)) if !module.unloaded => module.base..module.base + module.size,
        _ => bugcheck(MEMORY_MANAGEMENT, [0x1234, address.addr() as u64, 0, 0]),
    }
}

export! {
    /// *MmLockPagableDataSection function (wdm.h)*: the section's handle: the address again. For one in no image the
    /// system stops with 0x1A.
    pub unsafe extern "win64" fn MmLockPagableDataSection(address: PVOID) -> PVOID {
        image_of(address);
        force_irql::lock_section(address.addr() as u64, true);
        address
    }

    /// *MmLockPagableSectionByHandle function (ntddk.h)*.
    pub unsafe extern "win64" fn MmLockPagableSectionByHandle(handle: PVOID) {
        image_of(handle);
        force_irql::lock_section(handle.addr() as u64, true);
    }

    /// *MmUnlockPagableImageSection function (wdm.h)*.
    pub unsafe extern "win64" fn MmUnlockPagableImageSection(handle: PVOID) {
        image_of(handle);
        force_irql::lock_section(handle.addr() as u64, false);
    }

    /// *MmPageEntireDriver function (wdm.h)*: the image's base. All of it may be paged from now on.
    pub unsafe extern "win64" fn MmPageEntireDriver(address: PVOID) -> PVOID {
        let image = image_of(address);
        force_irql::page_entire(image.clone(), true);
        core::ptr::with_exposed_provenance_mut(image.start as usize)
    }

    /// *MmResetDriverPaging function (wdm.h)*: as its sections say again.
    pub unsafe extern "win64" fn MmResetDriverPaging(address: PVOID) {
        force_irql::page_entire(image_of(address), false);
    }

    /// *MmGetSystemRoutineAddress function (wdm.h)*: of the kernel or the HAL; null where neither has it.
    pub unsafe extern "win64" fn MmGetSystemRoutineAddress(name: *const UNICODE_STRING) -> PVOID {
        // SAFETY: the caller's string.
        let units = unsafe {
            core::slice::from_raw_parts((*name).Buffer, usize::from((*name).Length) / size_of::<u16>())
        };
        let name = String::from_utf16_lossy(units);
        let found = export::lookup(Module::Ntoskrnl, &name);
        found.map_or(core::ptr::null_mut(), |export| export.address().cast_mut())
    }

    /// *MmIsThisAnNtAsSystem function (wdm.h)*: a workstation.
    pub unsafe extern "win64" fn MmIsThisAnNtAsSystem() -> BOOLEAN {
        FALSE
    }

    /// *MmQuerySystemSize function (wdm.h)*: MmSmallSystem.
    pub unsafe extern "win64" fn MmQuerySystemSize() -> u32 {
        0
    }
}

kernel_test! {
    /// *MmGetSystemRoutineAddress function (wdm.h)*: null where the name cannot be resolved.
    fn routines_are_found_by_name() {
        let find = |name: &str| {
            let mut units: alloc::vec::Vec<u16> = name.encode_utf16().collect();
            let bytes = (units.len() * 2) as u16;
            let name = UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: units.as_mut_ptr() };
            // SAFETY: the string lives until the call returns.
            unsafe { MmGetSystemRoutineAddress(&raw const name) }
        };
        check!(find("MmGetSystemRoutineAddress").addr() == MmGetSystemRoutineAddress as *const () as usize);
        check!(!find("KeStallExecutionProcessor").is_null());
        check!(find("MmGetSystemRoutine").is_null() && find("").is_null());
    }
}
