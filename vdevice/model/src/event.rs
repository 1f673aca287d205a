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
    /// What the card does wrong was changed. The value has a bit for each: 0 a stuck line, 1 a late disable, 2
    /// spurious interrupts, 3 fewer FIFO places, 4 a removed card, 5 a late register. 0: nothing any more.
    Misbehave = 17,
    /// `IRQ_ENABLE` was cleared, and is in effect for so many nanoseconds more.
    Posted = 18,
    /// The line is held high for no reason.
    Spurious = 19,
    /// The read before showed what the register had been. The value is what it holds.
    Stale = 20,
    /// The access before did not reach the card, which is removed.
    Vanished = 21,
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
    /// `IRQ_ENABLE` was cleared, with [`LateDisable`](crate::LateDisable).
    LateDisable = 3,
}
