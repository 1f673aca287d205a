//! The card: registers, FIFO, line, and the storm that plays on them.

use serde::{Deserialize, Serialize};
use squall_registers::{Control, IDENT, Register, Status};

use crate::access::{Access, Refused};
use crate::counters::Statistics;
use crate::effects::{Effects, LineChange};
use crate::event::{Event, Kind, Origin};
use crate::fifo::Fifo;
use crate::saved;
use crate::storm::{Storm, StormSpec, StormSpecError, Wait};

/// Where events go.
type Journal<'a> = &'a mut dyn FnMut(Event);

/// A sampling card. The [crate]'s documentation says who calls what.
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

    // The bench's side, which a reset leaves alone.
    storm: Option<Storm>,
    statistics: Statistics,
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
            storm: None,
            statistics: Statistics::default(),
        }
    }

    /// A processor reads `size` bytes at `offset`. No read moves the line.
    ///
    /// # Errors
    /// [`Refused`] where the window does not answer; the bus then floats high.
    pub fn read(&mut self, offset: u64, size: u32, journal: Journal<'_>) -> Result<u32, Refused> {
        let access = self.admit(offset, size, 0, journal)?;
        let register = match access.register() {
            Some(Register::Ident) => IDENT,
            Some(Register::Control) => self.control.bits(),
            Some(Register::Status) => self.status.bits(),
            Some(Register::FifoData) => self.fifo.peek().unwrap_or(0),
            Some(Register::FifoLevel) => self.fifo.level(),
            Some(Register::Sequence) => self.sequence,
            None => 0,
        };
        if access.register() == Some(Register::FifoData) && access.has_low_byte() {
            self.fifo.pop();
        }
        let value = access.extract(register);
        self.statistics.reads += 1;
        self.tell_access(Kind::Read, access, value, journal);
        Ok(value)
    }

    /// A processor writes the low `size` bytes of `value` at `offset`, at virtual time `now`.
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
        let value = access.extract(access.place(value as u32));
        self.statistics.writes += 1;
        self.tell_access(Kind::Write, access, value, journal);
        match access.register() {
            Some(Register::Control) => self.write_control(access, value, journal),
            Some(Register::Status) => self.acknowledge(Status::from_bits(access.place(value)), now, journal),
            _ => {}
        }
        Ok(self.effects())
    }

    /// The bench takes `samples` samples.
    pub fn fire(&mut self, samples: u64, journal: Journal<'_>) -> Effects {
        for _ in 0..samples {
            self.sample(Origin::Demand, journal);
        }
        self.effects()
    }

    /// The bench starts a storm, in place of any other. The first sample is taken at once.
    ///
    /// # Errors
    /// [`StormSpecError`] where a value is out of range; the card is then unchanged.
    pub fn start_storm(&mut self, spec: StormSpec, journal: Journal<'_>) -> Result<Effects, StormSpecError> {
        spec.check()?;
        self.end_storm(journal);
        self.tell(Kind::Storm, 1, journal);
        self.storm = Some(Storm::new(spec));
        self.storm_sample(journal);
        Ok(self.effects())
    }

    /// The bench stops the storm, if there is one.
    pub fn stop_storm(&mut self, journal: Journal<'_>) -> Effects {
        self.end_storm(journal);
        self.effects()
    }

    /// The card was restored: its journal is told so, and the emulator learns of the deadline. The line does
    /// not move, since what hangs on it was restored as well.
    pub fn restored(&mut self, journal: Journal<'_>) -> Effects {
        self.tell(Kind::Restored, 0, journal);
        self.effects()
    }

    /// The storm that is running.
    #[must_use]
    pub fn storm(&self) -> Option<StormSpec> {
        self.storm.as_ref().map(|storm| storm.spec)
    }

    /// Virtual time has reached `now`. Called too early, it changes nothing.
    pub fn time_reached(&mut self, now: u64, journal: Journal<'_>) -> Effects {
        if self.deadline().is_some_and(|due| due <= now) {
            self.storm_sample(journal);
        }
        self.effects()
    }

    /// The machine is reset: the same as writing [`Control::RESET`].
    pub fn reset(&mut self, journal: Journal<'_>) -> Effects {
        self.reset_registers(journal);
        self.effects()
    }

    /// A processor is about to execute Unload's first instruction, at `address`. With `fire`, a sample is
    /// taken there.
    pub fn enter_unload(&mut self, address: u64, fire: bool, journal: Journal<'_>) -> Effects {
        self.statistics.unload.enter(self.irq_enabled(), self.outstanding);
        self.tell(Kind::UnloadEnter, address, journal);
        if fire {
            self.sample(Origin::Watch, journal);
        }
        self.effects()
    }

    /// A processor has returned from Unload to `address`. Nothing happens if none was inside.
    pub fn leave_unload(&mut self, address: u64, journal: Journal<'_>) -> Effects {
        if self.statistics.unload.leave() {
            self.tell(Kind::UnloadLeave, address, journal);
        }
        self.effects()
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

    fn irq_enabled(&self) -> bool {
        self.control.contains(Control::IRQ_ENABLE)
    }

    fn sample_ready(&self) -> bool {
        self.status.contains(Status::SAMPLE_READY)
    }

    fn admit(&mut self, offset: u64, size: u32, value: u64, journal: Journal<'_>) -> Result<Access, Refused> {
        Access::new(offset, size).inspect_err(|refused| {
            let offset = u32::try_from(refused.offset).unwrap_or(u32::MAX);
            let size = u8::try_from(refused.size).unwrap_or(u8::MAX);
            journal(Event { kind: Kind::Refused, offset, size, value, level: self.line });
        })
    }

    fn write_control(&mut self, access: Access, value: u32, journal: Journal<'_>) {
        let written = Control::from_bits(access.place(value));
        if written.contains(Control::RESET) {
            self.reset_registers(journal);
            return;
        }
        let was_enabled = self.irq_enabled();
        let kept = Control::from_bits(self.control.bits() & !access.mask());
        self.control = (kept | written) & Control::IRQ_ENABLE;
        match (was_enabled, self.irq_enabled()) {
            (false, true) => self.tell(Kind::Enabled, 0, journal),
            (true, false) => self.silence(journal),
            _ => {}
        }
        self.sync_line(journal);
        if !was_enabled && self.irq_enabled() {
            self.wake_storm(journal);
        }
    }

    fn acknowledge(&mut self, written: Status, now: u64, journal: Journal<'_>) {
        let acknowledged = self.sample_ready() && written.contains(Status::SAMPLE_READY);
        self.status = self.status & !written;
        if !acknowledged {
            return;
        }
        if self.outstanding {
            self.outstanding = false;
            self.statistics.serviced += 1;
            self.statistics.unload.on_service();
            self.tell(Kind::Serviced, 0, journal);
        }
        self.sync_line(journal);
        if let Some(storm) = &mut self.storm
            && storm.wait == Wait::Acknowledgement
        {
            let due = storm.next_due(now);
            storm.wait = Wait::Until(due);
            if due <= now {
                self.storm_sample(journal);
            }
        }
    }

    fn reset_registers(&mut self, journal: Journal<'_>) {
        self.tell(Kind::Reset, 0, journal);
        let was_enabled = self.irq_enabled();
        self.control = Control::default();
        self.status = Status::default();
        self.fifo.clear();
        self.sequence = 0;
        self.outstanding = false;
        if was_enabled {
            self.silence(journal);
        }
        self.sync_line(journal);
        // Nobody will acknowledge what the reset forgot.
        if let Some(storm) = &mut self.storm
            && storm.wait == Wait::Acknowledgement
        {
            storm.wait = Wait::Enable;
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
        if !self.fifo.push(self.sequence) {
            self.status |= Status::OVERRUN;
        }
        if !self.irq_enabled() {
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

    /// Takes the storm's next sample and decides what it waits for then.
    fn storm_sample(&mut self, journal: Journal<'_>) {
        self.sample(Origin::Storm, journal);
        let enabled = self.irq_enabled();
        let Some(storm) = &mut self.storm else { return };
        storm.wait = if enabled { Wait::Acknowledgement } else { Wait::Enable };
        if storm.take() {
            self.end_storm(journal);
        }
    }

    /// `IRQ_ENABLE` was set. A sample that was suppressed has asserted the line just now, and will be
    /// acknowledged; where none is left, the storm takes a new one.
    fn wake_storm(&mut self, journal: Journal<'_>) {
        let ready = self.sample_ready();
        let Some(storm) = &mut self.storm else { return };
        if storm.wait != Wait::Enable {
            return;
        }
        storm.wait = Wait::Acknowledgement;
        if !ready {
            self.storm_sample(journal);
        }
    }

    fn end_storm(&mut self, journal: Journal<'_>) {
        if self.storm.take().is_some() {
            self.tell(Kind::Storm, 0, journal);
        }
    }

    /// Lets the line follow the registers. The only place where it moves.
    fn sync_line(&mut self, journal: Journal<'_>) {
        let level = self.sample_ready() && self.irq_enabled();
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

    fn deadline(&self) -> Option<u64> {
        match self.storm.as_ref()?.wait {
            Wait::Until(due) => Some(due),
            Wait::Acknowledgement | Wait::Enable => None,
        }
    }

    fn effects(&mut self) -> Effects {
        Effects { line: self.line_change.take(), deadline: self.deadline() }
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
