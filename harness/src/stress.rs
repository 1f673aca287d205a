//! Stress: a driver is loaded, stormed and unloaded, over and over.
//!
//! One run says that nothing went wrong once. Here it is what the many say: that none of them went wrong, that the device and
//! the driver have counted the same interrupts, and that the guest holds as much memory after the last as after the first.
//! Unless it is asked otherwise the guest just goes on from cycle to cycle, so that what one leaves behind is there in the
//! next. A cycle is a whole run, watched instruction by instruction; or one of many that the guest goes through by itself in one
//! run ([`Scenario::cycles`]), some hundred times as fast, in which only counters and what is left behind are looked at.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    agent::Memory,
    run::{Parts, RunError},
    scenario::{Bus, Scenario},
    series::{Begin, Series},
    verdict::{CycleTimes, Outcome, Verdict},
};

/// Cycles of the guest's own in one run: so many that asking for them costs little, so few that it is heard from every few seconds.
pub const CYCLES_OF_A_RUN: u32 = 250;
/// Cycles after which the guest has whatever it gets once and keeps: page tables, room in its lists, the last of what was deleted,
/// which it keeps out of reach for a while. Of fewer than twice as many no growth is told.
const WARM_UP: u64 = 64;
/// Cycles that are not clean whose evidence is kept.
const MOST_KEPT: u64 = 10;

/// What is done.
#[derive(Clone, Debug)]
pub struct Stress {
    /// The driver and everything else of a cycle; bus, processors and seed are each machine's own.
    pub scenario: Scenario,
    /// What a machine is made of.
    pub parts: Parts,
    /// Cycles in each machine.
    pub cycles: u64,
    /// How long a machine may take; it ends after the cycle in which that is over.
    pub limit: Option<Duration>,
    /// How a cycle begins.
    pub begin: Begin,
    /// The kinds of machine.
    pub kinds: Vec<(Bus, u8)>,
    /// Machines at once.
    pub machines: usize,
}

/// What came of the cycles in one kind of machine.
#[derive(Clone, Debug, Serialize)]
pub struct Cycles {
    /// How the card was attached.
    #[serde(serialize_with = "crate::trial::display")]
    pub bus: Bus,
    /// The guest's processors.
    pub processors: u8,
    /// Cycles.
    pub cycles: u64,
    /// Those that were clean.
    pub clean: u64,
    /// Those that say nothing about the driver.
    pub infrastructure: u64,
    /// Those in which the driver counted other than the device.
    pub miscounted: u64,
    /// Interrupts, as the device has counted them.
    pub asserted: u64,
    /// Of these, those acknowledged.
    pub serviced: u64,
    /// Interrupts that the driver's ISR claimed, as the guest has counted, where it went through the cycles by itself.
    pub claimed: Option<u64>,
    /// The guest's time for a cycle, where it went through them by itself.
    pub cycle: Option<Spread>,
    /// Of that, for loading.
    pub load: Option<Spread>,
    /// Of that, for Unload, until the image was gone.
    pub unload: Option<Spread>,
    /// Interrupts, as the driver has counted them; none where it does not say.
    pub served: Option<u64>,
    /// Interrupts outstanding inside Unload before the device was silenced.
    pub inside_unload: u64,
    /// What was in use after the first cycles.
    pub before: Option<Memory>,
    /// What was in use after the last one.
    pub after: Option<Memory>,
    /// How long it took, from the first cycle's begin to the last one's end.
    #[serde(rename = "ms", serialize_with = "crate::trial::milliseconds")]
    pub took: Duration,
    /// What the first cycle that was not clean came to.
    pub first_fault: Option<String>,
    /// Where the evidence of those is.
    pub evidence: Option<PathBuf>,
}

impl Cycles {
    fn of(bus: Bus, processors: u8) -> Self {
        Self {
            bus,
            processors,
            cycles: 0,
            clean: 0,
            infrastructure: 0,
            miscounted: 0,
            asserted: 0,
            serviced: 0,
            claimed: None,
            cycle: None,
            load: None,
            unload: None,
            served: None,
            inside_unload: 0,
            before: None,
            after: None,
            took: Duration::ZERO,
            first_fault: None,
            evidence: None,
        }
    }

    fn add(&mut self, verdict: &Verdict, times: &mut Times) {
        // The cycle that ended a run early is one of its cycles as well.
        let own = verdict.cycles.as_ref().map(|cycles| {
            times.add(cycles);
            *self.claimed.get_or_insert(0) += cycles.claimed;
            cycles.completed
        });
        let clean = if verdict.outcome == Outcome::Clean { own.unwrap_or(1) } else { own.unwrap_or(0) };
        let all = if verdict.outcome == Outcome::Clean { clean } else { clean + 1 };
        self.cycles += all;
        self.clean += clean;
        let device = &verdict.device;
        self.asserted += device.asserted;
        self.serviced += device.serviced;
        self.inside_unload += device.unload.before_silence;
        if let Some(served) = verdict.driver.interrupts {
            *self.served.get_or_insert(0) += served;
        }
        match verdict.outcome {
            Outcome::Infrastructure | Outcome::Unsupported => self.infrastructure += 1,
            _ => {}
        }
        let miscounted = is_miscounted(verdict);
        self.miscounted += u64::from(miscounted);
        if self.first_fault.is_none() && (miscounted || verdict.outcome != Outcome::Clean) {
            let count = verdict.driver.interrupts.filter(|_| miscounted);
            let counted = count.map(|served| {
                let claimed = verdict
                    .cycles
                    .as_ref()
                    .map(|cycles| format!(", the guest saw {} claimed", cycles.claimed));
                let claimed = claimed.unwrap_or_default();
                format!(
                    "the driver served {served} interrupts, the device saw {} served{claimed}",
                    device.serviced
                )
            });
            self.first_fault = Some(counted.unwrap_or_else(|| verdict.summary.clone()));
        }
    }

    /// Cycles a second.
    pub fn rate(&self) -> f64 {
        self.cycles as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// What the guest holds more of at the end than after the first cycles, where that was measured.
    pub fn growth(&self) -> Option<Growth> {
        let (before, after) = (self.before?, self.after?);
        let grown = |before: u64, after: u64| i128::from(after) - i128::from(before);
        Some(Growth {
            pool_blocks: grown(before.pool.blocks, after.pool.blocks),
            pool_bytes: grown(before.pool.bytes, after.pool.bytes),
            mapped_pages: grown(before.mapped_pages, after.mapped_pages),
            image_pages: grown(before.image_pages, after.image_pages),
            heap_bytes: Some(grown(before.heap_bytes, after.heap_bytes))
                .filter(|bytes| bytes.abs() >= HEAP_SLACK)
                .unwrap_or(0),
            used_pages: grown(after.free_pages, before.free_pages),
        })
    }
}

/// Some times, in microseconds of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// As many took longer as took less.
    pub median_us: u32,
    /// Of a hundred, one took longer.
    pub centile_99_us: u32,
    /// None took longer.
    pub worst_us: u32,
}

impl Spread {
    fn of(mut times: Vec<u32>) -> Option<Self> {
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied();
        Some(Self { median_us: at(50)?, centile_99_us: at(99)?, worst_us: *times.last()? })
    }
}

/// The times of every cycle.
#[derive(Debug, Default)]
struct Times {
    load: Vec<u32>,
    cycle: Vec<u32>,
    unload: Vec<u32>,
}

impl Times {
    fn add(&mut self, cycles: &CycleTimes) {
        self.load.extend_from_slice(&cycles.load_us);
        self.cycle.extend_from_slice(&cycles.cycle_us);
        self.unload.extend_from_slice(&cycles.unload_us);
    }
}

/// The guest's heap is some hundred bytes fuller or emptier from one moment to the next (an answer on its way, a map's nodes):
/// below this, in bytes, that is no growth. What every cycle leaves behind is beyond it after some hundred.
const HEAP_SLACK: i128 = 4096;

/// What a guest holds more of, or less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// Blocks of pool.
    pub pool_blocks: i128,
    /// Bytes of pool.
    pub pool_bytes: i128,
    /// Pages of addresses.
    pub mapped_pages: i128,
    /// Pages of addresses for images.
    pub image_pages: i128,
    /// Bytes of the guest's own heap; below 4096 they count as none.
    pub heap_bytes: i128,
    /// Page frames, without those of the guest's heap.
    pub used_pages: i128,
}

fn is_miscounted(verdict: &Verdict) -> bool {
    let claimed = verdict.cycles.as_ref().map(|cycles| cycles.claimed);
    let counts = [verdict.driver.interrupts, claimed];
    verdict.outcome == Outcome::Clean
        && counts.iter().flatten().any(|count| *count != verdict.device.serviced)
}

/// Runs it; gives what came of each kind of machine, in their order. `progress` is told of each machine's cycles as they pass.
pub async fn run(
    stress: Stress,
    progress: impl Fn(Bus, u8, u64) + Send + Sync + 'static,
) -> Result<Vec<Cycles>, RunError> {
    let kinds = Mutex::new(VecDeque::from(stress.kinds.clone()));
    let machines = stress.machines.max(1);
    let shared = Arc::new((stress, kinds, progress));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..machines {
        let shared = shared.clone();
        workers.spawn(async move {
            let (stress, kinds, progress) = &*shared;
            let mut all = Vec::new();
            let next = || kinds.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some((bus, processors)) = next() {
                all.push(stress.one(bus, processors, progress).await?);
            }
            Ok::<_, RunError>(all)
        });
    }
    let mut all = Vec::new();
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(cycles) => all.extend(cycles?),
            // A bug of this module; its words are the panic's.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    all.sort_by_key(|cycles| shared.0.kinds.iter().position(|kind| *kind == (cycles.bus, cycles.processors)));
    Ok(all)
}

impl Stress {
    /// One kind of machine.
    async fn one(
        &self,
        bus: Bus,
        processors: u8,
        progress: &(impl Fn(Bus, u8, u64) + Sync),
    ) -> Result<Cycles, RunError> {
        let mut series =
            Series::begin(Scenario { bus, processors, ..self.scenario.clone() }, self.parts.clone())?;
        let mut cycles = Cycles::of(bus, processors);
        let began = Instant::now();
        let mut kept = 0;
        let (mut going_on, mut measured_at) = (0, 0);
        let mut times = Times::default();
        let mut number = 0;
        while cycles.cycles < self.cycles {
            let seed = self.scenario.seed.wrapping_add(number);
            number += 1;
            // The first few by themselves, since what grows is counted from after them.
            let warm_up = if going_on == 0 { WARM_UP } else { self.cycles };
            let most = (self.cycles - cycles.cycles).min(warm_up).min(self.scenario.cycles.into());
            let own = u32::try_from(most).unwrap_or(u32::MAX);
            let change = |scenario: &mut Scenario| (scenario.seed, scenario.cycles) = (seed, own);
            let keep = |verdict: &Verdict| {
                kept < MOST_KEPT && (verdict.outcome != Outcome::Clean || is_miscounted(verdict))
            };
            let run = series.run(self.begin, change, keep).await?;
            let before = cycles.cycles;
            cycles.add(&run.verdict, &mut times);
            if run.kept {
                kept += 1;
                cycles.evidence.get_or_insert_with(|| series.dir().path().to_owned());
            }
            if run.booted {
                // There is nothing to compare with until that guest is warm as well.
                (going_on, cycles.before) = (0, None);
            }
            going_on += cycles.cycles - before;
            if going_on >= WARM_UP && cycles.before.is_none() {
                (cycles.before, measured_at) = (series.memory().await, going_on);
            }
            progress(bus, processors, cycles.cycles);
            if self.limit.is_some_and(|limit| began.elapsed() >= limit) {
                break;
            }
        }
        cycles.took = began.elapsed();
        cycles.before = cycles.before.filter(|_| going_on >= measured_at + WARM_UP);
        cycles.load = Spread::of(times.load);
        cycles.cycle = Spread::of(times.cycle);
        cycles.unload = Spread::of(times.unload);
        cycles.after = series.memory().await;
        series.end_and_tidy().await?;
        Ok(cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::PoolUse, testing::verdict::example};

    fn memory(bytes: u64, free_pages: u64) -> Memory {
        Memory {
            pool: PoolUse { blocks: 3, bytes },
            mapped_pages: 7,
            image_pages: 17,
            heap_bytes: 640,
            free_pages,
        }
    }

    #[test]
    fn growth_is_more_in_use_and_less_free() {
        let mut cycles = Cycles::of(Bus::Isa, 1);
        assert_eq!(cycles.growth(), None);
        (cycles.before, cycles.after) = (Some(memory(100, 50)), Some(memory(100, 50)));
        assert_eq!(cycles.growth(), Some(Growth::default()));
        cycles.after = Some(memory(116, 49));
        let growth = cycles.growth().unwrap();
        assert_eq!((growth.pool_bytes, growth.used_pages, growth.pool_blocks), (16, 1, 0));
        let fuller =
            |bytes| cycles.after.map(|memory| Memory { heap_bytes: memory.heap_bytes + bytes, ..memory });
        for (bytes, grown) in [(4095, 0), (4096, 4096)] {
            let cycles = Cycles { after: fuller(bytes), before: cycles.before, ..Cycles::of(Bus::Isa, 1) };
            assert_eq!(cycles.growth().map(|growth| growth.heap_bytes), Some(grown));
        }
    }

    #[test]
    fn a_clean_cycle_in_which_driver_and_device_disagree_is_miscounted() {
        let mut verdict = example();
        let mut cycles = Cycles::of(Bus::Isa, 1);
        verdict.bugcheck = None;
        verdict.outcome = Outcome::Clean;
        verdict.driver.interrupts = Some(verdict.device.serviced);
        cycles.add(&verdict, &mut Times::default());
        assert_eq!((cycles.clean, cycles.miscounted, cycles.first_fault.clone()), (1, 0, None));
        verdict.driver.interrupts = Some(1);
        cycles.add(&verdict, &mut Times::default());
        assert_eq!((cycles.clean, cycles.miscounted, cycles.served), (2, 1, Some(1100)));
        assert!(cycles.first_fault.unwrap().contains("served 1 interrupts"));
    }

    #[test]
    fn what_is_not_the_drivers_is_counted_apart() {
        let mut verdict = example();
        let mut cycles = Cycles::of(Bus::Isa, 1);
        cycles.add(&verdict, &mut Times::default());
        verdict.outcome = Outcome::Infrastructure;
        cycles.add(&verdict, &mut Times::default());
        assert_eq!((cycles.cycles, cycles.clean, cycles.infrastructure), (2, 0, 1));
        assert_eq!(cycles.first_fault.as_deref(), Some("bugcheck 0xD1"));
    }
}
