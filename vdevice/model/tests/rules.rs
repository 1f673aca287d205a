//! The card against a second statement of its rules.
//!
//! The card keeps counters and flags up to date as it goes. The [`Rules`] keep a history and look everything
//! up in it: bytes instead of masks, a list of interrupts with a beginning and an end instead of counters.
//! They are slow, and short enough to be read beside `docs/joints.md`. Random sequences of accesses, fires,
//! storms, resets and marks must find no difference.

use proptest::prelude::*;
use squall_model::{Card, Effects, Statistics, StormSpec, UnloadWindow};

/// An interrupt: from the line's rise to its acknowledgement, to a reset, or to the next rise.
struct Interrupt {
    begun: u64,
    ended: Option<u64>,
    serviced: bool,
}

/// What a storm waits for.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Acknowledgement,
    Time(u64),
    Enable,
}

#[derive(Default)]
struct Rules {
    enabled: bool,
    ready: bool,
    overrun: bool,
    fifo: Vec<u32>,
    sequence: u32,

    /// A clock that ticks with everything that happens.
    tick: u64,
    interrupts: Vec<Interrupt>,
    entries: Vec<u64>,
    leaves: Vec<u64>,
    silences: Vec<u64>,
    enabled_at_entry: bool,

    storm: Option<(StormSpec, u64, Pace)>,
    fired: u64,
    suppressed: u64,
    coalesced: u64,
    reads: u64,
    writes: u64,
}

impl Rules {
    fn line(&self) -> bool {
        self.ready && self.enabled
    }

    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn image(&self) -> [u8; 32] {
        let status = u32::from(self.ready) + 2 * u32::from(self.overrun);
        let oldest = self.fifo.first().copied().unwrap_or(0);
        let words = [
            0x4C4C_5153,
            u32::from(self.enabled),
            status,
            oldest,
            self.fifo.len() as u32,
            self.sequence,
            0,
            0,
        ];
        let mut image = [0; 32];
        for (bytes, word) in image.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        image
    }

    fn answers(offset: u64, size: u32) -> bool {
        [1, 2, 4].contains(&size) && offset.is_multiple_of(u64::from(size)) && offset < 32
    }

    fn read(&mut self, offset: u64, size: u32) -> Option<u32> {
        if !Self::answers(offset, size) {
            return None;
        }
        self.reads += 1;
        let (begin, len) = (offset as usize, size as usize);
        let mut value = [0; 4];
        value[..len].copy_from_slice(&self.image()[begin..begin + len]);
        if begin == 12 && !self.fifo.is_empty() {
            self.fifo.remove(0);
        }
        Some(u32::from_le_bytes(value))
    }

    fn write(&mut self, offset: u64, size: u32, value: u64, now: u64) -> bool {
        if !Self::answers(offset, size) {
            return false;
        }
        self.writes += 1;
        let written = |register: u64, byte: u64| {
            let at = (register + byte).checked_sub(offset).filter(|at| *at < u64::from(size));
            at.map(|at| value.to_le_bytes()[at as usize])
        };
        if written(4, 3).is_some_and(|byte| byte & 0x80 != 0) {
            self.reset();
        } else if let Some(byte) = written(4, 0) {
            self.enable(byte & 1 != 0);
        }
        if let Some(byte) = written(8, 0) {
            self.overrun &= byte & 2 == 0;
            if byte & 1 != 0 {
                self.acknowledge(now);
            }
        }
        true
    }

    fn enable(&mut self, enabled: bool) {
        let (was_enabled, was_line) = (self.enabled, self.line());
        self.enabled = enabled;
        if was_enabled && !enabled {
            let tick = self.tick();
            self.silences.push(tick);
        }
        self.risen(was_line);
        if let Some((_, _, pace)) = &mut self.storm
            && *pace == Pace::Enable
            && enabled
            && !was_enabled
        {
            *pace = Pace::Acknowledgement;
            if !self.ready {
                self.gust();
            }
        }
    }

    fn acknowledge(&mut self, now: u64) {
        if !std::mem::take(&mut self.ready) {
            return;
        }
        self.finish(true);
        if let Some((spec, _, pace)) = &mut self.storm
            && *pace == Pace::Acknowledgement
        {
            *pace = Pace::Time(now + spec.gap_ns);
            if spec.gap_ns == 0 {
                self.gust();
            }
        }
    }

    fn reset(&mut self) {
        if self.enabled {
            let tick = self.tick();
            self.silences.push(tick);
        }
        (self.enabled, self.ready, self.overrun, self.sequence) = (false, false, false, 0);
        self.fifo.clear();
        self.finish(false);
        if let Some((_, _, pace)) = &mut self.storm
            && *pace == Pace::Acknowledgement
        {
            *pace = Pace::Enable;
        }
    }

    fn sample(&mut self) {
        self.fired += 1;
        self.suppressed += u64::from(!self.enabled);
        self.coalesced += u64::from(self.ready);
        self.sequence = self.sequence.wrapping_add(1);
        if self.fifo.len() < 64 {
            self.fifo.push(self.sequence);
        } else {
            self.overrun = true;
        }
        let was_line = self.line();
        self.ready = true;
        self.risen(was_line);
    }

    /// The storm's next sample.
    fn gust(&mut self) {
        self.sample();
        let enabled = self.enabled;
        if let Some((spec, taken, pace)) = &mut self.storm {
            *taken += 1;
            *pace = if enabled { Pace::Acknowledgement } else { Pace::Enable };
            if *taken == spec.count {
                self.storm = None;
            }
        }
    }

    fn time(&mut self, now: u64) {
        if self.deadline().is_some_and(|due| due <= now) {
            self.gust();
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self.storm {
            Some((_, _, Pace::Time(due))) => Some(due),
            _ => None,
        }
    }

    fn risen(&mut self, was_line: bool) {
        if self.line() && !was_line {
            self.finish(false);
            let begun = self.tick();
            self.interrupts.push(Interrupt { begun, ended: None, serviced: false });
        }
    }

    fn finish(&mut self, serviced: bool) {
        let tick = self.tick();
        if let Some(last) = self.interrupts.last_mut().filter(|last| last.ended.is_none()) {
            last.ended = Some(tick);
            last.serviced = serviced;
        }
    }

    fn enter(&mut self, fire: bool) {
        let tick = self.tick();
        self.entries.push(tick);
        self.enabled_at_entry = self.enabled;
        if fire {
            self.sample();
        }
    }

    fn leave(&mut self) {
        if self.inside() {
            let tick = self.tick();
            self.leaves.push(tick);
        }
    }

    fn inside(&self) -> bool {
        self.entries.last() > self.leaves.last()
    }

    fn unload(&self) -> UnloadWindow {
        let Some(&entry) = self.entries.last() else { return UnloadWindow::default() };
        let after = |ticks: &[u64]| ticks.iter().copied().find(|tick| *tick > entry);
        let leave = after(&self.leaves).unwrap_or(u64::MAX);
        let silence = if self.enabled_at_entry { after(&self.silences).unwrap_or(u64::MAX) } else { entry };
        let within = |tick: u64, end: u64| entry < tick && tick < end;
        let count = |chosen: &dyn Fn(&Interrupt) -> bool| {
            self.interrupts.iter().filter(|interrupt| chosen(interrupt)).count() as u64
        };
        UnloadWindow {
            entered: self.entries.len() as u64,
            left: self.leaves.len() as u64,
            asserted: count(&|i| within(i.begun, leave)),
            serviced: count(&|i| i.serviced && i.ended.is_some_and(|ended| within(ended, leave))),
            before_silence: count(&|i| {
                i.begun < silence && i.ended.is_none_or(|ended| ended > entry) && silence != entry
            }),
            silenced: silence != u64::MAX,
            inside: self.inside(),
        }
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            fired: self.fired,
            asserted: self.interrupts.len() as u64,
            suppressed: self.suppressed,
            coalesced: self.coalesced,
            serviced: self.interrupts.iter().filter(|interrupt| interrupt.serviced).count() as u64,
            fifo_level: self.fifo.len() as u32,
            irq_enabled: self.enabled,
            line: self.line(),
            reads: self.reads,
            writes: self.writes,
            unload: self.unload(),
        }
    }
}

/// Something done to a card.
#[derive(Clone, Debug)]
enum Step {
    Read { offset: u64, size: u32 },
    Write { offset: u64, size: u32, value: u64 },
    Fire(u64),
    Storm { gap_ns: u64, count: u64 },
    Calm,
    Time(u64),
    Reset,
    Enter(bool),
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => Just(4u32), 2 => Just(1), 2 => Just(2), 1 => 0..9u32];
    let offset = prop_oneof![8 => (0..8u64).prop_map(|n| n * 4), 2 => 0..40u64, 1 => any::<u64>()];
    let value = prop_oneof![6 => 0..4u64, 1 => Just(0x8000_0000), 2 => any::<u64>()];
    prop_oneof![
        4 => (offset.clone(), size.clone()).prop_map(|(offset, size)| Step::Read { offset, size }),
        2 => (offset, size, value).prop_map(|(offset, size, value)| Step::Write { offset, size, value }),
        2 => (0..2u64).prop_map(|value| Step::Write { offset: 4, size: 4, value }),
        4 => Just(Step::Write { offset: 8, size: 4, value: 1 }),
        3 => prop_oneof![3 => Just(1u64), 1 => 1..70u64].prop_map(Step::Fire),
        1 => (0..3u64, 0..6u64).prop_map(|(gap, count)| Step::Storm { gap_ns: gap * 10, count }),
        1 => Just(Step::Calm),
        4 => (0..30u64).prop_map(Step::Time),
        1 => Just(Step::Reset),
        1 => any::<bool>().prop_map(Step::Enter),
        1 => Just(Step::Leave),
    ]
}

/// Does a step to both, and compares everything that can be seen of them.
fn do_both(card: &mut Card, rules: &mut Rules, now: &mut u64, step: &Step) -> Result<(), TestCaseError> {
    let quiet = &mut |_| {};
    let before = rules.statistics();
    let unmoved = Effects { line: None, deadline: rules.deadline() };
    let effects = match *step {
        Step::Read { offset, size } => {
            prop_assert_eq!(card.read(offset, size, quiet).ok(), rules.read(offset, size));
            unmoved
        }
        Step::Write { offset, size, value } => {
            let effects = card.write(offset, size, value, *now, quiet).ok();
            prop_assert_eq!(effects.is_some(), rules.write(offset, size, value, *now));
            effects.unwrap_or(unmoved)
        }
        Step::Fire(samples) => {
            (0..samples).for_each(|_| rules.sample());
            card.fire(samples, quiet)
        }
        Step::Storm { gap_ns, count } => {
            let spec = StormSpec { gap_ns, jitter_ns: 0, count, seed: 1 };
            rules.storm = Some((spec, 0, Pace::Enable));
            rules.gust();
            card.start_storm(spec, quiet).map_err(|error| TestCaseError::fail(error.to_string()))?
        }
        Step::Calm => {
            rules.storm = None;
            card.stop_storm(quiet)
        }
        Step::Time(passed) => {
            *now += passed;
            rules.time(*now);
            card.time_reached(*now, quiet)
        }
        Step::Reset => {
            rules.reset();
            card.reset(quiet)
        }
        Step::Enter(fire) => {
            rules.enter(fire);
            card.enter_unload(0x1000, fire, quiet)
        }
        Step::Leave => {
            rules.leave();
            card.leave_unload(0x2000, quiet)
        }
    };
    let after = rules.statistics();
    prop_assert_eq!(card.statistics(), after);
    prop_assert_eq!(effects.deadline, rules.deadline());
    prop_assert_eq!(card.storm(), rules.storm.map(|(spec, _, _)| spec));
    match effects.line {
        Some(change) => {
            prop_assert_eq!((change.level, change.rose), (after.line, after.asserted > before.asserted));
        }
        None => prop_assert_eq!((before.line, before.asserted), (after.line, after.asserted)),
    }
    // A look at every register, without taking anything out of the card itself.
    let mut copy = card.clone();
    let seen: Vec<u8> =
        (0..32).filter_map(|at| copy.read(at, 1, quiet).ok()).map(|byte| byte as u8).collect();
    let image = rules.image();
    // Byte 12 pops, so what follows it is that of the next sample.
    prop_assert_eq!(&seen[..13], &image[..13]);
    prop_assert_eq!(&seen[20..], &image[20..]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_card_keeps_the_rules(steps in prop::collection::vec(step(), 1..120)) {
        let (mut card, mut rules, mut now) = (Card::new(), Rules::default(), 0);
        for step in &steps {
            do_both(&mut card, &mut rules, &mut now, step)?;
        }
    }
}
