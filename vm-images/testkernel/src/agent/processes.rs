//! Programs that the host started: there is one, `squall-agent`, and each run of it is a thread.
//!
//! Whoever asks how one has ended is answered when it has, or after a moment: each answer costs the host and the guest more than most of
//! these programs take, so asking over and over would be most of what they do.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use serde_json::Value;
use squall_testkernel_pure::agent::files::file_name;
use squall_testkernel_pure::agent::protocol::{self, Exec, ProtocolError};

use super::verbs;
use crate::ke::event::Event;
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::phase1;

/// The most runs that are under way or whose end nobody has asked about.
const MAX_PROCESSES: usize = 32;
/// As a service's thread on Windows: below the agent, so that no verb can silence it.
const PRIORITY: u8 = 8;

/// How long whoever asks is kept waiting for the end.
const PATIENCE_NS: u64 = 20_000_000;

/// One run.
struct Process {
    captures: bool,
    /// Signalled at its end.
    over: Arc<Event>,
    ended: Option<Ended>,
}

/// How it ended.
struct Ended {
    exit_code: i32,
    output: String,
}

struct Table {
    processes: BTreeMap<i64, Process>,
    last: i64,
}

impl Table {
    /// Makes room: a client that went away never asks how its programs ended.
    fn forget_oldest_ended(&mut self) -> Result<(), ProtocolError> {
        let ended = |(pid, process): (&i64, &Process)| process.ended.as_ref().map(|_| *pid);
        let oldest = self.processes.iter().find_map(ended);
        let text = "32 programs are running: wait for one to end";
        let oldest = oldest.ok_or_else(|| ProtocolError::generic(text))?;
        self.processes.remove(&oldest);
        Ok(())
    }
}

static TABLE: SpinLock<Table> = SpinLock::new(Table { processes: BTreeMap::new(), last: 0 });

/// Starts a program and gives its number.
pub fn start(exec: &Exec) -> Result<i64, ProtocolError> {
    let program = file_name(&exec.path).to_ascii_lowercase();
    if program.strip_suffix(".exe").unwrap_or(&program) != "squall-agent" {
        let path: String = exec.path.chars().take(80).collect();
        return Err(ProtocolError::generic(format_args!(
            "{path}: no such program, this guest has squall-agent only"
        )));
    }
    let over = Arc::new(Event::new_notification());
    let pid = {
        let mut table = TABLE.lock();
        if table.processes.len() == MAX_PROCESSES {
            table.forget_oldest_ended()?;
        }
        table.last += 1;
        let pid = table.last;
        table.processes.insert(pid, Process { captures: exec.captures(), over: over.clone(), ended: None });
        pid
    };
    let arguments = exec.arg.clone();
    let verb = arguments.first().map_or("", String::as_str);
    let name = format!("squall-agent {verb}");
    let started = thread::spawn(&name, PRIORITY, move || {
        phase1::wait();
        let (exit_code, output) = verbs::run(&arguments);
        if let Some(process) = TABLE.lock().processes.get_mut(&pid) {
            process.ended = Some(Ended { exit_code, output });
        }
        over.set();
    });
    if started.is_err() {
        TABLE.lock().processes.remove(&pid);
        return Err(ProtocolError::generic("no memory for a thread to run it on"));
    }
    Ok(pid)
}

/// Whether a program has ended, and how; once told, it is forgotten. Waits a moment for its end. At PASSIVE_LEVEL.
pub fn status(pid: i64) -> Result<Value, ProtocolError> {
    let unknown = || ProtocolError::generic(format_args!("no program has the number {pid}"));
    let over = TABLE.lock().processes.get(&pid).map(|process| process.over.clone());
    over.ok_or_else(unknown)?.wait(Some(PATIENCE_NS));
    let mut table = TABLE.lock();
    if table.processes.get(&pid).ok_or_else(unknown)?.ended.is_none() {
        return Ok(protocol::exec_status(None));
    }
    let process = table.processes.remove(&pid).ok_or_else(unknown)?;
    drop(table);
    let ended = process.ended.as_ref();
    let output = |ended: &Ended| process.captures.then(|| ended.output.clone());
    Ok(match ended {
        Some(ended) => protocol::exec_status(Some((ended.exit_code, output(ended).as_deref()))),
        None => protocol::exec_status(None),
    })
}
