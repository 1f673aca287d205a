//! The ranges of what the bench can ask for, and how a value outside is named.

use thiserror::Error;

/// The longest gap, period, delay and jitter, in virtual nanoseconds: one second.
pub const MAX_DELAY_NS: u64 = 1_000_000_000;
/// The shortest period, in virtual nanoseconds. A shorter one would leave nobody time for anything else.
pub const MIN_PERIOD_NS: u64 = 1_000;
/// The most samples of one burst, and the most reads for which a register can be late.
pub const MAX_BURST: u64 = 1_000;

/// A value outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{field} is {value}; it must be from {least} to {most}")]
pub struct OutOfRange {
    /// Which value.
    pub field: &'static str,
    /// What it is.
    pub value: u64,
    /// The least that it may be.
    pub least: u64,
    /// The most that it may be.
    pub most: u64,
}

/// Checks one value.
pub(crate) const fn check(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), OutOfRange> {
    if least <= value && value <= most { Ok(()) } else { Err(OutOfRange { field, value, least, most }) }
}
