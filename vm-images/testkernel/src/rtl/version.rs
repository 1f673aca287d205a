//! Which Windows this is: none, but a driver that asks is told the one whose interface is kept.

use squall_testkernel_pure::version::{self, FIELDS};

use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, RTL_OSVERSIONINFOEXW, STATUS_INVALID_PARAMETER, STATUS_REVISION_MISMATCH,
    STATUS_SUCCESS, TRUE,
};
use crate::selftest::{check, kernel_test};

/// Windows 10.
pub const MAJOR: u32 = 10;
/// 10.0.
pub const MINOR: u32 = 0;
/// Version 22H2.
pub const BUILD: u32 = 19045;
const PLATFORM_NT: u32 = 2;
const WORKSTATION: u8 = 1;
/// `VER_SUITE_*`: a workstation of no suite.
pub const SUITES: u16 = 0;
/// `NTDDI_WIN10`.
const DDI: u32 = 0x0A00_0000;
/// `PRODUCT_PROFESSIONAL`.
const PROFESSIONAL: u32 = 0x30;

/// This version, field by field.
const OWN: [u32; FIELDS] = [MINOR, MAJOR, BUILD, PLATFORM_NT, 0, 0, 0, WORKSTATION as u32];

export! {
    /// *RtlGetVersion function (wdm.h)*: Windows 10, version 22H2, in either size of structure.
    pub unsafe extern "win64" fn RtlGetVersion(version: *mut RTL_OSVERSIONINFOEXW) -> NTSTATUS {
        /// `RTL_OSVERSIONINFOW`, the shorter form.
        const SHORT: usize = core::mem::offset_of!(RTL_OSVERSIONINFOEXW, wServicePackMajor);
        // SAFETY: both forms begin with their size, which the caller has set.
        let size = unsafe { (&raw const (*version).dwOSVersionInfoSize).read() } as usize;
        if size != SHORT && size != size_of::<RTL_OSVERSIONINFOEXW>() {
            return STATUS_INVALID_PARAMETER;
        }
        let answer = RTL_OSVERSIONINFOEXW {
            dwOSVersionInfoSize: size as u32,
            dwMajorVersion: MAJOR,
            dwMinorVersion: MINOR,
            dwBuildNumber: BUILD,
            dwPlatformId: PLATFORM_NT,
            szCSDVersion: [0; 128],
            wServicePackMajor: 0,
            wServicePackMinor: 0,
            wSuiteMask: SUITES,
            wProductType: WORKSTATION,
            wReserved: 0,
        };
        // SAFETY: the caller's structure is `size` bytes long; not more than that is written.
        unsafe { (&raw const answer).cast::<u8>().copy_to_nonoverlapping(version.cast(), size) };
        STATUS_SUCCESS
    }

    /// *RtlVerifyVersionInfo function (wdm.h)*: STATUS_REVISION_MISMATCH where this is not what is asked for.
    pub unsafe extern "win64" fn RtlVerifyVersionInfo(
        wanted: *const RTL_OSVERSIONINFOEXW,
        types: u32,
        conditions: u64,
    ) -> NTSTATUS {
        if types == 0 || conditions == 0 {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's structure, aligned as its 32-bit numbers are.
        let wanted = unsafe { wanted.read() };
        let fields = [
            wanted.dwMinorVersion,
            wanted.dwMajorVersion,
            wanted.dwBuildNumber,
            wanted.dwPlatformId,
            wanted.wServicePackMinor.into(),
            wanted.wServicePackMajor.into(),
            wanted.wSuiteMask.into(),
            wanted.wProductType.into(),
        ];
        if version::verify(&OWN, &fields, types, conditions) { STATUS_SUCCESS } else { STATUS_REVISION_MISMATCH }
    }

    /// *VerSetConditionMask function (ntddk.h)*.
    pub unsafe extern "win64" fn VerSetConditionMask(mask: u64, types: u32, condition: u8) -> u64 {
        version::set_condition(mask, types, condition)
    }

    /// *RtlIsNtDdiVersionAvailable function (wdm.h)*: this version or an older one; FALSE for a number with a service pack in it.
    pub unsafe extern "win64" fn RtlIsNtDdiVersionAvailable(version: u32) -> BOOLEAN {
        (version & 0xFFFF == 0 && version <= DDI).into()
    }

    /// *RtlGetProductInfo function (ntddk.h)*: PRODUCT_PROFESSIONAL; nothing for whoever knows no Windows since 6.0.
    pub unsafe extern "win64" fn RtlGetProductInfo(
        major: u32,
        _minor: u32,
        _pack_major: u32,
        _pack_minor: u32,
        product: *mut u32,
    ) -> BOOLEAN {
        if product.is_null() {
            return FALSE;
        }
        let known = major >= 6;
        // SAFETY: the caller's storage.
        unsafe { product.write(if known { PROFESSIONAL } else { 0 }) };
        if known { TRUE } else { FALSE }
    }
}

kernel_test! {
    /// *RtlIsNtDdiVersionAvailable function (wdm.h)*.
    fn older_versions_are_available() {
        // SAFETY: nothing is asked of the caller.
        unsafe {
            check!(RtlIsNtDdiVersionAvailable(0x0601_0000) == TRUE && RtlIsNtDdiVersionAvailable(DDI) == TRUE);
            check!(RtlIsNtDdiVersionAvailable(0x0601_0100) == FALSE);
            check!(RtlIsNtDdiVersionAvailable(0x0B00_0000) == FALSE);
        }
    }
}
