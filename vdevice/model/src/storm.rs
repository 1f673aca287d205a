//! The machine that presses the button: a schedule that is running.

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::random::SplitMix64;
use crate::schedule::{Direction, Pace, Schedule};

/// What a running schedule waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// The guest's acknowledgement.
    Acknowledgement,
    /// A virtual time, when a sample is due.
    Until(u64),
    /// Interrupts to pass again: the last sample was suppressed, or forgotten by a reset.
    Enable,
    /// The access that triggers it.
    Access,
}

/// What comes after a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Others; and so many bursts were missed on the way.
    More { missed: u64 },
    /// Nothing: it was the last one.
    End,
}

/// A running schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    pub(crate) schedule: Schedule,
    pub(crate) wait: Wait,
    taken: u64,
    /// Samples of the burst that was begun.
    in_burst: u64,
    /// Acknowledgements in the train that is under way.
    in_train: u64,
    /// Where the burst's period began.
    period_began: u64,
    random: SplitMix64,
}

impl Running {
    /// Starts a schedule.
    pub(crate) const fn new(schedule: Schedule, now: u64) -> Self {
        let wait = match schedule.pace {
            Pace::Acknowledgement { .. } | Pace::Period { .. } => Wait::Until(now),
            Pace::Access { .. } => Wait::Access,
        };
        let random = SplitMix64::new(schedule.seed);
        Self { schedule, wait, taken: 0, in_burst: 0, in_train: 0, period_began: now, random }
    }

    /// When the next sample is due, where that is known.
    pub(crate) const fn due(&self) -> Option<u64> {
        match self.wait {
            Wait::Until(due) => Some(due),
            Wait::Acknowledgement | Wait::Enable | Wait::Access => None,
        }
    }

    /// Whether it waits for an access.
    pub(crate) fn listens(&self) -> bool {
        self.wait == Wait::Access
    }

    /// The sample that was due at `due` has been taken at `now`. `passed` says whether interrupts get out.
    pub(crate) fn sampled(&mut self, due: u64, now: u64, passed: bool) -> Next {
        self.taken += 1;
        if self.taken == self.schedule.count {
            return Next::End;
        }
        self.in_burst += 1;
        let mut missed = 0;
        if self.in_burst < self.schedule.burst {
            self.wait = Wait::Until(due.saturating_add(self.schedule.burst_gap_ns));
        } else {
            self.in_burst = 0;
            self.wait = match self.schedule.pace {
                Pace::Acknowledgement { .. } if passed => Wait::Acknowledgement,
                Pace::Acknowledgement { .. } => Wait::Enable,
                Pace::Access { .. } => Wait::Access,
                Pace::Period { period_ns } => {
                    missed = self.begin_period(now, period_ns);
                    self.burst_at(self.period_began)
                }
            };
        }
        Next::More { missed }
    }

    /// Goes on to the next period, or if that has passed, to the first one that is still to come. Returns how
    /// many have passed.
    fn begin_period(&mut self, now: u64, period_ns: u64) -> u64 {
        let behind = now.saturating_sub(self.period_began) / period_ns;
        let next = period_ns.saturating_mul(behind + 1);
        self.period_began = self.period_began.saturating_add(next);
        behind
    }

    /// A burst begins at `time` and a jitter.
    fn burst_at(&mut self, time: u64) -> Wait {
        Wait::Until(time.saturating_add(self.random.up_to(self.schedule.jitter_ns)))
    }

    /// The guest has acknowledged a sample.
    pub(crate) fn acknowledged(&mut self, now: u64) {
        if let (Wait::Acknowledgement, Pace::Acknowledgement { gap_ns, train }) =
            (self.wait, self.schedule.pace)
        {
            self.in_train += 1;
            self.wait = if self.in_train < train {
                Wait::Until(now)
            } else {
                self.in_train = 0;
                self.burst_at(now.saturating_add(gap_ns))
            };
        }
    }

    /// The guest has accessed a register. Whether that was what the schedule waits for.
    pub(crate) fn accessed(&mut self, direction: Direction, access: Access, value: u32, now: u64) -> bool {
        if let (Wait::Access, Pace::Access { trigger, delay_ns }) = (self.wait, self.schedule.pace)
            && trigger.matches(direction, access, value)
        {
            self.wait = self.burst_at(now.saturating_add(delay_ns));
            return true;
        }
        false
    }

    /// Interrupts pass again. A sample that was suppressed has asserted the line just now, and will be
    /// acknowledged; where none waits, a new one is taken.
    pub(crate) fn enabled(&mut self, sample_waits: bool, now: u64) {
        if self.wait == Wait::Enable {
            self.wait = if sample_waits { Wait::Acknowledgement } else { Wait::Until(now) };
        }
    }

    /// A reset has forgotten the sample that waited. Nobody will acknowledge it.
    pub(crate) fn forgotten(&mut self) {
        if self.wait == Wait::Acknowledgement {
            self.wait = Wait::Enable;
        }
    }

    /// Whether a schedule can have come to this.
    pub(crate) fn is_sound(&self) -> bool {
        let Schedule { pace, burst, count, .. } = self.schedule;
        let (waits, train) = match pace {
            Pace::Acknowledgement { train, .. } => (self.wait != Wait::Access, train),
            Pace::Period { .. } => (matches!(self.wait, Wait::Until(_)), 1),
            Pace::Access { .. } => (matches!(self.wait, Wait::Until(_) | Wait::Access), 1),
        };
        waits && self.in_train < train && self.in_burst < burst && (count == 0 || self.taken < count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(pace: Pace, jitter_ns: u64) -> Running {
        Running::new(Schedule { pace, jitter_ns, burst: 1, burst_gap_ns: 0, count: 0, seed: 0 }, 0)
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let mut running = running(Pace::Acknowledgement { gap_ns: 5, train: 1 }, 5);
        running.wait = Wait::Acknowledgement;
        running.acknowledged(u64::MAX - 1);
        assert_eq!(running.due(), Some(u64::MAX));
    }

    #[test]
    fn a_train_goes_at_once_and_the_next_one_after_the_gap() {
        let mut running = running(Pace::Acknowledgement { gap_ns: 100, train: 3 }, 0);
        let mut now = 0;
        for begin in [0, 0, 0, 100, 100, 100, 200] {
            assert_eq!(running.due(), Some(begin));
            now = now.max(begin);
            assert_eq!(running.sampled(begin, now, true), Next::More { missed: 0 });
            assert_eq!(running.due(), None);
            running.acknowledged(now);
        }
    }

    #[test]
    fn a_period_that_has_passed_is_missed_and_the_grid_stays() {
        let mut running = running(Pace::Period { period_ns: 1000 }, 0);
        assert_eq!(running.sampled(0, 0, true), Next::More { missed: 0 });
        assert_eq!(running.due(), Some(1000));
        assert_eq!(running.sampled(1000, 1999, true), Next::More { missed: 0 });
        assert_eq!(running.due(), Some(2000));
        assert_eq!(running.sampled(2000, 5000, true), Next::More { missed: 3 });
        assert_eq!(running.due(), Some(6000));
    }

    #[test]
    fn jitter_moves_a_burst_and_not_the_grid() {
        let mut running = running(Pace::Period { period_ns: 1000 }, 500);
        for n in 1..100 {
            let due = running.due().unwrap();
            assert_eq!(running.sampled(due, due, true), Next::More { missed: 0 });
            assert!((n * 1000..=n * 1000 + 500).contains(&running.due().unwrap()));
        }
    }
}
