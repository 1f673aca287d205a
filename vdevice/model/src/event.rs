//! What a card tells its journal.

/// Something that happened. The consequences of an event follow it as events of their own: a write that
/// acknowledges is `Write`, `Serviced`, `Deassert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// Where in the register window, for accesses; else 0.
    pub offset: u32,
    /// How wide, for accesses, in bytes; else 0.
    pub size: u8,
    /// What was read or written, or what [`Kind`] says.
    pub value: u64,
    /// The interrupt line when the event was told.
    pub level: bool,
}

/// The kinds of event, with the numbers that they have in a flight recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// A register was read.
    Read = 1,
    /// A register was written.
    Write = 2,
    /// A sample was taken. The value is its [`Origin`].
    Fire = 3,
    /// The line rose.
    Assert = 4,
    /// The line fell.
    Deassert = 5,
    /// The guest acknowledged an assertion.
    Serviced = 6,
    /// A sample was taken while `IRQ_ENABLE` was 0.
    Suppressed = 7,
    /// A sample was taken while `SAMPLE_READY` was already set.
    Coalesced = 8,
    /// `IRQ_ENABLE` went from 1 to 0.
    Silenced = 9,
    /// `IRQ_ENABLE` went from 0 to 1.
    Enabled = 10,
    /// The registers were reset.
    Reset = 11,
    /// A processor is about to execute the first instruction of Unload. The value is its address.
    UnloadEnter = 12,
    /// A processor has returned from Unload. The value is the address it returned to.
    UnloadLeave = 13,
    /// A storm began (1) or ended (0).
    Storm = 14,
    /// An access of a size or alignment that the window does not answer.
    Refused = 15,
    /// The card was restored from a snapshot. What follows continues what the snapshot had seen.
    Restored = 16,
}

/// Who asked for a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// The bench, by hand.
    Demand = 0,
    /// The storm.
    Storm = 1,
    /// A processor reached the watched instruction.
    Watch = 2,
}
