//! Which outcome it is.
//!
//! The first question is always whose fault it is: what happened before the driver was loaded, a crash without a
//! believable record, a fault that the guest calls its own, a watchdog over a guest that was not running, are all
//! *infrastructure*, and are never held against a driver.

use super::{CycleTimes, DeviceCounts, Hang, Outcome, SCHEMA, Subject, UnloadCounts, Verdict};
use crate::{
    agent::{CycleAnswer, CyclePart, DriverInfo, Finding, LoadAnswer, ServiceState},
    crash::{CrashError, CrashRecord, ModuleRange},
    device::Stats,
    evidence::{Event, Evidence},
    hex::{Hex, Status},
    misbehaviour::Misbehaviour,
    profile::GuestProfile,
    qmp::MachineEnd,
    run_dir::{CONSOLE, RunDir},
    scenario::Scenario,
    toolbox::newer_than_tested,
};

/// How much of a guest's console is looked through for a driver's last words.
const LAST_WORDS: u64 = 64 << 10;
/// The same for each cycle.
const WORDS_OF_A_CYCLE: u64 = 4 << 10;

/// Everything that a verdict is computed from.
pub(super) struct Case<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) profile: &'a GuestProfile,
    pub(super) evidence: &'a Evidence,
    pub(super) crash: Result<Option<CrashRecord>, CrashError>,
    pub(super) run: &'a RunDir,
}

impl Case<'_> {
    pub(super) fn judge(self) -> Verdict {
        let mut verdict = self.frame();
        self.decide(&mut verdict);
        if let Some(lacking) = self.verifier().filter(|lacking| lacking.0 != 0) {
            let text = format!("the guest lacks these of Driver Verifier's standard checks: {lacking}");
            verdict.notes.push(text);
        }
        let version = self.evidence.events().find_map(|event| match event {
            Event::QemuAnswered { version } => Some(version),
            _ => None,
        });
        verdict.notes.extend(version.and_then(|version| newer_than_tested(version)));
        for wrong in self.scenario.wrongs() {
            let text = serde_json::to_string(wrong).unwrap_or_default();
            verdict.notes.push(format!("the card was asked to do wrong: {text}"));
        }
        if verdict.device.serviced == 0 && !matches!(verdict.outcome, Outcome::Infrastructure) {
            verdict.notes.push("nothing was serviced: no interrupt of the card was acknowledged".to_owned());
        }
        verdict
    }

    /// Everything but the outcome.
    fn frame(&self) -> Verdict {
        let find = |pick: &dyn Fn(&Event) -> Option<String>| self.evidence.events().find_map(pick);
        let name = find(&|event| match event {
            Event::RunStarted { driver, .. } => Some(driver.clone()),
            _ => None,
        });
        let run_dir = self.evidence.events().find_map(|event| match event {
            Event::RunStarted { run_dir, .. } => Some(run_dir.clone()),
            _ => None,
        });
        let place = self.place_of(name.as_deref().unwrap_or_default());
        let boot_ms = self.evidence.events().find_map(|event| match event {
            Event::AgentAnswered { after_ms, .. } => Some(*after_ms),
            _ => None,
        });
        Verdict {
            schema: SCHEMA.to_owned(),
            outcome: Outcome::Infrastructure,
            summary: String::new(),
            bugcheck: None,
            findings: Vec::new(),
            notes: Vec::new(),
            load_status: None,
            missing_imports: Vec::new(),
            hang: None,
            device: self.counts(),
            driver: Subject {
                image: self.scenario.driver.image.clone(),
                name: name.unwrap_or_default(),
                defect: self.scenario.driver.defect.clone(),
                interrupts: self.served(),
                base: place.map(|(base, _)| base),
                size: place.map(|(_, size)| size),
            },
            guest: self.scenario.guest.clone(),
            processors: self.scenario.processors,
            verifier: self.verifier().is_some(),
            seed: self.scenario.seed,
            injection: None,
            cycles: self.cycled().map(|answer| CycleTimes {
                completed: answer.cycles,
                claimed: answer.interrupts,
                load_us: answer.load_us.clone(),
                cycle_us: answer.cycle_us.clone(),
                unload_us: answer.unload_us.clone(),
            }),
            boot_ms,
            run_dir: run_dir.unwrap_or_default(),
        }
    }

    /// What the driver itself says at the end: the count in its console line `... unloading after N interrupts ...`. Of cycles, the
    /// sum, if it has said one in each.
    fn served(&self) -> Option<u64> {
        let cycles = self.cycled().map(|answer| answer.cycles);
        let most = LAST_WORDS.max(cycles.unwrap_or(0).saturating_mul(WORDS_OF_A_CYCLE));
        let console = self.run.tail(CONSOLE, most).ok()?;
        let text = String::from_utf8_lossy(&console);
        let mut counts = text.lines().rev().filter_map(|line| {
            let (_, count) = line.split_once(": unloading after ")?;
            count.split_once(" interrupts")?.0.parse::<u64>().ok()
        });
        let Some(cycles) = cycles else { return counts.next() };
        let counts: Vec<_> = counts.collect();
        (counts.len() as u64 == cycles).then(|| counts.iter().sum())
    }

    /// What the guest said about its own cycles.
    fn cycled(&self) -> Option<&CycleAnswer> {
        self.evidence.events().find_map(|event| match event {
            Event::CyclesAnswered { answer } => Some(answer),
            _ => None,
        })
    }

    /// Where the driver's image lay: as the guest said when it had loaded it, or as it says in its crash record, where that
    /// answer never came.
    fn place_of(&self, name: &str) -> Option<(Hex, u64)> {
        let told = self.loaded().map(|driver| (driver.base, driver.size));
        let ours = |module: &&ModuleRange| module.name.eq_ignore_ascii_case(name);
        told.or_else(|| {
            let record = self.crash.as_ref().ok()?.as_ref()?;
            record.modules.iter().find(ours).map(|module| (module.base, module.size))
        })
    }

    /// Where Driver Verifier watched: what the guest lacks of its standard settings.
    fn verifier(&self) -> Option<Hex> {
        self.evidence.events().find_map(|event| match event {
            Event::VerifierSet { lacking, .. } => Some(*lacking),
            _ => None,
        })
    }

    /// What the guest said about the driver that it loaded.
    fn loaded(&self) -> Option<&DriverInfo> {
        self.evidence.events().find_map(|event| match event {
            Event::LoadAnswered { answer } => answer.driver.as_ref(),
            _ => None,
        })
    }

    /// The last counters that were seen, counted from the run's beginning.
    fn last_stats(&self) -> Option<Stats> {
        let last = self.evidence.events().rev().find_map(|event| match event {
            Event::DeviceStats { stats }
            | Event::Settled { stats, .. }
            | Event::InterruptsAwaited { stats, .. } => Some(stats),
            _ => None,
        })?;
        let before = self.evidence.events().find_map(|event| match event {
            Event::CountersAtBeginning { stats } => Some(stats),
            _ => None,
        });
        Some(before.map_or_else(|| last.clone(), |before| last.since(before)))
    }

    fn counts(&self) -> DeviceCounts {
        let bus = self.scenario.bus.to_string();
        match self.last_stats() {
            None => DeviceCounts {
                bus,
                asserted: 0,
                serviced: 0,
                suppressed: 0,
                coalesced: 0,
                unload: UnloadCounts::default(),
            },
            Some(stats) => DeviceCounts {
                bus,
                asserted: stats.asserted,
                serviced: stats.serviced,
                suppressed: stats.suppressed,
                coalesced: stats.coalesced,
                unload: UnloadCounts {
                    asserted: stats.unload.asserted,
                    serviced: stats.unload.serviced,
                    before_silence: stats.unload.before_silence,
                    silenced: stats.unload.silenced,
                },
            },
        }
    }

    /// Whose fault it is, and what it was. The order of the questions is the order of trust: what the guest itself
    /// recorded about its death comes first, what is missing comes last.
    fn decide(&self, verdict: &mut Verdict) {
        let mut load_started = false;
        let mut end = None;
        let mut watchdog = None;
        let mut load = None;
        let mut unload = None;
        let mut state = None;
        let mut run_ended = false;
        for event in self.evidence.events() {
            match event {
                Event::Infrastructure { message } => return infrastructure(verdict, message.clone()),
                Event::LoadStarted {} => load_started = true,
                Event::MachineEnded { end: how } => end = Some(how),
                Event::Watchdog { waited_for, host_ms, guest_clock_ns, processors } => {
                    watchdog = Some((waited_for, *host_ms, *guest_clock_ns, processors));
                }
                Event::LoadAnswered { answer } => load = Some(answer),
                Event::UnloadAnswered { answer } => unload = Some(answer),
                Event::ServiceState { answer } => state = Some(answer.state),
                Event::RunEnded {} => run_ended = true,
                _ => {}
            }
        }

        let panicked = end == Some(&MachineEnd::Panicked);
        match &self.crash {
            Ok(Some(record)) => return self.bugcheck(verdict, record, load_started),
            Ok(None) if panicked => {
                return infrastructure(verdict, "guest crashed and left no crash record".to_owned());
            }
            Err(error) => return infrastructure(verdict, format!("guest crashed; {error}")),
            Ok(None) => {}
        }
        if let Some(end) = end {
            return match end {
                MachineEnd::Reset { .. } | MachineEnd::Shutdown { by_guest: true, .. } if load_started => {
                    verdict.outcome = Outcome::Reset;
                    verdict.summary = format!("the machine stopped: {end}");
                }
                other => infrastructure(verdict, format!("machine stopped: {other}")),
            };
        }
        if let Some((waited_for, host_ms, clock, processors)) = watchdog {
            return self.hang(verdict, waited_for, host_ms, clock, processors, load_started);
        }
        if let Some(answer) = self.cycled() {
            return self.cycles_ended(verdict, answer, state, run_ended);
        }
        match (load, unload) {
            (Some(answer), None) if !answer.status.is_success() => load_failed(verdict, answer),
            (Some(_), Some(answer)) => match (&answer.refused, answer.status.is_success()) {
                (None, true) => self.unloaded(verdict, answer.findings.clone(), state, run_ended),
                (why, _) => {
                    let why = why.clone().unwrap_or_else(|| describe(answer.status));
                    verdict.outcome = Outcome::UnloadRefused;
                    verdict.summary = format!("the guest would not unload the driver: {why}");
                    verdict.findings.clone_from(&answer.findings);
                }
            },
            _ => infrastructure(verdict, self.interrupted()),
        }
    }

    /// For a run that stopped without saying why: somebody killed it.
    fn interrupted(&self) -> String {
        let last = self.evidence.entries.last().and_then(|entry| {
            let value = serde_json::to_value(&entry.event).ok()?;
            value["event"].as_str().map(str::to_owned)
        });
        format!("the run was cut off after {}", last.as_deref().unwrap_or("nothing at all"))
    }

    fn unloaded(
        &self,
        verdict: &mut Verdict,
        mut findings: Vec<Finding>,
        state: Option<ServiceState>,
        run_ended: bool,
    ) {
        if !run_ended || state.is_none() {
            return infrastructure(verdict, self.interrupted());
        }
        // A write that did not reach the card, or has not yet, is no fault of the driver's.
        let hidden = self.scenario.wrongs().any(Misbehaviour::hides_writes);
        if self.last_stats().is_some_and(|stats| stats.irq_enabled) && !hidden {
            findings.push(Finding {
                kind: "device-left-enabled".to_owned(),
                object: verdict.device.bus.clone() + " card",
                detail: "after Unload the device still has IRQ_ENABLE set and may assert its line".to_owned(),
                stricter_than_windows: true,
            });
        }
        if state != Some(ServiceState::Unloaded) {
            findings.push(Finding {
                kind: "driver-not-gone".to_owned(),
                object: verdict.driver.name.clone(),
                detail: "Unload returned, yet something still holds the driver object".to_owned(),
                stricter_than_windows: false,
            });
        }
        if findings.is_empty() {
            verdict.outcome = Outcome::Clean;
            verdict.summary = "loaded, unloaded in the storm, nothing left behind".to_owned();
        } else {
            verdict.outcome = Outcome::Finding;
            let kinds: Vec<_> = findings.iter().map(|finding| finding.kind.as_str()).collect();
            verdict.summary = format!("unloaded, and left behind: {}", kinds.join(", "));
        }
        verdict.findings = findings;
    }

    fn cycles_ended(
        &self,
        verdict: &mut Verdict,
        answer: &CycleAnswer,
        state: Option<ServiceState>,
        run_ended: bool,
    ) {
        let before = format!("after {} cycles", answer.cycles);
        match &answer.stopped {
            Some(stopped) if answer.findings.is_empty() => {
                let (outcome, what) = match stopped.during {
                    CyclePart::Load => (Outcome::LoadFailed, "the driver could not be loaded"),
                    CyclePart::Storm => (Outcome::Hang, "no more interrupts were served"),
                    CyclePart::Unload => (Outcome::UnloadRefused, "the guest would not unload the driver"),
                };
                verdict.outcome = outcome;
                verdict.summary = format!("{before} {what}: {} ({})", stopped.why, describe(answer.status));
            }
            None if answer.cycles != u64::from(self.scenario.cycles) => {
                infrastructure(verdict, format!("guest ended its cycles {before} and did not say why"));
            }
            _ => {
                self.unloaded(verdict, answer.findings.clone(), state, run_ended);
                if verdict.outcome == Outcome::Finding {
                    verdict.summary = format!("{before}: {}", verdict.summary);
                }
            }
        }
    }

    fn hang(
        &self,
        verdict: &mut Verdict,
        waited_for: &str,
        host_ms: u64,
        clock: Option<u64>,
        processors: &[Hex],
        load_started: bool,
    ) {
        let waited = format!("waited {host_ms} ms for {waited_for}");
        if !load_started {
            return infrastructure(verdict, format!("{waited}, in vain; no driver was loaded yet"));
        }
        // A tenth of a second was measured: half of it is a guest that runs, on however busy a host.
        if clock.is_some_and(|moved| moved < 50_000_000) {
            return infrastructure(verdict, format!("{waited}, in vain; the guest's clock stands still"));
        }
        verdict.outcome = Outcome::Hang;
        verdict.summary = format!("{waited}, in vain");
        let place = |address: &Hex| self.place(address.0).unwrap_or_else(|| address.to_string());
        verdict.hang = Some(Hang {
            waited_for: waited_for.to_owned(),
            host_ms,
            processors: processors.iter().map(place).collect(),
        });
    }

    /// An address inside the driver, as `name+offset`.
    fn place(&self, address: u64) -> Option<String> {
        let driver = self.loaded()?;
        let offset = address.checked_sub(driver.base.0).filter(|offset| *offset < driver.size)?;
        Some(format!("{}+{offset:#x}", driver.name))
    }
}

/// Something other than the driver failed.
pub(super) fn infrastructure(verdict: &mut Verdict, message: String) {
    verdict.outcome = Outcome::Infrastructure;
    verdict.summary = message;
}

fn load_failed(verdict: &mut Verdict, answer: &LoadAnswer) {
    verdict.load_status = Some(answer.status);
    if !answer.missing_imports.is_empty() {
        verdict.outcome = Outcome::Unsupported;
        verdict.summary = format!(
            "the {} guest lacks {} of the driver's imports: {}",
            verdict.guest,
            answer.missing_imports.len(),
            answer.missing_imports.join(", ")
        );
        verdict.missing_imports.clone_from(&answer.missing_imports);
        return;
    }
    verdict.outcome = Outcome::LoadFailed;
    verdict.findings.clone_from(&answer.findings);
    verdict.summary = match &answer.invalid_image {
        Some(why) => format!("the guest's loader would not take the image: {why}"),
        None => format!("DriverEntry failed with {}", describe(answer.status)),
    };
}

fn describe(status: Status) -> String {
    match status.name() {
        Some(name) => format!("{status} ({name})"),
        None => status.to_string(),
    }
}
