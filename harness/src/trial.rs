//! Trials: the catalogue against a guest, row by row.
//!
//! A row is one defect, or the right driver, in one kind of machine with Driver Verifier on or off. A defect is often a race:
//! it shows when an interrupt falls into a window of some instructions. So a row is given a budget of runs, each with a
//! storm of its own, and ends with the first run that shows what was expected; one in which nothing is raised is as good only
//! when some others have shown no more. What must not happen may not happen in any
//! run: another bugcheck ends a row as well, and the right driver has to be clean in every one.

mod crew;
mod plan;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

pub use self::{
    crew::{Progress, Trials, run},
    plan::{Filter, Plan},
};
use crate::{
    catalogue::{Defect, Expectation, Match},
    run::RunError,
    scenario::{Bus, Scenario},
    series::{Begin, Series},
    verdict::{Outcome, Verdict},
};

/// The gaps that the storms of a row's runs take in turn, in nanoseconds. Denser ones would have a guest on a busy host do nothing but
/// serve interrupts, and a guest that is starved by its storm is no hang of the driver's.
const GAPS_NS: [u64; 4] = [20_000, 50_000, 30_000, 100_000];
/// What has to have happened before Unload: enough for every routine of the driver to have run.
const SERVICED: u64 = 64;
const SAMPLES_READ: u32 = 4;
/// How long is waited for what is expected never to end.
const PATIENCE_FOR_A_HANG: Duration = Duration::from_secs(2);
/// Runs that have to be silent before it is believed, where nothing else is expected. There are as many more as kinds of machine.
const SILENT_RUNS: u32 = 1;
/// And where something else would do as well.
const SILENT_RUNS_OF_A_RACE: u32 = 2;
/// Of so many runs of the right driver one begins at the snapshot, the others where the one before has ended.
const RIGHT_RUNS_OF_A_RESTORE: u32 = 4;
/// For so long the guest is watched after Unload: longer than any period of the driver's that is not a second.
const SETTLE_MS: u64 = 25;

/// How many runs a row may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Of a defect: at most.
    pub defect: u32,
    /// Of the right driver: exactly.
    pub right: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { defect: 12, right: 12 }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The defect; none for the right driver.
    pub defect: Option<Defect>,
    /// How the card is attached.
    pub bus: Bus,
    /// The guest's processors.
    pub processors: u8,
    /// Whether Driver Verifier watches.
    pub verifier: bool,
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// As expected.
    Matched,
    /// Nothing that would have been expected was seen within the budget.
    NotShown,
    /// Something else was seen.
    Wrong,
    /// Something other than the driver failed: no word about the driver.
    Infrastructure,
}

/// What was seen in a row.
#[derive(Clone, Debug, Serialize)]
pub struct Outcomes {
    /// The row's defect, or `right`.
    pub subject: String,
    /// How the card was attached.
    #[serde(serialize_with = "display")]
    pub bus: Bus,
    /// The guest's processors.
    pub processors: u8,
    /// Whether Driver Verifier watched.
    pub verifier: bool,
    /// What was expected: any of these.
    #[serde(serialize_with = "displays")]
    pub expected: Vec<Expectation>,
    /// How it ended.
    pub judgement: Judgement,
    /// How many runs saw what, addresses left out.
    pub seen: BTreeMap<String, u32>,
    /// The verdict that decided, in one sentence.
    pub summary: String,
    /// The bugcheck's parameters in it, where there was one.
    pub parameters: Option<[crate::hex::Hex; 4]>,
    /// The driver's source line in it, where there was one.
    pub source: Option<String>,
    /// Runs.
    pub iterations: u32,
    /// How long they took, with the boot where there was one.
    #[serde(rename = "ms", serialize_with = "milliseconds")]
    pub took: Duration,
    /// The evidence of the run that decided, where it was not as expected.
    pub evidence: Option<PathBuf>,
}

pub(crate) fn display<S: Serializer>(value: &Bus, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn displays<S: Serializer>(values: &[Expectation], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(Expectation::to_string))
}

pub(crate) fn milliseconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(value.as_millis())
}

impl Row {
    /// The name of what is tried.
    pub fn subject(&self) -> &str {
        self.defect.as_ref().map_or("right", |defect| &defect.id)
    }

    /// What is expected; nothing, of the right driver.
    fn expected(&self) -> &[Expectation] {
        self.defect.as_ref().map_or(&[], |defect| defect.expected(self.bus, self.verifier))
    }

    /// Makes a run's scenario of its series' one.
    fn prepare(&self, scenario: &mut Scenario, seed: u64, number: u32) {
        let gap_ns = GAPS_NS[number as usize % GAPS_NS.len()];
        scenario.seed = seed.wrapping_add(number.into());
        scenario.verifier = self.verifier;
        scenario.driver.defect = self.defect.as_ref().map(|defect| defect.id.clone());
        (scenario.storm.gap_ns, scenario.storm.jitter_ns) = (Some(gap_ns), gap_ns);
        (scenario.before_unload.serviced, scenario.before_unload.samples_read) = (SERVICED, SAMPLES_READ);
        scenario.unload.settle_ms = SETTLE_MS;
        if self.expected().contains(&Expectation::Hang) {
            let patience = u64::try_from(PATIENCE_FOR_A_HANG.as_millis()).unwrap_or(u64::MAX);
            let deadlines = &mut scenario.deadlines;
            (deadlines.unload_ms, deadlines.answer_ms) = (patience, patience);
        }
    }

    /// What one verdict is to this row.
    fn compare(&self, verdict: &Verdict, stricter: bool) -> Match {
        match &self.defect {
            Some(defect) => defect.compare(verdict, self.bus, stricter),
            None => match verdict.outcome {
                Outcome::Clean => Match::Shown,
                Outcome::Infrastructure | Outcome::Unsupported => Match::Infrastructure,
                _ => Match::Wrong,
            },
        }
    }

    /// Runs it.
    async fn run(&self, series: &mut Series, budget: Budget, seed: u64) -> Result<Outcomes, RunError> {
        let stricter = series.profile().stricter;
        let only_silent = self.expected().iter().all(|expectation| *expectation == Expectation::Silent);
        let most = if self.defect.is_some() { budget.defect } else { budget.right };
        let silent_runs = if only_silent { SILENT_RUNS } else { SILENT_RUNS_OF_A_RACE };
        let mut silent = 0;
        let mut outcomes = Outcomes {
            subject: self.subject().to_owned(),
            bus: self.bus,
            processors: self.processors,
            verifier: self.verifier,
            expected: self.expected().to_vec(),
            judgement: Judgement::NotShown,
            seen: BTreeMap::new(),
            summary: String::new(),
            parameters: None,
            source: None,
            iterations: 0,
            took: Duration::ZERO,
            evidence: None,
        };
        for number in 0..most {
            let last = number + 1 == most;
            let keep = |verdict: &Verdict| match self.compare(verdict, stricter) {
                Match::Wrong | Match::Infrastructure => true,
                Match::NotShown => last,
                Match::Shown | Match::Silent => false,
            };
            let change = |scenario: &mut Scenario| self.prepare(scenario, seed, number);
            let goes_on = self.defect.is_none() && !number.is_multiple_of(RIGHT_RUNS_OF_A_RESTORE);
            let begin = if goes_on { Begin::GoingOn } else { Begin::Restored };
            let run = series.run(begin, change, keep).await?;
            outcomes.iterations += 1;
            outcomes.took += run.took;
            *outcomes.seen.entry(seen(&run.verdict)).or_default() += 1;
            let matched = self.compare(&run.verdict, stricter);
            let silent_before = outcomes.judgement == Judgement::Matched;
            silent += u32::from(matched == Match::Silent);
            outcomes.judgement = match matched {
                Match::Shown | Match::Silent => Judgement::Matched,
                // The race was not won this time, and nothing wrong was seen either.
                Match::NotShown if silent_before => continue,
                Match::NotShown => Judgement::NotShown,
                Match::Wrong => Judgement::Wrong,
                Match::Infrastructure => Judgement::Infrastructure,
            };
            outcomes.evidence = run.kept.then(|| run.verdict.run_dir.clone());
            outcomes.parameters = run.verdict.bugcheck.as_ref().map(|bugcheck| bugcheck.parameters);
            outcomes.source = run.verdict.bugcheck.as_ref().and_then(|bugcheck| bugcheck.source.clone());
            outcomes.summary = run.verdict.summary;
            let decided = match matched {
                Match::Shown => self.defect.is_some(),
                Match::Wrong | Match::Infrastructure => true,
                Match::Silent => silent >= silent_runs,
                Match::NotShown => false,
            };
            if decided {
                break;
            }
        }
        Ok(outcomes)
    }
}

/// A verdict in some words that are the same for every run that ends alike: no addresses.
fn seen(verdict: &Verdict) -> String {
    if let Some(bugcheck) = &verdict.bugcheck {
        let numbers = bugcheck.parameters.map(|number| match number.0 {
            address if verdict.driver.holds(address) => "driver".to_owned(),
            address if address >= 0xFFFF_8000_0000_0000 => "address".to_owned(),
            number => format!("{number:X}"),
        });
        return format!("0x{:X}({})", bugcheck.code, numbers.join(","));
    }
    let mut words = vec![verdict.outcome.word().to_owned()];
    if verdict.outcome == Outcome::Finding {
        let kinds: std::collections::BTreeSet<_> =
            verdict.findings.iter().map(|finding| finding.kind.as_str()).collect();
        words = kinds.into_iter().map(str::to_owned).collect();
        words[0].insert_str(0, "silent: ");
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::verdict::example;

    #[test]
    fn what_was_seen_is_told_without_addresses() {
        let mut verdict = example();
        assert_eq!(seen(&verdict), "0xD1(driver,5,8,driver)");
        verdict.bugcheck = None;
        verdict.outcome = Outcome::Finding;
        assert_eq!(seen(&verdict), "silent: k");
        verdict.outcome = Outcome::Hang;
        assert_eq!(seen(&verdict), "hang");
    }

    #[test]
    fn runs_differ_in_storm_and_seed_and_in_nothing_else() {
        let row = Row { defect: None, bus: Bus::Isa, processors: 2, verifier: true };
        let prepare = |number| {
            let mut scenario = Scenario::default();
            row.prepare(&mut scenario, 7, number);
            scenario
        };
        assert_eq!(prepare(3), prepare(3));
        let (first, mut second) = (prepare(0), prepare(1));
        assert_eq!((first.seed, second.seed, first.verifier), (7, 8, true));
        assert_ne!(first.storm, second.storm);
        (second.storm, second.seed) = (first.storm.clone(), first.seed);
        assert_eq!(first, second);
    }

    #[test]
    fn the_right_driver_is_clean_or_it_is_wrong() {
        let row = Row { defect: None, bus: Bus::Isa, processors: 1, verifier: false };
        let mut verdict = example();
        assert_eq!(row.compare(&verdict, true), Match::Wrong);
        for (outcome, expected) in [
            (Outcome::Clean, Match::Shown),
            (Outcome::Finding, Match::Wrong),
            (Outcome::Infrastructure, Match::Infrastructure),
        ] {
            verdict.outcome = outcome;
            assert_eq!(row.compare(&verdict, true), expected);
        }
    }
}
