//! A guest's agent in the test's own process: files in a map, one service, one device.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use qapi::qga::{guest_file_read, guest_file_write};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
};

use crate::agent::Agent;

#[derive(Default)]
struct Guest {
    files: BTreeMap<String, Vec<u8>>,
    handles: Vec<String>,
    answers: Vec<(i64, String)>,
    commands: Vec<String>,
    state: &'static str,
}

/// Answers the protocol as the joint says.
pub(crate) struct FakeAgent {
    guest: Arc<Mutex<Guest>>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl FakeAgent {
    /// An agent and a client that has found it.
    pub(crate) async fn start() -> (Self, Agent) {
        let (fake, socket) = Self::listen();
        (fake, Agent::connect(socket).await.unwrap())
    }

    /// An agent and the wire to it.
    pub(crate) fn listen() -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guest = Arc::new(Mutex::new(Guest { state: "not-installed", ..Guest::default() }));
        let server = tokio::spawn(serve(ours, guest.clone()));
        (Self { guest, server: Mutex::new(Some(server)) }, theirs)
    }

    /// A file's content.
    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.guest.lock().unwrap().files.get(path).cloned()
    }

    /// Every `squall-agent` command so far, its words joined by blanks.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.guest.lock().unwrap().commands.clone()
    }

    /// Ends the guest.
    pub(crate) async fn hang_up(&self) {
        let server = self.server.lock().unwrap().take().unwrap();
        server.abort();
        let _ = server.await;
    }
}

async fn serve(mut socket: UnixStream, guest: Arc<Mutex<Guest>>) {
    let mut heard = Vec::new();
    while socket.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
        while let Some(end) = heard.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = heard.drain(..=end).collect();
            let line = &line[line.iter().rposition(|&byte| byte == 0xFF).map_or(0, |at| at + 1)..];
            let command: Value = serde_json::from_slice(line).unwrap();
            let answer = guest.lock().unwrap().answer(&command);
            let Some(answer) = answer else { continue };
            let mut out = Vec::new();
            if command["execute"] == "guest-sync-delimited" {
                out.push(0xFF);
            }
            out.extend_from_slice(format!("{answer}\n").as_bytes());
            socket.write_all(&out).await.unwrap();
        }
    }
}

impl Guest {
    /// `None` leaves the command unanswered.
    fn answer(&mut self, command: &Value) -> Option<Value> {
        let arguments = &command["arguments"];
        let refuse = |desc: &str| json!({"error": {"class": "GenericError", "desc": desc}});
        let value = match command["execute"].as_str().unwrap() {
            "guest-sync-delimited" => arguments["id"].clone(),
            "guest-ping" => json!({}),
            "guest-info" => json!({"version": "fake", "supported_commands": []}),
            "guest-file-open" => {
                let path = arguments["path"].as_str().unwrap().to_owned();
                match path.as_str() {
                    r"\\.\Stuck" => return None,
                    r"\\.\Nothing" => return Some(refuse("no such device")),
                    _ => {}
                }
                self.files.entry(path.clone()).or_default();
                self.handles.push(path);
                json!(self.handles.len() - 1)
            }
            "guest-file-write" => {
                let write: guest_file_write = serde_json::from_value(arguments.clone()).unwrap();
                let path = &self.handles[write.handle as usize];
                self.files.get_mut(path).unwrap().extend_from_slice(&write.buf_b64);
                json!({"count": write.buf_b64.len(), "eof": false})
            }
            "guest-file-read" => {
                let read: guest_file_read = serde_json::from_value(arguments.clone()).unwrap();
                assert_eq!(read.count, Some(4));
                json!({"count": 4, "buf-b64": "AQAAAA==", "eof": false})
            }
            "guest-file-close" => json!({}),
            "guest-exec" => json!({"pid": self.exec(arguments)}),
            "guest-exec-status" => {
                return Some(self.exec_status(arguments["pid"].as_u64().unwrap() as usize));
            }
            other => return Some(refuse(&format!("{other} is not known"))),
        };
        Some(json!({"return": value}))
    }

    fn exec(&mut self, arguments: &Value) -> usize {
        assert_eq!(arguments["path"], "squall-agent");
        assert_eq!(arguments["capture-output"], true);
        let words: Vec<_> =
            arguments["arg"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        self.commands.push(words.join(" "));
        let module = json!({"name": "squall.sys", "base": "0xffff900000010000", "size": 24576});
        let answer = match words.as_slice() {
            [_, "--service", ""] => (2, json!({"error": "no service \"\""})),
            ["install", ..] => (0, json!({"status": "0x00000000"})),
            ["load", ..] => {
                self.state = "loaded";
                let driver = json!({"name": "squall.sys", "base": "0xffff900000010000", "size": 24576,
                    "entry": "0xffff900000015000", "unload": "0xffff900000011000", "unload_return": null});
                (0, json!({"status": "0x00000000", "driver": driver}))
            }
            ["unload", ..] => {
                self.state = "unloaded";
                (0, json!({"status": "0x00000000", "findings": []}))
            }
            ["status", ..] => (0, json!({"state": self.state})),
            ["modules"] if self.state == "loaded" => (0, json!({"loaded": [module], "unloaded": []})),
            ["modules"] => (0, json!({"loaded": [], "unloaded": [module]})),
            other => (2, json!({"error": format!("unknown verb {other:?}")})),
        };
        self.answers.push((answer.0, answer.1.to_string()));
        self.answers.len() - 1
    }

    /// The first question finds every program still running.
    fn exec_status(&mut self, pid: usize) -> Value {
        let (code, output) = &mut self.answers[pid];
        if !output.starts_with(' ') {
            output.insert(0, ' ');
            return json!({"return": {"exited": false}});
        }
        json!({"return": qapi::qga::GuestExecStatus {
            exited: true,
            exitcode: Some(*code),
            out_data: Some(output.clone().into_bytes()),
            err_data: None,
            err_truncated: None,
            out_truncated: None,
            signal: None,
        }})
    }
}
