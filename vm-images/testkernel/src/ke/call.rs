//! The call of a driver's Unload.
//!
//! The harness measures from the first instruction of Unload to the one after the call. For that the place
//! where Unload returns to must have an address that is known beforehand, so the call is the only instruction
//! before a label.
//!
//! DriverEntry and Unload run in a system worker thread, which stops the system when a routine comes back to it above
//! PASSIVE_LEVEL: *Bug Check 0xE1: WORKER_THREAD_RETURNED_AT_BAD_IRQL*; or in a critical or guarded region: *Bug Check 0x1: APC_INDEX_MISMATCH*.

use core::arch::naked_asm;

use squall_testkernel_pure::bugcheck::APC_INDEX_MISMATCH;

use super::apc;
use super::bugcheck::bugcheck;
use super::irql::{self, Irql};
use crate::nt::{DRIVER_OBJECT, DriverUnload};

unsafe extern "C" {
    /// The instruction after the call in [`unload`].
    static squall_unload_return: u8;
}

/// Calls `routine(driver)`.
///
/// # Safety
/// `routine` is the Unload of `driver`, whose image is mapped. At PASSIVE_LEVEL.
#[unsafe(naked)]
pub unsafe extern "win64" fn unload(routine: DriverUnload, driver: *mut DRIVER_OBJECT) {
    naked_asm!(
        "sub rsp, 40",
        "mov rax, rcx",
        "mov rcx, rdx",
        "call rax",
        ".global squall_unload_return",
        "squall_unload_return:",
        "add rsp, 40",
        "ret",
    )
}

/// `routine`, DriverEntry or Unload of the driver object `driver`, has come back; stops the system where it did so at
/// another IRQL than it was called at.
pub fn returned(routine: usize, driver: usize) {
    worker_returned(routine, driver, 0);
}

/// The same of the routine of work item `item`, which was called with `parameter`.
pub fn worker_returned(routine: usize, parameter: usize, item: usize) {
    const WORKER_THREAD_RETURNED_AT_BAD_IRQL: u32 = 0xE1;
    let level = irql::current();
    if level != Irql::PASSIVE {
        let parameters = [routine as u64, level.0.into(), parameter as u64, item as u64];
        bugcheck(WORKER_THREAD_RETURNED_AT_BAD_IRQL, parameters);
    }
    let disabled = apc::disabled();
    if disabled != 0 {
        /// Parameter 4: a worker routine.
        const WORKER: u64 = 1;
        bugcheck(APC_INDEX_MISMATCH, [routine as u64, 0, disabled.into(), WORKER]);
    }
}

/// The address that Unload returns to.
pub fn unload_return_address() -> u64 {
    (&raw const squall_unload_return).addr() as u64
}
