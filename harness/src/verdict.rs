//! The verdict: what a run's evidence says about the driver.
//!
//! A pure function of the files in the run directory, so that it can be computed again, by anybody, at any time. Its
//! first question is always whose fault it is: what happened before the driver was loaded, a crash without a
//! believable record, a fault that the guest calls its own, a watchdog over a guest that was not running, are all
//! *infrastructure*, and are never held against a driver.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    agent::{Finding, LoadAnswer, ServiceState},
    crash::{CrashError, CrashRecord, ModuleState},
    device::Stats,
    evidence::{Event, Evidence, EvidenceError},
    hex::{Hex, Status},
    image::{DriverImage, follows_call},
    profile::GuestProfile,
    qmp::MachineEnd,
    run_dir::{CRASH, DRIVER, DRIVER_PDB, RunDir, RunDirError, SCENARIO, VERDICT},
    scenario::{Scenario, ScenarioError},
    symbols::{self, Frame},
    wdk::SOURCE_ROOT,
};

/// The schema of [`Verdict`].
pub const SCHEMA: &str = "squall.verdict/1";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Loaded, unloaded in the storm, nothing left behind.
    Clean,
    /// The system stopped with a bugcheck.
    Bugcheck,
    /// The system lived, and something was left behind.
    Finding,
    /// Something that the driver had to finish was never finished.
    Hang,
    /// The machine was reset or shut down.
    Reset,
    /// The guest would not unload the driver.
    UnloadRefused,
    /// DriverEntry failed, or the loader would not take the image.
    LoadFailed,
    /// The guest lacks something that the driver needs.
    Unsupported,
    /// Something other than the driver failed.
    Infrastructure,
}

impl Outcome {
    /// The process's exit code: 0 clean, 1 the driver is at fault, 3 it was not the driver.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Bugcheck
            | Self::Finding
            | Self::Hang
            | Self::Reset
            | Self::UnloadRefused
            | Self::LoadFailed => 1,
            Self::Unsupported | Self::Infrastructure => 3,
        }
    }

    /// The word that the verdict's file uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Bugcheck => "bugcheck",
            Self::Finding => "finding",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::UnloadRefused => "unload-refused",
            Self::LoadFailed => "load-failed",
            Self::Unsupported => "unsupported",
            Self::Infrastructure => "infrastructure",
        }
    }
}

/// `squall.verdict/1`. Fields may be added; none changes its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// How the run ended.
    pub outcome: Outcome,
    /// The same in one sentence.
    pub summary: String,
    /// The bugcheck, where there was one.
    pub bugcheck: Option<Bugcheck>,
    /// What was left behind.
    pub findings: Vec<Finding>,
    /// What is worth knowing and is no fault.
    pub notes: Vec<String>,
    /// The loader's or DriverEntry's status, where loading failed.
    pub load_status: Option<Status>,
    /// The imports that the guest lacks, as `module!name`.
    pub missing_imports: Vec<String>,
    /// What was waited for in vain.
    pub hang: Option<Hang>,
    /// The card.
    pub device: DeviceCounts,
    /// The driver.
    pub driver: Subject,
    /// The guest's profile.
    pub guest: String,
    /// The guest's processors.
    pub processors: u8,
    /// Whether Driver Verifier watched the driver.
    pub verifier: bool,
    /// What every random choice came from.
    pub seed: u64,
    /// The instruction at which an interrupt was placed, where one was.
    pub injection: Option<u64>,
    /// Milliseconds from QEMU's start to the agent's first answer.
    pub boot_ms: Option<u64>,
    /// Where the evidence is.
    pub run_dir: PathBuf,
}

/// A bugcheck, as far as it could be explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bugcheck {
    /// The code.
    pub code: u32,
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub parameters: [Hex; 4],
    /// What was being done to the faulting address, where the code has a parameter for that.
    pub access: Option<Access>,
    /// The image in which the fault lies.
    pub module: Option<String>,
    /// Whether that image was still loaded.
    pub module_state: Option<ModuleState>,
    /// Bytes from its base.
    pub offset: Option<Hex>,
    /// The function there.
    pub symbol: Option<String>,
    /// The source line there.
    pub source: Option<String>,
    /// Return addresses inside the driver, innermost first.
    pub stack: Vec<StackFrame>,
    /// The processor that raised it.
    pub processor: u32,
    /// The IRQL there.
    pub irql: u8,
    /// Whether it was Driver Verifier that stopped the system.
    pub verifier: bool,
}

/// A return address inside an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackFrame {
    /// The image.
    pub module: String,
    /// Bytes from its base.
    pub offset: Hex,
    /// The function.
    pub symbol: Option<String>,
    /// The source line of the call.
    pub source: Option<String>,
}

/// What was being done to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Fetching an instruction.
    Execute,
}

impl Access {
    /// From the parameters of the codes that have one for it.
    fn of(code: u32, parameters: &[Hex; 4]) -> Option<Self> {
        let access = match code {
            // Address, IRQL, access, instruction.
            0x0A | 0xD1 | 0xD3 | 0xD4 => parameters[2].0,
            // Address, access, instruction.
            0x50 | 0xCC | 0xCD | 0xCE | 0xD5 | 0xD6 => parameters[1].0,
            _ => return None,
        };
        match access {
            0 => Some(Self::Read),
            1 | 2 => Some(Self::Write),
            8 | 0x10 => Some(Self::Execute),
            _ => None,
        }
    }
}

/// What was waited for in vain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hang {
    /// What it was.
    pub waited_for: String,
    /// For how long, in host milliseconds.
    pub host_ms: u64,
    /// Where each processor was, as `image+offset` or an address.
    pub processors: Vec<String>,
}

/// The card's counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceCounts {
    /// How it was attached.
    pub bus: String,
    /// Rising edges of its line.
    pub asserted: u64,
    /// Assertions that the guest acknowledged.
    pub serviced: u64,
    /// Samples while interrupts were disabled.
    pub suppressed: u64,
    /// Samples while one was waiting.
    pub coalesced: u64,
    /// The same around Unload.
    pub unload: UnloadCounts,
}

/// The card's counters around Unload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnloadCounts {
    /// Rising edges between Unload's entry and its return.
    pub asserted: u64,
    /// Acknowledged between Unload's entry and its return.
    pub serviced: u64,
    /// Outstanding at some time between Unload's entry and the moment the device was silenced.
    pub before_silence: u64,
    /// Whether it was silenced at all.
    pub silenced: bool,
}

/// The driver under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The file on the host.
    pub image: PathBuf,
    /// Its name in the guest.
    pub name: String,
    /// The defect that it was asked to show.
    pub defect: Option<String>,
}

/// A run directory that cannot be judged.
#[derive(Debug, Error)]
pub enum VerdictError {
    /// The evidence cannot be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The stored verdict cannot be read.
    #[error(transparent)]
    File(#[from] RunDirError),
    /// The stored verdict is no verdict.
    #[error("{}: {source}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// Everything that a verdict is computed from.
struct Case<'a> {
    scenario: &'a Scenario,
    profile: &'a GuestProfile,
    evidence: &'a Evidence,
    crash: Result<Option<CrashRecord>, CrashError>,
    run: &'a RunDir,
}

impl Verdict {
    /// The verdict on a run directory, computed from its evidence.
    pub fn of_run(run: &RunDir) -> Result<Self, VerdictError> {
        let scenario = Scenario::load(&run.file(SCENARIO))?;
        let profile = scenario.check()?;
        let evidence = Evidence::load(run)?;
        let crash = CrashRecord::read(&run.file(CRASH));
        Ok(Case { scenario: &scenario, profile: &profile, evidence: &evidence, crash, run }.judge())
    }

    /// The verdict that is stored in a run directory.
    pub fn stored(run: &RunDir) -> Result<Self, VerdictError> {
        let path = run.file(VERDICT);
        let bytes = std::fs::read(&path).map_err(RunDirError::new("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| VerdictError::Json { path, source })
    }
}

impl Case<'_> {
    fn judge(self) -> Verdict {
        let mut verdict = self.frame();
        self.decide(&mut verdict);
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
            },
            guest: self.scenario.guest.clone(),
            processors: self.scenario.processors,
            verifier: false,
            seed: self.scenario.seed,
            injection: None,
            boot_ms,
            run_dir: run_dir.unwrap_or_default(),
        }
    }

    /// The last counters that were seen.
    fn last_stats(&self) -> Option<&Stats> {
        self.evidence.events().rev().find_map(|event| match event {
            Event::DeviceStats { stats }
            | Event::Settled { stats, .. }
            | Event::InterruptsAwaited { stats, .. } => Some(stats),
            _ => None,
        })
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
        if self.last_stats().is_some_and(|stats| stats.irq_enabled) {
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
        let driver = self.evidence.events().find_map(|event| match event {
            Event::LoadAnswered { answer } => answer.driver.as_ref(),
            _ => None,
        })?;
        let offset = address.checked_sub(driver.base.0).filter(|offset| *offset < driver.size)?;
        Some(format!("{}+{offset:#x}", driver.name))
    }

    /// The frames of offsets in the driver, or why there are none.
    fn symbols(&self, offsets: &[u32]) -> Result<Vec<Vec<Frame>>, String> {
        let pdb = self.run.file(DRIVER_PDB);
        if !pdb.exists() {
            return Err("no symbols: no PDB was given with the driver".to_owned());
        }
        let identity = DriverImage::read(&self.run.file(DRIVER)).ok().and_then(|image| image.pdb);
        symbols::resolve(&pdb, identity, offsets).map_err(|error| error.to_string())
    }

    fn bugcheck(&self, verdict: &mut Verdict, record: &CrashRecord, load_started: bool) {
        let name = &record.name;
        if self.profile.own_faults.contains(&record.code) {
            return infrastructure(verdict, format!("the guest's own fault: {name} ({:#x})", record.code));
        }
        if !load_started {
            let what = format!("guest stopped with {name} ({:#x}) before a driver was loaded", record.code);
            return infrastructure(verdict, what);
        }
        let image = std::fs::read(self.run.file(DRIVER)).unwrap_or_default();
        let mut offsets = Vec::new();
        let ours = |module: &str| module.eq_ignore_ascii_case(&verdict.driver.name);
        let fault = record.module.as_ref().filter(|module| ours(&module.name));
        let fault = fault.and_then(|module| u32::try_from(module.offset.0).ok());
        offsets.extend(fault);
        let stack: Vec<_> = record
            .stack
            .iter()
            .filter_map(|address| record.locate(address.0))
            .filter(|(module, _)| ours(&module.name))
            .filter_map(|(module, offset)| Some((module.name.clone(), u32::try_from(offset).ok()?)))
            .filter(|(_, offset)| follows_call(&image, *offset))
            .collect();
        // A return address is after the call; the call's line is what is wanted.
        offsets.extend(stack.iter().map(|(_, offset)| offset.saturating_sub(1)));
        let mut frames = Vec::new();
        if !offsets.is_empty() {
            match self.symbols(&offsets) {
                Ok(found) => frames = found,
                Err(why) => verdict.notes.push(why),
            }
        }
        let mut frames = frames.into_iter().map(|found| found.into_iter().next());
        let here = if fault.is_some() { frames.next().flatten() } else { None };
        let stack = stack.into_iter().map(|(module, offset)| {
            let frame = frames.next().flatten();
            let (symbol, source) = split(frame);
            StackFrame { module, offset: Hex(offset.into()), symbol, source }
        });
        let stack = stack.collect();
        let (symbol, source) = split(here);
        let module = record.module.as_ref();
        verdict.summary = summary(record, symbol.as_deref());
        verdict.outcome = Outcome::Bugcheck;
        verdict.bugcheck = Some(Bugcheck {
            code: record.code,
            name: name.clone(),
            parameters: record.parameters,
            access: Access::of(record.code, &record.parameters),
            module: module.map(|module| module.name.clone()),
            module_state: module.map(|module| module.state),
            offset: module.map(|module| module.offset),
            symbol,
            source,
            stack,
            processor: record.processor,
            irql: record.irql,
            verifier: record.verifier,
        });
    }
}

fn split(frame: Option<Frame>) -> (Option<String>, Option<String>) {
    match frame {
        // The driver of this repository is built under a root that stands for the repository: a path below it is
        // one that can be opened from there.
        Some(Frame { function, source }) => {
            (function, source.map(|source| source.strip_prefix(SOURCE_ROOT).unwrap_or(&source).to_owned()))
        }
        None => (None, None),
    }
}

fn summary(record: &CrashRecord, symbol: Option<&str>) -> String {
    let access = match Access::of(record.code, &record.parameters) {
        Some(Access::Read) => "reading",
        Some(Access::Write) => "writing",
        Some(Access::Execute) => "executing",
        None => "in",
    };
    let mut text = format!("bugcheck {:#X} {}", record.code, record.name).replace("0X", "0x");
    if let Some(module) = &record.module {
        let state = match module.state {
            ModuleState::Loaded => "",
            ModuleState::Unloaded => ", which is unloaded",
        };
        let symbol = symbol.map(|symbol| format!(" ({symbol})")).unwrap_or_default();
        text += &format!(": {access} {}+{}{symbol}{state}", module.name, module.offset);
    }
    text + &format!(", at IRQL {}", record.irql)
}

fn infrastructure(verdict: &mut Verdict, message: String) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::{DriverInfo, Modules, StateAnswer, UnloadAnswer},
        evidence::Recorder,
    };

    const BASE: u64 = 0xffff_9000_0001_0000;

    fn stats(irq_enabled: bool) -> Stats {
        let mut stats: Stats = serde_json::from_str(
            r#"{"schema":"squall.device-stats/1","fired":1200,"asserted":1100,"suppressed":50,"coalesced":50,
            "serviced":1099,"fifo_level":0,"irq_enabled":false,"line":false,"reads":1,"writes":1,"unload":{"entered":1,
            "left":1,"asserted":2,"serviced":1,"before_silence":2,"silenced":true}}"#,
        )
        .unwrap();
        stats.irq_enabled = irq_enabled;
        stats
    }

    fn loaded() -> Event {
        let driver = DriverInfo {
            name: "squall.sys".into(),
            base: Hex(BASE),
            size: 0x6000,
            entry: Hex(BASE + 0x5000),
            unload: Some(Hex(BASE + 0x1000)),
            unload_return: None,
        };
        let answer = LoadAnswer {
            status: Status(0),
            driver: Some(driver),
            missing_imports: Vec::new(),
            invalid_image: None,
        };
        Event::LoadAnswered { answer }
    }

    fn refused(status: u32, missing: &[&str], invalid: Option<&str>) -> Event {
        let missing_imports = missing.iter().map(|name| (*name).to_owned()).collect();
        let invalid_image = invalid.map(str::to_owned);
        Event::LoadAnswered {
            answer: LoadAnswer { status: Status(status), driver: None, missing_imports, invalid_image },
        }
    }

    fn unloaded(findings: Vec<Finding>) -> Event {
        Event::UnloadAnswered { answer: UnloadAnswer { status: Status(0), findings, refused: None } }
    }

    fn aftermath(state: ServiceState, irq_enabled: bool) -> Vec<Event> {
        vec![
            Event::Settled { virtual_ns: Some(50_000_000), stats: stats(irq_enabled) },
            Event::ServiceState { answer: StateAnswer { state } },
            Event::GuestModules { modules: Modules::default() },
            Event::DeviceStats { stats: stats(irq_enabled) },
            Event::RunEnded {},
        ]
    }

    fn ended(how: MachineEnd) -> Event {
        Event::MachineEnded { end: how }
    }

    /// An image in which a call ends at 0x1005.
    fn image() -> Vec<u8> {
        crate::testing::pe::PeBuilder {
            code: vec![0xE8, 0, 0, 0, 0, 0xC3],
            ..crate::testing::pe::PeBuilder::driver()
        }
        .build()
    }

    /// A run directory with these events behind the first one, and this crash file.
    fn judge(events: impl IntoIterator<Item = Event>, crash: &str) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path(), 9).unwrap();
        let scenario = Scenario { seed: 9, ..Scenario::default() };
        run.write(SCENARIO, scenario.to_toml().unwrap().as_bytes()).unwrap();
        run.write(CRASH, crash.as_bytes()).unwrap();
        run.write(DRIVER, &image()).unwrap();
        let recorder = Recorder::create(&run).unwrap();
        let first =
            Event::RunStarted { run_dir: "/r".into(), driver: "squall.sys".into(), squall: "0".into() };
        for event in [first].into_iter().chain(events) {
            recorder.record(event).unwrap();
        }
        let verdict = Verdict::of_run(&run).unwrap();
        // Computing it again, and from what was stored, gives the same.
        run.write_json(VERDICT, &verdict).unwrap();
        assert_eq!(Verdict::stored(&run).unwrap(), verdict);
        assert_eq!(Verdict::of_run(&run).unwrap(), verdict);
        assert!(!verdict.summary.is_empty() && !verdict.summary.contains('\n'), "{}", verdict.summary);
        verdict
    }

    fn crash(code: u32, access: u64, state: &str) -> String {
        let fault = BASE + 0x1120;
        format!(
            "{{\"schema\":\"squall.crash/1\",\"code\":{code},\"name\":\"NAME\",\"parameters\":[\"{fault:#x}\",\"0x5\",\
             \"{access:#x}\",\"{fault:#x}\"],\"processor\":0,\"irql\":5,\"rip\":\"{fault:#x}\",\"stack\":[\"{:#x}\",\"{:#x}\",\"0x10\"],\
             \"module\":{{\"name\":\"squall.sys\",\"offset\":\"0x1120\",\"state\":\"{state}\"}},\"modules\":[{{\"name\":\
             \"squall.sys\",\"base\":\"{BASE:#x}\",\"size\":24576,\"state\":\"{state}\"}}],\"verifier\":false}}\n",
            BASE + 0x1006,
            BASE + 0x1005
        )
    }

    #[test]
    fn a_driver_that_leaves_nothing_is_clean() {
        let mut events = vec![Event::LoadStarted {}, loaded(), unloaded(Vec::new())];
        events.extend(aftermath(ServiceState::Unloaded, false));
        let verdict = judge(events, "");
        assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Clean, 0));
        assert_eq!((verdict.device.asserted, verdict.device.unload.before_silence), (1100, 2));
        assert_eq!((verdict.seed, verdict.run_dir.to_str().unwrap()), (9, "/r"));
        assert!(verdict.notes.is_empty());
    }

    #[test]
    fn what_is_left_behind_is_a_finding_whoever_saw_it() {
        let finding = Finding {
            kind: "pool-leaked".into(),
            object: "Sqll".into(),
            detail: "96 bytes".into(),
            stricter_than_windows: true,
        };
        for (findings, state, enabled, kind) in [
            (vec![finding], ServiceState::Unloaded, false, "pool-leaked"),
            (Vec::new(), ServiceState::Unloading, false, "driver-not-gone"),
            (Vec::new(), ServiceState::Unloaded, true, "device-left-enabled"),
        ] {
            let mut events = vec![Event::LoadStarted {}, loaded(), unloaded(findings)];
            events.extend(aftermath(state, enabled));
            let verdict = judge(events, "");
            assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Finding, 1));
            assert_eq!(verdict.findings[0].kind, kind);
        }
    }

    #[test]
    fn an_interrupt_into_an_unloaded_image_is_a_bugcheck_with_its_place() {
        let events = [Event::LoadStarted {}, loaded(), ended(MachineEnd::Panicked), Event::RunEnded {}];
        let verdict = judge(events, &crash(0xD1, 8, "unloaded"));
        assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Bugcheck, 1));
        let bugcheck = verdict.bugcheck.unwrap();
        assert_eq!((bugcheck.code, bugcheck.access), (0xD1, Some(Access::Execute)));
        assert_eq!(bugcheck.module_state, Some(ModuleState::Unloaded));
        assert_eq!(bugcheck.offset, Some(Hex(0x1120)));
        assert_eq!((bugcheck.stack.len(), bugcheck.stack[0].offset), (1, Hex(0x1005)));
        assert!(
            verdict.summary.contains("executing squall.sys+0x1120, which is unloaded"),
            "{}",
            verdict.summary
        );
        assert!(verdict.notes[0].contains("no symbols"), "{:?}", verdict.notes);
    }

    #[test]
    fn a_crash_record_counts_even_where_the_run_was_cut_off_before_anybody_saw_it() {
        let verdict = judge([Event::LoadStarted {}, loaded()], &crash(0xD1, 0, "loaded"));
        assert_eq!(verdict.bugcheck.unwrap().access, Some(Access::Read));
    }

    #[test]
    fn the_tools_own_faults_are_never_the_drivers() {
        let begun = || vec![Event::LoadStarted {}, loaded()];
        let with = |event| begun().into_iter().chain([event]).collect::<Vec<_>>();
        let watchdog = |clock| Event::Watchdog {
            waited_for: "Unload to return".into(),
            host_ms: 9,
            guest_clock_ns: clock,
            processors: Vec::new(),
        };
        for (events, crash, word) in [
            (with(ended(MachineEnd::Panicked)), crash(0x5351_0001, 0, "loaded"), "own fault"),
            (vec![ended(MachineEnd::Panicked)], crash(0xD1, 8, "loaded"), "before a driver"),
            (with(ended(MachineEnd::Panicked)), String::new(), "no crash record"),
            (with(ended(MachineEnd::Panicked)), "{\"schema\":".to_owned(), "torn"),
            (with(ended(MachineEnd::Panicked)), "not json\n".to_owned(), "crash record"),
            (
                vec![ended(MachineEnd::Reset { cause: "guest-reset".into(), by_guest: true })],
                String::new(),
                "reset",
            ),
            (with(ended(MachineEnd::Gone { why: "eof".into() })), String::new(), "QEMU is gone"),
            (
                with(ended(MachineEnd::Shutdown { cause: "host-signal".into(), by_guest: false })),
                String::new(),
                "from outside",
            ),
            (vec![watchdog(Some(100_000_000))], String::new(), "no driver was loaded"),
            (with(watchdog(Some(0))), String::new(), "clock stands still"),
            (with(Event::Infrastructure { message: "disk full".into() }), String::new(), "disk full"),
            (begun(), String::new(), "cut off after load-answered"),
            (Vec::new(), String::new(), "cut off after run-started"),
        ] {
            let verdict = judge(events, &crash);
            assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Infrastructure, 3));
            assert!(verdict.summary.contains(word), "{word}: {}", verdict.summary);
        }
    }

    #[test]
    fn a_run_cut_off_between_unload_and_stock_taking_is_not_clean() {
        let verdict = judge([Event::LoadStarted {}, loaded(), unloaded(Vec::new())], "");
        assert_eq!(verdict.outcome, Outcome::Infrastructure);
    }

    #[test]
    fn a_hang_says_what_was_waited_for_and_where_the_processors_were() {
        let watchdog = Event::Watchdog {
            waited_for: "Unload to return".into(),
            host_ms: 20_000,
            guest_clock_ns: Some(100_000_000),
            processors: vec![Hex(BASE + 0x1005), Hex(0xffff_ffff_8000_0000)],
        };
        let verdict = judge([Event::LoadStarted {}, loaded(), watchdog, Event::RunEnded {}], "");
        assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Hang, 1));
        assert!(verdict.summary.contains("Unload to return"));
        assert_eq!(verdict.hang.unwrap().processors, ["squall.sys+0x1005", "0xffffffff80000000"]);
    }

    #[test]
    fn resets_and_refusals_have_outcomes_of_their_own() {
        let reset = ended(MachineEnd::Reset { cause: "guest-reset".into(), by_guest: true });
        assert_eq!(judge([Event::LoadStarted {}, loaded(), reset], "").outcome, Outcome::Reset);
        let answer = UnloadAnswer {
            status: Status(0xC000_0001),
            findings: Vec::new(),
            refused: Some("one handle is open".into()),
        };
        let verdict = judge([Event::LoadStarted {}, loaded(), Event::UnloadAnswered { answer }], "");
        assert_eq!(verdict.outcome, Outcome::UnloadRefused);
        assert!(verdict.summary.contains("one handle is open"));
    }

    #[test]
    fn a_load_can_fail_in_three_ways() {
        let load = |event| judge([Event::LoadStarted {}, event, Event::RunEnded {}], "");
        let failed = load(refused(0xC000_009A, &[], None));
        assert_eq!((failed.outcome, failed.load_status), (Outcome::LoadFailed, Some(Status(0xC000_009A))));
        assert!(failed.summary.contains("STATUS_INSUFFICIENT_RESOURCES"), "{}", failed.summary);
        let invalid = load(refused(0xC000_007B, &[], Some("overlapping sections")));
        assert_eq!(invalid.outcome, Outcome::LoadFailed);
        assert!(invalid.summary.contains("overlapping sections"));
        let missing = load(refused(0xC000_0263, &["ntoskrnl.exe!A", "HAL.dll!B"], None));
        assert_eq!((missing.outcome, missing.outcome.exit_code()), (Outcome::Unsupported, 3));
        assert!(missing.summary.contains("ntoskrnl.exe!A") && missing.summary.contains("HAL.dll!B"));
    }

    #[test]
    fn outcomes_are_written_as_their_words() {
        for outcome in [
            Outcome::Clean,
            Outcome::Bugcheck,
            Outcome::Finding,
            Outcome::Hang,
            Outcome::Reset,
            Outcome::UnloadRefused,
            Outcome::LoadFailed,
            Outcome::Unsupported,
            Outcome::Infrastructure,
        ] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.word());
        }
    }
}
