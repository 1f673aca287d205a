//! The QEMU guest agent's protocol, and our verbs on top of it.

use std::time::{Duration, Instant};

use qapi::{Command as _, futures::QgaStreamTokio, qga};
use serde::de::DeserializeOwned;
use tokio::{io::WriteHalf, net::UnixStream, task::JoinHandle};

use super::{
    AgentError, CycleAnswer, LoadAnswer, Memory, Modules, StateAnswer, UnloadAnswer, VerifierAnswer,
    answers::{InstallAnswer, LONGEST_ANSWER},
    sync::synchronise,
};
use crate::{
    conversation::{CommandError, Conversation},
    hex::Status,
    line_limit::LineLimit,
    scenario::Parameter,
};

/// The longest line that an agent may send: an answer in base64 and its envelope.
const LONGEST_LINE: usize = 2 * LONGEST_ANSWER;
/// Bytes of a file per write: one line of the protocol each.
const CHUNK: usize = 48 << 10;
const PROGRAM: &str = "squall-agent";
/// A verb that is quick is seen to have ended at once; one that is slow is not asked for ever more often.
const FIRST_POLL: Duration = Duration::from_micros(500);
const LONG_POLL: Duration = Duration::from_millis(20);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// A conversation with a guest's agent. One in which a command was given up does not go on: the protocol has no
/// numbers on its answers.
pub struct Agent {
    conversation: Conversation<QgaStreamTokio<WriteHalf<UnixStream>>>,
    reader: JoinHandle<()>,
    /// The command whose answer has not come.
    pending: Option<&'static str>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

impl Agent {
    /// Waits until the agent answers. Waits for ever: the caller has the deadline.
    pub async fn connect(mut socket: UnixStream) -> Result<Self, AgentError> {
        synchronise(&mut socket).await.map_err(AgentError::Connection)?;
        let (read, write) = tokio::io::split(socket);
        let (service, reader) =
            QgaStreamTokio::open_split(LineLimit::new(read, LONGEST_LINE), write).spawn_tokio();
        Ok(Self { conversation: Conversation::new(service), reader, pending: None })
    }

    /// Whether a program was to be started and nobody knows if it was: the guest may do so at any later time.
    pub(crate) fn may_start_a_program(&self) -> bool {
        self.pending == Some(qga::guest_exec::NAME)
    }

    /// Ends the conversation and lets go of the wire: nothing of it is read or written after this.
    pub(crate) async fn hang_up(self) {
        let Self { conversation, reader, .. } = self;
        drop(conversation);
        reader.abort();
        // Cancelled or ended already: either way it is gone.
        let _ = reader.await;
    }

    async fn execute<C: qga::QgaCommand>(&mut self, command: C) -> Result<C::Ok, AgentError> {
        // Stays so where this future is dropped before the answer.
        self.pending.get_or_insert(C::NAME);
        let answer = self.conversation.execute(command).await;
        if matches!(answer, Ok(_) | Err(CommandError::Refused(_))) {
            self.pending = None;
        }
        answer.map_err(|error| match error {
            CommandError::Refused(why) => AgentError::Refused { command: C::NAME, why },
            CommandError::Connection(error) => AgentError::Connection(error),
            CommandError::Over => AgentError::Abandoned,
        })
    }

    /// The agent's version, as it introduces itself.
    pub async fn version(&mut self) -> Result<String, AgentError> {
        Ok(self.execute(qga::guest_info {}).await?.version.chars().take(64).collect())
    }

    /// Whether it still answers.
    pub async fn ping(&mut self) -> Result<(), AgentError> {
        self.execute(qga::guest_ping {}).await.map(drop)
    }

    /// Opens a file, or a device by its `\\.\` path.
    pub async fn open(&mut self, path: &str, mode: &str) -> Result<i64, AgentError> {
        self.execute(qga::guest_file_open { path: path.to_owned(), mode: Some(mode.to_owned()) }).await
    }

    /// Reads at most so many bytes.
    pub async fn read(&mut self, handle: i64, count: u32) -> Result<Vec<u8>, AgentError> {
        let read = self.execute(qga::guest_file_read { handle, count: Some(count.into()) }).await?;
        if read.buf_b64.len() > count as usize {
            let why = format!("{} bytes where {count} were asked for", read.buf_b64.len());
            return Err(AgentError::Refused { command: "guest-file-read", why });
        }
        Ok(read.buf_b64)
    }

    /// Writes all of it.
    pub async fn write(&mut self, handle: i64, bytes: &[u8]) -> Result<(), AgentError> {
        for chunk in bytes.chunks(CHUNK) {
            let write = qga::guest_file_write { handle, count: None, buf_b64: chunk.to_vec() };
            let written = self.execute(write).await?;
            if usize::try_from(written.count) != Ok(chunk.len()) {
                let why = format!("wrote {} of {} bytes", written.count, chunk.len());
                return Err(AgentError::Refused { command: "guest-file-write", why });
            }
        }
        Ok(())
    }

    /// Closes a handle.
    pub async fn close(&mut self, handle: i64) -> Result<(), AgentError> {
        self.execute(qga::guest_file_close { handle }).await.map(drop)
    }

    /// Whether there is such a file.
    pub async fn has_file(&mut self, path: &str) -> Result<bool, AgentError> {
        match self.open(path, "rb").await {
            Ok(handle) => self.close(handle).await.map(|()| true),
            Err(AgentError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a whole file.
    pub async fn upload(&mut self, path: &str, bytes: &[u8]) -> Result<(), AgentError> {
        let handle = self.open(path, "wb").await?;
        self.write(handle, bytes).await?;
        self.close(handle).await
    }

    /// `install`: gives the guest a service with its parameters.
    pub async fn install<'a>(
        &mut self,
        service: &str,
        image: &str,
        parameters: impl IntoIterator<Item = (&'a String, &'a Parameter)>,
    ) -> Result<Status, AgentError> {
        let mut arguments = strings(["--service", service, "--image", image]);
        for (name, value) in parameters {
            arguments.extend(["--param".to_owned(), value.to_argument(name)]);
        }
        Ok(self.verb::<InstallAnswer>("install", arguments).await?.status)
    }

    /// `memory`: what is in use.
    pub async fn memory(&mut self) -> Result<Memory, AgentError> {
        self.verb("memory", Vec::new()).await
    }

    /// `verifier`: the checks that the guest has.
    pub async fn verifier_query(&mut self) -> Result<VerifierAnswer, AgentError> {
        self.verb("verifier", strings(["--query"])).await
    }

    /// `verifier`: for what a driver, by its image's name, is checked from its next load on.
    pub async fn verify(&mut self, driver: &str, flags: u32) -> Result<VerifierAnswer, AgentError> {
        self.verb("verifier", strings(["--driver", driver, "--flags", &format!("{flags:#x}")])).await
    }

    /// `load`: maps the image and calls DriverEntry.
    pub async fn load(&mut self, service: &str) -> Result<LoadAnswer, AgentError> {
        self.verb("load", strings(["--service", service])).await
    }

    /// `load` with the `call`-th call that can fail made to (0: none, to count them), with `status` where it returns one.
    pub async fn load_failing(
        &mut self,
        service: &str,
        call: u32,
        status: Status,
    ) -> Result<LoadAnswer, AgentError> {
        let (call, status) = (call.to_string(), status.to_string());
        let arguments = ["--service", service, "--fail-call", &call, "--fail-status", &status];
        self.verb("load", strings(arguments)).await
    }

    /// `unload`: calls Unload and lets the image go.
    pub async fn unload(&mut self, service: &str) -> Result<UnloadAnswer, AgentError> {
        self.verb("unload", strings(["--service", service])).await
    }

    /// `cycle`: loads, lets the driver claim so many interrupts, unloads; so many times.
    pub async fn cycle(
        &mut self,
        service: &str,
        cycles: u32,
        interrupts: u64,
    ) -> Result<CycleAnswer, AgentError> {
        let (cycles, interrupts) = (cycles.to_string(), interrupts.to_string());
        let arguments = ["--service", service, "--cycles", &cycles, "--interrupts", &interrupts];
        self.verb("cycle", strings(arguments)).await
    }

    /// `status`: what became of a service.
    pub async fn state(&mut self, service: &str) -> Result<StateAnswer, AgentError> {
        self.verb("status", strings(["--service", service])).await
    }

    /// `modules`: the images that are there and the ones that were.
    pub async fn modules(&mut self) -> Result<Modules, AgentError> {
        self.verb("modules", Vec::new()).await
    }

    /// Runs a verb of `squall-agent` and reads its answer.
    async fn verb<T: DeserializeOwned>(
        &mut self,
        verb: &'static str,
        arguments: Vec<String>,
    ) -> Result<T, AgentError> {
        let mut arg = vec![verb.to_owned()];
        arg.extend(arguments);
        let exec = qga::guest_exec {
            path: PROGRAM.to_owned(),
            arg: Some(arg),
            capture_output: Some(qga::GuestExecCaptureOutput::flag(true)),
            env: None,
            input_data: None,
        };
        let pid = self.execute(exec).await?.pid;
        let (begun, mut pause) = (Instant::now(), FIRST_POLL);
        let ended = loop {
            let status = self.execute(qga::guest_exec_status { pid }).await?;
            if status.exited {
                break status;
            }
            tokio::time::sleep(pause).await;
            // Asking costs the guest time; of what takes long, a small part.
            pause = (pause * 3 / 2).min((begun.elapsed() / 20).clamp(LONG_POLL, LONGEST_POLL));
        };
        let output = ended.out_data.unwrap_or_default();
        if output.len() > LONGEST_ANSWER {
            return Err(AgentError::Answer { verb, why: format!("{} bytes", output.len()) });
        }
        match ended.exitcode {
            Some(0) => serde_json::from_slice(&output)
                .map_err(|error| AgentError::Answer { verb, why: error.to_string() }),
            code => Err(AgentError::Verb { verb, code: code.unwrap_or(-1), why: usage_error(&output) }),
        }
    }
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The text of `{"error":"..."}`, or whatever there is.
fn usage_error(output: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(output)
        .ok()
        .and_then(|answer| answer["error"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(output).into_owned())
        .chars()
        .take(512)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{agent::ServiceState, testing::fake_agent::FakeAgent};

    #[tokio::test]
    async fn a_drivers_life_is_one_conversation() {
        let (fake, mut agent) = FakeAgent::start().await;
        agent.ping().await.unwrap();
        assert_eq!(agent.version().await.unwrap(), "fake");
        let image = vec![7; 3 * CHUNK + 5];
        agent.upload(r"C:\squall.sys", &image).await.unwrap();
        assert_eq!(fake.file(r"C:\squall.sys").unwrap(), image);
        let parameters = BTreeMap::from([
            ("InterruptLine".to_owned(), Parameter::Dword(5)),
            ("Defect".to_owned(), Parameter::Text("x".to_owned())),
        ]);
        assert!(agent.install("squall", r"C:\squall.sys", &parameters).await.unwrap().is_success());
        let driver = agent.load("squall").await.unwrap().driver.unwrap();
        assert_eq!(driver.name, "squall.sys");
        assert_eq!(agent.modules().await.unwrap().loaded.len(), 1);
        assert!(agent.unload("squall").await.unwrap().status.is_success());
        assert_eq!(agent.state("squall").await.unwrap().state, ServiceState::Unloaded);
        let install = fake.commands().into_iter().find(|line| line.contains("install")).unwrap();
        assert!(install.contains("Defect=sz:x") && install.contains("InterruptLine=dword:5"), "{install}");
    }

    #[tokio::test]
    async fn a_device_is_read_through_its_path() {
        let (_fake, mut agent) = FakeAgent::start().await;
        let handle = agent.open(r"\\.\Squall0", "rb").await.unwrap();
        assert_eq!(agent.read(handle, 4).await.unwrap(), [1, 0, 0, 0]);
        agent.close(handle).await.unwrap();
        let missing = agent.open(r"\\.\Nothing", "rb").await.unwrap_err().to_string();
        assert!(missing.contains("guest-file-open"), "{missing}");
    }

    #[tokio::test]
    async fn a_usage_error_keeps_the_verbs_words() {
        let (_fake, mut agent) = FakeAgent::start().await;
        let error = agent.load("").await.unwrap_err().to_string();
        assert!(error.contains("exit code 2") && error.contains("no service"), "{error}");
    }

    #[tokio::test]
    async fn a_conversation_with_an_abandoned_command_does_not_go_on() {
        let (_fake, mut agent) = FakeAgent::start().await;
        let stuck = tokio::time::timeout(Duration::from_millis(50), agent.open(r"\\.\Stuck", "rb"));
        stuck.await.unwrap_err();
        assert!(matches!(agent.ping().await, Err(AgentError::Abandoned)));
    }

    #[tokio::test]
    async fn what_may_still_be_started_is_known_and_the_wire_is_let_go_of() {
        let (_fake, mut agent) = FakeAgent::start().await;
        agent.ping().await.unwrap();
        assert!(!agent.may_start_a_program());
        let stuck = tokio::time::timeout(Duration::from_millis(50), agent.open(r"\\.\Stuck", "rb"));
        stuck.await.unwrap_err();
        assert!(!agent.may_start_a_program());
        agent.hang_up().await;

        let (ours, theirs) = UnixStream::pair().unwrap();
        let (fake, wire) = FakeAgent::listen();
        let (mut agent, copy) = (Agent::connect(wire).await.unwrap(), theirs);
        fake.hang_up().await;
        assert!(agent.load("squall").await.is_err());
        assert!(agent.may_start_a_program());
        drop((ours, copy));
    }

    #[tokio::test]
    async fn a_guest_that_dies_ends_the_command() {
        let (fake, mut agent) = FakeAgent::start().await;
        fake.hang_up().await;
        assert!(matches!(agent.ping().await, Err(AgentError::Connection(_))));
    }
}
