//! The two clocks of a flight record.

use rustix::time::{ClockId, clock_gettime};

use crate::abi::CLOCK_VIRTUAL;
use crate::symbols::qemu;

/// The guest's time, in nanoseconds. It stands still while the guest is stopped.
///
/// Not for callbacks of translated code: with `-icount` the time is only known between instructions, and QEMU
/// ends itself when it is asked within one.
pub(crate) fn virtual_ns() -> u64 {
    // SAFETY: any thread may read a clock of QEMU's; the clock exists.
    let ns = unsafe { (qemu().qemu_clock_get_ns)(CLOCK_VIRTUAL) };
    u64::try_from(ns).unwrap_or(0)
}

/// The host's monotonic clock, in nanoseconds.
pub(crate) fn host_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
