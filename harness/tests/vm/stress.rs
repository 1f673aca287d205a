//! Cycle after cycle in one guest.

use squall_harness::{
    scenario::{Bus, Scenario},
    series::Begin,
    stress::{self, Growth, Stress},
};

use crate::bench::Bench;

#[tokio::test]
async fn device_and_driver_count_the_same_from_cycle_to_cycle() {
    let bench = Bench::new();
    let mut scenario = bench.scenario(1, None);
    scenario.before_unload.serviced = 50;
    scenario.unload.settle_ms = 1;
    for begin in [Begin::GoingOn, Begin::Restored] {
        let stress = Stress {
            scenario: Scenario { verifier: begin == Begin::Restored, ..scenario.clone() },
            parts: bench.parts_with(&bench.artifacts.driver),
            cycles: 4,
            limit: None,
            begin,
            kinds: vec![(Bus::Isa, 2), (Bus::PciMsix, 1)],
            machines: 2,
        };
        let all = stress::run(stress, |_, _, _| ()).await.unwrap();
        assert_eq!(all.iter().map(|cycles| cycles.bus).collect::<Vec<_>>(), [Bus::Isa, Bus::PciMsix]);
        for cycles in &all {
            assert_eq!((cycles.cycles, cycles.clean, cycles.miscounted), (4, 4, 0), "{cycles:#?}");
            assert!(cycles.serviced >= 4 * 50, "{cycles:#?}");
            assert_eq!(cycles.served, Some(cycles.serviced), "{cycles:#?}");
            assert!(cycles.after.is_some() && cycles.growth().is_none(), "{cycles:#?}");
        }
    }
    // Nothing was wrong, so nothing was kept.
    assert_eq!(std::fs::read_dir(bench.runs()).unwrap().count(), 0);
}

async fn by_itself(verifier: bool) {
    let bench = Bench::new();
    let mut scenario = bench.scenario(1, None);
    scenario.verifier = verifier;
    scenario.storm = "ack,gap=100us,jitter=100us,train=50".parse().unwrap();
    (scenario.before_unload.serviced, scenario.before_unload.samples_read) = (100, 0);
    scenario.cycles = 100;
    let stress = Stress {
        scenario,
        parts: bench.parts_with(&bench.artifacts.driver),
        cycles: 200,
        limit: None,
        begin: Begin::GoingOn,
        kinds: vec![(Bus::Isa, 1), (Bus::PciIntx, 2), (Bus::PciMsix, 4)],
        machines: 2,
    };
    let all = stress::run(stress, |_, _, _| ()).await.unwrap();
    assert_eq!(all.iter().map(|cycles| cycles.processors).collect::<Vec<_>>(), [1, 2, 4]);
    for cycles in &all {
        assert_eq!((cycles.cycles, cycles.clean, cycles.miscounted), (200, 200, 0), "{cycles:#?}");
        assert!(cycles.serviced >= 200 * 100, "{cycles:#?}");
        assert_eq!(cycles.served, Some(cycles.serviced), "{cycles:#?}");
        assert_eq!(cycles.claimed, Some(cycles.serviced), "{cycles:#?}");
        assert_eq!(cycles.growth(), Some(Growth::default()), "{cycles:#?}");
        assert!(cycles.cycle.is_some_and(|times| times.median_us <= times.worst_us), "{cycles:#?}");
    }
}

#[tokio::test]
async fn the_guest_goes_through_cycles_by_itself_and_holds_no_more_after_them() {
    by_itself(false).await;
}

#[tokio::test]
async fn nor_does_the_verifier() {
    by_itself(true).await;
}
