//! Statistics as JSON.

use serde::Serialize;
use squall_model::{Misdeeds, Statistics, UnloadWindow};

use super::show;
use crate::line::Mode;

/// The statistics of a card, whose interrupts take the form `mode`.
pub(crate) fn show_statistics(statistics: Statistics, mode: Option<Mode>) -> String {
    let Statistics { unload, misbehaviour, .. } = statistics;
    show(Some(StatisticsDocument {
        schema: "squall.device-stats/1",
        fired: statistics.fired,
        asserted: statistics.asserted,
        suppressed: statistics.suppressed,
        coalesced: statistics.coalesced,
        missed: statistics.missed,
        serviced: statistics.serviced,
        fifo_level: statistics.fifo_level,
        irq_enabled: statistics.irq_enabled,
        line: statistics.line,
        interrupt: mode.map_or("none", Mode::name),
        reads: statistics.reads,
        writes: statistics.writes,
        unload: UnloadDocument::new(unload),
        misbehaviour: MisbehaviourDocument::new(misbehaviour),
    }))
}

#[derive(Serialize)]
struct StatisticsDocument {
    schema: &'static str,
    fired: u64,
    asserted: u64,
    suppressed: u64,
    coalesced: u64,
    missed: u64,
    serviced: u64,
    fifo_level: u32,
    irq_enabled: bool,
    line: bool,
    interrupt: &'static str,
    reads: u64,
    writes: u64,
    unload: UnloadDocument,
    misbehaviour: MisbehaviourDocument,
}

#[derive(Serialize)]
struct UnloadDocument {
    entered: u64,
    left: u64,
    asserted: u64,
    serviced: u64,
    before_silence: u64,
    silenced: bool,
}

impl UnloadDocument {
    fn new(window: UnloadWindow) -> Self {
        let UnloadWindow { entered, left, asserted, serviced, before_silence, silenced, inside: _ } = window;
        Self { entered, left, asserted, serviced, before_silence, silenced }
    }
}

#[derive(Serialize)]
struct MisbehaviourDocument {
    late_disables: u64,
    spurious: u64,
    stale_reads: u64,
    vanished: u64,
}

impl MisbehaviourDocument {
    fn new(misdeeds: Misdeeds) -> Self {
        let Misdeeds { late_disables, spurious, stale_reads, vanished } = misdeeds;
        Self { late_disables, spurious, stale_reads, vanished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_the_documented_object() {
        let statistics = Statistics { fired: 3, line: true, ..Statistics::default() };
        let text = show_statistics(statistics, Some(Mode::Msix));
        let expected = concat!(
            r#"{"schema":"squall.device-stats/1","fired":3,"asserted":0,"suppressed":0,"coalesced":0,"missed":0,"serviced":0,"#,
            r#""fifo_level":0,"irq_enabled":false,"line":true,"interrupt":"msix","reads":0,"writes":0,"#,
            r#""unload":{"entered":0,"left":0,"asserted":0,"serviced":0,"before_silence":0,"silenced":false},"#,
            r#""misbehaviour":{"late_disables":0,"spurious":0,"stale_reads":0,"vanished":0}}"#
        );
        assert_eq!(text, expected);
    }
}
