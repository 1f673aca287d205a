//! Stress: a driver is loaded, stormed and unloaded, over and over.
//!
//! One run says that nothing went wrong once. Here it is what the many say: that none of them went wrong, that the device and
//! the driver have counted the same interrupts, and that the guest holds as much memory after the last as after the first.
//! Unless it is asked otherwise the guest just goes on from cycle to cycle, so that what one leaves behind is there in the
//! next.

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
    verdict::{Outcome, Verdict},
};

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
            served: None,
            inside_unload: 0,
            before: None,
            after: None,
            took: Duration::ZERO,
            first_fault: None,
            evidence: None,
        }
    }

    fn add(&mut self, verdict: &Verdict) {
        self.cycles += 1;
        let device = &verdict.device;
        self.asserted += device.asserted;
        self.serviced += device.serviced;
        self.inside_unload += device.unload.before_silence;
        if let Some(served) = verdict.driver.interrupts {
            *self.served.get_or_insert(0) += served;
        }
        match verdict.outcome {
            Outcome::Clean => self.clean += 1,
            Outcome::Infrastructure | Outcome::Unsupported => self.infrastructure += 1,
            _ => {}
        }
        let miscounted = is_miscounted(verdict);
        self.miscounted += u64::from(miscounted);
        if self.first_fault.is_none() && (miscounted || verdict.outcome != Outcome::Clean) {
            let count = verdict.driver.interrupts.filter(|_| miscounted);
            let counted = count.map(|served| {
                format!("the driver served {served} interrupts, the device saw {} served", device.serviced)
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
            used_pages: grown(after.free_pages, before.free_pages),
        })
    }
}

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
    /// Page frames.
    pub used_pages: i128,
}

fn is_miscounted(verdict: &Verdict) -> bool {
    verdict.outcome == Outcome::Clean
        && verdict.driver.interrupts.is_some_and(|served| served != verdict.device.serviced)
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
        let mut going_on = 0;
        for number in 0..self.cycles {
            let seed = self.scenario.seed.wrapping_add(number);
            let keep = |verdict: &Verdict| {
                kept < MOST_KEPT && (verdict.outcome != Outcome::Clean || is_miscounted(verdict))
            };
            let run = series.run(self.begin, |scenario| scenario.seed = seed, keep).await?;
            cycles.add(&run.verdict);
            if run.kept {
                kept += 1;
                cycles.evidence.get_or_insert_with(|| series.dir().path().to_owned());
            }
            going_on = if run.booted { 0 } else { going_on + 1 };
            // After another boot there is nothing to compare with until that guest is warm as well.
            match going_on {
                0 => cycles.before = None,
                WARM_UP => cycles.before = series.memory().await,
                _ => {}
            }
            progress(bus, processors, cycles.cycles);
            if self.limit.is_some_and(|limit| began.elapsed() >= limit) {
                break;
            }
        }
        cycles.took = began.elapsed();
        cycles.before = cycles.before.filter(|_| going_on >= 2 * WARM_UP);
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
        Memory { pool: PoolUse { blocks: 3, bytes }, mapped_pages: 7, image_pages: 17, free_pages }
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
    }

    #[test]
    fn a_clean_cycle_in_which_driver_and_device_disagree_is_miscounted() {
        let mut verdict = example();
        let mut cycles = Cycles::of(Bus::Isa, 1);
        verdict.bugcheck = None;
        verdict.outcome = Outcome::Clean;
        verdict.driver.interrupts = Some(verdict.device.serviced);
        cycles.add(&verdict);
        assert_eq!((cycles.clean, cycles.miscounted, cycles.first_fault.clone()), (1, 0, None));
        verdict.driver.interrupts = Some(1);
        cycles.add(&verdict);
        assert_eq!((cycles.clean, cycles.miscounted, cycles.served), (2, 1, Some(1100)));
        assert!(cycles.first_fault.unwrap().contains("served 1 interrupts"));
    }

    #[test]
    fn what_is_not_the_drivers_is_counted_apart() {
        let mut verdict = example();
        let mut cycles = Cycles::of(Bus::Isa, 1);
        cycles.add(&verdict);
        verdict.outcome = Outcome::Infrastructure;
        cycles.add(&verdict);
        assert_eq!((cycles.cycles, cycles.clean, cycles.infrastructure), (2, 0, 1));
        assert_eq!(cycles.first_fault.as_deref(), Some("bugcheck 0xD1"));
    }
}
