//! `NTSTATUS` as a `Result`, so that `?` ends a routine that cannot go on.

use wdk_sys::NTSTATUS;

/// What a routine yields, or the status with which it failed.
pub(crate) type Result<T> = core::result::Result<T, NTSTATUS>;

/// An error where the status is one.
pub(crate) fn check(status: NTSTATUS) -> Result<()> {
    if wdk::nt_success(status) { Ok(()) } else { Err(status) }
}
