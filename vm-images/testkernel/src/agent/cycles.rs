//! Many lives of a driver, one after the other, without the host in between.
//!
//! A command and its answer cost milliseconds on the way from the host and back, many times what loading and unloading a driver
//! cost. So whoever wants thousands of loads and unloads asks for them at once: each cycle loads the driver of an installed
//! service, waits until its ISR has claimed so many interrupts, which somebody else has to see to, and unloads it in the middle of
//! them. The first cycle in which anything is other than it should be ends it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::answers::{Cycled, Finding, Stopped};

use super::services::{self, NotLoaded, NotUnloaded};
use super::verbs::{reason, told};
use crate::hal::clock;
use crate::io::driver::Refusal;
use crate::ke::claims;
use crate::nt::{
    NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, STATUS_TIMEOUT, STATUS_UNSUCCESSFUL,
};

/// How long a cycle waits for the next interrupt.
const PATIENCE_NS: u64 = 5_000_000_000;

/// The last cycle.
struct Last {
    status: NTSTATUS,
    stopped: Stopped,
    findings: Vec<Finding>,
}

impl Last {
    fn new(during: &'static str, status: NTSTATUS, why: String) -> Self {
        Self { status, stopped: Stopped { during, why }, findings: Vec::new() }
    }
}

/// Runs the cycles. On the thread that DriverEntry and Unload are to run on.
pub fn run(service: &str, cycles: u32, interrupts: u32) -> Cycled {
    let mut answer = Cycled {
        status: told(STATUS_SUCCESS),
        cycles: 0,
        interrupts: 0,
        load_us: Vec::new(),
        cycle_us: Vec::new(),
        unload_us: Vec::new(),
        stopped: None,
        findings: Vec::new(),
    };
    let times = [&mut answer.load_us, &mut answer.cycle_us, &mut answer.unload_us];
    if times.into_iter().any(|times| times.try_reserve_exact(cycles as usize).is_err()) {
        answer.status = told(STATUS_INSUFFICIENT_RESOURCES);
        return answer;
    }
    let before = claims::total();
    for _ in 0..cycles {
        match cycle(service, interrupts) {
            Ok([load, whole, unload]) => {
                answer.load_us.push(load);
                answer.cycle_us.push(whole);
                answer.unload_us.push(unload);
                answer.cycles += 1;
            }
            Err(Last { status, stopped, findings }) => {
                answer.status = told(status);
                answer.stopped = Some(stopped);
                answer.findings = findings;
                break;
            }
        }
    }
    answer.interrupts = claims::total() - before;
    answer
}

/// One cycle: how long load, all of it and unload took, in microseconds.
fn cycle(service: &str, interrupts: u32) -> Result<[u32; 3], Last> {
    let began = clock::now_ns();
    let claimed = claims::total();
    services::load(service, None).map_err(|refused| {
        let (status, why) = reason(&refused);
        let findings = match refused {
            NotLoaded::Driver(Refusal::Entry { findings, .. }) => findings,
            _ => Vec::new(),
        };
        Last { findings, ..Last::new("load", status, why) }
    })?;
    let loaded = clock::now_ns();
    await_interrupts(claimed, interrupts.into())?;
    let stormed = clock::now_ns();
    let refused = |NotUnloaded { why, findings }| Last {
        findings: findings.unwrap_or_default(),
        ..Last::new("unload", STATUS_UNSUCCESSFUL, why)
    };
    let findings = services::unload(service).map_err(refused)?;
    let ended = clock::now_ns();
    if !findings.is_empty() {
        let why = "something was left behind".into();
        return Err(Last { findings, ..Last::new("unload", STATUS_SUCCESS, why) });
    }
    let microseconds = |from: u64, to: u64| u32::try_from(to.saturating_sub(from) / 1000).unwrap_or(u32::MAX);
    Ok([microseconds(began, loaded), microseconds(began, ended), microseconds(stormed, ended)])
}

fn await_interrupts(before: u64, wanted: u64) -> Result<(), Last> {
    if claims::wait_for(before, wanted, PATIENCE_NS) {
        return Ok(());
    }
    let (seen, seconds) = (claims::total() - before, PATIENCE_NS / 1_000_000_000);
    let why = format!("after {seen} of {wanted} interrupts there was none for {seconds} s");
    Err(Last::new("storm", STATUS_TIMEOUT, why))
}
