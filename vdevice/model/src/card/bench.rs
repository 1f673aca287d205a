//! The bench's side of the card: what it asks for, and what becomes due by itself.

use super::{Card, Journal};
use crate::effects::Effects;
use crate::event::{Kind, Origin};
use crate::faults::Faults;
use crate::misbehaviour::{Misbehaviour, MisbehaviourError};
use crate::schedule::{MAX_SCHEDULES, Schedule, StormError};
use crate::storm::{Next, Running};

/// What can become due.
#[derive(Clone, Copy)]
enum Alarm {
    /// A clearing of `IRQ_ENABLE` takes effect.
    Disable,
    /// The line rises or falls for no reason.
    Pulse,
    /// The schedule of that number takes a sample.
    Sample(usize),
}

impl Card {
    /// The bench takes `samples` samples.
    pub fn fire(&mut self, samples: u64, now: u64, journal: Journal<'_>) -> Effects {
        self.reach(now, journal);
        for _ in 0..samples {
            self.sample(Origin::Demand, journal);
        }
        self.effects(now)
    }

    /// The bench starts a storm, in place of any other.
    ///
    /// # Errors
    /// [`StormError`] where it cannot be; the card is then unchanged.
    pub fn start_storm(
        &mut self,
        schedules: &[Schedule],
        now: u64,
        journal: Journal<'_>,
    ) -> Result<Effects, StormError> {
        if !(1..=MAX_SCHEDULES).contains(&schedules.len()) {
            return Err(StormError::Schedules(schedules.len()));
        }
        schedules.iter().try_for_each(Schedule::check)?;
        self.reach(now, journal);
        self.end_storm(journal);
        self.tell(Kind::Storm, 1, journal);
        for (place, schedule) in self.storm.iter_mut().zip(schedules) {
            *place = Some(Running::new(*schedule, now));
        }
        self.reach(now, journal);
        Ok(self.effects(now))
    }

    /// The bench stops the storm, if there is one.
    pub fn stop_storm(&mut self, now: u64, journal: Journal<'_>) -> Effects {
        self.reach(now, journal);
        self.end_storm(journal);
        self.effects(now)
    }

    /// The schedules that are running.
    pub fn storm(&self) -> impl Iterator<Item = Schedule> {
        self.storm.iter().flatten().map(|running| running.schedule)
    }

    /// The bench has the card do this wrong from now on, and nothing else.
    ///
    /// # Errors
    /// [`MisbehaviourError`] where a value is out of range; the card is then unchanged.
    pub fn misbehave(
        &mut self,
        wanted: Misbehaviour,
        now: u64,
        journal: Journal<'_>,
    ) -> Result<Effects, MisbehaviourError> {
        wanted.check()?;
        self.reach(now, journal);
        let nothing = Misbehaviour::default();
        if (self.misbehaviour(), wanted) != (nothing, nothing) {
            self.tell(Kind::Misbehave, wanted.bits(), journal);
        }
        let passed = self.interrupts_pass();
        let disable_due = self.faults.disable_due();
        self.faults = Faults::new(wanted, now, |late| self.value_of(late.register));
        match (&mut self.faults.posted, disable_due) {
            (Some(posted), due) => posted.due = due,
            (None, Some(_)) => self.silence(journal),
            (None, None) => {}
        }
        self.sync_line(journal);
        if !passed {
            self.wake_storm(now);
        }
        self.reach(now, journal);
        Ok(self.effects(now))
    }

    /// What the card does wrong.
    #[must_use]
    pub fn misbehaviour(&self) -> Misbehaviour {
        self.faults.wanted()
    }

    /// The card was restored: its journal is told so, and the emulator learns of the deadline. The line does
    /// not move, since what hangs on it was restored as well.
    pub fn restored(&mut self, journal: Journal<'_>) -> Effects {
        self.tell(Kind::Restored, 0, journal);
        Effects { line: None, deadline: self.deadline() }
    }

    /// A processor is about to execute Unload's first instruction, at `address`. With `fire`, a sample is
    /// taken there.
    pub fn enter_unload(&mut self, address: u64, fire: bool, now: u64, journal: Journal<'_>) -> Effects {
        self.reach(now, journal);
        self.statistics.unload.enter(self.irq_enabled(), self.outstanding);
        self.tell(Kind::UnloadEnter, address, journal);
        if fire {
            self.sample(Origin::Watch, journal);
        }
        self.effects(now)
    }

    /// A processor has returned from Unload to `address`. Nothing happens if none was inside.
    pub fn leave_unload(&mut self, address: u64, now: u64, journal: Journal<'_>) -> Effects {
        self.reach(now, journal);
        if self.statistics.unload.leave() {
            self.tell(Kind::UnloadLeave, address, journal);
        }
        self.effects(now)
    }

    /// Does what has become due by `now`, in the order of its time. Returns when something is due next.
    pub(super) fn reach(&mut self, now: u64, journal: Journal<'_>) -> Option<u64> {
        // The end of time is where what does not come is put.
        let now = now.min(u64::MAX - 1);
        loop {
            let (due, alarm) = self.next_alarm()?;
            if due > now {
                return Some(due);
            }
            match alarm {
                Alarm::Disable => self.disable_late(journal),
                Alarm::Pulse => self.pulse(now, journal),
                Alarm::Sample(number) => self.storm_sample(number, due, now, journal),
            }
            self.follow(due);
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.next_alarm().map(|(due, _)| due)
    }

    /// What is due next, and when. Of what is due at once, the clearing of `IRQ_ENABLE` comes first, then the
    /// spurious interrupt, then the schedules in their order.
    fn next_alarm(&self) -> Option<(u64, Alarm)> {
        // Written out, as every access of the guest's asks.
        let mut next = self.faults.disable_due().map(|due| (due, Alarm::Disable));
        let mut offer = |due: Option<u64>, alarm: Alarm| {
            if let Some(due) = due
                && next.is_none_or(|(earliest, _)| due < earliest)
            {
                next = Some((due, alarm));
            }
        };
        if let Some(pulses) = &self.faults.pulses {
            offer(Some(pulses.due()), Alarm::Pulse);
        }
        for (number, running) in self.storm.iter().enumerate() {
            if let Some(running) = running {
                offer(running.due(), Alarm::Sample(number));
            }
        }
        next
    }

    fn pulse(&mut self, now: u64, journal: Journal<'_>) {
        let passes = self.interrupts_pass();
        let Some(pulses) = &mut self.faults.pulses else { return };
        if pulses.turn(now, passes) {
            self.statistics.misbehaviour.spurious += 1;
            self.tell(Kind::Spurious, 0, journal);
        }
        self.sync_line(journal);
    }

    /// A schedule takes the sample that was due at `due`, and waits for its next.
    fn storm_sample(&mut self, number: usize, due: u64, now: u64, journal: Journal<'_>) {
        self.sample(Origin::Storm, journal);
        let passed = self.interrupts_pass();
        let Some(running) = &mut self.storm[number] else { return };
        match running.sampled(due, now, passed) {
            Next::More { missed } => self.statistics.missed += missed,
            Next::End => {
                self.storm[number] = None;
                if self.storm.iter().all(Option::is_none) {
                    self.tell(Kind::Storm, 0, journal);
                }
            }
        }
    }

    /// Interrupts may pass again.
    pub(super) fn wake_storm(&mut self, now: u64) {
        if !self.interrupts_pass() {
            return;
        }
        let sample_waits = self.sample_ready();
        for running in self.storm.iter_mut().flatten() {
            running.enabled(sample_waits, now);
        }
    }

    fn end_storm(&mut self, journal: Journal<'_>) {
        if self.storm.iter().any(Option::is_some) {
            self.storm = [const { None }; MAX_SCHEDULES];
            self.tell(Kind::Storm, 0, journal);
        }
    }
}
