//! Security: who asks, and may they?
//!
//! There is one somebody here, the system: every thread runs with its token. So [`subject`] captures the same thing for
//! everybody; what [`access`] decides about it is decided as Windows does, which may well be "no": a list that does not allow
//! something to the system denies it to a driver that checks for a caller in user mode.

pub mod access;
pub mod assign;
pub mod exports;
pub mod luid;
pub mod subject;
pub mod token;
