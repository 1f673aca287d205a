//! The card, seen as a driver and a bench see it.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::*;
use crate::{
    LateDisable, LateRegister, MAX_DELAY_NS, Misbehaviour, Pace, Schedule, Spurious, Trigger, UnloadWindow,
};

const CONTROL: u64 = 0x04;
const STATUS: u64 = 0x08;
const FIFO_DATA: u64 = 0x0C;
const FIFO_LEVEL: u64 = 0x10;
const SEQUENCE: u64 = 0x14;

const FELL: Option<LineChange> = Some(LineChange { level: false, rose: false });
const ROSE: Option<LineChange> = Some(LineChange { level: true, rose: true });

/// A card with its journal.
struct Bench {
    card: Card,
    told: Vec<Kind>,
}

impl Bench {
    fn new() -> Self {
        Self { card: Card::new(), told: Vec::new() }
    }

    fn enabled() -> Self {
        let mut bench = Self::new();
        let _ = bench.write(CONTROL, 1);
        bench.told.clear();
        bench
    }

    fn on<R>(&mut self, call: impl FnOnce(&mut Card, Journal<'_>) -> R) -> R {
        call(&mut self.card, &mut |event| self.told.push(event.kind))
    }

    fn read(&mut self, offset: u64) -> u32 {
        self.read_at(0, offset)
    }

    fn read_at(&mut self, now: u64, offset: u64) -> u32 {
        self.on(|card, journal| card.read(offset, 4, now, journal)).unwrap().0
    }

    fn write(&mut self, offset: u64, value: u64) -> Effects {
        self.write_at(0, offset, value)
    }

    fn write_at(&mut self, now: u64, offset: u64, value: u64) -> Effects {
        self.on(|card, journal| card.write(offset, 4, value, now, journal)).unwrap()
    }

    fn fire(&mut self, samples: u64) -> Effects {
        self.on(|card, journal| card.fire(samples, 0, journal))
    }

    fn storm(&mut self, gap_ns: u64, count: u64) -> Effects {
        self.start(&[Schedule { count, ..ack(gap_ns) }])
    }

    fn start(&mut self, storm: &[Schedule]) -> Effects {
        self.on(|card, journal| card.start_storm(storm, 0, journal)).unwrap()
    }

    fn time(&mut self, now: u64) -> Effects {
        self.on(|card, journal| card.time_reached(now, journal))
    }

    fn misbehave(&mut self, now: u64, wrong: Misbehaviour) -> Effects {
        self.on(|card, journal| card.misbehave(wrong, now, journal)).unwrap()
    }

    fn told(&mut self) -> Vec<Kind> {
        std::mem::take(&mut self.told)
    }
}

const RIGHT: Misbehaviour = Misbehaviour {
    stuck_line: None,
    late_disable: None,
    spurious: None,
    fifo_places: None,
    removed: false,
    late_register: None,
};

fn paced(pace: Pace) -> Schedule {
    Schedule { pace, jitter_ns: 0, burst: 1, burst_gap_ns: 0, count: 0, seed: 1 }
}

fn ack(gap_ns: u64) -> Schedule {
    paced(Pace::Acknowledgement { gap_ns, train: 1 })
}

fn every(period_ns: u64) -> Schedule {
    paced(Pace::Period { period_ns })
}

#[test]
fn identifies_itself_at_any_width() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0), 0x4C4C_5153);
    let bytes =
        [0, 1, 2, 3].map(|at| bench.on(|card, journal| card.read(at, 1, 0, journal)).unwrap().0 as u8);
    assert_eq!(&bytes, b"SQLL");
}

#[test]
fn a_sample_raises_the_line_and_its_acknowledgement_lowers_it() {
    let mut bench = Bench::enabled();
    assert_eq!(bench.fire(1).line, ROSE);
    assert_eq!(bench.read(STATUS), 1);
    assert_eq!(bench.write(STATUS, 1).line, FELL);
    assert_eq!(bench.read(STATUS), 0);
    use Kind::*;
    assert_eq!(bench.told(), vec![Fire, Assert, Read, Write, Serviced, Deassert, Read]);
    let seen = bench.card.statistics();
    assert_eq!((seen.fired, seen.asserted, seen.serviced), (1, 1, 1));
}

#[test]
fn a_suppressed_sample_interrupts_once_enabled() {
    let mut bench = Bench::new();
    assert_eq!(bench.fire(1).line, None);
    assert_eq!(bench.write(CONTROL, 1).line, ROSE);
    use Kind::*;
    assert_eq!(bench.told(), vec![Fire, Suppressed, Write, Enabled, Assert]);
    assert_eq!(bench.card.statistics().suppressed, 1);
}

#[test]
fn an_assertion_is_serviced_even_after_the_line_was_disabled() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(1);
    assert_eq!(bench.write(CONTROL, 0).line, FELL);
    let _ = bench.write(STATUS, 1);
    let _ = bench.write(STATUS, 1);
    assert_eq!(bench.card.statistics().serviced, 1);
    use Kind::*;
    assert_eq!(bench.told(), vec![Fire, Assert, Write, Silenced, Deassert, Write, Serviced, Write]);
}

#[test]
fn a_polled_sample_is_not_a_serviced_interrupt() {
    let mut bench = Bench::new();
    let _ = bench.fire(1);
    let _ = bench.write(STATUS, 1);
    assert_eq!(bench.card.statistics().serviced, 0);
}

#[test]
fn samples_come_out_in_order_and_a_full_fifo_overruns() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(66);
    assert_eq!(bench.read(FIFO_LEVEL), 64);
    assert_eq!(bench.read(STATUS), 0b11);
    assert_eq!(bench.read(SEQUENCE), 66);
    let taken: Vec<u32> = (0..65).map(|_| bench.read(FIFO_DATA)).collect();
    assert_eq!(taken[..64], (1..=64).collect::<Vec<u32>>());
    assert_eq!(taken[64], 0, "an empty FIFO reads 0");
    let _ = bench.fire(1);
    assert_eq!(bench.read(FIFO_DATA), 67, "65 and 66 were dropped");
    assert_eq!(bench.card.statistics().coalesced, 66);
}

#[test]
fn only_byte_0_of_the_fifo_pops() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(2);
    let byte = |bench: &mut Bench, at| bench.on(|card, journal| card.read(at, 1, 0, journal)).unwrap().0;
    assert_eq!(byte(&mut bench, FIFO_DATA + 1), 0);
    assert_eq!(bench.read(FIFO_LEVEL), 2);
    assert_eq!(byte(&mut bench, FIFO_DATA), 1);
    assert_eq!(bench.read(FIFO_LEVEL), 1);
}

#[test]
fn narrow_writes_change_only_their_bytes() {
    let mut bench = Bench::enabled();
    let narrow = |bench: &mut Bench, at, size, value| {
        bench.on(|card, journal| card.write(at, size, value, 0, journal)).unwrap()
    };
    let _ = narrow(&mut bench, CONTROL + 1, 1, 0xFF);
    assert_eq!(bench.read(CONTROL), 1);
    let _ = bench.fire(1);
    let _ = narrow(&mut bench, STATUS + 2, 2, 0xFFFF);
    assert_eq!(bench.read(STATUS), 1);
    let _ = narrow(&mut bench, CONTROL + 3, 1, 0x80);
    assert_eq!((bench.read(CONTROL), bench.read(STATUS), bench.read(SEQUENCE)), (0, 0, 0));
}

#[test]
fn a_write_uses_only_as_many_bytes_as_it_is_wide() {
    let mut bench = Bench::new();
    let _ = bench.on(|card, journal| card.write(CONTROL, 1, 0xFFFF_FF00, 0, journal)).unwrap();
    assert_eq!(bench.read(CONTROL), 0);
}

#[test]
fn reset_forgets_everything_but_what_the_bench_counted() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(3);
    bench.told();
    assert_eq!(bench.write(CONTROL, 0x8000_0001).line, FELL, "reset wins over enable");
    use Kind::*;
    assert_eq!(bench.told(), vec![Write, Reset, Silenced, Deassert]);
    let registers = [CONTROL, STATUS, FIFO_DATA, FIFO_LEVEL, SEQUENCE].map(|at| bench.read(at));
    assert_eq!(registers, [0; 5]);
    assert_eq!(bench.card.statistics().fired, 3);
}

#[test]
fn what_the_map_does_not_answer_changes_nothing() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(1);
    bench.told();
    for (offset, size) in [(0x05, 4), (0x09, 2), (0x20, 1), (0x08, 8), (0x08, 0), (u64::MAX, 4)] {
        assert!(bench.on(|card, journal| card.write(offset, size, u64::MAX, 0, journal)).is_err());
        assert!(bench.on(|card, journal| card.read(offset, size, 0, journal)).is_err());
    }
    assert_eq!(bench.told(), vec![Kind::Refused; 12]);
    assert_eq!((bench.read(STATUS), bench.read(FIFO_LEVEL)), (1, 1));
    let seen = bench.card.statistics();
    assert_eq!((seen.reads, seen.writes), (2, 1));
}

#[test]
fn reserved_registers_read_0_and_ignore_writes() {
    let mut bench = Bench::new();
    let _ = bench.write(0x18, 0xFFFF_FFFF);
    let _ = bench.write(0x00, 0xFFFF_FFFF);
    assert_eq!([bench.read(0x18), bench.read(0x1C), bench.read(0)], [0, 0, 0x4C4C_5153]);
}

#[test]
fn a_storm_waits_for_the_acknowledgement_and_the_gap() {
    let mut bench = Bench::enabled();
    let first = bench.storm(20, 3);
    assert_eq!((first.line, first.deadline), (ROSE, None));
    assert_eq!(bench.write_at(100, STATUS, 1).deadline, Some(120));
    let early = bench.time(119);
    assert_eq!((early.line, early.deadline), (None, Some(120)));
    let second = bench.time(121);
    assert_eq!((second.line, second.deadline), (ROSE, None));
    assert_eq!(bench.write_at(200, STATUS, 1).deadline, Some(220));
    bench.told();
    let last = bench.time(220);
    assert_eq!((last.line, last.deadline), (ROSE, None));
    assert_eq!(bench.told(), vec![Kind::Fire, Kind::Assert, Kind::Storm]);
    assert_eq!(bench.card.storm().count(), 0);
    assert_eq!(bench.write_at(300, STATUS, 1).deadline, None);
    assert_eq!(bench.card.statistics().fired, 3);
}

#[test]
fn a_storm_without_a_gap_falls_and_rises_in_one_write() {
    let mut bench = Bench::enabled();
    let _ = bench.storm(0, 0);
    assert_eq!(bench.write(STATUS, 1), Effects { line: ROSE, deadline: None });
    assert_eq!(bench.card.statistics().asserted, 2);
}

#[test]
fn a_suppressed_storm_rests_until_interrupts_are_enabled() {
    let mut bench = Bench::enabled();
    let _ = bench.storm(10, 0);
    let _ = bench.write(CONTROL, 0);
    assert_eq!(bench.write(STATUS, 1).deadline, Some(10), "the acknowledgement still paces");
    let suppressed = bench.time(10);
    assert_eq!(suppressed, Effects::default());
    assert_eq!(bench.write(STATUS, 1), Effects::default(), "polling does not pace");
    assert_eq!(bench.write(CONTROL, 1).line, ROSE, "a new sample, as none was left");
    assert_eq!(bench.card.statistics().fired, 3);
    assert_eq!(bench.write_at(50, STATUS, 1).deadline, Some(60));
}

#[test]
fn a_storm_begun_before_the_driver_starts_with_the_sample_that_waits() {
    let mut bench = Bench::new();
    let _ = bench.storm(10, 0);
    assert_eq!(bench.write(CONTROL, 1).line, ROSE);
    assert_eq!(bench.card.statistics().fired, 1);
    assert_eq!(bench.write_at(5, STATUS, 1).deadline, Some(15));
}

#[test]
fn a_storm_survives_a_reset() {
    let mut bench = Bench::enabled();
    let _ = bench.storm(10, 0);
    let _ = bench.on(|card, journal| card.reset(0, journal));
    assert_eq!(bench.write(CONTROL, 1).line, ROSE);
    assert_eq!(bench.card.statistics().fired, 2);
}

#[test]
fn storms_out_of_range_are_refused_and_the_old_one_goes_on() {
    let mut bench = Bench::enabled();
    let _ = bench.storm(10, 0);
    let refused = |bench: &mut Bench, storm: &[Schedule]| {
        std::string::ToString::to_string(
            &bench.on(|card, journal| card.start_storm(storm, 0, journal)).unwrap_err(),
        )
    };
    assert!(refused(&mut bench, &[ack(5), ack(MAX_DELAY_NS + 1)]).starts_with("gap_ns is 1000000001;"));
    assert_eq!(refused(&mut bench, &[]), "0 schedules; a storm has from 1 to 4");
    assert_eq!(refused(&mut bench, &[ack(5); 5]), "5 schedules; a storm has from 1 to 4");
    assert_eq!(bench.card.storm().collect::<Vec<_>>(), [ack(10)]);
    let _ = bench.on(|card, journal| card.stop_storm(0, journal));
    assert_eq!(bench.write(STATUS, 1).deadline, None);
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_another() {
    let schedule = |seed| -> Vec<u64> {
        let mut bench = Bench::enabled();
        let _ = bench.start(&[Schedule { jitter_ns: 1000, seed, ..ack(100) }]);
        let next = |bench: &mut Bench, now: &mut u64| {
            let due = bench.write_at(*now, STATUS, 1).deadline.unwrap();
            let _ = bench.time(due);
            let passed = due - *now;
            *now = due;
            passed
        };
        let mut now = 0;
        (0..20).map(|_| next(&mut bench, &mut now)).collect()
    };
    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7), schedule(8));
    assert!(schedule(7).iter().all(|due| (100..=1100).contains(due)));
}

#[test]
fn unload_under_storm_counts_what_fell_into_it() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(1);
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, false, 0, journal));
    let _ = bench.write(STATUS, 1); // the one that spans the entry
    let _ = bench.fire(1);
    let _ = bench.write(STATUS, 1);
    let _ = bench.fire(1);
    let _ = bench.write(CONTROL, 0);
    let _ = bench.write(STATUS, 1);
    let _ = bench.on(|card, journal| card.leave_unload(0x2000, 0, journal));
    let _ = bench.write(CONTROL, 1);
    let _ = bench.fire(1);
    let _ = bench.write(STATUS, 1);
    let unload = bench.card.statistics().unload;
    let expected = UnloadWindow {
        entered: 1,
        left: 1,
        asserted: 2,
        serviced: 3,
        before_silence: 3,
        silenced: true,
        inside: false,
    };
    assert_eq!(unload, expected);
}

#[test]
fn unload_that_never_silences_keeps_counting() {
    let mut bench = Bench::enabled();
    assert_eq!(bench.on(|card, journal| card.enter_unload(0x1000, true, 0, journal)).line, ROSE);
    assert_eq!(bench.told(), vec![Kind::UnloadEnter, Kind::Fire, Kind::Assert]);
    let _ = bench.write(STATUS, 1);
    let _ = bench.on(|card, journal| card.leave_unload(0x2000, 0, journal));
    let _ = bench.on(|card, journal| card.leave_unload(0x2000, 0, journal));
    let _ = bench.fire(1);
    let unload = bench.card.statistics().unload;
    assert_eq!((unload.left, unload.asserted, unload.before_silence, unload.silenced), (1, 1, 2, false));
}

#[test]
fn unload_of_a_silent_card_has_nothing_before_silence() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(1);
    let _ = bench.write(CONTROL, 0);
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, true, 0, journal));
    let unload = bench.card.statistics().unload;
    assert_eq!((unload.before_silence, unload.asserted, unload.silenced), (0, 0, true));
}

#[test]
fn a_second_entry_begins_anew() {
    let mut bench = Bench::enabled();
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, true, 0, journal));
    let _ = bench.write(STATUS, 1);
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, false, 0, journal));
    let unload = bench.card.statistics().unload;
    assert_eq!((unload.entered, unload.left, unload.asserted, unload.before_silence), (2, 0, 0, 0));
}

#[test]
fn a_period_goes_on_whether_or_not_anybody_listens() {
    let mut bench = Bench::new();
    assert_eq!(bench.start(&[every(1000)]).deadline, Some(1000));
    for now in [1000, 2000, 3000] {
        assert_eq!(bench.time(now).deadline, Some(now + 1000));
    }
    let seen = bench.card.statistics();
    assert_eq!((seen.fired, seen.suppressed, seen.coalesced, seen.missed), (4, 4, 3, 0));
    assert_eq!(bench.time(7500).deadline, Some(8000), "a burst at 4000, and 5000 to 7000 are missed");
    assert_eq!(bench.card.statistics().missed, 3);
}

#[test]
fn a_burst_is_back_to_back_or_at_a_gap() {
    let mut bench = Bench::enabled();
    let _ = bench.start(&[Schedule { burst: 5, ..every(1000) }]);
    assert_eq!(bench.card.statistics().fired, 5);
    let _ = bench.time(1000);
    assert_eq!(bench.card.statistics().fired, 10);
    let mut bench = Bench::enabled();
    let first = bench.start(&[Schedule { burst: 3, burst_gap_ns: 10, count: 5, ..every(1000) }]);
    assert_eq!(first.deadline, Some(10));
    let dues = [10, 20, 1000, 1010].map(|now| bench.time(now).deadline);
    assert_eq!(dues, [Some(20), Some(1000), Some(1010), None], "the last period is cut short");
}

#[test]
fn a_late_call_finds_a_burst_as_it_would_have_been() {
    let storm = [Schedule { burst: 3, burst_gap_ns: 10, ..every(1000) }];
    let (mut early, mut late) = (Bench::enabled(), Bench::enabled());
    let _ = early.start(&storm);
    let _ = late.start(&storm);
    for now in [10, 20] {
        let _ = early.time(now);
    }
    assert_eq!(early.read_at(25, SEQUENCE), 3);
    assert_eq!(late.read_at(25, SEQUENCE), 3, "nobody told it of the time");
}

#[test]
fn one_more_after_interrupts_were_disabled() {
    let mut bench = Bench::enabled();
    let (register, direction) = (Register::Control, Direction::Write);
    let trigger = Trigger { register, direction, mask: 1, value: 0 };
    let one_more = Schedule { count: 1, ..paced(Pace::Access { trigger, delay_ns: 2000 }) };
    assert_eq!(bench.start(&[one_more]).deadline, None);
    assert_eq!(bench.write_at(50, CONTROL, 1).deadline, None);
    assert_eq!(bench.write_at(100, CONTROL, 0).deadline, Some(2100));
    assert_eq!(bench.write_at(200, CONTROL, 0).deadline, Some(2100), "it is on its way");
    let _ = bench.time(2100);
    let seen = bench.card.statistics();
    assert_eq!((seen.fired, seen.suppressed, seen.asserted), (1, 1, 0));
    assert_eq!(bench.card.storm().count(), 0);
}

#[test]
fn an_access_without_delay_is_answered_in_the_same_call() {
    let mut bench = Bench::enabled();
    let trigger = Trigger { register: Register::Ident, direction: Direction::Read, mask: 0, value: 0 };
    let _ = bench.start(&[paced(Pace::Access { trigger, delay_ns: 0 })]);
    let (_, effects) = bench.on(|card, journal| card.read(0, 1, 5, journal)).unwrap();
    assert_eq!(effects.line, ROSE);
    assert_eq!(bench.told()[1..], [Kind::Read, Kind::Fire, Kind::Assert]);
}

#[test]
fn schedules_run_side_by_side() {
    let mut bench = Bench::enabled();
    let storm = [ack(100), Schedule { count: 2, ..every(1000) }];
    assert_eq!(bench.start(&storm).deadline, Some(1000));
    assert_eq!(bench.card.statistics().coalesced, 1);
    assert_eq!(bench.write_at(10, STATUS, 1).deadline, Some(110));
    let _ = bench.time(110);
    let _ = bench.time(1000);
    assert_eq!(bench.card.storm().collect::<Vec<_>>(), storm[..1], "the other has come to its end");
    assert_eq!(bench.card.statistics().fired, 4);
}

#[test]
fn a_stuck_line_does_not_listen_to_registers() {
    let mut bench = Bench::new();
    assert_eq!(bench.misbehave(0, Misbehaviour { stuck_line: Some(true), ..RIGHT }).line, ROSE);
    let _ = bench.fire(1);
    assert_eq!(bench.write(STATUS, 1).line, None);
    assert_eq!(bench.misbehave(0, Misbehaviour { stuck_line: Some(false), ..RIGHT }).line, FELL);
    let _ = bench.write(CONTROL, 1);
    assert_eq!(bench.fire(1).line, None);
    assert_eq!(bench.misbehave(0, RIGHT).line, ROSE, "the sample still waits");
    assert_eq!(bench.card.misbehaviour(), RIGHT);
}

fn late_disable(delay_ns: u64, samples: u64, read_flushes: bool) -> Misbehaviour {
    Misbehaviour { late_disable: Some(LateDisable { delay_ns, samples, read_flushes }), ..RIGHT }
}

#[test]
fn an_interrupt_comes_after_disable() {
    let mut bench = Bench::enabled();
    let _ = bench.misbehave(0, late_disable(100, 1, true));
    bench.told();
    let effects = bench.write_at(10, CONTROL, 0);
    assert_eq!((effects.line, effects.deadline), (ROSE, Some(110)));
    use Kind::*;
    assert_eq!(bench.told(), [Write, Posted, Fire, Assert]);
    assert!(bench.card.statistics().irq_enabled);
    assert_eq!(bench.time(110).line, FELL);
    assert_eq!(bench.told(), [Silenced, Deassert]);
    let seen = bench.card.statistics();
    assert_eq!((seen.suppressed, seen.misbehaviour.late_disables, seen.irq_enabled), (0, 1, false));
}

#[test]
fn a_read_flushes_a_late_disable_where_the_bus_does() {
    let mut bench = Bench::enabled();
    let _ = bench.misbehave(0, late_disable(100, 1, true));
    let _ = bench.write_at(10, CONTROL, 0);
    let (value, effects) = bench.on(|card, journal| card.read(CONTROL, 4, 11, journal)).unwrap();
    assert_eq!((value, effects.line, effects.deadline), (0, FELL, None));

    let _ = bench.write_at(12, CONTROL, 1);
    let _ = bench.misbehave(12, late_disable(100, 0, false));
    let _ = bench.write_at(20, CONTROL, 0);
    assert_eq!(bench.read_at(21, CONTROL), 0);
    assert!(bench.card.statistics().irq_enabled);
}

#[test]
fn a_late_disable_can_be_taken_back_and_ends_with_the_misbehaviour() {
    let mut bench = Bench::enabled();
    let _ = bench.misbehave(0, late_disable(100, 0, true));
    let _ = bench.write_at(10, CONTROL, 0);
    assert_eq!(bench.write_at(20, CONTROL, 1).deadline, None);
    assert!(!bench.told().contains(&Kind::Silenced));
    let _ = bench.write_at(30, CONTROL, 0);
    let _ = bench.misbehave(40, RIGHT);
    assert!(bench.told().contains(&Kind::Silenced) && !bench.card.statistics().irq_enabled);
}

#[test]
fn spurious_interrupts_have_an_empty_status() {
    let mut bench = Bench::enabled();
    let wrong = Misbehaviour { spurious: Some(Spurious { period_ns: 1000, width_ns: 10 }), ..RIGHT };
    assert_eq!(bench.misbehave(0, wrong).deadline, Some(1000));
    let begun = bench.time(1000);
    assert_eq!((begun.line, begun.deadline), (ROSE, Some(1010)));
    assert_eq!(bench.read_at(1005, STATUS), 0);
    let ended = bench.time(1010);
    assert_eq!((ended.line, ended.deadline), (FELL, Some(2000)));
    let late = bench.time(2500);
    assert_eq!(late.line, Some(LineChange { level: false, rose: true }), "up and down in one call");
    let _ = bench.write_at(2600, CONTROL, 0);
    assert_eq!(bench.time(3000).line, None, "a card that is disabled is silent");
    let seen = bench.card.statistics();
    assert_eq!((seen.asserted, seen.serviced, seen.misbehaviour.spurious), (2, 0, 2));
}

#[test]
fn fewer_places_overrun_sooner() {
    let mut bench = Bench::enabled();
    let _ = bench.misbehave(0, Misbehaviour { fifo_places: Some(2), ..RIGHT });
    let _ = bench.fire(2);
    assert_eq!(bench.read(STATUS), 1);
    let _ = bench.fire(1);
    assert_eq!((bench.read(STATUS), bench.read(FIFO_LEVEL)), (0b11, 2));
    let _ = bench.misbehave(0, RIGHT);
    let _ = bench.fire(1);
    assert_eq!((bench.read(FIFO_LEVEL), bench.read(SEQUENCE)), (3, 4));
}

#[test]
fn a_removed_card_is_not_there_until_it_is_back() {
    let mut bench = Bench::enabled();
    let _ = bench.storm(10, 0);
    bench.told();
    assert_eq!(bench.misbehave(0, Misbehaviour { removed: true, ..RIGHT }).line, FELL);
    let registers = [CONTROL, STATUS, FIFO_DATA, 0x18, 0].map(|at| bench.read(at));
    assert_eq!(registers, [u32::MAX; 5]);
    let narrow = bench.on(|card, journal| card.read(STATUS, 1, 0, journal)).unwrap().0;
    assert_eq!(narrow, 0xFF);
    let _ = bench.write(CONTROL, 0);
    let _ = bench.write(STATUS, 1);
    let _ = bench.fire(1);
    let seen = bench.card.statistics();
    assert_eq!((seen.suppressed, seen.misbehaviour.vanished, seen.line), (1, 8, false));
    assert_eq!(bench.misbehave(0, RIGHT).line, ROSE);
    assert_eq!((bench.read(CONTROL), bench.read(FIFO_LEVEL)), (1, 2));
}

#[test]
fn a_storm_that_met_a_removed_card_goes_on_once_it_is_back() {
    let mut bench = Bench::enabled();
    let _ = bench.misbehave(0, Misbehaviour { removed: true, ..RIGHT });
    let _ = bench.storm(10, 0);
    let _ = bench.on(|card, journal| card.reset(0, journal));
    let _ = bench.misbehave(0, RIGHT);
    assert_eq!(bench.write(CONTROL, 1).line, ROSE, "a new sample, as the reset forgot the first");
    assert_eq!(bench.card.statistics().fired, 2);
}

fn late_status(delay_ns: u64, reads: u64) -> Misbehaviour {
    let register = Register::Status;
    Misbehaviour { late_register: Some(LateRegister { register, delay_ns, reads }), ..RIGHT }
}

#[test]
fn a_register_answers_late_by_reads() {
    let mut bench = Bench::enabled();
    let _ = bench.misbehave(0, late_status(0, 2));
    let _ = bench.fire(1);
    assert_eq!([bench.read(STATUS), bench.read(STATUS), bench.read(STATUS)], [0, 0, 1]);
    let _ = bench.write(STATUS, 1);
    assert_eq!(bench.read(STATUS), 1);
    let _ = bench.fire(1);
    assert_eq!(bench.read(STATUS), 1, "it is what it was again");
    assert_eq!(bench.card.statistics().misbehaviour.stale_reads, 3);
    assert_eq!(bench.read(FIFO_LEVEL), 2, "the others are not late");
}

#[test]
fn a_register_answers_late_by_time_since_the_change_even_if_that_was_not_seen() {
    let mut bench = Bench::enabled();
    let _ = bench.start(&[every(1000)]);
    let _ = bench.write(STATUS, 1);
    let _ = bench.misbehave(10, late_status(100, 0));
    bench.told();
    assert_eq!(bench.read_at(1050, STATUS), 0);
    assert_eq!(bench.told()[2..], [Kind::Read, Kind::Stale]);
    assert_eq!(bench.read_at(1100, STATUS), 1);
}

#[test]
fn the_end_of_time_never_comes() {
    let mut bench = Bench::enabled();
    let _ = bench.start(&[every(1000), Schedule { burst: 1000, burst_gap_ns: MAX_DELAY_NS, ..ack(0) }]);
    let _ = bench
        .misbehave(0, Misbehaviour { spurious: Some(Spurious { period_ns: 1000, width_ns: 1 }), ..RIGHT });
    assert_eq!(bench.time(u64::MAX).deadline, Some(u64::MAX));
    let _ = bench.write_at(u64::MAX, STATUS, 1);
}
