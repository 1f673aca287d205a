//! Identifiers that nobody else on this system gets until it is started again.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::ldr::export::export;
use crate::nt::{NTSTATUS, STATUS_SUCCESS};

/// Those below are the system's own: its logon sessions'.
static NEXT: AtomicU64 = AtomicU64::new(1001);

export! {
    /// *ZwAllocateLocallyUniqueId function (ntddk.h)*.
    pub unsafe extern "win64" fn ZwAllocateLocallyUniqueId(to: *mut u64) -> NTSTATUS {
        // SAFETY: the caller's storage, aligned as 32-bit numbers are.
        unsafe { to.write_unaligned(NEXT.fetch_add(1, Ordering::Relaxed)) };
        STATUS_SUCCESS
    }
}
