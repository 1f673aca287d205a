//! Which Windows this is: none, but a driver that asks is told the one whose interface is kept.

use crate::ldr::export::export;
use crate::nt::{NTSTATUS, RTL_OSVERSIONINFOEXW, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};

/// Windows 10.
pub const MAJOR: u32 = 10;
/// 10.0.
pub const MINOR: u32 = 0;
/// Version 22H2.
pub const BUILD: u32 = 19045;
const PLATFORM_NT: u32 = 2;
const WORKSTATION: u8 = 1;

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
            wSuiteMask: 0,
            wProductType: WORKSTATION,
            wReserved: 0,
        };
        // SAFETY: the caller's structure is `size` bytes long; not more than that is written.
        unsafe { (&raw const answer).cast::<u8>().copy_to_nonoverlapping(version.cast(), size) };
        STATUS_SUCCESS
    }
}
