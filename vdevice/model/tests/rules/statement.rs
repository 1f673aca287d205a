//! The rules of the card, stated a second time.
//!
//! The card keeps counters, flags and deadlines up to date as it goes. The [`Rules`] keep a history and look
//! everything up in it: bytes instead of masks, a list of interrupts with a beginning and an end instead of
//! counters, one agenda of all that is to come instead of a deadline here and there. They are slow, and short
//! enough to be read beside `docs/joints.md`.

use squall_model::{
    Direction, LateRegister, Misbehaviour, Misdeeds, Pace, Schedule, Statistics, UnloadWindow,
};

/// An interrupt: from the line's rise to its acknowledgement, to a reset, or to the next rise.
#[derive(Clone)]
struct Interrupt {
    begun: u64,
    ended: Option<u64>,
    serviced: bool,
}

/// What happens by itself. Of what is due at once, the one that is less comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Disable,
    Pulse,
    Sample(usize),
}

/// What a schedule waits for.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// What is on the agenda.
    Time,
    Acknowledgement,
    Enable,
    Access,
}

#[derive(Clone)]
struct Running {
    schedule: Schedule,
    wait: Wait,
    began: u64,
    bursts: u64,
    samples: u64,
    /// Acknowledgements that it waited for.
    heard: u64,
    random: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Rules {
    /// What `CONTROL` reads, and what is in effect.
    control: bool,
    enabled: bool,
    ready: bool,
    overrun: bool,
    fifo: Vec<u32>,
    sequence: u32,

    agenda: Vec<(u64, Coming)>,
    storm: Vec<Option<Running>>,
    wrong: Misbehaviour,
    pulse: bool,
    pulse_began: u64,
    /// What the late register held, and since when; what it shows; and at which length of the log it was read.
    log: Vec<(u64, u32)>,
    shown: u32,
    looks: Vec<usize>,

    /// A clock that ticks with everything that happens.
    tick: u64,
    was_line: bool,
    interrupts: Vec<Interrupt>,
    entries: Vec<u64>,
    leaves: Vec<u64>,
    silences: Vec<u64>,
    enabled_at_entry: bool,
    fired: u64,
    suppressed: u64,
    coalesced: u64,
    missed: u64,
    reads: u64,
    writes: u64,
    misdeeds: Misdeeds,
}

/// Whether an access is one of the window's.
fn answers(offset: u64, size: u32) -> bool {
    [1, 2, 4].contains(&size) && offset.is_multiple_of(u64::from(size)) && offset < 32
}

/// The bytes of a register that an access transfers, each where it lies.
fn bytes_of(offset: u64, size: u32, value: u64) -> [Option<u8>; 4] {
    std::array::from_fn(|byte| {
        let at = (offset / 4 * 4 + byte as u64).checked_sub(offset).filter(|at| *at < u64::from(size))?;
        Some(value.to_le_bytes()[at as usize])
    })
}

fn in_range(value: u64, least: u64, most: u64) -> bool {
    (least..=most).contains(&value)
}

const SECOND: u64 = 1_000_000_000;

/// Whether there can be such a storm.
pub(crate) fn storm_can_be(storm: &[Schedule]) -> bool {
    in_range(storm.len() as u64, 1, 4)
        && storm.iter().all(|schedule| {
            let Schedule { pace, jitter_ns, burst, burst_gap_ns, .. } = *schedule;
            in_range(jitter_ns, 0, SECOND)
                && in_range(burst, 1, 1000)
                && in_range(burst_gap_ns, 0, SECOND)
                && match pace {
                    Pace::Acknowledgement { gap_ns, train } => {
                        in_range(gap_ns, 0, SECOND) && in_range(train, 1, 1000)
                    }
                    Pace::Period { period_ns } => {
                        let fits = (burst - 1) * burst_gap_ns + jitter_ns < period_ns;
                        in_range(period_ns, 1000, SECOND) && fits
                    }
                    Pace::Access { trigger, delay_ns } => {
                        in_range(delay_ns, 0, SECOND) && trigger.value & trigger.mask == trigger.value
                    }
                }
        })
}

/// Whether a card can misbehave so.
pub(crate) fn misbehaviour_can_be(wrong: &Misbehaviour) -> bool {
    wrong.late_disable.is_none_or(|late| in_range(late.delay_ns, 1, SECOND) && late.samples <= 1000)
        && wrong.spurious.is_none_or(|spurious| {
            in_range(spurious.period_ns, 1000, SECOND)
                && in_range(spurious.width_ns, 1, spurious.period_ns - 1)
        })
        && wrong.fifo_places.is_none_or(|places| places <= 64)
        && wrong.late_register.is_none_or(|late| {
            late.delay_ns <= SECOND && late.reads <= 1000 && late.delay_ns + late.reads > 0
        })
}

impl Rules {
    /// The registers' bytes.
    fn image(&self) -> [u8; 32] {
        let status = u32::from(self.ready) + 2 * u32::from(self.overrun);
        let oldest = self.fifo.first().copied().unwrap_or(0);
        let waiting = self.fifo.len() as u32;
        let words = [0x4C4C_5153, u32::from(self.control), status, oldest, waiting, self.sequence, 0, 0];
        let mut image = [0; 32];
        for (bytes, word) in image.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        image
    }

    fn held(&self, late: LateRegister) -> u32 {
        let at = usize::from(late.register.offset());
        u32::from_le_bytes(self.image()[at..at + 4].try_into().unwrap())
    }

    fn passes(&self) -> bool {
        self.enabled && !self.wrong.removed
    }

    fn line(&self) -> bool {
        let wanted = (self.ready || self.pulse) && self.enabled;
        !self.wrong.removed && self.wrong.stuck_line.unwrap_or(wanted)
    }

    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Looks whether the line has risen.
    fn settle(&mut self) {
        let line = self.line();
        if line && !self.was_line {
            self.finish(false);
            let begun = self.tick();
            self.interrupts.push(Interrupt { begun, ended: None, serviced: false });
        }
        self.was_line = line;
    }

    fn finish(&mut self, serviced: bool) {
        let tick = self.tick();
        if let Some(last) = self.interrupts.last_mut().filter(|last| last.ended.is_none()) {
            last.ended = Some(tick);
            last.serviced = serviced;
        }
    }

    /// Writes down what the late register holds.
    pub(crate) fn note(&mut self, now: u64) {
        if let Some(late) = self.wrong.late_register {
            self.log.push((now, self.held(late)));
        }
    }

    pub(crate) fn read(&mut self, offset: u64, size: u32, now: u64) -> Option<u32> {
        if !answers(offset, size) {
            return None;
        }
        self.reach(now);
        self.reads += 1;
        let (begin, len) = (offset as usize, size as usize);
        let mut value = [0; 4];
        if self.wrong.removed {
            value[..len].fill(0xFF);
            self.misdeeds.vanished += 1;
            return Some(u32::from_le_bytes(value));
        }
        let mut image = self.image();
        if let Some(late) = self.wrong.late_register
            && u64::from(late.register.offset()) == offset / 4 * 4
        {
            let shown = self.late_read(late, now).to_le_bytes();
            image[begin / 4 * 4..][..4].copy_from_slice(&shown);
        }
        value[..len].copy_from_slice(&image[begin..begin + len]);
        if begin == 12 && !self.fifo.is_empty() {
            self.fifo.remove(0);
        }
        if self.wrong.late_disable.is_some_and(|late| late.read_flushes) && self.enabled && !self.control {
            self.come(Coming::Disable, now, now);
        }
        let value = u32::from_le_bytes(value);
        self.observe(Direction::Read, offset, size, u64::from(value), now);
        self.reach(now);
        Some(value)
    }

    /// What a read of the late register shows: what it showed before, while what has changed since has not been
    /// there, or not been asked for, long enough.
    fn late_read(&mut self, late: LateRegister, now: u64) -> u32 {
        let held = self.held(late);
        let same = self.log.iter().rposition(|(_, value)| *value == self.shown);
        let changed = same.map_or(0, |at| at + 1);
        if let Some((since, _)) = self.log.get(changed) {
            let looks = self.looks.iter().filter(|at| **at > changed).count() as u64;
            if now - since < late.delay_ns || looks < late.reads {
                self.looks.push(self.log.len());
                self.misdeeds.stale_reads += 1;
                return self.shown;
            }
        }
        self.shown = held;
        held
    }

    pub(crate) fn write(&mut self, offset: u64, size: u32, value: u64, now: u64) -> bool {
        if !answers(offset, size) {
            return false;
        }
        self.reach(now);
        self.writes += 1;
        if self.wrong.removed {
            self.misdeeds.vanished += 1;
            return true;
        }
        let bytes = bytes_of(offset, size, value);
        match offset / 4 {
            1 if bytes[3].is_some_and(|byte| byte & 0x80 != 0) => self.reset_registers(),
            1 if bytes[0].is_some() => self.enable(bytes[0].is_some_and(|byte| byte & 1 != 0), now),
            2 => {
                let byte = bytes[0].unwrap_or(0);
                self.overrun &= byte & 2 == 0;
                if byte & 1 != 0 {
                    self.acknowledge(now);
                }
            }
            _ => {}
        }
        self.observe(Direction::Write, offset, size, value, now);
        self.reach(now);
        true
    }

    fn enable(&mut self, wanted: bool, now: u64) {
        let was_enabled = self.enabled;
        let on_its_way = was_enabled && !self.control;
        self.control = wanted;
        match (self.wrong.late_disable, wanted) {
            (_, true) => {
                self.agenda.retain(|(_, coming)| *coming != Coming::Disable);
                self.enabled = true;
            }
            (Some(_), false) if on_its_way || !was_enabled => {}
            (Some(late), false) => {
                self.misdeeds.late_disables += 1;
                self.agenda.push((now + late.delay_ns, Coming::Disable));
                (0..late.samples).for_each(|_| self.sample());
            }
            (None, false) => self.disable(),
        }
        self.settle();
        if !was_enabled {
            self.wake(now);
        }
    }

    fn disable(&mut self) {
        if std::mem::take(&mut self.enabled) {
            let tick = self.tick();
            self.silences.push(tick);
        }
        self.agenda.retain(|(_, coming)| *coming != Coming::Disable);
    }

    fn acknowledge(&mut self, now: u64) {
        if !std::mem::take(&mut self.ready) {
            return;
        }
        self.finish(true);
        self.settle();
        for number in 0..self.storm.len() {
            if let Some(Running { schedule, wait: Wait::Acknowledgement, heard, .. }) =
                &mut self.storm[number]
                && let Pace::Acknowledgement { gap_ns, train } = schedule.pace
            {
                *heard += 1;
                if *heard % train == 0 {
                    self.begin(number, now + gap_ns);
                } else {
                    self.due(number, now);
                }
            }
        }
    }

    pub(crate) fn reset(&mut self, now: u64) {
        self.reach(now);
        self.reset_registers();
    }

    fn reset_registers(&mut self) {
        self.disable();
        (self.control, self.ready, self.overrun, self.sequence) = (false, false, false, 0);
        self.fifo.clear();
        self.finish(false);
        self.settle();
        for running in self.storm.iter_mut().flatten() {
            if running.wait == Wait::Acknowledgement {
                running.wait = Wait::Enable;
            }
        }
    }

    pub(crate) fn fire(&mut self, samples: u64, now: u64) {
        self.reach(now);
        (0..samples).for_each(|_| self.sample());
    }

    fn sample(&mut self) {
        self.fired += 1;
        self.suppressed += u64::from(!self.passes());
        self.coalesced += u64::from(self.ready);
        self.sequence = self.sequence.wrapping_add(1);
        if self.fifo.len() < self.wrong.fifo_places.unwrap_or(64) as usize {
            self.fifo.push(self.sequence);
        } else {
            self.overrun = true;
        }
        self.ready = true;
        self.settle();
    }

    pub(crate) fn start_storm(&mut self, storm: &[Schedule], now: u64) {
        self.stop_storm(now);
        let running = |schedule: &Schedule| {
            let wait = Wait::Access;
            Some(Running {
                schedule: *schedule,
                wait,
                began: now,
                bursts: 0,
                samples: 0,
                heard: 0,
                random: schedule.seed,
            })
        };
        self.storm = storm.iter().map(running).collect();
        for (number, schedule) in storm.iter().enumerate() {
            if !matches!(schedule.pace, Pace::Access { .. }) {
                self.due(number, now);
            }
        }
        self.reach(now);
    }

    pub(crate) fn stop_storm(&mut self, now: u64) {
        self.reach(now);
        self.storm.clear();
        self.agenda.retain(|(_, coming)| !matches!(coming, Coming::Sample(_)));
    }

    /// The schedule's next sample is due then.
    fn due(&mut self, number: usize, due: u64) {
        self.agenda.push((due, Coming::Sample(number)));
        if let Some(running) = &mut self.storm[number] {
            running.wait = Wait::Time;
        }
    }

    /// The schedule's next burst begins then, or a jitter later.
    fn begin(&mut self, number: usize, time: u64) {
        let Some(running) = &mut self.storm[number] else { return };
        // SplitMix64, and the upper half of a product.
        running.random = running.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = running.random;
        for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB), (31, 1u64)] {
            mixed = (mixed ^ mixed >> shift).wrapping_mul(factor);
        }
        let choices = u128::from(running.schedule.jitter_ns + 1);
        let jitter = u128::from(mixed) * choices / (1 << 64);
        self.due(number, time + jitter as u64);
    }

    fn storm_sample(&mut self, number: usize, due: u64, now: u64) {
        self.sample();
        let passes = self.passes();
        let Some(running) = &mut self.storm[number] else { return };
        running.samples += 1;
        let Schedule { pace, burst, burst_gap_ns, count, .. } = running.schedule;
        if running.samples == count {
            self.storm[number] = None;
        } else if running.samples % burst != 0 {
            self.due(number, due + burst_gap_ns);
        } else {
            match pace {
                Pace::Acknowledgement { .. } if passes => running.wait = Wait::Acknowledgement,
                Pace::Acknowledgement { .. } => running.wait = Wait::Enable,
                Pace::Access { .. } => running.wait = Wait::Access,
                Pace::Period { period_ns } => {
                    let time = |n: u64| running.began + n * period_ns;
                    let next = (running.bursts + 1..).find(|n| time(*n) > now).unwrap();
                    self.missed += next - running.bursts - 1;
                    let begins = time(next);
                    running.bursts = next;
                    self.begin(number, begins);
                }
            }
        }
    }

    /// Interrupts may pass where they have not.
    fn wake(&mut self, now: u64) {
        if !self.passes() {
            return;
        }
        for number in 0..self.storm.len() {
            let Some(running) = &mut self.storm[number] else { continue };
            match running.wait {
                Wait::Enable if self.ready => running.wait = Wait::Acknowledgement,
                Wait::Enable => self.due(number, now),
                _ => {}
            }
        }
    }

    /// The storm sees an access.
    fn observe(&mut self, direction: Direction, offset: u64, size: u32, value: u64, now: u64) {
        let seen = bytes_of(offset, size, value);
        for number in 0..self.storm.len() {
            let Some(Running { schedule, wait: Wait::Access, .. }) = &self.storm[number] else { continue };
            let Pace::Access { trigger, delay_ns } = schedule.pace else { continue };
            let pairs = trigger.mask.to_le_bytes().into_iter().zip(trigger.value.to_le_bytes());
            let bits = pairs
                .zip(seen)
                .all(|((mask, value), byte)| mask == 0 || byte.is_some_and(|byte| byte & mask == value));
            let there = u64::from(trigger.register.offset()) == offset / 4 * 4;
            if there && trigger.direction == direction && bits {
                self.begin(number, now + delay_ns);
            }
        }
    }

    pub(crate) fn misbehave(&mut self, wrong: Misbehaviour, now: u64) {
        self.reach(now);
        let passed = self.passes();
        self.wrong = wrong;
        if wrong.late_disable.is_none() && !self.control {
            self.disable();
        }
        self.agenda.retain(|(_, coming)| *coming != Coming::Pulse);
        self.pulse = false;
        if let Some(spurious) = wrong.spurious {
            self.pulse_began = now + spurious.period_ns;
            self.agenda.push((self.pulse_began, Coming::Pulse));
        }
        (self.log, self.looks) = (Vec::new(), Vec::new());
        self.note(now);
        self.shown = self.log.first().map_or(0, |(_, value)| *value);
        self.settle();
        if !passed {
            self.wake(now);
        }
        self.reach(now);
    }

    /// Everything that is due by `now`.
    pub(crate) fn reach(&mut self, now: u64) {
        while let Some(&(due, coming)) = self.agenda.iter().min()
            && due <= now
        {
            self.agenda.retain(|entry| *entry != (due, coming));
            self.come(coming, due, now);
            self.note(due);
        }
    }

    fn come(&mut self, coming: Coming, due: u64, now: u64) {
        match coming {
            Coming::Disable => self.disable(),
            Coming::Sample(number) => self.storm_sample(number, due, now),
            Coming::Pulse => {
                let Some(spurious) = self.wrong.spurious else { return };
                if !self.pulse && self.passes() {
                    self.pulse = true;
                    self.misdeeds.spurious += 1;
                    self.agenda.push((self.pulse_began + spurious.width_ns, Coming::Pulse));
                } else {
                    self.pulse = false;
                    while self.pulse_began <= now {
                        self.pulse_began += spurious.period_ns;
                    }
                    self.agenda.push((self.pulse_began, Coming::Pulse));
                }
            }
        }
        self.settle();
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.agenda.iter().map(|(due, _)| *due).min()
    }

    pub(crate) fn storm(&self) -> Vec<Schedule> {
        self.storm.iter().flatten().map(|running| running.schedule).collect()
    }

    pub(crate) fn misbehaviour(&self) -> Misbehaviour {
        self.wrong
    }

    pub(crate) fn enter(&mut self, fire: bool, now: u64) {
        self.reach(now);
        let tick = self.tick();
        self.entries.push(tick);
        self.enabled_at_entry = self.enabled;
        if fire {
            self.sample();
        }
    }

    pub(crate) fn leave(&mut self, now: u64) {
        self.reach(now);
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

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            fired: self.fired,
            asserted: self.interrupts.len() as u64,
            suppressed: self.suppressed,
            coalesced: self.coalesced,
            serviced: self.interrupts.iter().filter(|interrupt| interrupt.serviced).count() as u64,
            missed: self.missed,
            fifo_level: self.fifo.len() as u32,
            irq_enabled: self.enabled,
            line: self.line(),
            reads: self.reads,
            writes: self.writes,
            unload: self.unload(),
            misbehaviour: self.misdeeds,
        }
    }
}
