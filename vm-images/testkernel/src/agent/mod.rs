//! The agent: the host's hand inside the guest.
//!
//! It speaks the QEMU guest agent's protocol over COM1, so that the same client serves this guest and a Windows with
//! QEMU's own agent. What is particular to this project are the verbs of one program, `squall-agent` ([`verbs`]), which
//! `guest-exec` starts.
//!
//! One thread reads, answers and reads again, at a priority above everything that drivers can start; verbs run on
//! threads of their own, so that a driver that never returns from Unload does not silence the agent.

mod cycles;
mod handles;
mod processes;
pub mod services;
mod verbs;

use alloc::string::ToString;
use alloc::vec::Vec;

use serde_json::{Value, json};
use squall_testkernel_pure::agent::archive;
use squall_testkernel_pure::agent::files::{FileSystem, MAX_TOTAL};
use squall_testkernel_pure::agent::framing::{Frame, Framer};
use squall_testkernel_pure::agent::protocol::{self, Command, ProtocolError, Request};

use self::handles::Handles;
use crate::arch::serial;
use crate::console::println;
use crate::hal::firmware;
use crate::ke::lock::SpinLock;
use crate::phase1;

/// Above every thread that a driver or a verb may start.
pub const PRIORITY: u8 = 24;

/// The guest's files: the agent fills them, the loader reads them.
pub static FILES: SpinLock<FileSystem> = SpinLock::new(FileSystem::new());

/// The largest archive: all files, and their headers.
const MAX_ARCHIVE: usize = MAX_TOTAL + (1 << 20);
/// The item of the firmware configuration with the files that the host hands over with the machine, as an archive.
const HANDED_OVER: &str = "opt/squall/files";

/// Puts the files that came with the machine where the host wants them: the serial line takes a hundred times as long.
pub fn take_what_was_handed_over() {
    let Some(archive) = firmware::read_file(HANDED_OVER, MAX_ARCHIVE) else { return };
    for file in archive::Files::of(&archive) {
        let written = file.map_err(|error| error.to_string()).and_then(|(path, contents)| {
            let mut files = FILES.lock();
            let opened = files.open(path, "wb");
            opened.and_then(|mut file| files.write(&mut file, contents)).map_err(|error| error.to_string())
        });
        if let Err(error) = written {
            println!("not everything that came with the machine is kept: {error}");
        }
    }
}

/// Answers the host for ever.
pub fn run() -> ! {
    let mut framer = Framer::default();
    let mut handles = Handles::default();
    let mut bytes = [0; 256];
    loop {
        let count = serial::read(&mut bytes, framer.is_inside());
        for &byte in &bytes[..count] {
            if let Some(frame) = framer.push(byte) {
                serial::write(&answer(frame, &mut handles));
            }
        }
    }
}

/// The bytes that answer one frame.
fn answer(frame: Frame, handles: &mut Handles) -> Vec<u8> {
    let request = match frame {
        Frame::Message(message) => Request::parse(&message),
        Frame::TooLong => Request::refused("the request is longer than 1 MiB: send files in smaller pieces"),
        Frame::Garbage => Request::refused("bad request: not a JSON object"),
    };
    let result = request.command.as_ref().map_err(Clone::clone).and_then(|command| execute(command, handles));
    protocol::response(&request, &result)
}

fn execute(command: &Command, handles: &mut Handles) -> Result<Value, ProtocolError> {
    match command {
        Command::SyncDelimited(id) | Command::Sync(id) => Ok((*id).into()),
        Command::Ping => Ok(json!({})),
        Command::Info => Ok(protocol::info(env!("CARGO_PKG_VERSION"))),
        Command::FileOpen(open) => {
            phase1::wait();
            handles.open(&open.path, open.mode.as_deref().unwrap_or("r")).map(Value::from)
        }
        Command::FileClose(close) => handles.close(close.handle).map(|()| json!({})),
        Command::FileRead(read) => {
            let (bytes, eof) = handles.read(read.handle, read.bytes()?)?;
            Ok(protocol::read_result(&bytes, eof))
        }
        Command::FileWrite(write) => handles.write(write.handle, &write.bytes()?).map(protocol::write_result),
        Command::FileFlush(flush) => handles.flush(flush.handle).map(|()| json!({})),
        Command::Exec(exec) => processes::start(exec).map(|pid| json!({"pid": pid})),
        Command::ExecStatus(status) => processes::status(status.pid),
    }
}
