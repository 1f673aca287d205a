//! What is done to a card, read from bytes that mean nothing: any bytes are some sequence of steps.
//!
//! The choices lean towards what matters. Most accesses are whole registers, most times are short, most
//! schedules can be.

use squall_model::{Direction, LateDisable, LateRegister, Misbehaviour, Pace, Schedule, Spurious, Trigger};
use squall_registers::Register;

/// Something done to a card.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        size: u32,
        value: u64,
    },
    Fire(u64),
    Storm(Vec<Schedule>),
    Calm,
    Misbehave(Misbehaviour),
    /// Time passes, and the card is told.
    Time(u64),
    /// Time passes, and the card will see.
    Unseen(u64),
    /// Time passes until something is due.
    Deadline,
    Reset,
    Enter(bool),
    Leave,
    /// The card is saved and restored.
    Reload,
}

/// Bytes to choose by; zeroes once they are used up.
pub(crate) struct Dice<'a> {
    bytes: &'a [u8],
}

impl<'a> Dice<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *byte
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `end`, which is at most 256.
    fn below(&mut self, end: u64) -> u64 {
        u64::from(self.byte()) % end
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == chances - 1
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn size(&mut self) -> u32 {
        self.pick(&[4, 4, 4, 4, 4, 4, 4, 1, 1, 2, 2, 0, 3, 8])
    }

    fn offset(&mut self) -> u64 {
        match self.below(16) {
            0 => self.word(),
            1..4 => self.below(40),
            _ => self.below(8) * 4,
        }
    }

    fn value(&mut self) -> u64 {
        match self.below(16) {
            0 => 0x8000_0000,
            1..3 => self.word(),
            _ => self.below(4),
        }
    }

    fn register(&mut self) -> Register {
        self.pick(&Register::ALL)
    }

    /// A duration that can be, mostly.
    fn duration(&mut self) -> u64 {
        match self.below(32) {
            0 => self.word(),
            1..4 => 1_000_000_000 + self.below(2),
            4..12 => 0,
            12..24 => self.below(4) * 10,
            _ => 1000 + self.below(256) * 10,
        }
    }

    fn schedule(&mut self) -> Schedule {
        let pace = match self.below(3) {
            0 => {
                let train = self.pick(&[1, 1, 1, 2, 3, 1000, 1001, 0]);
                Pace::Acknowledgement { gap_ns: self.duration(), train }
            }
            1 => Pace::Period { period_ns: 999 + self.below(256) * 7 },
            _ => {
                let register = self.register();
                let direction = self.pick(&[Direction::Read, Direction::Write]);
                let mask = self.pick(&[0, 0, 1, 1, 3, 0x0100_0001]);
                let value = self.value() as u32;
                let value = if self.one_in(8) { value } else { value & mask };
                let trigger = Trigger { register, direction, mask, value };
                Pace::Access { trigger, delay_ns: self.duration() }
            }
        };
        let periodic = matches!(pace, Pace::Period { .. });
        let jitter_ns = if periodic { self.below(256) * 4 } else { self.duration() };
        let burst = self.pick(&[1, 1, 1, 1, 2, 3, 70, 1000, 1001, 0]);
        let burst_gap_ns = if periodic { self.pick(&[0, 1, 100]) } else { self.duration() };
        Schedule { pace, jitter_ns, burst, burst_gap_ns, count: self.below(8), seed: self.below(256) }
    }

    fn misbehaviour(&mut self) -> Misbehaviour {
        let which = self.byte();
        let on = |bit: u8| which >> bit & 1 != 0;
        // One at a time is what is asked for mostly.
        let all = which & 0x80 != 0;
        let only = which % 7;
        let has = |number: u8| if all { on(number) } else { only == number };
        Misbehaviour {
            stuck_line: has(0).then(|| self.one_in(2)),
            late_disable: has(1).then(|| LateDisable {
                delay_ns: self.duration(),
                samples: self.pick(&[0, 1, 1, 1, 2, 1001]),
                read_flushes: self.one_in(2),
            }),
            spurious: has(2).then(|| Spurious {
                period_ns: 999 + self.below(256) * 7,
                width_ns: self.pick(&[0, 1, 100, 999, 1000, 2000]),
            }),
            fifo_places: has(3).then(|| self.pick(&[0, 1, 5, 64, 65])),
            removed: has(4),
            late_register: has(5).then(|| LateRegister {
                register: self.register(),
                delay_ns: self.duration(),
                reads: self.pick(&[0, 0, 1, 2, 3, 1001]),
            }),
        }
    }

    /// Time that passes. It is bounded, so that no sequence comes to the end of time.
    fn passing(&mut self) -> u64 {
        match self.below(16) {
            0 => 1_000_000 * self.below(256),
            1..6 => 500 * self.below(16),
            _ => self.below(40),
        }
    }
}

impl Iterator for Dice<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.bytes.is_empty() {
            return None;
        }
        Some(match self.below(40) {
            0..7 => Step::Read { offset: self.offset(), size: self.size() },
            7..10 => Step::Write { offset: self.offset(), size: self.size(), value: self.value() },
            10..14 => Step::Write { offset: 4, size: 4, value: self.below(2) },
            14..20 => Step::Write { offset: 8, size: 4, value: 1 },
            20 => Step::Fire(self.below(70)),
            21..23 => Step::Fire(1),
            23..25 => Step::Storm(vec![self.schedule()]),
            25 => {
                let schedules = self.below(6);
                Step::Storm((0..schedules).map(|_| self.schedule()).collect())
            }
            26 => Step::Calm,
            27..30 => Step::Misbehave(self.misbehaviour()),
            30 => Step::Misbehave(Misbehaviour::default()),
            31..33 => Step::Time(self.passing()),
            33 => Step::Unseen(self.passing()),
            34..36 => Step::Deadline,
            36 => Step::Reset,
            37 => Step::Enter(self.one_in(2)),
            38 => Step::Leave,
            _ => Step::Reload,
        })
    }
}
