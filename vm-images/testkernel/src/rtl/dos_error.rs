//! Statuses as programs of user mode know them: Windows' error codes.
//!
//! Source: *[MS-ERREF] 2.3.1 NTSTATUS values* and *2.2 Win32 Error Codes*; statuses that no driver returns are left out, and are answered as
//! Windows answers those that it does not know.

use crate::ldr::export::export;
use crate::nt::NTSTATUS;
use crate::selftest::{check, kernel_test};

/// `ERROR_MR_MID_NOT_FOUND`: there is no such code.
const UNKNOWN: u32 = 317;

/// By status, in its order.
const CODES: &[(u32, u32)] = &[
    (0x0000_0000, 0),
    (0x0000_0103, 997),
    (0x0000_0107, 301),
    (0x4000_0000, 698),
    (0x8000_0001, 0x8000_0001),
    (0x8000_0002, 998),
    (0x8000_0003, 0x8000_0003),
    (0x8000_0004, 0x8000_0004),
    (0x8000_0005, 234),
    (0x8000_0006, 18),
    (0x8000_000D, 299),
    (0x8000_000E, 28),
    (0x8000_000F, 21),
    (0x8000_0010, 21),
    (0x8000_0011, 170),
    (0x8000_0016, 19),
    (0x8000_001A, 259),
    (0xC000_0001, 31),
    (0xC000_0002, 1),
    (0xC000_0003, 87),
    (0xC000_0004, 24),
    (0xC000_0005, 998),
    (0xC000_0008, 6),
    (0xC000_000B, 87),
    (0xC000_000D, 87),
    (0xC000_000E, 2),
    (0xC000_000F, 2),
    (0xC000_0010, 1),
    (0xC000_0011, 38),
    (0xC000_0013, 21),
    (0xC000_0014, 27),
    (0xC000_0015, 27),
    (0xC000_0016, 234),
    (0xC000_0017, 8),
    (0xC000_0018, 487),
    (0xC000_0019, 487),
    (0xC000_001E, 5),
    (0xC000_001F, 5),
    (0xC000_0020, 193),
    (0xC000_0021, 5),
    (0xC000_0022, 5),
    (0xC000_0023, 122),
    (0xC000_0024, 6),
    (0xC000_0030, 87),
    (0xC000_0033, 123),
    (0xC000_0034, 2),
    (0xC000_0035, 183),
    (0xC000_0039, 161),
    (0xC000_003A, 3),
    (0xC000_003B, 161),
    (0xC000_003E, 23),
    (0xC000_0043, 32),
    (0xC000_0044, 1816),
    (0xC000_0045, 87),
    (0xC000_0054, 33),
    (0xC000_0055, 33),
    (0xC000_0056, 303),
    (0xC000_0058, 1305),
    (0xC000_0059, 1306),
    (0xC000_005A, 1307),
    (0xC000_0061, 1314),
    (0xC000_0077, 1336),
    (0xC000_0078, 1337),
    (0xC000_0079, 1338),
    (0xC000_007A, 127),
    (0xC000_007B, 193),
    (0xC000_007C, 1008),
    (0xC000_007F, 112),
    (0xC000_0099, 1344),
    (0xC000_009A, 1450),
    (0xC000_00A2, 19),
    (0xC000_00A3, 21),
    (0xC000_00AD, 233),
    (0xC000_00B5, 121),
    (0xC000_00BA, 5),
    (0xC000_00BB, 50),
    (0xC000_00C0, 55),
    (0xC000_00E7, 1361),
    (0xC000_00EF, 87),
    (0xC000_00F0, 87),
    (0xC000_00F1, 87),
    (0xC000_00F2, 87),
    (0xC000_00F3, 87),
    (0xC000_0101, 145),
    (0xC000_0103, 267),
    (0xC000_0106, 206),
    (0xC000_010A, 5),
    (0xC000_010E, 1056),
    (0xC000_0120, 995),
    (0xC000_0121, 5),
    (0xC000_017C, 1018),
    (0xC000_0181, 1021),
    (0xC000_0184, 22),
    (0xC000_0185, 1117),
    (0xC000_0225, 1168),
    (0xC000_0262, 127),
    (0xC000_0263, 127),
    (0xC000_0272, 1169),
    (0xC000_0354, 1284),
];

fn code(status: NTSTATUS) -> u32 {
    let bits = status.bits();
    // What has the customer bit is its own code; FACILITY_NTWIN32 carries one.
    if bits & 0x2000_0000 != 0 {
        return bits;
    }
    if bits >> 16 == 0xC007 || bits >> 16 == 0x8007 {
        return bits & 0xFFFF;
    }
    CODES.binary_search_by_key(&bits, |(status, _)| *status).map_or(UNKNOWN, |index| CODES[index].1)
}

export! {
    /// *RtlNtStatusToDosError function (ntifs.h)*: ERROR_MR_MID_NOT_FOUND for a status without a code.
    pub unsafe extern "win64" fn RtlNtStatusToDosError(status: NTSTATUS) -> u32 {
        code(status)
    }

    /// *RtlNtStatusToDosErrorNoTeb function*: the same; no thread here remembers the status either way.
    pub unsafe extern "win64" fn RtlNtStatusToDosErrorNoTeb(status: NTSTATUS) -> u32 {
        code(status)
    }
}

kernel_test! {
    fn statuses_have_the_codes_that_programs_know() {
        check!(CODES.is_sorted());
        let of = |bits| code(NTSTATUS::from_bits(bits));
        check!(of(0xC000_0022) == 5 && of(0x103) == 997 && of(0xC000_0034) == 2 && of(0xC000_9999) == UNKNOWN);
        check!(of(0xC007_0057) == 87 && of(0xE000_1234) == 0xE000_1234);
    }
}
