//! The card, seen as a driver and a bench see it.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::*;
use crate::UnloadWindow;

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
        self.on(|card, journal| card.read(offset, 4, journal)).unwrap()
    }

    fn write(&mut self, offset: u64, value: u64) -> Effects {
        self.write_at(0, offset, value)
    }

    fn write_at(&mut self, now: u64, offset: u64, value: u64) -> Effects {
        self.on(|card, journal| card.write(offset, 4, value, now, journal)).unwrap()
    }

    fn fire(&mut self, samples: u64) -> Effects {
        self.on(|card, journal| card.fire(samples, journal))
    }

    fn storm(&mut self, gap_ns: u64, count: u64) -> Effects {
        let spec = StormSpec { gap_ns, jitter_ns: 0, count, seed: 1 };
        self.on(|card, journal| card.start_storm(spec, journal)).unwrap()
    }

    fn told(&mut self) -> Vec<Kind> {
        std::mem::take(&mut self.told)
    }
}

#[test]
fn identifies_itself_at_any_width() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0), 0x4C4C_5153);
    let bytes = [0, 1, 2, 3].map(|at| bench.on(|card, journal| card.read(at, 1, journal)).unwrap() as u8);
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
    let byte = |bench: &mut Bench, at| bench.on(|card, journal| card.read(at, 1, journal)).unwrap();
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
        assert!(bench.on(|card, journal| card.read(offset, size, journal)).is_err());
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
    let early = bench.on(|card, journal| card.time_reached(119, journal));
    assert_eq!((early.line, early.deadline), (None, Some(120)));
    let second = bench.on(|card, journal| card.time_reached(121, journal));
    assert_eq!((second.line, second.deadline), (ROSE, None));
    assert_eq!(bench.write_at(200, STATUS, 1).deadline, Some(220));
    bench.told();
    let last = bench.on(|card, journal| card.time_reached(220, journal));
    assert_eq!((last.line, last.deadline), (ROSE, None));
    assert_eq!(bench.told(), vec![Kind::Fire, Kind::Assert, Kind::Storm]);
    assert_eq!(bench.card.storm(), None);
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
    let suppressed = bench.on(|card, journal| card.time_reached(10, journal));
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
    let _ = bench.on(Card::reset);
    assert_eq!(bench.write(CONTROL, 1).line, ROSE);
    assert_eq!(bench.card.statistics().fired, 2);
}

#[test]
fn storms_out_of_range_are_refused_and_the_old_one_goes_on() {
    let mut bench = Bench::enabled();
    let _ = bench.storm(10, 0);
    let wrong = StormSpec { gap_ns: MAX + 1, jitter_ns: 0, count: 0, seed: 0 };
    const MAX: u64 = crate::MAX_GAP_NS;
    assert!(bench.on(|card, journal| card.start_storm(wrong, journal)).is_err());
    assert_eq!(bench.card.storm().map(|spec| spec.gap_ns), Some(10));
    let _ = bench.on(Card::stop_storm);
    assert_eq!(bench.write(STATUS, 1).deadline, None);
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_another() {
    let schedule = |seed| -> Vec<Option<u64>> {
        let mut bench = Bench::enabled();
        let spec = StormSpec { gap_ns: 100, jitter_ns: 1000, count: 0, seed };
        let _ = bench.on(|card, journal| card.start_storm(spec, journal)).unwrap();
        let next = |bench: &mut Bench| {
            let due = bench.write(STATUS, 1).deadline;
            let _ = bench.on(|card, journal| card.time_reached(due.unwrap(), journal));
            due
        };
        (0..20).map(|_| next(&mut bench)).collect()
    };
    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7), schedule(8));
    assert!(schedule(7).iter().all(|due| (100..=1100).contains(&due.unwrap())));
}

#[test]
fn unload_under_storm_counts_what_fell_into_it() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(1);
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, false, journal));
    let _ = bench.write(STATUS, 1); // the one that spans the entry
    let _ = bench.fire(1);
    let _ = bench.write(STATUS, 1);
    let _ = bench.fire(1);
    let _ = bench.write(CONTROL, 0);
    let _ = bench.write(STATUS, 1);
    let _ = bench.on(|card, journal| card.leave_unload(0x2000, journal));
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
    assert_eq!(bench.on(|card, journal| card.enter_unload(0x1000, true, journal)).line, ROSE);
    assert_eq!(bench.told(), vec![Kind::UnloadEnter, Kind::Fire, Kind::Assert]);
    let _ = bench.write(STATUS, 1);
    let _ = bench.on(|card, journal| card.leave_unload(0x2000, journal));
    let _ = bench.on(|card, journal| card.leave_unload(0x2000, journal));
    let _ = bench.fire(1);
    let unload = bench.card.statistics().unload;
    assert_eq!((unload.left, unload.asserted, unload.before_silence, unload.silenced), (1, 1, 2, false));
}

#[test]
fn unload_of_a_silent_card_has_nothing_before_silence() {
    let mut bench = Bench::enabled();
    let _ = bench.fire(1);
    let _ = bench.write(CONTROL, 0);
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, true, journal));
    let unload = bench.card.statistics().unload;
    assert_eq!((unload.before_silence, unload.asserted, unload.silenced), (0, 0, true));
}

#[test]
fn a_second_entry_begins_anew() {
    let mut bench = Bench::enabled();
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, true, journal));
    let _ = bench.write(STATUS, 1);
    let _ = bench.on(|card, journal| card.enter_unload(0x1000, false, journal));
    let unload = bench.card.statistics().unload;
    assert_eq!((unload.entered, unload.left, unload.asserted, unload.before_silence), (2, 0, 0, 0));
}
