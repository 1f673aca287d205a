//! QEMU's control channel.
//!
//! One connection, on an inherited socket pair. Commands are typed by `qapi`; events are kept in order from the first
//! one on. What ends a machine (a panic, a reset, a shutdown, the connection itself) is remembered, so that whoever
//! waits for anything else can wait for that at the same time and never miss it.

use std::{io, path::Path, sync::Arc, time::Instant};

use futures_util::StreamExt;
use qapi::{
    futures::{QapiEvents, QmpStreamTokio},
    qmp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::UnixStream,
    sync::{mpsc, watch},
};

use crate::{
    conversation::{CommandError, Conversation},
    line_limit::LineLimit,
};

/// The longest line that QEMU is believed to send.
const LONGEST_LINE: usize = 4 << 20;

type Reader = LineLimit<ReadHalf<UnixStream>>;
type Writer = QmpStreamTokio<WriteHalf<UnixStream>>;

/// QEMU did not do what it was told.
#[derive(Debug, Error)]
pub enum QmpError {
    /// QEMU refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The connection is gone or speaks no QMP.
    #[error("QMP: {0}")]
    Connection(#[source] io::Error),
}

impl From<CommandError> for QmpError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(why) => Self::Refused(why),
            CommandError::Connection(error) => Self::Connection(error),
            CommandError::Over => Self::Connection(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// What ended the machine, or the connection to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum MachineEnd {
    /// The guest told pvpanic that it crashed; the machine is paused.
    Panicked,
    /// The machine was reset; it does not run on.
    Reset {
        /// QEMU's word for the cause.
        cause: String,
        /// Whether the guest did it.
        by_guest: bool,
    },
    /// The machine was shut down.
    Shutdown {
        /// QEMU's word for the cause.
        cause: String,
        /// Whether the guest did it.
        by_guest: bool,
    },
    /// QEMU closed the connection without any of that.
    Gone {
        /// What the connection said.
        why: String,
    },
}

impl std::fmt::Display for MachineEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = |by_guest: &bool| if *by_guest { "by the guest" } else { "from outside" };
        match self {
            Self::Panicked => f.write_str("it crashed"),
            Self::Reset { cause, by_guest } => write!(f, "it was reset {} ({cause})", by(by_guest)),
            Self::Shutdown { cause, by_guest } => write!(f, "it was shut down {} ({cause})", by(by_guest)),
            Self::Gone { why } => write!(f, "QEMU is gone ({why})"),
        }
    }
}

/// An event, as it is kept in the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct QmpEvent {
    /// When it came.
    pub at: Instant,
    /// Its name in QEMU's schema.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// A negotiated connection; clones share it.
#[derive(Clone)]
pub struct Qmp {
    conversation: Arc<Conversation<Writer>>,
    end: Arc<watch::Sender<Option<MachineEnd>>>,
    /// QEMU's version, as it introduced itself.
    pub version: String,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").field("version", &self.version).field("end", &self.end()).finish()
    }
}

impl Qmp {
    /// Negotiates; events come out of the second value, in order, until the connection ends.
    pub async fn connect(socket: UnixStream) -> Result<(Self, mpsc::UnboundedReceiver<QmpEvent>), QmpError> {
        let (read, write) = tokio::io::split(socket);
        let negotiation = QmpStreamTokio::open_split(LineLimit::new(read, LONGEST_LINE), write).await?;
        let qemu = &negotiation.capabilities.QMP.version.qemu;
        let version = format!("{}.{}.{}", qemu.major, qemu.minor, qemu.micro);
        let (service, events) = negotiation.negotiate().await?.into_parts();
        let end = Arc::new(watch::Sender::new(None));
        let (event_sender, event_receiver) = mpsc::unbounded_channel();
        tokio::spawn(pump(events, end.clone(), event_sender));
        Ok((Self { conversation: Arc::new(Conversation::new(service)), end, version }, event_receiver))
    }

    /// Waits for whatever ends the machine. The first thing that did counts.
    pub async fn ended(&self) -> MachineEnd {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(MachineEnd::Gone { why: String::new() }),
            Err(_) => MachineEnd::Gone { why: "the connection's reader ended".to_owned() },
        }
    }

    /// What ended the machine, where something did already.
    pub fn end(&self) -> Option<MachineEnd> {
        self.end.borrow().clone()
    }

    /// Forgets what ended the machine: it was brought back. Of all events before the answer to the last command none comes
    /// later than this. A connection that is gone stays gone.
    pub(crate) fn revived(&self) {
        self.end.send_if_modified(|end| {
            let revived = end.as_ref().is_some_and(|end| !matches!(end, MachineEnd::Gone { .. }));
            if revived {
                *end = None;
            }
            revived
        });
    }

    /// Sends a command and waits for its answer. The command is finished even where the caller stops waiting for it:
    /// QEMU goes on answering after whatever ended the wait.
    pub(crate) async fn execute<C>(&self, command: C) -> Result<C::Ok, QmpError>
    where
        C: qmp::QmpCommand + 'static,
        C::Ok: Send,
    {
        let conversation = self.conversation.clone();
        let command = tokio::spawn(async move { conversation.execute(command).await });
        command.await.map_err(|error| QmpError::Connection(error.into()))?.map_err(QmpError::from)
    }

    /// `qom-get`.
    pub async fn qom_get(&self, path: &str, property: &str) -> Result<Value, QmpError> {
        let command = qmp::qom_get { path: path.to_owned(), property: property.to_owned() };
        self.execute(command).await
    }

    /// `qom-set`.
    pub async fn qom_set(&self, path: &str, property: &str, value: Value) -> Result<(), QmpError> {
        let command = qmp::qom_set { path: path.to_owned(), property: property.to_owned(), value };
        self.execute(command).await.map(drop)
    }

    /// A line of the human monitor: for people's eyes only, nothing is decided by it.
    pub async fn human(&self, line: &str) -> Result<String, QmpError> {
        let command = qmp::human_monitor_command { command_line: line.to_owned(), cpu_index: None };
        self.execute(command).await
    }

    /// Stops the machine; one that is stopped stays so.
    pub async fn stop(&self) -> Result<(), QmpError> {
        self.execute(qmp::stop {}).await.map(drop)
    }

    /// Lets the machine go on.
    pub async fn cont(&self) -> Result<(), QmpError> {
        self.execute(qmp::cont {}).await.map(drop)
    }

    /// Writes the guest's memory to `file`, as a crash dump in Windows' format. The machine stands still meanwhile.
    pub async fn dump_memory(&self, file: &Path) -> Result<(), QmpError> {
        let command = qmp::dump_guest_memory {
            begin: None,
            detach: None,
            format: Some(qmp::DumpGuestMemoryFormat::win_dmp),
            length: None,
            // Physical memory, whole.
            paging: false,
            protocol: format!("file:{}", file.display()),
        };
        self.execute(command).await.map(drop)
    }

    /// Ends QEMU. The answer may get lost in its end, so none is waited for longer than that takes.
    pub async fn quit(&self) -> Result<(), QmpError> {
        self.execute(qmp::quit {}).await.map(drop)
    }
}

/// Reads until the connection ends; commands' answers are routed on the way.
async fn pump(
    mut events: QapiEvents<QmpStreamTokio<Reader>>,
    end: Arc<watch::Sender<Option<MachineEnd>>>,
    sink: mpsc::UnboundedSender<QmpEvent>,
) {
    let first = |candidate: MachineEnd| {
        end.send_if_modified(|end| {
            let news = end.is_none();
            end.get_or_insert(candidate);
            news
        });
    };
    let why = loop {
        let event = match events.next().await {
            None => break "QEMU closed the connection".to_owned(),
            Some(Err(error)) => break error.to_string(),
            Some(Ok(event)) => event,
        };
        let (name, data) = describe(&event);
        // Kept before the waiters wake, so that the evidence holds what they act on.
        let _ = sink.send(QmpEvent { at: Instant::now(), name, data });
        match event {
            qmp::Event::GUEST_PANICKED { .. } => first(MachineEnd::Panicked),
            qmp::Event::RESET { data, .. } => {
                first(MachineEnd::Reset { cause: cause(&data.reason), by_guest: data.guest });
            }
            qmp::Event::SHUTDOWN { data, .. } => {
                let (cause, by_guest) = (cause(&data.reason), data.guest);
                // With `-action reboot=shutdown` a reset is reported as a shutdown whose cause is a reset.
                first(if cause.contains("reset") {
                    MachineEnd::Reset { cause, by_guest }
                } else {
                    MachineEnd::Shutdown { cause, by_guest }
                });
            }
            _ => {}
        }
    };
    first(MachineEnd::Gone { why });
}

fn describe(event: &qmp::Event) -> (String, Value) {
    let mut whole = serde_json::to_value(event).unwrap_or_default();
    let name = whole["event"].as_str().unwrap_or("UNKNOWN").to_owned();
    (name, whole.get_mut("data").map(Value::take).unwrap_or_default())
}

fn cause(reason: &qmp::ShutdownCause) -> String {
    serde_json::to_value(reason)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fake_qmp::FakeQmp;

    #[tokio::test]
    async fn what_ends_the_machine_first_is_remembered() {
        let (fake, qmp) = FakeQmp::start(|_, _| Ok(serde_json::json!({}))).await;
        assert_eq!(qmp.end(), None);
        fake.event("STOP", serde_json::json!({})).await;
        fake.event("GUEST_PANICKED", serde_json::json!({"action": "pause"})).await;
        fake.event("SHUTDOWN", serde_json::json!({"guest": false, "reason": "host-qmp-quit"})).await;
        assert_eq!(qmp.ended().await, MachineEnd::Panicked);
        drop(fake);
        assert_eq!(qmp.ended().await, MachineEnd::Panicked);
    }

    #[tokio::test]
    async fn a_machine_that_was_brought_back_can_end_again() {
        let (fake, qmp) = FakeQmp::start(|_, _| Ok(serde_json::json!({}))).await;
        let panic = || fake.event("GUEST_PANICKED", serde_json::json!({"action": "pause"}));
        panic().await;
        assert_eq!(qmp.ended().await, MachineEnd::Panicked);
        // Another of the same life, before the answer to a command: not of the next life.
        panic().await;
        qmp.stop().await.unwrap();
        qmp.revived();
        assert_eq!(qmp.end(), None);
        panic().await;
        assert_eq!(qmp.ended().await, MachineEnd::Panicked);
        drop(fake);
        while qmp.stop().await.is_ok() {}
        qmp.revived();
        assert!(matches!(qmp.ended().await, MachineEnd::Gone { .. }));
        qmp.revived();
        assert!(matches!(qmp.end(), Some(MachineEnd::Gone { .. })));
    }

    #[tokio::test]
    async fn a_reboot_reported_as_a_shutdown_is_a_reset() {
        let (fake, qmp) = FakeQmp::start(|_, _| Ok(serde_json::json!({}))).await;
        fake.event("SHUTDOWN", serde_json::json!({"guest": true, "reason": "guest-reset"})).await;
        assert_eq!(qmp.ended().await, MachineEnd::Reset { cause: "guest-reset".to_owned(), by_guest: true });
    }

    #[tokio::test]
    async fn a_command_that_nobody_waits_for_any_more_does_not_disturb_the_next() {
        let (_fake, qmp) = FakeQmp::start(|_, arguments| Ok(arguments["property"].clone())).await;
        for _ in 0..10 {
            let first = qmp.qom_get("/", "first");
            tokio::select! { biased; _ = first => {}, () = std::future::ready(()) => {} }
            assert_eq!(qmp.qom_get("/", "second").await.unwrap(), "second");
        }
    }

    #[tokio::test]
    async fn a_closed_connection_ends_every_wait() {
        let (fake, qmp) = FakeQmp::start(|_, _| Ok(serde_json::json!({}))).await;
        drop(fake);
        assert!(matches!(qmp.ended().await, MachineEnd::Gone { .. }));
        for _ in 0..3 {
            assert!(matches!(qmp.quit().await, Err(QmpError::Connection(_))));
        }
    }
}
