//! How fast the card is, beside QEMU's own `edu` device in the same guest.
//!
//! `edu` is the device that QEMU teaches with: registers in memory, INTx and MSI, written in C inside QEMU. What an
//! access of it costs is what an access of any device costs under TCG; so the card is measured against it, and not in
//! nanoseconds of some machine. Three devices are in one guest: the card with its flight recorder, a card without one,
//! and `edu`. Each round has the guest do the same to each of them, in turn and then in the opposite order, so that none is
//! better off for its place; of all rounds' ratios the median counts.
//!
//! What one acknowledged interrupt costs differs by nature: `edu` raises its line only when a processor writes to it, so
//! an interrupt of `edu`'s takes two writes; the card's storm raises by itself.
//!
//! `cargo xtask bench device` runs it. The exit code is 0 if every limit holds, else 1.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "what can fail ends the measurement"
)]

#[path = "../shared/arguments.rs"]
mod arguments;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/bus.rs"]
mod bus;
mod guest;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/machine.rs"]
mod machine;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/real_mode.rs"]
mod real_mode;
mod table;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use bus::{COMMAND, Function, route_to_pic};
use guest::{Controller, JOBS, Job, Kind, VECTOR, rom};
use machine::{Machine, PATIENCE, Setup};
use table::{Limit, Row, Sides};

/// Rounds, of which the median counts.
const ROUNDS: usize = 151;
/// What a round takes, and a little more: it is not looked at before.
const ROUND: Duration = Duration::from_millis(25);
/// Accesses in one job, some tenth of a millisecond: most jobs fit between two interruptions by the host's other work.
const ACCESSES: u32 = 2048;
/// Interrupts in one job.
const INTERRUPTS: u32 = 512;

/// Where the local APIC takes messages for processor 0.
const LOCAL_APIC: u32 = 0xFEE0_0000;

/// A device in the guest.
#[derive(Clone, Copy)]
struct Side {
    function: Function,
    memory: u32,
    ports: Option<u32>,
    /// A register that reads and writes plainly, and keeps what is written.
    register: u32,
    /// The register that acknowledges, and by which value.
    acknowledge: (u32, u32),
    /// How interrupts are asked for: the kind of job, the register, and what is written.
    interrupts: (Kind, u32, u32),
}

/// CONTROL and STATUS of the card; its storm blows all the time, and waits for IRQ_ENABLE.
const fn card(slot: u32, memory: u32, ports: u32) -> Side {
    Side {
        function: Function { bus: 0, slot },
        memory,
        ports: Some(ports),
        register: 0x04,
        acknowledge: (0x08, 1),
        interrupts: (Kind::Let, 0x04, 1),
    }
}

/// With the flight recorder, without, and `edu` (its specification in QEMU's documentation: "EDU device").
const SIDES: [Side; 3] = [
    card(4, 0xFC00_0000, 0x300),
    card(5, 0xFC80_0000, 0x340),
    Side {
        function: Function { bus: 0, slot: 6 },
        memory: 0xFD00_0000,
        ports: None,
        register: 0x04,
        acknowledge: (0x64, 1),
        interrupts: (Kind::Ask, 0x60, 1),
    },
];

impl Side {
    fn access(&self, kind: Kind) -> Option<Job> {
        let port = matches!(kind, Kind::PortRead | Kind::PortWrite);
        let base = if port { self.ports? } else { self.memory };
        Some(Job::access(kind, base + self.register, 0, ACCESSES))
    }

    fn storm(&self, controller: Controller) -> Job {
        let (kind, register, value) = self.interrupts;
        let (acknowledge, what) = self.acknowledge;
        Job {
            kind,
            address: self.memory + register,
            value,
            count: INTERRUPTS,
            acknowledge: (self.memory + acknowledge, what),
            controller,
            // No more of the card's; of no effect on `edu`, which is not asked any more.
            end: (self.memory + self.register, 0),
        }
    }
}

/// A guest with the three devices in it, their windows where [`SIDES`] says.
fn machine() -> Machine {
    let mut machine = Machine::with(Setup {
        rom: rom(),
        device: "squall-pci",
        device_options: ",addr=4",
        arguments: vec!["-S", "-device", "squall-pci,id=card1,addr=5", "-device", "edu,addr=6"],
        ..Setup::default()
    });
    for side in &SIDES {
        side.function.write(&mut machine, 0x10, side.memory);
        if let Some(ports) = side.ports {
            side.function.write(&mut machine, 0x14, ports);
            side.function.write(&mut machine, 0x18, side.memory + 0x1000);
        }
        side.function.write(&mut machine, COMMAND, 7);
    }
    route_to_pic(&mut machine, "pc");
    for card in ["card0", "card1"] {
        let storm = json!({ "path": format!("/machine/peripheral/{card}"), "property": "storm",
            "value": r#"{"pace":"ack","gap_ns":0}"# });
        machine.qmp("qom-set", storm).expect("a storm");
    }
    machine.qmp("cont", json!({})).expect("it runs");
    machine
}

/// Tells the guest its jobs.
fn tell(machine: &mut Machine, jobs: &[Job]) {
    for (index, job) in jobs.iter().enumerate() {
        for (place, word) in (Job::place(index)..).step_by(4).zip(job.words()) {
            machine.write_memory(place, word);
        }
    }
}

/// Has the guest do the jobs that it was told: the ticks that each took.
fn run(machine: &mut Machine, jobs: &[Job]) -> Vec<u64> {
    machine.write_memory(JOBS, jobs.len() as u32);
    let begun = Instant::now();
    sleep(ROUND);
    while machine.memory(JOBS) != 0 {
        assert!(begun.elapsed() < PATIENCE, "the guest does not do its jobs");
        sleep(Duration::from_millis(5));
    }
    let ticks = |index| {
        let place = Job::ticks(index);
        let [low, high] = [0, 4].map(|half| u64::from(machine.memory(place + half)));
        high << 32 | low
    };
    (0..jobs.len()).map(ticks).collect()
}

/// One measurement: a job for each side that takes part, and what they took, in rounds.
struct Measurement {
    what: &'static str,
    /// Whether it is shown as a rate.
    rate: bool,
    jobs: Sides<Option<Job>>,
    ticks: Sides<Vec<u64>>,
}

impl Measurement {
    fn new(what: &'static str, rate: bool, job: impl Fn(&Side) -> Option<Job>) -> Self {
        let jobs = Sides::from(SIDES.map(|side| job(&side)));
        Self { what, rate, jobs, ticks: Sides::default() }
    }
}

/// Measures in rounds. The ticks that the loop alone took are returned.
fn measure(machine: &mut Machine, measurements: &mut [Measurement], rounds: usize) -> Vec<u64> {
    let empty = Job::access(Kind::Loop, 0, 0, ACCESSES);
    let measured = measurements.iter().flat_map(|Measurement { jobs, .. }| {
        let back = jobs.iter().collect::<Vec<_>>().into_iter().rev();
        jobs.iter().chain(back).flatten().copied()
    });
    let jobs: Vec<Job> = std::iter::once(empty).chain(measured).collect();
    tell(machine, &jobs);
    // The first round translates the guest's code.
    run(machine, &jobs);
    let mut empty = Vec::new();
    for _ in 0..rounds {
        let ticks = run(machine, &jobs);
        let (alone, mut ticks) = ticks.split_first().expect("a job");
        empty.push(*alone);
        for Measurement { jobs, ticks: all, .. } in &mut *measurements {
            let sides = jobs.iter().flatten().count();
            let (both, rest) = ticks.split_at(2 * sides);
            ticks = rest;
            let mut sums = both.iter().zip(both.iter().rev()).map(|(there, back)| (there + back) / 2);
            for (_, all) in jobs.iter().zip(all.iter_mut()).filter(|(job, _)| job.is_some()) {
                all.extend(sums.next());
            }
        }
    }
    empty
}

/// Nanoseconds of one tick: the guest's counter is the host's.
fn tick_ns() -> f64 {
    // SAFETY: every x86-64 processor has it.
    let ticks = || unsafe { std::arch::x86_64::_rdtsc() };
    let (begun, first) = (Instant::now(), ticks());
    sleep(Duration::from_millis(100));
    begun.elapsed().as_nanos() as f64 / (ticks() - first) as f64
}

fn main() -> ExitCode {
    let json = match arguments::json("device") {
        Ok(json) => json,
        Err(usage) => return usage,
    };
    let mut machine = machine();
    let accesses = [
        ("register read", Kind::Read),
        ("register write", Kind::Write),
        ("port read", Kind::PortRead),
        ("port write", Kind::PortWrite),
    ];
    let mut measurements: Vec<_> =
        accesses.map(|(what, kind)| Measurement::new(what, false, |side| side.access(kind))).into();
    measurements
        .push(Measurement::new("interrupts, INTx, 8259", true, |side| Some(side.storm(Controller::Pic))));
    let empty = measure(&mut machine, &mut measurements, ROUNDS);

    // The same once more by messages, in which the three do not share a wire.
    for side in &SIDES {
        side.function.enable_msi(&mut machine, LOCAL_APIC, VECTOR);
    }
    let msi = |side: &Side| Some(side.storm(Controller::LocalApic));
    let mut messages = vec![Measurement::new("interrupts, MSI", true, msi)];
    measure(&mut machine, &mut messages, ROUNDS);
    measurements.append(&mut messages);

    let tick = tick_ns();
    let figure = |Measurement { what, rate, jobs, ticks }: &Measurement| {
        let ns = jobs.iter().zip(ticks.iter()).map(|(job, ticks)| {
            let count = job.map_or(f64::NAN, |job| f64::from(job.count));
            let net =
                |(ticks, empty): (&u64, &u64)| ticks.saturating_sub(if *rate { 0 } else { *empty }) as f64;
            ticks.iter().zip(&empty).map(net).map(|ticks| ticks * tick / count).collect()
        });
        Row { what, rate: *rate, ns: ns.collect() }
    };
    let rows: Vec<Row> = measurements.iter().map(figure).collect();
    let version = machine.qmp("query-version", json!({})).expect("a version");
    let version = version["qemu"].clone();
    let limits: Vec<Limit> = rows.iter().flat_map(Row::limits).collect();
    table::print(&version, &rows, &limits);
    if let Some(file) = json {
        let text = table::json(&version, ROUNDS, &rows, &limits).to_string();
        std::fs::write(file, text).expect("the file of --json can be written");
    }
    ExitCode::from(u8::from(!limits.iter().all(Limit::holds)))
}
