//! Several machines at once, each taking the next piece of work.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Budget, Outcomes, Plan, Row};
use crate::{
    run::{Parts, RunError},
    scenario::Scenario,
    series::Series,
};

/// What the rows are run with.
#[derive(Clone, Debug)]
pub struct Trials {
    /// Scenario and parts of the right driver.
    pub right: (Scenario, Parts),
    /// Scenario and parts of the driver that can make the catalogue's mistakes.
    pub defects: (Scenario, Parts),
    /// How many runs a row may take.
    pub budget: Budget,
    /// What every storm comes from.
    pub seed: u64,
    /// Machines at once.
    pub machines: usize,
}

/// A row is done.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What was seen in it.
    pub outcomes: &'a Outcomes,
    /// Rows done.
    pub done: usize,
    /// Rows of the plan.
    pub of: usize,
}

/// What the workers share.
struct Shared<F> {
    trials: Trials,
    pieces: Mutex<VecDeque<Vec<Row>>>,
    done: Mutex<Vec<Outcomes>>,
    of: usize,
    progress: F,
}

/// Runs a plan's rows; gives what was seen, in no particular order. The first error that is no verdict ends it.
pub async fn run(
    trials: Trials,
    plan: Plan,
    progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
) -> Result<Vec<Outcomes>, RunError> {
    let machines = trials.machines.max(1);
    let of = plan.rows();
    let pieces = Mutex::new(plan.pieces.into());
    let shared = Arc::new(Shared { trials, pieces, done: Mutex::default(), of, progress });
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..machines {
        workers.spawn(work(shared.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(result) => result?,
            // A bug of this module; its words are the panic's.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let done = std::mem::take(&mut *shared.done.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(done)
}

async fn work<F: Fn(Progress<'_>)>(shared: Arc<Shared<F>>) -> Result<(), RunError> {
    while let Some(rows) = next(&shared) {
        let Some(first) = rows.first() else { continue };
        let (scenario, parts) =
            if first.defect.is_some() { &shared.trials.defects } else { &shared.trials.right };
        let mut scenario = scenario.clone();
        (scenario.bus, scenario.processors) = (first.bus, first.processors);
        scenario.seed = shared.trials.seed;
        let mut series = Series::begin(scenario, parts.clone())?;
        for row in &rows {
            let outcomes = row.run(&mut series, shared.trials.budget, shared.trials.seed).await?;
            let mut done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(outcomes);
            if let Some(outcomes) = done.last() {
                (shared.progress)(Progress { outcomes, done: done.len(), of: shared.of });
            }
        }
        series.end_and_tidy().await?;
    }
    Ok(())
}

fn next<F>(shared: &Shared<F>) -> Option<Vec<Row>> {
    shared.pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}
