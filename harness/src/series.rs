//! A series: many runs of one driver in one kind of machine, each begun at the same moment.
//!
//! A boot costs a tenth of a second and more, being brought back to a moment some milliseconds. So the machine is booted
//! once; when the guest's agent answers and the driver's image is there, that moment is kept
//! ([`snapshot`](crate::snapshot)); and every later run begins with going back to it, whatever became of the guest in the
//! one before. Each run is a run like any other: it has a scenario, evidence in a run directory of its own, and a
//! verdict that is computed from that evidence alone.
//!
//! A machine that cannot be trusted is never reused: after an end of QEMU, a reset, a fault that is not the driver's,
//! or where a command may still be under way in the guest, the next run boots another.
//!
//! ```text
//! SERIES/machine-1/          qemu.args, qemu.log, and what QEMU writes, for all of its runs
//! SERIES/run-000001/         a run directory
//! ```
//!
//! Run directories that nobody will want are removed as soon as their verdict is known.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    agent::Memory,
    evidence::{Event, Recorder},
    image::DriverImage,
    profile::GuestProfile,
    qemu::Machine,
    run::{Parts, RunError, Steps, Stop, guest_name, guest_path},
    run_dir::{DRIVER, DRIVER_PDB, FLIGHT, MEMORY, RunDir, RunDirError, SCENARIO, VERDICT},
    scenario::Scenario,
    session::{Session, SessionError},
    snapshot::Snapshot,
    verdict::{Outcome, Verdict},
};

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the moment that was kept.
    Restored,
    /// Where the run before ended, if that was well.
    GoingOn,
}

/// A run of a series.
#[derive(Debug)]
pub struct Iteration {
    /// Its verdict.
    pub verdict: Verdict,
    /// How long it took, with what had to be done before it.
    pub took: Duration,
    /// Whether its run directory was kept.
    pub kept: bool,
    /// Whether a machine was booted for it.
    pub booted: bool,
}

/// Many runs of one driver in one kind of machine.
pub struct Series {
    parts: Parts,
    /// What the machine is made for; the runs differ in the rest.
    base: Scenario,
    profile: GuestProfile,
    image: DriverImage,
    dir: RunDir,
    standing: Option<Standing>,
    machines: u32,
    runs: u64,
    kept: u64,
}

/// A machine that can be brought back.
struct Standing {
    session: Session,
    snapshot: Snapshot,
    dir: RunDir,
    /// The last run in it ended well.
    well: bool,
    /// Driver Verifier was set in it.
    verifier: bool,
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").field("dir", &self.dir).field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl Series {
    /// Begins a series; nothing is booted yet. The scenario says which driver, which guest and which machine.
    pub fn begin(base: Scenario, parts: Parts) -> Result<Self, RunError> {
        let profile = base.check()?;
        let image = DriverImage::read(&base.driver.image)?;
        let dir = RunDir::create(&parts.runs, base.seed)?;
        dir.write(DRIVER, &image.bytes)?;
        if let Some(symbols) = &parts.symbols {
            let bytes = fs::read(symbols).map_err(RunDirError::new("read", symbols))?;
            dir.write(DRIVER_PDB, &bytes)?;
        }
        Ok(Self { parts, base, profile, image, dir, standing: None, machines: 0, runs: 0, kept: 0 })
    }

    /// The scenario that runs are made from.
    pub fn scenario(&self) -> &Scenario {
        &self.base
    }

    /// The guest's profile.
    pub fn profile(&self) -> &GuestProfile {
        &self.profile
    }

    /// Where the evidence is.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// One run: of [`scenario`](Self::scenario), with the change made to it, which leaves driver, guest and machine as they are.
    /// `keep` says whether a verdict's evidence will be wanted.
    pub async fn run(
        &mut self,
        begin: Begin,
        change: impl FnOnce(&mut Scenario),
        keep: impl FnOnce(&Verdict) -> bool,
    ) -> Result<Iteration, RunError> {
        let began = Instant::now();
        self.runs += 1;
        let machines = self.machines;
        let mut scenario = self.base.clone();
        change(&mut scenario);
        scenario.check()?;
        let dir = self.dir.within(&format!("run-{:06}", self.runs))?;
        for file in [DRIVER, DRIVER_PDB] {
            link(&self.dir.file(file), &dir.file(file))?;
        }
        let recorder = Recorder::create(&dir)?;
        recorder.record(Event::RunStarted {
            run_dir: dir.path().to_owned(),
            driver: guest_name(&self.image),
            squall: env!("CARGO_PKG_VERSION").to_owned(),
        })?;
        dir.write(SCENARIO, scenario.to_toml()?.as_bytes())?;

        match self.ready(begin, scenario.verifier, &recorder).await? {
            Err(error) => recorder.record(Event::Infrastructure { message: error.to_string() })?,
            Ok(mut standing) => {
                standing.verifier |= scenario.verifier;
                let memory = scenario.dump.then(|| dir.file(MEMORY));
                let mut steps = Steps {
                    session: &mut standing.session,
                    scenario: &scenario,
                    profile: &self.profile,
                    image: &self.image,
                    recorder: &recorder,
                    flight: &standing.dir.file(FLIGHT),
                    memory: memory.as_deref(),
                    stage: &|_| (),
                };
                if let Err(stop) = steps.go_through().await {
                    steps.post_mortem(stop).await?;
                }
                // Stopped, so that what QEMU has written is whole. One that is gone cannot write.
                let _ = standing.session.qmp.stop().await;
                for log in self.profile.logs.keys() {
                    hand_over(&standing.dir.file(log), &dir.file(log))?;
                }
                self.standing = Some(standing);
            }
        }
        recorder.record(Event::RunEnded {})?;
        let verdict = Verdict::of_run(&dir)?;
        self.let_go_of_what_cannot_be_trusted(&verdict).await;
        let kept = keep(&verdict);
        if kept {
            self.kept += 1;
            dir.write_json(VERDICT, &verdict)?;
            // The recorder goes on in the next run; this one keeps its state of now.
            let machine = self.dir.file(&machine_name(self.machines));
            copy(&machine.join(FLIGHT), &dir.file(FLIGHT))?;
        } else {
            fs::remove_dir_all(dir.path()).map_err(RunDirError::new("remove", dir.path()))?;
        }
        Ok(Iteration { verdict, took: began.elapsed(), kept, booted: self.machines > machines })
    }

    /// A machine at the beginning of a run.
    async fn ready(
        &mut self,
        begin: Begin,
        verifier: bool,
        recorder: &Recorder,
    ) -> Result<Result<Standing, SessionError>, RunDirError> {
        let Some(standing) = self.standing.take() else { return self.boot(recorder).await };
        standing.session.record_into(recorder);
        let began = Instant::now();
        if begin == Begin::GoingOn && standing.well && standing.verifier == verifier {
            let resumed = standing.session.resume().await;
            return Ok(resumed.map(|session| Standing { session, ..standing }));
        }
        let Standing { session, snapshot, dir, well, .. } = standing;
        match session.restore(&snapshot, self.base.deadlines.boot()).await {
            Ok(session) => {
                let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                recorder.record(Event::MachineRestored { machine: dir.path().to_owned(), after_ms })?;
                Ok(Ok(Standing { session, snapshot, dir, well, verifier: false }))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Boots a machine, gives it the driver, and keeps that moment.
    async fn boot(&mut self, recorder: &Recorder) -> Result<Result<Standing, SessionError>, RunDirError> {
        self.machines += 1;
        let dir = self.dir.within(&machine_name(self.machines))?;
        let files = [(self.dir.file(DRIVER), guest_path(&self.profile, &self.image))];
        let machine = Machine {
            qemu: &self.parts.qemu,
            profile: &self.profile,
            scenario: &self.base,
            kernel: &self.parts.kernel,
            device_library: &self.parts.device_library,
            files: &files,
            run: &dir,
        };
        let mut session = match Session::start(&machine, self.base.deadlines.boot(), recorder).await {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        let mut steps = Steps {
            session: &mut session,
            scenario: &self.base,
            profile: &self.profile,
            image: &self.image,
            recorder,
            flight: &dir.file(FLIGHT),
            memory: None,
            stage: &|_| (),
        };
        if let Err(stop) = steps.upload().await {
            let why = match stop {
                Stop::Machine(end) => end.to_string(),
                Stop::Watchdog { waited_for, .. } => format!("waited in vain for {waited_for}"),
                Stop::Infrastructure(why) => why,
            };
            return Ok(Err(SessionError::GuestStopped(why)));
        }
        Ok(match Snapshot::take(&session.qmp, dir.path()).await {
            Ok(snapshot) => Ok(Standing { session, snapshot, dir, well: true, verifier: false }),
            Err(error) => Err(error.into()),
        })
    }

    /// Ends the machine where it might carry something of this run into the next.
    async fn let_go_of_what_cannot_be_trusted(&mut self, verdict: &Verdict) {
        let Some(mut standing) = self.standing.take() else { return };
        standing.well = matches!(verdict.outcome, Outcome::Clean | Outcome::LoadFailed);
        if verdict.outcome == Outcome::Infrastructure || !standing.session.can_be_restored() {
            standing.session.end().await;
        } else {
            self.standing = Some(standing);
        }
    }

    /// What is in use in the guest between two runs; nothing where there is no guest that can be asked.
    pub async fn memory(&mut self) -> Option<Memory> {
        let standing = self.standing.as_mut().filter(|standing| standing.well)?;
        standing.session.qmp.cont().await.ok()?;
        let memory =
            tokio::time::timeout(self.base.deadlines.answer(), standing.session.agent.memory()).await;
        standing.session.qmp.stop().await.ok()?;
        let memory = memory.ok().and_then(Result::ok);
        standing.well = memory.is_some();
        memory
    }

    /// Ends the machine; gives where the evidence is.
    pub async fn end(mut self) -> RunDir {
        if let Some(standing) = self.standing.take() {
            standing.session.end().await;
        }
        self.dir
    }

    /// Ends the machine, and removes the series' directory where no run's evidence was wanted.
    pub async fn end_and_tidy(self) -> Result<(), RunDirError> {
        let kept = self.kept;
        let dir = self.end().await;
        if kept == 0 {
            fs::remove_dir_all(dir.path()).map_err(RunDirError::new("remove", dir.path()))?;
        }
        Ok(())
    }
}

fn machine_name(number: u32) -> String {
    format!("machine-{number}")
}

/// The same file in another place; a copy where the file system has no such thing, nothing where there is no file.
fn link(from: &Path, to: &Path) -> Result<(), RunDirError> {
    if !from.exists() || fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    copy(from, to)
}

fn copy(from: &Path, to: &Path) -> Result<(), RunDirError> {
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RunDirError::new("copy", from)(error)),
    }
}

/// Moves a log's content: what QEMU appends from now on begins an empty file.
fn hand_over(from: &Path, to: &Path) -> Result<(), RunDirError> {
    copy(from, to)?;
    match OpenOptions::new().write(true).open(from).and_then(|file| file.set_len(0)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RunDirError::new("empty", from)(error)),
    }
}
