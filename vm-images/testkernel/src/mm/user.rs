//! The addresses of user mode: where they end, and what a driver is told that asks whether a buffer lies among them.
//!
//! There is no user mode, so nothing is mapped there but views of sections ([`super::section_object`]): to touch any other such
//! address is an access violation, which a driver's handler may take.

use super::frame::PAGE_SIZE;
use super::paging;
use crate::ldr::caller::Call;
use crate::ldr::export::{export, export_data};
use crate::ldr::raising::may_raise;
use crate::nt::{NTSTATUS, PVOID, STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT};
use crate::selftest::{check, kernel_test};

/// The first address that is not user mode's; the last 64 KiB before the end of its half are nobody's.
const PROBE_ADDRESS: usize = 0x0000_7FFF_FFFF_0000;

/// `MmUserProbeAddress`, `MmHighestUserAddress`, `MmSystemRangeStart`.
static USER_PROBE_ADDRESS: usize = PROBE_ADDRESS;
static HIGHEST_USER_ADDRESS: usize = PROBE_ADDRESS - 1;
static SYSTEM_RANGE_START: usize = 0xFFFF_8000_0000_0000;

export_data! {
    MmUserProbeAddress => USER_PROBE_ADDRESS;
    MmHighestUserAddress => HIGHEST_USER_ADDRESS;
    MmSystemRangeStart => SYSTEM_RANGE_START;
}

/// Whether all of a buffer lies among user mode's addresses.
pub fn contains(address: usize, length: usize) -> bool {
    address.checked_add(length).is_some_and(|end| end <= PROBE_ADDRESS)
}

fn probe(address: usize, length: usize, alignment: u32) -> Result<(), NTSTATUS> {
    if length == 0 {
        return Ok(());
    }
    if address & (alignment.max(1) as usize - 1) != 0 {
        return Err(STATUS_DATATYPE_MISALIGNMENT);
    }
    if contains(address, length) { Ok(()) } else { Err(STATUS_ACCESS_VIOLATION) }
}

/// # Safety
/// The call must be one of ProbeForRead's.
unsafe extern "win64" fn for_read(call: &Call<3>, raised: &mut NTSTATUS) {
    let [address, length, alignment] = call.arguments;
    if let Err(status) = probe(address, length, alignment as u32) {
        *raised = status;
    }
}

/// # Safety
/// The call must be one of ProbeForWrite's.
unsafe extern "win64" fn for_write(call: &Call<3>, raised: &mut NTSTATUS) {
    let [address, length, alignment] = call.arguments;
    let probed = probe(address, length, alignment as u32);
    // Each page is written to; what is there is a view.
    let page = |address: usize| (address / PAGE_SIZE * PAGE_SIZE) as u64;
    let written = || {
        let mut pages = (page(address)..(address + length) as u64).step_by(PAGE_SIZE);
        if pages.all(paging::is_writable) { Ok(()) } else { Err(STATUS_ACCESS_VIOLATION) }
    };
    if let Err(status) = probed.and_then(|()| if length == 0 { Ok(()) } else { written() }) {
        *raised = status;
    }
}

export! {
    /// *ProbeForRead function (wdm.h)*: raises STATUS_ACCESS_VIOLATION where the buffer does not lie among user mode's addresses,
    /// STATUS_DATATYPE_MISALIGNMENT where it is not aligned; one of no bytes is not looked at. Whether it can be read is
    /// found out by reading it.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ProbeForRead(address: PVOID, length: usize, alignment: u32) {
        may_raise!(for_read)
    }

    /// *ProbeForWrite function (wdm.h)*: the same, and raises where the buffer cannot be written.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ProbeForWrite(address: PVOID, length: usize, alignment: u32) {
        may_raise!(for_write)
    }
}

kernel_test! {
    /// *ProbeForRead function (wdm.h)*.
    fn a_probe_looks_at_length_alignment_and_range_in_this_order() {
        check!(probe(usize::MAX, 0, 4) == Ok(()));
        check!(probe(0x1001, 1, 4) == Err(STATUS_DATATYPE_MISALIGNMENT) && probe(0x1001, 1, 1) == Ok(()));
        check!(probe(PROBE_ADDRESS - 8, 8, 8) == Ok(()));
        check!(probe(PROBE_ADDRESS - 8, 9, 8) == Err(STATUS_ACCESS_VIOLATION));
        check!(probe(SYSTEM_RANGE_START, 1, 1) == Err(STATUS_ACCESS_VIOLATION));
        check!(probe(0x1000, usize::MAX, 1) == Err(STATUS_ACCESS_VIOLATION));
    }
}
