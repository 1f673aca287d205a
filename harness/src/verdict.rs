//! The verdict: what a run's evidence says about the driver.
//!
//! A pure function of the files in the run directory, so that it can be computed again, by anybody, at any time. Here is
//! what a verdict is, and what its file holds; `judge` decides which outcome it is, and `bugcheck` explains a crash.

mod bugcheck;
mod judge;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    agent::Finding,
    crash::{CrashRecord, ModuleState},
    evidence::{Evidence, EvidenceError},
    hex::{Hex, Status},
    run_dir::{CRASH, RunDir, RunDirError, SCENARIO, VERDICT},
    scenario::{Scenario, ScenarioError},
    symbols::Frame,
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
    /// What the guest's own cycles took, where it was told to load and unload the driver over and over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycles: Option<CycleTimes>,
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
    /// All functions that the compiler has merged at that address, innermost first; `symbol` and `source` are the first one
    /// that is not of the language's own library.
    #[serde(default)]
    pub inlined: Vec<Frame>,
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

/// Cycles of load, storm and unload that the guest went through by itself. Times are the guest's, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CycleTimes {
    /// Cycles completed.
    pub completed: u64,
    /// Interrupts that the driver's ISR claimed, as the guest has counted.
    pub claimed: u64,
    /// Of each cycle: loading, DriverEntry and all.
    pub load_us: Vec<u32>,
    /// Of each cycle: all of it.
    pub cycle_us: Vec<u32>,
    /// Of each cycle: Unload, until the image was gone.
    pub unload_us: Vec<u32>,
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
    /// The interrupts that it served as it says itself, where it says so.
    #[serde(default)]
    pub interrupts: Option<u64>,
    /// Where its image lay in the guest, where that was seen.
    #[serde(default)]
    pub base: Option<Hex>,
    /// How many bytes it had there.
    #[serde(default)]
    pub size: Option<u64>,
}

impl Subject {
    /// Whether an address lies in its image, loaded or unloaded.
    pub fn holds(&self, address: u64) -> bool {
        let offset = self.base.and_then(|base| address.checked_sub(base.0));
        offset.zip(self.size).is_some_and(|(offset, size)| offset < size)
    }
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

impl Verdict {
    /// The verdict on a run directory, computed from its evidence.
    pub fn of_run(run: &RunDir) -> Result<Self, VerdictError> {
        let scenario = Scenario::load(&run.file(SCENARIO))?;
        let profile = scenario.check()?;
        let evidence = Evidence::load(run)?;
        let crash = CrashRecord::read(&run.file(CRASH));
        Ok(judge::Case { scenario: &scenario, profile: &profile, evidence: &evidence, crash, run }.judge())
    }

    /// The verdict that is stored in a run directory.
    pub fn stored(run: &RunDir) -> Result<Self, VerdictError> {
        let path = run.file(VERDICT);
        let bytes = std::fs::read(&path).map_err(RunDirError::new("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| VerdictError::Json { path, source })
    }
}

#[cfg(test)]
mod tests;
