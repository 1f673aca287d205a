//! What the Verifier checks, by Windows' names.
//!
//! The names and flag bits are those of *Driver Verifier Command Syntax* (`verifier /flags`). A class that is not in
//! [`SUPPORTED`] does not exist here: asking for it is refused, not ignored.

/// One of Windows' classes of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
#[allow(dead_code, reason = "the bits are Windows'; a class is used from the day on which it is built")]
pub enum Class {
    /// *Automatic Checks*: for every verified driver, whatever its flags are.
    Automatic = 0,
    /// *Special Pool*: each allocation on pages of its own.
    SpecialPool = 0x1,
    /// *Force IRQL Checking*: pageable memory goes away at raised IRQL.
    ForceIrql = 0x2,
    /// *Low Resources Simulation*: allocations fail at random.
    LowResources = 0x4,
    /// *Pool Tracking*: what is left at unload.
    PoolTracking = 0x8,
    /// *I/O Verification*: packets and devices are used as documented.
    Io = 0x10,
    /// *Deadlock Detection*: the order in which locks are taken.
    Deadlock = 0x20,
    /// *DMA Verification*: adapters, common buffers, map registers.
    Dma = 0x80,
    /// *Security Checks*.
    Security = 0x100,
    /// *Miscellaneous Checks*: freed memory that something is still active in.
    Miscellaneous = 0x800,
    /// *DDI Compliance Checking*: routines called as their pages say.
    Ddi = 0x2_0000,
    /// No class of Windows': the first of two in which the thunks themselves are tested.
    Rehearsal = 0x4000_0000,
    /// The second.
    DressRehearsal = 0x8000_0000,
}

impl Class {
    /// Whether drivers with these flags are checked for it.
    pub const fn is_in(self, flags: u32) -> bool {
        let bit = self as u32;
        bit == 0 || flags & bit != 0
    }

    /// What `verifier /query` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "Automatic checks",
            Self::SpecialPool => "Special pool",
            Self::ForceIrql => "Force IRQL checking",
            Self::LowResources => "Randomized low resources simulation",
            Self::PoolTracking => "Pool tracking",
            Self::Io => "I/O verification",
            Self::Deadlock => "Deadlock detection",
            Self::Dma => "DMA checking",
            Self::Security => "Security checks",
            Self::Miscellaneous => "Miscellaneous checks",
            Self::Ddi => "DDI compliance checking",
            Self::Rehearsal | Self::DressRehearsal => "Thunks",
        }
    }
}

/// In which order routines of several classes stand before one export: the first sees the driver's call first.
///
/// Rules judge the call as the driver made it; then calls may be made to fail; the books are kept, and memory is moved, for
/// calls that come that far.
pub const ORDER: [Class; 13] = [
    Class::Rehearsal,
    Class::DressRehearsal,
    Class::Ddi,
    Class::Automatic,
    Class::Security,
    Class::Miscellaneous,
    Class::LowResources,
    Class::Io,
    Class::Dma,
    Class::Deadlock,
    Class::ForceIrql,
    Class::PoolTracking,
    Class::SpecialPool,
];

/// The classes that this guest has.
#[rustfmt::skip]
pub const SUPPORTED: &[Class] = &[
    Class::SpecialPool,
    Class::ForceIrql,
    Class::PoolTracking,
    Class::Io,
    Class::Deadlock,
    Class::Dma,
    Class::Security,
    Class::Miscellaneous,
    Class::Ddi,
];

/// Their flags.
pub fn supported_flags() -> u32 {
    SUPPORTED.iter().fold(0, |flags, &class| flags | class as u32)
}
