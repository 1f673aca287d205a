//! Evidence: what was seen, in order, with the time since the run began.
//!
//! `events.jsonl` is the run's memory. A line is written, whole and at once, before anything is done about what it
//! says; so whatever kills the run, the file tells how far it came. The verdict is computed from these lines and never
//! from anything that only the running process knew.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    agent::{CycleAnswer, LoadAnswer, Modules, StateAnswer, UnloadAnswer},
    device::{Stats, StormSpec, Watch},
    hex::{Hex, Status},
    misbehaviour::Misbehaviour,
    qmp::MachineEnd,
    run_dir::{EVENTS, RunDir, RunDirError},
};

/// The longest line and the most lines that are read back.
const LONGEST_LINE: u64 = 4 << 20;
const MOST_EVENTS: usize = 1 << 20;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Host nanoseconds since the run began.
    pub at_ns: u64,
    /// What was seen.
    #[serde(flatten)]
    pub event: Event,
}

/// What can be seen in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run directory exists; nothing has been started.
    RunStarted {
        /// Where it was made.
        run_dir: PathBuf,
        /// The image's name in the guest.
        driver: String,
        /// Which Squall.
        squall: String,
    },
    /// QEMU's process runs.
    QemuStarted {
        /// Its number.
        pid: Option<u32>,
    },
    /// QEMU answers.
    QemuAnswered {
        /// Its version.
        version: String,
    },
    /// The guest's agent answers.
    AgentAnswered {
        /// Its version.
        version: String,
        /// Milliseconds since QEMU was started.
        after_ms: u64,
    },
    /// The machine was brought back to the moment at which its guest was ready.
    MachineRestored {
        /// Where that machine's own files are.
        machine: PathBuf,
        /// Milliseconds until the agent answered again.
        after_ms: u64,
    },
    /// The counters from which this run's own are counted.
    CountersAtBeginning {
        /// The counters then.
        stats: Stats,
    },
    /// The image is in the guest.
    DriverUploaded {
        /// Under this path.
        path: String,
        /// So many bytes.
        bytes: u64,
    },
    /// The service exists.
    ServiceInstalled {
        /// Its name.
        service: String,
        /// What the guest said.
        status: Status,
    },
    /// Driver Verifier watches the driver from its load on.
    VerifierSet {
        /// With these flags.
        flags: Hex,
        /// The guest lacks these of its standard settings.
        lacking: Hex,
    },
    /// From here on, what goes wrong may be the driver's doing.
    LoadStarted {},
    /// DriverEntry returned, or the loader refused.
    LoadAnswered {
        /// What the guest said.
        answer: LoadAnswer,
    },
    /// The storm blows.
    StormStarted {
        /// What the device was told.
        storm: StormSpec,
    },
    /// The driver's device was read.
    DeviceRead {
        /// By this path.
        path: String,
        /// So many samples.
        samples: u32,
        /// Why no more, where something was in the way.
        error: Option<String>,
    },
    /// Enough interrupts were acknowledged, or it was seen that there will not be.
    InterruptsAwaited {
        /// How many were wanted.
        wanted: u64,
        /// The counters at the end of the wait.
        stats: Stats,
    },
    /// The device watches for Unload.
    WatchSet {
        /// What it was told.
        watch: Watch,
    },
    /// The agent was told to unload the driver.
    UnloadStarted {},
    /// Unload returned, or was refused.
    UnloadAnswered {
        /// What the guest said.
        answer: UnloadAnswer,
    },
    /// The guest was told to load and unload the driver over and over by itself.
    CyclesStarted {},
    /// It has.
    CyclesAnswered {
        /// What the guest said.
        answer: CycleAnswer,
    },
    /// The guest's memory was kept, or could not be.
    MemoryDumped {
        /// Bytes of the dump.
        bytes: Option<u64>,
        /// What was in the way.
        error: Option<String>,
    },
    /// The storm went on after Unload for as long as was asked, and the guest lived.
    Settled {
        /// Virtual nanoseconds, where the recorder could tell.
        virtual_ns: Option<u64>,
        /// The counters then.
        stats: Stats,
    },
    /// The storm was stopped.
    StormStopped {},
    /// The card does this wrong from now on, and nothing else.
    MisbehaviourSet {
        /// What the device was told.
        misbehave: Misbehaviour,
    },
    /// What became of the service.
    ServiceState {
        /// What the guest said.
        answer: StateAnswer,
    },
    /// The images in the guest.
    GuestModules {
        /// What the guest said.
        modules: Modules,
    },
    /// The device's last counters.
    DeviceStats {
        /// The counters.
        stats: Stats,
    },
    /// Something that QEMU announced.
    Qemu {
        /// The event's name in QEMU's schema.
        name: String,
        /// Its data.
        data: serde_json::Value,
    },
    /// The machine stopped before the run was over.
    MachineEnded {
        /// How.
        end: MachineEnd,
    },
    /// Something that should have happened did not.
    Watchdog {
        /// What was waited for.
        waited_for: String,
        /// For how long, in host milliseconds.
        host_ms: u64,
        /// How far the guest's clock moved in the last hundred of them, where it could be asked.
        guest_clock_ns: Option<u64>,
        /// What each processor was about to execute, where it could be asked.
        processors: Vec<Hex>,
    },
    /// Something other than the driver failed.
    Infrastructure {
        /// What, in one line.
        message: String,
    },
    /// QEMU is gone and nothing more will come.
    RunEnded {},
}

/// Evidence that cannot be read back.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] RunDirError),
    /// A line that is no event.
    #[error("{} line {line}: {source}", path.display())]
    Line {
        /// Of which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Far more than any run writes.
    #[error("{}: more than {MOST_EVENTS} events or {LONGEST_LINE} bytes in a line", path.display())]
    TooLong {
        /// Of which file.
        path: PathBuf,
    },
}

/// Writes evidence down; clones write into the same file.
#[derive(Clone, Debug)]
pub struct Recorder {
    file: Arc<Mutex<File>>,
    path: PathBuf,
    began: Instant,
}

impl Recorder {
    /// Begins a run's evidence.
    pub fn create(run: &RunDir) -> Result<Self, RunDirError> {
        let path = run.file(EVENTS);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.map_err(RunDirError::new("create", &path))?;
        Ok(Self { file: Arc::new(Mutex::new(file)), path, began: Instant::now() })
    }

    /// Writes one event, seen now.
    pub fn record(&self, event: Event) -> Result<(), RunDirError> {
        self.record_at(Instant::now(), event)
    }

    /// Writes one event, seen at that time.
    pub fn record_at(&self, at: Instant, event: Event) -> Result<(), RunDirError> {
        let elapsed = at.saturating_duration_since(self.began).as_nanos();
        let entry = Entry { at_ns: u64::try_from(elapsed).unwrap_or(u64::MAX), event };
        let fail = RunDirError::new("write", &self.path);
        let mut line = match serde_json::to_vec(&entry) {
            Ok(line) => line,
            Err(error) => return Err(fail(error.into())),
        };
        line.push(b'\n');
        tracing::debug!(event = %String::from_utf8_lossy(&line).trim_end(), "evidence");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(fail)
    }
}

/// A run's evidence, read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// In order.
    pub entries: Vec<Entry>,
}

impl Evidence {
    /// Reads `events.jsonl`. A last line without its end is of a run that was killed while it wrote, and is left out.
    pub fn load(run: &RunDir) -> Result<Self, EvidenceError> {
        Self::read(&run.file(EVENTS))
    }

    fn read(path: &Path) -> Result<Self, EvidenceError> {
        let file = File::open(path).map_err(RunDirError::new("read", path))?;
        let mut file = BufReader::new(file);
        let mut entries = Vec::new();
        let mut line = Vec::new();
        let too_long = || EvidenceError::TooLong { path: path.to_owned() };
        loop {
            line.clear();
            let read = file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(RunDirError::new("read", path))?;
            if line.last() != Some(&b'\n') {
                if read as u64 == LONGEST_LINE {
                    return Err(too_long());
                }
                return Ok(Self { entries });
            }
            if entries.len() == MOST_EVENTS {
                return Err(too_long());
            }
            let at = |source| EvidenceError::Line { path: path.to_owned(), line: entries.len() + 1, source };
            entries.push(serde_json::from_slice(&line).map_err(at)?);
        }
    }

    /// The events, without their times.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.entries.iter().map(|entry| &entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (tempfile::TempDir, RunDir) {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path(), 1).unwrap();
        (folder, run)
    }

    #[test]
    fn what_is_recorded_is_read_back_in_order() {
        let (_folder, run) = run();
        let recorder = Recorder::create(&run).unwrap();
        let events = [
            Event::RunStarted { run_dir: "/r".into(), driver: "a.sys".into(), squall: "0".into() },
            Event::LoadStarted {},
            Event::MachineEnded { end: MachineEnd::Panicked },
            Event::MachineEnded { end: MachineEnd::Reset { cause: "guest-reset".into(), by_guest: true } },
            Event::Watchdog {
                waited_for: "Unload".into(),
                host_ms: 5,
                guest_clock_ns: Some(u64::MAX),
                processors: vec![Hex(1)],
            },
            Event::Qemu { name: "STOP".into(), data: serde_json::json!({}) },
        ];
        for event in &events {
            recorder.clone().record(event.clone()).unwrap();
        }
        let evidence = Evidence::load(&run).unwrap();
        assert!(evidence.events().eq(events.iter()), "{evidence:?}");
        assert!(evidence.entries.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
        let text = std::fs::read_to_string(run.file(EVENTS)).unwrap();
        assert!(text.lines().nth(1).unwrap().ends_with(r#""event":"load-started"}"#), "{text}");
    }

    #[test]
    fn a_run_killed_at_any_byte_is_readable() {
        let (_folder, run) = run();
        let recorder = Recorder::create(&run).unwrap();
        recorder.record(Event::LoadStarted {}).unwrap();
        recorder.record(Event::RunEnded {}).unwrap();
        let whole = std::fs::read(run.file(EVENTS)).unwrap();
        let ends: Vec<_> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').collect();
        for length in 0..=whole.len() {
            std::fs::write(run.file(EVENTS), &whole[..length]).unwrap();
            let expected = ends.iter().filter(|(end, _)| *end < length).count();
            assert_eq!(Evidence::load(&run).unwrap().entries.len(), expected, "cut at {length}");
        }
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let (_folder, run) = run();
        std::fs::write(run.file(EVENTS), "{\"at_ns\":1,\"event\":\"load-started\"}\nnonsense\n").unwrap();
        let error = Evidence::load(&run).unwrap_err().to_string();
        assert!(error.contains("events.jsonl line 2"), "{error}");
    }
}
