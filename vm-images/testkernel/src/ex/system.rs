//! Small questions to the executive: the previous mode, local time, identifiers, exceptions.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::hal::clock;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, KERNEL_MODE, KPROCESSOR_MODE, NTSTATUS, STATUS_SUCCESS};
use crate::rtl::version;
use crate::selftest::{check, kernel_test};

/// Numbers that no two calls get alike: splitmix64 over the processor's counter and a count of calls.
fn mixed() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let calls = CALLS.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    let mut value = clock::counter().rotate_left(32) ^ calls;
    value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

/// `PF_*`: feature number, leaf of CPUID, register (c or d), bit.
const FEATURES: [(u32, u32, char, u32); 13] = [
    (2, 1, 'd', 8),             // PF_COMPARE_EXCHANGE_DOUBLE
    (3, 1, 'd', 23),            // PF_MMX_INSTRUCTIONS_AVAILABLE
    (6, 1, 'd', 25),            // PF_XMMI_INSTRUCTIONS_AVAILABLE
    (8, 1, 'd', 4),             // PF_RDTSC_INSTRUCTION_AVAILABLE
    (9, 1, 'd', 6),             // PF_PAE_ENABLED
    (10, 1, 'd', 26),           // PF_XMMI64_INSTRUCTIONS_AVAILABLE
    (12, 0x8000_0001, 'd', 20), // PF_NX_ENABLED
    (13, 1, 'c', 0),            // PF_SSE3_INSTRUCTIONS_AVAILABLE
    (14, 1, 'c', 13),           // PF_COMPARE_EXCHANGE128
    (28, 1, 'c', 30),           // PF_RDRAND_INSTRUCTION_AVAILABLE
    (36, 1, 'c', 9),            // PF_SSSE3_INSTRUCTIONS_AVAILABLE
    (37, 1, 'c', 19),           // PF_SSE4_1_INSTRUCTIONS_AVAILABLE
    (38, 1, 'c', 20),           // PF_SSE4_2_INSTRUCTIONS_AVAILABLE
];

export! {
    /// *ExIsProcessorFeaturePresent function (ntddk.h)*: by the processor's own account; AVX is not, since nobody saves it.
    pub unsafe extern "win64" fn ExIsProcessorFeaturePresent(feature: u32) -> BOOLEAN {
        let known = FEATURES.iter().find(|(number, ..)| *number == feature);
        known
            .is_some_and(|&(_, leaf, register, bit)| {
                let answer = core::arch::x86_64::__cpuid(leaf);
                let word = if register == 'c' { answer.ecx } else { answer.edx };
                word >> bit & 1 != 0
            })
            .into()
    }

    /// *ExVerifySuite function (ntddk.h)*: whether the product is of this suite, as RtlGetVersion tells them: of none.
    pub unsafe extern "win64" fn ExVerifySuite(suite: u32) -> BOOLEAN {
        (version::SUITES.checked_shr(suite).unwrap_or(0) & 1 != 0).into()
    }

    /// *ExGetFirmwareType function (wdm.h)*: `FirmwareTypeBios`.
    pub unsafe extern "win64" fn ExGetFirmwareType() -> u32 {
        1
    }

    /// *ExGetPreviousMode function (wdm.h)*: KernelMode; there is no other.
    pub unsafe extern "win64" fn ExGetPreviousMode() -> KPROCESSOR_MODE {
        KERNEL_MODE
    }

    /// *ExSystemTimeToLocalTime function (wdm.h)*: the guest's time zone is UTC.
    pub unsafe extern "win64" fn ExSystemTimeToLocalTime(system: *const i64, local: *mut i64) {
        // SAFETY: the caller's.
        unsafe { local.write(system.read()) };
    }

    /// *ExLocalTimeToSystemTime function (wdm.h)*: the guest's time zone is UTC.
    pub unsafe extern "win64" fn ExLocalTimeToSystemTime(local: *const i64, system: *mut i64) {
        // SAFETY: the caller's.
        unsafe { system.write(local.read()) };
    }

    /// *ExUuidCreate function (ntddk.h)*: of version 4, random as far as a clock is.
    pub unsafe extern "win64" fn ExUuidCreate(uuid: *mut [u8; 16]) -> NTSTATUS {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mixed().to_le_bytes());
        bytes[8..].copy_from_slice(&mixed().to_le_bytes());
        // Version in the upper half of the third field (little-endian), variant in the fourth.
        bytes[7] = 0x40 | (bytes[7] & 0x0F);
        bytes[8] = 0x80 | (bytes[8] & 0x3F);
        // SAFETY: the caller's; bytes need no alignment.
        unsafe { uuid.write(bytes) };
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *ExUuidCreate function (ntddk.h)*: each call another identifier.
    fn identifiers_are_of_version_4_and_differ() {
        let [mut first, mut second] = [[0_u8; 16]; 2];
        // SAFETY: both have room.
        unsafe {
            check!(ExUuidCreate(&raw mut first) == STATUS_SUCCESS);
            check!(ExUuidCreate(&raw mut second) == STATUS_SUCCESS);
        }
        check!(first != second && first[7] >> 4 == 4 && first[8] >> 6 == 2);
    }
}
