//! The card: registers, FIFO, line, the storm that plays on them, and what it does wrong.

mod bench;

use serde::{Deserialize, Serialize};
use squall_registers::{Control, IDENT, Register, Status};

use crate::access::{Access, Refused};
use crate::counters::Statistics;
use crate::effects::{Effects, LineChange};
use crate::event::{Event, Kind, Origin};
use crate::faults::Faults;
use crate::fifo::Fifo;
use crate::saved;
use crate::schedule::{Direction, MAX_SCHEDULES};
use crate::storm::Running;

/// Where events go.
type Journal<'a> = &'a mut dyn FnMut(Event);

/// A sampling card. The [crate]'s documentation says who calls what.
///
/// Every call takes the virtual time `now`, which never steps back but when a card is restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    // What a driver can see, and a reset clears.
    #[serde(with = "saved::control")]
    control: Control,
    #[serde(with = "saved::status")]
    status: Status,
    fifo: Fifo,
    sequence: u32,

    // The line, which follows from the above; whether its last assertion still waits to be acknowledged; and
    // how it has moved in the call that is running.
    line: bool,
    outstanding: bool,
    #[serde(skip)]
    line_change: Option<LineChange>,
    // What lies ahead, as the last call left it; `None` where it must be worked out.
    #[serde(skip)]
    ahead: Option<Ahead>,

    // The bench's side, which a reset leaves alone.
    #[serde(deserialize_with = "saved::storm")]
    storm: [Option<Running>; MAX_SCHEDULES],
    faults: Faults,
    statistics: Statistics,
}

/// What is to come, as far as an access has to know of it: most change nothing of it.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    /// When something is due next; `u64::MAX` for never.
    due: u64,
    /// Whether a schedule waits for an access.
    listens: bool,
}

impl Default for Card {
    fn default() -> Self {
        Self::new()
    }
}

impl Card {
    /// A card just powered on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            control: Control::default(),
            status: Status::default(),
            fifo: Fifo::new(),
            sequence: 0,
            line: false,
            outstanding: false,
            line_change: None,
            ahead: None,
            storm: [const { None }; MAX_SCHEDULES],
            faults: Faults::default(),
            statistics: Statistics::default(),
        }
    }

    /// A processor reads `size` bytes at `offset`.
    ///
    /// # Errors
    /// [`Refused`] where the window does not answer; the bus then floats high, and the card is unchanged.
    pub fn read(
        &mut self,
        offset: u64,
        size: u32,
        now: u64,
        journal: Journal<'_>,
    ) -> Result<(u32, Effects), Refused> {
        let access = self.admit(offset, size, 0, journal)?;
        let ahead = self.catch_up(now, journal);
        self.statistics.reads += 1;
        if self.faults.removed {
            let value = access.extract(u32::MAX);
            self.tell_access(Kind::Read, access, value, journal);
            self.vanish(journal);
            return Ok((value, self.effects(now)));
        }
        let held = access.register().map_or(0, |register| self.value_of(register));
        let shown = match &mut self.faults.latch {
            Some(latch) if access.register() == Some(latch.spec.register) => latch.read(held, now),
            _ => held,
        };
        if access.register() == Some(Register::FifoData) && access.has_low_byte() {
            self.fifo.pop();
        }
        let value = access.extract(shown);
        self.tell_access(Kind::Read, access, value, journal);
        if shown != held {
            self.statistics.misbehaviour.stale_reads += 1;
            self.tell(Kind::Stale, u64::from(held), journal);
        }
        let flushes = self.faults.posted.as_ref().is_some_and(|posted| posted.spec.read_flushes);
        if flushes {
            self.disable_late(journal);
        }
        let triggers = self.observe(ahead, Direction::Read, access, value, now);
        let unchanged = ahead.filter(|_| !flushes && !triggers);
        Ok((value, self.end_access(unchanged, now, journal)))
    }

    /// A processor writes the low `size` bytes of `value` at `offset`.
    ///
    /// # Errors
    /// [`Refused`] where the window does not answer; the card is then unchanged.
    pub fn write(
        &mut self,
        offset: u64,
        size: u32,
        value: u64,
        now: u64,
        journal: Journal<'_>,
    ) -> Result<Effects, Refused> {
        let access = self.admit(offset, size, value, journal)?;
        let ahead = self.catch_up(now, journal);
        let value = access.extract(access.place(value as u32));
        self.statistics.writes += 1;
        self.tell_access(Kind::Write, access, value, journal);
        if self.faults.removed {
            self.vanish(journal);
            return Ok(self.effects(now));
        }
        let changes = match access.register() {
            Some(Register::Control) => self.write_control(access, value, now, journal),
            Some(Register::Status) => self.acknowledge(Status::from_bits(access.place(value)), now, journal),
            _ => false,
        };
        let triggers = self.observe(ahead, Direction::Write, access, value, now);
        let unchanged = ahead.filter(|_| !changes && !triggers);
        Ok(self.end_access(unchanged, now, journal))
    }

    /// Virtual time has reached `now`. Called too early, it changes nothing.
    pub fn time_reached(&mut self, now: u64, journal: Journal<'_>) -> Effects {
        self.reach(now, journal);
        self.effects(now)
    }

    /// The machine is reset: the same as writing [`Control::RESET`].
    pub fn reset(&mut self, now: u64, journal: Journal<'_>) -> Effects {
        self.reach(now, journal);
        self.reset_registers(journal);
        self.effects(now)
    }

    /// The interrupt line.
    #[must_use]
    pub const fn line(&self) -> bool {
        self.line
    }

    /// How often the line has risen.
    #[must_use]
    pub const fn asserted(&self) -> u64 {
        self.statistics.asserted
    }

    /// Whether Unload is running.
    #[must_use]
    pub const fn is_unloading(&self) -> bool {
        self.statistics.unload.inside
    }

    /// What the bench has counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            fifo_level: self.fifo.level(),
            irq_enabled: self.irq_enabled(),
            line: self.line,
            ..self.statistics
        }
    }

    /// Whether `IRQ_ENABLE` is in effect.
    fn irq_enabled(&self) -> bool {
        self.control.contains(Control::IRQ_ENABLE) || self.faults.disable_is_late()
    }

    /// Whether an interrupt gets out of the card.
    fn interrupts_pass(&self) -> bool {
        self.irq_enabled() && !self.faults.removed
    }

    fn sample_ready(&self) -> bool {
        self.status.contains(Status::SAMPLE_READY)
    }

    /// What a register holds.
    fn value_of(&self, register: Register) -> u32 {
        match register {
            Register::Ident => IDENT,
            Register::Control => self.control.bits(),
            Register::Status => self.status.bits(),
            Register::FifoData => self.fifo.peek().unwrap_or(0),
            Register::FifoLevel => self.fifo.level(),
            Register::Sequence => self.sequence,
        }
    }

    fn admit(&mut self, offset: u64, size: u32, value: u64, journal: Journal<'_>) -> Result<Access, Refused> {
        Access::new(offset, size).inspect_err(|refused| {
            let offset = u32::try_from(refused.offset).unwrap_or(u32::MAX);
            let size = u8::try_from(refused.size).unwrap_or(u8::MAX);
            journal(Event { kind: Kind::Refused, offset, size, value, level: self.line });
        })
    }

    /// An access did not reach the card.
    fn vanish(&mut self, journal: Journal<'_>) {
        self.statistics.misbehaviour.vanished += 1;
        self.tell(Kind::Vanished, 0, journal);
    }

    /// The storm sees an access. Whether one of its schedules has waited for it.
    fn observe(
        &mut self,
        ahead: Option<Ahead>,
        direction: Direction,
        access: Access,
        value: u32,
        now: u64,
    ) -> bool {
        let mut triggers = false;
        if ahead.is_some_and(|ahead| !ahead.listens) {
            return triggers;
        }
        for running in self.storm.iter_mut().flatten() {
            triggers |= running.accessed(direction, access, value, now);
        }
        triggers
    }

    /// CONTROL is written. Whether that may change what is to come.
    fn write_control(&mut self, access: Access, value: u32, now: u64, journal: Journal<'_>) -> bool {
        let written = Control::from_bits(access.place(value));
        if written.contains(Control::RESET) {
            self.reset_registers(journal);
            return true;
        }
        let kept = Control::from_bits(self.control.bits() & !access.mask());
        let control = (kept | written) & Control::IRQ_ENABLE;
        if control == self.control {
            return false;
        }
        let was_enabled = self.irq_enabled();
        self.control = control;
        if self.control.contains(Control::IRQ_ENABLE) {
            self.faults.settle_disable();
        } else if was_enabled {
            self.post_disable(now, journal);
        }
        match (was_enabled, self.irq_enabled()) {
            (false, true) => self.tell(Kind::Enabled, 0, journal),
            (true, false) => self.silence(journal),
            _ => {}
        }
        self.sync_line(journal);
        if !was_enabled {
            self.wake_storm(now);
        }
        true
    }

    /// `IRQ_ENABLE` was cleared. If that is to take effect late, it is on its way from now on.
    fn post_disable(&mut self, now: u64, journal: Journal<'_>) {
        let Some(posted) = &mut self.faults.posted else { return };
        if posted.due.is_some() {
            return;
        }
        let spec = posted.spec;
        posted.due = Some(now.saturating_add(spec.delay_ns));
        self.statistics.misbehaviour.late_disables += 1;
        self.tell(Kind::Posted, spec.delay_ns, journal);
        for _ in 0..spec.samples {
            self.sample(Origin::LateDisable, journal);
        }
    }

    /// A clearing of `IRQ_ENABLE` that is on its way takes effect.
    fn disable_late(&mut self, journal: Journal<'_>) {
        if self.faults.disable_is_late() {
            self.faults.settle_disable();
            self.silence(journal);
            self.sync_line(journal);
        }
    }

    /// STATUS is written. Whether that may change what is to come.
    fn acknowledge(&mut self, written: Status, now: u64, journal: Journal<'_>) -> bool {
        let acknowledged = self.sample_ready() && written.contains(Status::SAMPLE_READY);
        self.status = self.status & !written;
        if !acknowledged {
            return false;
        }
        if self.outstanding {
            self.outstanding = false;
            self.statistics.serviced += 1;
            self.statistics.unload.on_service();
            self.tell(Kind::Serviced, 0, journal);
        }
        self.sync_line(journal);
        for running in self.storm.iter_mut().flatten() {
            running.acknowledged(now);
        }
        true
    }

    fn reset_registers(&mut self, journal: Journal<'_>) {
        self.tell(Kind::Reset, 0, journal);
        let was_enabled = self.irq_enabled();
        self.control = Control::default();
        self.faults.settle_disable();
        self.status = Status::default();
        self.fifo.clear();
        self.sequence = 0;
        self.outstanding = false;
        if was_enabled {
            self.silence(journal);
        }
        self.sync_line(journal);
        for running in self.storm.iter_mut().flatten() {
            running.forgotten();
        }
    }

    fn silence(&mut self, journal: Journal<'_>) {
        self.statistics.unload.on_silence();
        self.tell(Kind::Silenced, 0, journal);
    }

    /// Takes one sample.
    fn sample(&mut self, origin: Origin, journal: Journal<'_>) {
        self.statistics.fired += 1;
        self.tell(Kind::Fire, origin as u64, journal);
        self.sequence = self.sequence.wrapping_add(1);
        let has_place = self.fifo.level() < self.faults.places();
        if !(has_place && self.fifo.push(self.sequence)) {
            self.status |= Status::OVERRUN;
        }
        if !self.interrupts_pass() {
            self.statistics.suppressed += 1;
            self.tell(Kind::Suppressed, 0, journal);
        }
        if self.sample_ready() {
            self.statistics.coalesced += 1;
            self.tell(Kind::Coalesced, 0, journal);
        }
        self.status |= Status::SAMPLE_READY;
        self.sync_line(journal);
    }

    /// Lets the line follow the registers and what is wrong with it. The only place where it moves.
    fn sync_line(&mut self, journal: Journal<'_>) {
        let wanted = (self.sample_ready() || self.faults.pulse_is_high()) && self.irq_enabled();
        let level = self.faults.stuck_line.unwrap_or(wanted) && !self.faults.removed;
        if level == self.line {
            return;
        }
        self.line = level;
        let rose = level || self.line_change.is_some_and(|earlier| earlier.rose);
        self.line_change = Some(LineChange { level, rose });
        if level {
            self.outstanding = true;
            self.statistics.asserted += 1;
            self.statistics.unload.on_assert();
            self.tell(Kind::Assert, 0, journal);
        } else {
            self.tell(Kind::Deassert, 0, journal);
        }
    }

    /// The end of every call: what the emulator is to do.
    fn effects(&mut self, now: u64) -> Effects {
        let deadline = self.deadline();
        self.ending(deadline, now)
    }

    /// Ends an access: at once if what is ahead is `unchanged`, else with what has become due.
    fn end_access(&mut self, unchanged: Option<Ahead>, now: u64, journal: Journal<'_>) -> Effects {
        let Some(Ahead { due, .. }) = unchanged else { return self.settle(now, journal) };
        debug_assert!(self.line_change.is_none(), "what moves the line changes what is ahead");
        self.follow(now);
        Effects { line: None, deadline: (due != u64::MAX).then_some(due) }
    }

    /// Does what the call has made due, and ends it.
    #[inline(never)]
    fn settle(&mut self, now: u64, journal: Journal<'_>) -> Effects {
        let deadline = self.reach(now, journal);
        self.ending(deadline, now)
    }

    fn ending(&mut self, deadline: Option<u64>, now: u64) -> Effects {
        self.follow(now);
        let listens = self.storm.iter().flatten().any(Running::listens);
        self.ahead = Some(Ahead { due: deadline.unwrap_or(u64::MAX), listens });
        Effects { line: self.line_change.take(), deadline }
    }

    /// Does what has become due since the last call, at the beginning of the next. What is ahead, where that call still
    /// has it right.
    fn catch_up(&mut self, now: u64, journal: Journal<'_>) -> Option<Ahead> {
        let ahead = self.ahead.filter(|ahead| now < ahead.due);
        if ahead.is_none() {
            self.reach(now, journal);
        }
        ahead
    }

    /// The register that answers late may have changed, at `now`.
    fn follow(&mut self, now: u64) {
        let Some(register) = self.faults.latch.as_ref().map(|latch| latch.spec.register) else { return };
        let held = self.value_of(register);
        if let Some(latch) = &mut self.faults.latch {
            latch.follow(held, now);
        }
    }

    fn tell(&self, kind: Kind, value: u64, journal: Journal<'_>) {
        journal(Event { kind, offset: 0, size: 0, value, level: self.line });
    }

    fn tell_access(&self, kind: Kind, access: Access, value: u32, journal: Journal<'_>) {
        let (offset, size) = (u32::from(access.offset()), access.size());
        journal(Event { kind, offset, size, value: u64::from(value), level: self.line });
    }
}

#[cfg(test)]
mod tests;
