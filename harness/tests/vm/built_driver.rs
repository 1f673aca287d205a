//! The driver of this repository, in order and with a defect.

use squall_harness::{
    catalogue::{Catalogue, Match},
    crash::ModuleState,
    evidence::{Event, Evidence},
    flight::{Flight, Kind},
    run_dir::{FLIGHT, RunDir},
    scenario::Bus,
    verdict::{Access, Outcome, Verdict},
};

use crate::bench::Bench;

const DEFECT: &str = "interrupts-left-enabled-and-connected";

async fn clean(processors: u8) {
    let bench = Bench::new();
    let verdict = bench.built(processors, None).await;
    assert_eq!(verdict.outcome, Outcome::Clean, "{verdict:#?}");
    let device = &verdict.device;
    assert!(device.asserted >= 1000 && device.serviced >= 1000, "{device:?}");
    assert!(device.unload.before_silence >= 1, "no interrupt fell inside Unload: {device:?}");
    assert!(device.unload.serviced >= 1, "none was serviced inside Unload: {device:?}");
    assert!(verdict.notes.is_empty(), "{:?}", verdict.notes);

    let run = RunDir::open(&verdict.run_dir);
    let evidence = Evidence::load(&run).unwrap();
    let read = evidence.events().find_map(|event| match event {
        Event::DeviceRead { samples, error, .. } => Some((*samples, error.clone())),
        _ => None,
    });
    assert_eq!(read, Some((16, None)), "a program reads the device");
    let flight = Flight::open(&run.file(FLIGHT)).unwrap();
    let kinds: Vec<_> = flight.records().unwrap().map(|record| record.unwrap().kind).collect();
    for kind in [Kind::UnloadEnter, Kind::Silenced] {
        assert!(kinds.contains(&kind), "the recorder has no {kind:?}");
    }
}

#[tokio::test]
async fn unloads_cleanly_in_the_storm_on_one_processor() {
    clean(1).await;
}

#[tokio::test]
async fn unloads_cleanly_in_the_storm_on_two_processors() {
    clean(2).await;
}

#[tokio::test]
async fn unloads_cleanly_in_the_storm_on_four_processors() {
    clean(4).await;
}

async fn defective(processors: u8) {
    let bench = Bench::new();
    let verdict = bench.built(processors, Some(DEFECT)).await;
    let bugcheck = verdict.bugcheck.as_ref().unwrap_or_else(|| panic!("{verdict:#?}"));
    assert_eq!((bugcheck.code, bugcheck.access), (0xD1, Some(Access::Execute)), "{bugcheck:#?}");
    assert_eq!(bugcheck.parameters[2].0, 8);
    assert_eq!(bugcheck.module.as_deref(), Some("squall.sys"));
    assert_eq!(bugcheck.module_state, Some(ModuleState::Unloaded));
    assert!(bugcheck.symbol.is_some(), "{bugcheck:#?}");
    assert!(
        bugcheck.source.as_deref().is_some_and(|source| source.starts_with("driver/src/")),
        "{bugcheck:#?}"
    );
    let catalogue = Catalogue::read(&bench.artifacts.catalogue).unwrap();
    let defect = catalogue.named(DEFECT).unwrap();
    assert_eq!(defect.compare(&verdict, Bus::Isa, true), Match::Shown, "{bugcheck:#?}");
    assert_eq!(verdict.outcome.exit_code(), 1);
}

#[tokio::test]
async fn an_interrupt_left_connected_runs_into_the_unloaded_image_on_one_processor() {
    defective(1).await;
}

#[tokio::test]
async fn an_interrupt_left_connected_runs_into_the_unloaded_image_on_two_processors() {
    defective(2).await;
}

#[tokio::test]
async fn an_interrupt_left_connected_runs_into_the_unloaded_image_on_four_processors() {
    defective(4).await;
}

/// Also where the run directory has been moved: its evidence is all that counts.
#[tokio::test]
async fn a_verdict_can_be_computed_again_from_its_evidence() {
    let bench = Bench::new();
    for defect in [None, Some(DEFECT)] {
        let verdict = bench.built(2, defect).await;
        let run = RunDir::open(&verdict.run_dir);
        assert_eq!(Verdict::stored(&run).unwrap(), verdict);
        let moved = bench.folder.path().join("moved");
        std::fs::rename(run.path(), &moved).unwrap();
        assert_eq!(Verdict::of_run(&RunDir::open(&moved)).unwrap(), verdict);
        std::fs::remove_dir_all(&moved).unwrap();
    }
}

#[tokio::test]
async fn without_a_storm_nothing_is_serviced_and_the_verdict_says_so() {
    let bench = Bench::new();
    let mut scenario = bench.scenario(1, None);
    scenario.storm = "none".parse().unwrap();
    scenario.unload.fire_at_enter = false;
    scenario.driver.device = None;
    let verdict = bench.run_with(&scenario, &bench.parts()).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Clean, "{verdict:#?}");
    assert_eq!(verdict.device.asserted, 0);
    assert!(verdict.notes.iter().any(|note| note.contains("nothing was serviced")), "{:?}", verdict.notes);
}

/// The card is pulled out of its slot, or its disabling is late, while the driver unloads: what the driver cannot have done is not held
/// against it.
#[tokio::test]
async fn a_card_that_goes_wrong_in_unload_is_no_fault_of_the_driver() {
    let bench = Bench::new();
    for (wrong, counter) in
        [("removed = true", Kind::Vanished), ("late_disable = { delay_ns = 5000 }", Kind::Posted)]
    {
        let mut scenario = bench.scenario(2, None);
        scenario.unload.misbehave = Some(toml::from_str(wrong).unwrap());
        let verdict = bench.run_with(&scenario, &bench.parts()).await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Clean, "{verdict:#?}");
        assert!(verdict.notes.iter().any(|note| note.contains("asked to do wrong")), "{:?}", verdict.notes);
        let flight = Flight::open(&RunDir::open(&verdict.run_dir).file(FLIGHT)).unwrap();
        let seen = flight.records().unwrap().any(|record| record.unwrap().kind == counter);
        assert!(seen, "the recorder has no {counter:?}");
    }
}
