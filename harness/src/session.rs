//! A session: QEMU up, the card attached, the guest's agent answering.
//!
//! Nothing that fails here says anything about a driver, because there is none in the guest yet: every error is one of
//! the infrastructure, and says which part did not come up.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::{
    agent::{Agent, AgentError},
    device::Device,
    evidence::{Event, Recorder},
    qemu::{LaunchError, Machine, Process},
    qmp::{MachineEnd, Qmp, QmpError, QmpEvent},
    run_dir::RunDirError,
    snapshot::{Snapshot, SnapshotError},
};

/// For QEMU to greet: it does so before it starts the guest.
const GREETING: Duration = Duration::from_secs(10);
/// For QEMU to end after it was told to.
const FAREWELL: Duration = Duration::from_secs(3);

/// A session that did not come up.
#[derive(Debug, Error)]
pub enum SessionError {
    /// QEMU could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The evidence could not be written.
    #[error(transparent)]
    Evidence(#[from] RunDirError),
    /// QEMU ended before it answered.
    #[error("QEMU ended at once: {0}")]
    QemuEnded(String),
    /// QEMU runs and does not answer.
    #[error("QEMU did not answer on QMP: {0}")]
    Qmp(#[source] QmpError),
    /// QEMU runs and says nothing at all.
    #[error("QEMU did not answer on QMP within {} s", GREETING.as_secs())]
    QmpSilent,
    /// The guest's agent never answered.
    #[error("guest did not answer within {:.1} s of QEMU's start; its last words are in console.log", .0.as_secs_f64())]
    GuestSilent(Duration),
    /// The machine stopped before the agent answered.
    #[error("guest stopped before its agent answered: {0}")]
    GuestStopped(String),
    /// The agent's wire failed.
    #[error("guest's agent: {0}")]
    Agent(#[from] AgentError),
    /// The serial line could not be had.
    #[error("guest's serial line: {0}")]
    Wire(#[source] io::Error),
    /// The machine could not be brought back.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The guest was brought back and its agent does not answer.
    #[error("guest was brought back and did not answer within {:.1} s", .0.as_secs_f64())]
    SilentAfterRestore(Duration),
}

/// Everything that is up.
#[derive(Debug)]
pub struct Session {
    /// QEMU's control channel.
    pub qmp: Qmp,
    /// The card.
    pub device: Device,
    /// The guest's agent.
    pub agent: Agent,
    process: Process,
    events: JoinHandle<()>,
    /// Where QEMU's events go.
    sink: Arc<Mutex<Recorder>>,
}

impl Session {
    /// Starts the machine and waits for the guest's agent, at most until the deadline.
    pub async fn start(
        machine: &Machine<'_>,
        deadline: Duration,
        recorder: &Recorder,
    ) -> Result<Self, SessionError> {
        let began = Instant::now();
        let mut process = machine.start()?;
        recorder.record(Event::QemuStarted { pid: process.id() })?;
        let (qmp, events) = connect(&mut process).await?;
        recorder.record(Event::QemuAnswered { version: qmp.version.clone() })?;
        let sink = Arc::new(Mutex::new(recorder.clone()));
        let events = tokio::spawn(record_events(events, sink.clone()));
        let socket = process.agent_wire().map_err(SessionError::Wire)?;
        let greet = async {
            let mut agent = Agent::connect(socket).await?;
            let version = agent.version().await?;
            Ok::<_, AgentError>((agent, version))
        };
        let remaining = deadline.saturating_sub(began.elapsed());
        let (agent, version) = tokio::select! {
            biased;
            end = qmp.ended() => return Err(stopped(&end, &process)),
            greeted = timeout(remaining, greet) => match greeted {
                Ok(Ok(greeted)) => greeted,
                // The serial port closes with QEMU; what ended QEMU says more.
                Ok(Err(error)) => match timeout(Duration::from_secs(1), qmp.ended()).await {
                    Ok(end) => return Err(stopped(&end, &process)),
                    Err(_) => return Err(error.into()),
                },
                Err(_) => return Err(SessionError::GuestSilent(deadline)),
            },
        };
        let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        recorder.record(Event::AgentAnswered { version, after_ms })?;
        Ok(Self { device: Device::new(qmp.clone()), qmp, agent, process, events, sink })
    }

    /// QEMU's events are evidence of another run from here on.
    pub(crate) fn record_into(&self, recorder: &Recorder) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = recorder.clone();
    }

    /// Brings the machine back to a moment at which the guest was idle, and finds its agent again. What this session's
    /// outside still holds of the later time is dealt with piece by piece:
    ///
    /// - *bytes from the guest* that nobody has read are thrown away while the machine is stopped;
    /// - *bytes to the guest* that it has not read are a part of one command or the whole of it, since only one is ever under
    ///   way. The guest of the earlier moment reads it before the next synchronisation, after which the line is clean. A command
    ///   that starts a program is the exception, as the program would run beside the next one: the caller does not bring back
    ///   such a machine (see [`can_be_restored`](Self::can_be_restored));
    /// - *QEMU's events* of the later time have come when QEMU has answered to being told to go back.
    pub(crate) async fn restore(self, snapshot: &Snapshot, deadline: Duration) -> Result<Self, SessionError> {
        let Self { qmp, device, agent, process, events, sink } = self;
        let refused = |source| SnapshotError::Qmp { what: "stop or cont", source };
        qmp.stop().await.map_err(refused)?;
        agent.hang_up().await;
        // It only makes it quicker.
        if let Err(error) = device.forget_translations().await {
            tracing::debug!(%error, "translations are kept");
        }
        snapshot.restore().await?;
        process.drain_agent().map_err(SessionError::Wire)?;
        qmp.revived();
        qmp.cont().await.map_err(refused)?;
        let wire = process.agent_wire().map_err(SessionError::Wire)?;
        let agent = match timeout(deadline, Agent::connect(wire)).await {
            Ok(agent) => agent?,
            Err(_) => return Err(SessionError::SilentAfterRestore(deadline)),
        };
        Ok(Self { qmp, device, agent, process, events, sink })
    }

    /// Lets a machine that was stopped go on.
    pub(crate) async fn resume(self) -> Result<Self, SessionError> {
        let resumed = self.qmp.cont().await;
        resumed.map_err(|source| SnapshotError::Qmp { what: "cont", source })?;
        Ok(self)
    }

    /// Whether [`restore`](Self::restore) can give a machine of which nothing of the later time is left.
    pub(crate) fn can_be_restored(&self) -> bool {
        let standing = match self.qmp.end() {
            None | Some(MachineEnd::Panicked) => true,
            Some(MachineEnd::Reset { .. } | MachineEnd::Shutdown { .. } | MachineEnd::Gone { .. }) => false,
        };
        standing && !self.agent.may_start_a_program()
    }

    /// Ends QEMU and waits until it is gone and its last event is recorded.
    pub async fn end(mut self) {
        // What QEMU answers to this does not matter: it ends one way or the other.
        let _ = timeout(Duration::from_secs(1), self.qmp.quit()).await;
        if let Err(error) = self.process.end_within(FAREWELL).await {
            tracing::warn!(%error, "QEMU's end could not be seen");
        }
        let _ = timeout(Duration::from_secs(1), self.events).await;
    }
}

async fn connect(process: &mut Process) -> Result<(Qmp, mpsc::UnboundedReceiver<QmpEvent>), SessionError> {
    let socket = process.take_qmp().ok_or(SessionError::QmpSilent)?;
    match timeout(GREETING, Qmp::connect(socket)).await {
        Ok(Ok(connected)) => Ok(connected),
        // A QEMU that does not like its command line says so and ends.
        Ok(Err(error)) => match process.ended_within(Duration::from_secs(1)).await {
            Some(status) => {
                let words = process.last_words().unwrap_or_else(|| status.to_string());
                Err(SessionError::QemuEnded(words))
            }
            None => Err(SessionError::Qmp(error)),
        },
        Err(_) => Err(SessionError::QmpSilent),
    }
}

async fn record_events(mut events: mpsc::UnboundedReceiver<QmpEvent>, sink: Arc<Mutex<Recorder>>) {
    while let Some(QmpEvent { at, name, data }) = events.recv().await {
        let recorder = sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(error) = recorder.record_at(at, Event::Qemu { name, data }) {
            tracing::error!(%error, "evidence lost");
            return;
        }
    }
}

fn stopped(end: &MachineEnd, process: &Process) -> SessionError {
    match end {
        MachineEnd::Gone { why } => {
            SessionError::QemuEnded(process.last_words().unwrap_or_else(|| why.clone()))
        }
        other => SessionError::GuestStopped(other.to_string()),
    }
}
