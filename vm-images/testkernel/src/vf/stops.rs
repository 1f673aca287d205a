//! How the Verifier stops the system: with NT's codes and parameters, and the crash record says that it was the Verifier.

use core::sync::atomic::{AtomicBool, Ordering};

use squall_testkernel_pure::bugcheck::{
    DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION, DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL,
    PAGE_FAULT_BEYOND_END_OF_ALLOCATION, PAGE_FAULT_IN_FREED_SPECIAL_POOL,
};

use super::rehearsal;
use crate::ke::bugcheck;

/// The Verifier stopped the system.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Stops the system for what a driver did.
pub fn stop(code: u32, parameters: [u64; 4]) -> ! {
    rehearsal::take(code, parameters);
    STOPPED.store(true, Ordering::Release);
    bugcheck::bugcheck(code, parameters)
}

/// Whether it is the Verifier that the system stops for with `code`: its own stop, or a fault that only special pool makes.
pub fn is_the_verifiers(code: u32) -> bool {
    let faults = [
        PAGE_FAULT_IN_FREED_SPECIAL_POOL,
        PAGE_FAULT_BEYOND_END_OF_ALLOCATION,
        DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL,
        DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION,
    ];
    STOPPED.load(Ordering::Acquire) || faults.contains(&code)
}
