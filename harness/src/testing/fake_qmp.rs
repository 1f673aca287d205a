//! A QMP server in the test's own process.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
};

use crate::qmp::Qmp;

/// Answers commands by a closure and sends events when told to; dropping it closes the connection.
pub(crate) struct FakeQmp {
    seen: Arc<Mutex<Vec<Value>>>,
    events: mpsc::UnboundedSender<Value>,
}

impl FakeQmp {
    /// A server and a client that has negotiated with it.
    pub(crate) async fn start(
        answer: impl Fn(&str, &Value) -> Result<Value, String> + Send + 'static,
    ) -> (Self, Qmp) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (events, queue) = mpsc::unbounded_channel();
        tokio::spawn(serve(ours, queue, seen.clone(), answer));
        let (qmp, _events) = Qmp::connect(theirs).await.unwrap();
        (Self { seen, events }, qmp)
    }

    /// The arguments of every command so far.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    /// Sends an event.
    pub(crate) async fn event(&self, name: &str, data: Value) {
        let timestamp = json!({"seconds": 1, "microseconds": 2});
        self.events.send(json!({"event": name, "data": data, "timestamp": timestamp})).unwrap();
    }
}

async fn serve(
    socket: UnixStream,
    mut events: mpsc::UnboundedReceiver<Value>,
    seen: Arc<Mutex<Vec<Value>>>,
    answer: impl Fn(&str, &Value) -> Result<Value, String>,
) {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""});
    let mut out = json!({"QMP": {"version": version, "capabilities": ["oob"]}});
    loop {
        write.write_all(format!("{out}\r\n").as_bytes()).await.unwrap();
        out = tokio::select! {
            event = events.recv() => match event {
                Some(event) => event,
                None => return,
            },
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return };
                let command: Value = serde_json::from_str(&line).unwrap();
                let name = command["execute"].as_str().unwrap();
                let result = if name == "qmp_capabilities" {
                    Ok(json!({}))
                } else {
                    seen.lock().unwrap().push(command["arguments"].clone());
                    answer(name, &command["arguments"])
                };
                match result {
                    Ok(value) => json!({"return": value, "id": command["id"]}),
                    Err(desc) => json!({"error": {"class": "GenericError", "desc": desc}, "id": command["id"]}),
                }
            }
        };
    }
}
