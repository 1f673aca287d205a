//! Every call that DriverEntry makes fails in turn.

use std::{collections::BTreeMap, time::Duration};

use squall_harness::{
    agent::{LoadAnswer, ServiceState},
    evidence::Recorder,
    hex::Status,
    profile::GuestProfile,
    run_dir::RunDir,
    scenario::{Bus, Scenario},
    session::Session,
};

use crate::bench::Bench;

/// No driver of ours says it by itself, and no routine either.
const INJECTED: Status = Status(0xC000_0185);
/// More calls than any DriverEntry here makes.
const MOST: u32 = 200;

/// Routines whose failure is told by a null pointer or a zero: the driver has to choose the status.
fn tells_by_zero(routine: &str) -> bool {
    [
        "Allocate",
        "Map",
        "HalGet",
        "IoBuild",
        "IoCreateController",
        "IoAttachDeviceToDeviceStack",
        "IoGetDmaAdapter",
    ]
    .iter()
    .any(|part| routine.contains(part))
}

/// Loads the built driver with its calls failing in turn, until none is left to fail; gives the answers.
async fn fail_in_turn(bus: Bus, processors: u8, verified: bool) -> Vec<LoadAnswer> {
    let bench = Bench::new();
    let run = RunDir::create(&bench.runs(), 1).unwrap();
    let profile = GuestProfile::named("testkernel").unwrap();
    let scenario = Scenario { bus, ..bench.scenario(processors, None) };
    let machine = bench.machine(&profile, &scenario, &run);
    let recorder = Recorder::create(&run).unwrap();
    let mut session = Session::start(&machine, Duration::from_secs(20), &recorder).await.unwrap();
    let agent = &mut session.agent;
    let (service, image) = ("squall", r"C:\squall.sys");
    agent.upload(image, &std::fs::read(&bench.artifacts.driver.image).unwrap()).await.unwrap();
    if verified {
        let flags = agent.verifier_query().await.unwrap().supported_flags();
        agent.verify("squall.sys", u32::try_from(flags).unwrap()).await.unwrap();
    }
    let parameters: BTreeMap<_, _> = scenario.service_parameters();
    assert!(agent.install(service, image, &parameters).await.unwrap().is_success());

    let mut answers = Vec::new();
    for call in 1..MOST {
        let loading = agent.load_failing(service, call, INJECTED);
        let answer = tokio::time::timeout(Duration::from_secs(20), loading).await.unwrap().unwrap();
        let over = answer.injection.as_ref().is_some_and(|injection| injection.failed.is_none());
        answers.push(answer);
        if over {
            break;
        }
        assert_eq!(agent.state(service).await.unwrap().state, ServiceState::Installed, "{answers:#?}");
    }
    let unloaded = agent.unload(service).await.unwrap();
    assert!(unloaded.status.is_success() && unloaded.findings.is_empty(), "{unloaded:#?}");
    session.end().await;
    answers
}

async fn comes_back_with_the_failure_and_nothing_kept(bus: Bus, processors: u8, verified: bool) {
    let mut answers = fail_in_turn(bus, processors, verified).await;
    let last = answers.pop().unwrap();
    assert!(last.status.is_success() && last.driver.is_some(), "{last:#?}");
    assert!(answers.len() >= 5, "{answers:#?}");
    for answer in &answers {
        let injection = answer.injection.as_ref().unwrap();
        let routine = injection.failed.as_deref().unwrap();
        println!("{routine}: {}", answer.status);
        let told =
            if tells_by_zero(routine) { !answer.status.is_success() } else { answer.status == INJECTED };
        assert!(told, "{routine} failed; {answer:#?}");
        assert!(answer.findings.is_empty(), "{routine} failed; {answer:#?}");
    }
}

#[tokio::test]
async fn a_driver_entry_whose_calls_fail_in_turn_gives_everything_back_on_one_processor() {
    comes_back_with_the_failure_and_nothing_kept(Bus::Isa, 1, false).await;
}

#[tokio::test]
async fn a_driver_entry_whose_calls_fail_in_turn_gives_everything_back_on_four_processors() {
    comes_back_with_the_failure_and_nothing_kept(Bus::Isa, 4, false).await;
}

/// Every check that the guest has is on: none of them accuses a driver that is right.
#[tokio::test]
async fn a_driver_entry_whose_calls_fail_in_turn_breaks_no_rule_of_the_verifiers() {
    comes_back_with_the_failure_and_nothing_kept(Bus::Isa, 2, true).await;
}

#[tokio::test]
async fn a_driver_entry_on_pci_whose_calls_fail_in_turn_gives_everything_back() {
    for bus in [Bus::PciIntx, Bus::PciMsi, Bus::PciMsix] {
        comes_back_with_the_failure_and_nothing_kept(bus, 2, true).await;
    }
}
