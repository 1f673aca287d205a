//! What the emulator is to do after a call.

/// What the emulator carries out after a call of the card.
#[must_use = "the line and the deadline are only as true as the emulator makes them"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// How the line moved, if it did.
    pub line: Option<LineChange>,
    /// The virtual time at which [`Card::time_reached`](crate::Card::time_reached) wants to be called,
    /// replacing any earlier one; `None` for never.
    pub deadline: Option<u64>,
}

/// How the interrupt line moved within one call.
///
/// A call can let the line fall and rise again: an acknowledgement under a storm without a gap does. Whoever
/// drives a level takes [`level`](Self::level); whoever drives edges or messages takes [`rose`](Self::rose).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineChange {
    /// The line at the end of the call.
    pub level: bool,
    /// Whether it rose during the call. A line that rose and is high now was low in between, even if it was
    /// high before.
    pub rose: bool,
}
