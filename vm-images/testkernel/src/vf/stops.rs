//! How the Verifier stops the system: with NT's codes and parameters, and the crash record says that it was the Verifier.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::ke::bugcheck;

/// The Verifier stopped the system.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Stops the system for what a driver did.
pub fn stop(code: u32, parameters: [u64; 4]) -> ! {
    STOPPED.store(true, Ordering::Release);
    bugcheck::bugcheck(code, parameters)
}

/// Whether it was the Verifier that stopped the system.
pub fn stopped_the_system() -> bool {
    STOPPED.load(Ordering::Acquire)
}
