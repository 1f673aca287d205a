//! What a driver may ask about the Verifier.

use super::classes::Class;
use super::rehearsal::Stage;
use super::verified;
use crate::ldr::export::export;
use crate::nt::{DRIVER_OBJECT, NTSTATUS, PVOID, STATUS_NOT_SUPPORTED, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

export! {
    /// *MmIsDriverVerifying function (wdm.h)*: nonzero where this driver is verified.
    pub unsafe extern "win64" fn MmIsDriverVerifying(driver: *mut DRIVER_OBJECT) -> u32 {
        // SAFETY: the caller's driver.
        u32::from(verified::at(unsafe { (*driver).DriverStart }.addr()).is_some())
    }

    /// *MmIsDriverVerifyingByAddress function (wdm.h)*: nonzero where the address lies in the image of a driver that is verified.
    pub unsafe extern "win64" fn MmIsDriverVerifyingByAddress(address: PVOID) -> u32 {
        u32::from(verified::at(address.addr()).is_some())
    }

    /// *MmIsVerifierEnabled function (wdm.h)*: STATUS_NOT_SUPPORTED, and no flags, where no driver is verified; else the flags of all that are.
    pub unsafe extern "win64" fn MmIsVerifierEnabled(flags: *mut u32) -> NTSTATUS {
        let all = verified::settings().iter().fold(0, |all, (_, flags)| all | flags);
        // SAFETY: the caller gives storage for the flags.
        unsafe { flags.write(all) };
        if all == 0 { STATUS_NOT_SUPPORTED } else { STATUS_SUCCESS }
    }
}

kernel_test! {
    fn a_driver_is_told_whether_it_is_verified() {
        const CODE: usize = 0x7F00_0000_0000;
        let verifying = || {
            // SAFETY: any address may be asked about.
            unsafe { MmIsDriverVerifyingByAddress(core::ptr::without_provenance_mut(CODE + 0x10)) != 0 }
        };
        check!(!verifying());
        let range = CODE as u64..CODE as u64 + 0x1000;
        let Some(stage) = Stage::with_code(Class::Ddi as u32, range) else { check!(false); return Ok(()) };
        let mut flags = 0;
        // SAFETY: the flags are a local.
        check!(verifying() && unsafe { MmIsVerifierEnabled(&raw mut flags) } == STATUS_SUCCESS);
        check!(flags & Class::Ddi as u32 != 0);
        drop(stage);
        check!(!verifying());
    }
}
