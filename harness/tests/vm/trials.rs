//! Rows of the catalogue.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use squall_harness::{
    catalogue::Catalogue,
    profile::GuestProfile,
    run::Parts,
    scenario::Bus,
    trial::{self, Budget, Filter, Judgement, Outcomes, Plan, Trials},
};

use crate::bench::Bench;

const DEFECT: &str = "interrupts-left-enabled-and-connected";

/// The defect and the right driver, on one processor.
async fn outcomes(bench: &Bench, change: impl Fn(Parts) -> Parts) -> Vec<Outcomes> {
    let catalogue = Catalogue::read(&bench.artifacts.catalogue).unwrap();
    let profile = GuestProfile::named("testkernel").unwrap();
    let filter = Filter { buses: vec![Bus::Isa], processors: vec![1], ..Filter::default() };
    let mut plan = Plan::new(&catalogue, &profile, &filter);
    for piece in &mut plan.pieces {
        piece.retain(|row| ["right", DEFECT].contains(&row.subject()));
    }
    plan.pieces.retain(|piece| !piece.is_empty());
    let (right, defects) = (&bench.artifacts.driver, &bench.artifacts.defects);
    let mut with_defects = bench.scenario(1, Some(DEFECT));
    with_defects.driver.defect = None;
    let trials = Trials {
        right: (bench.scenario(1, None), change(bench.parts_with(right))),
        defects: (with_defects, change(bench.parts_with(defects))),
        budget: Budget { defect: 4, right: 2 },
        seed: 3,
        machines: 2,
    };
    let (told, rows) = (Arc::new(AtomicUsize::new(0)), plan.rows());
    let count = told.clone();
    let progress = move |progress: trial::Progress<'_>| {
        assert_eq!(progress.done, count.fetch_add(1, Ordering::Relaxed) + 1);
    };
    let outcomes = trial::run(trials, plan, progress).await.unwrap();
    assert_eq!((rows, told.load(Ordering::Relaxed), outcomes.len()), (4, 4, 4));
    outcomes
}

#[tokio::test]
async fn a_defect_shows_and_the_right_driver_is_clean() {
    let bench = Bench::new();
    for row in outcomes(&bench, |parts| parts).await {
        assert_eq!(row.judgement, Judgement::Matched, "{row:#?}");
        let runs = if row.subject == "right" { 2..=2 } else { 1..=4 };
        assert!(runs.contains(&row.iterations), "{row:#?}");
        assert!(row.evidence.is_none(), "{row:#?}");
    }
    // Nothing disagreed, so nothing was kept.
    assert_eq!(std::fs::read_dir(bench.runs()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_not_the_drivers_fault_is_no_disagreement() {
    let bench = Bench::new();
    let library = bench.folder.path().join("library.so");
    std::fs::write(&library, "not a library").unwrap();
    let broken = |parts| Parts { device_library: library.clone(), ..parts };
    for row in outcomes(&bench, broken).await {
        assert_eq!((row.judgement, row.iterations), (Judgement::Infrastructure, 1), "{row:#?}");
        assert!(row.summary.contains("library.so"), "{row:#?}");
        assert!(row.evidence.as_deref().is_some_and(Path::is_dir), "{row:#?}");
    }
}
