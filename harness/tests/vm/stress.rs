//! Cycle after cycle in one guest.

use squall_harness::{
    scenario::{Bus, Scenario},
    series::Begin,
    stress::{self, Stress},
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
