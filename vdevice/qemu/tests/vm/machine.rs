//! A QEMU with a card in it, for one test.

use std::env;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take. Nothing comes near it on a machine that is not stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const CARD: &str = "/machine/peripheral/card0";

/// What differs from the usual machine.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// The board; empty for `pc`.
    pub(crate) board: &'static str,
    /// The device's type; empty for `squall-isa`, `none` for a machine without a card.
    pub(crate) device: &'static str,
    /// The ROM at the top of the first megabyte; empty for a processor that sleeps.
    pub(crate) rom: Vec<u8>,
    /// More arguments.
    pub(crate) arguments: Vec<&'static str>,
    /// More options of the device.
    pub(crate) device_options: &'static str,
}

/// A running QEMU. It is ended when dropped.
pub(crate) struct Machine {
    child: Child,
    qmp: BufReader<UnixStream>,
    qtest: BufReader<UnixStream>,
    /// Interrupts that the test protocol has reported and nobody has taken.
    interrupts: Vec<String>,
    lifeline: Option<PipeWriter>,
    dir: TempDir,
}

fn or(text: &'static str, default: &'static str) -> &'static str {
    if text.is_empty() { default } else { text }
}

/// Program of the QEMU to test.
pub(crate) fn qemu_command() -> PathBuf {
    let hint =
        "SQUALL_QEMU_COMMAND is not set: run `cargo xtask test`, which finds a QEMU and names it there";
    env::var_os("SQUALL_QEMU_COMMAND").map(PathBuf::from).expect(hint)
}

/// The library, as `cargo build -p squall-vdevice` leaves it in this profile's directory.
pub(crate) fn device_library() -> PathBuf {
    if let Some(path) = env::var_os("SQUALL_DEVICE_LIBRARY") {
        return path.into();
    }
    let test = env::current_exe().expect("this test has a path");
    let profile = test.ancestors().nth(2).expect("tests are in PROFILE/deps");
    let library = profile.join("libsquall_vdevice.so");
    let hint =
        "the device library is not built: run `cargo xtask test`, or `cargo build -p squall-vdevice` first";
    assert!(library.exists(), "{hint} ({})", library.display());
    library
}

/// Our end of a new socket pair, and the other, which the next process inherits.
fn inherited_socket() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    inherit(&theirs);
    (ours, theirs)
}

/// Has the next process inherit a descriptor.
pub(crate) fn inherit(fd: impl AsFd) {
    fcntl_setfd(fd, FdFlags::empty()).expect("a descriptor that is open");
}

impl Machine {
    /// A machine with a card at 0x300, interrupt 5.
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let rom = dir.path().join("rom.bin");
        let image = if setup.rom.is_empty() { asleep() } else { setup.rom };
        std::fs::write(&rom, image).expect("a ROM");
        let trace = dir.path().join("flight.bin");

        let (qmp, their_qmp) = inherited_socket();
        let (qtest, their_qtest) = inherited_socket();
        let (their_lifeline, lifeline) = std::io::pipe().expect("a pipe");
        inherit(&their_lifeline);

        let mut command = Command::new(qemu_command());
        command.args(["-M", or(setup.board, "pc"), "-accel", "tcg", "-m", "16"]);
        command.args(["-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-bios"]).arg(&rom);
        let library = device_library();
        command.args([
            "-plugin",
            &format!("file={},lifeline={}", library.display(), their_lifeline.as_raw_fd()),
        ]);
        command.args(["-chardev", &format!("socket,id=qmp,fd={}", their_qmp.as_raw_fd())]);
        command.args(["-qmp", "chardev:qmp"]);
        command.args(["-chardev", &format!("socket,id=qtest,fd={}", their_qtest.as_raw_fd())]);
        command.args(["-qtest", "chardev:qtest", "-qtest-log", "none"]);
        // What the card is plugged into comes before it.
        command.args(setup.arguments).stdin(Stdio::null());
        let (device, options) = (or(setup.device, "squall-isa"), setup.device_options);
        if device != "none" {
            command.args(["-device", &format!("{device},id=card0,trace={}{options}", trace.display())]);
        }
        let child = command.spawn().expect("QEMU starts");

        let mut machine = Self {
            child,
            qmp: BufReader::new(qmp),
            qtest: BufReader::new(qtest),
            interrupts: Vec::new(),
            lifeline: Some(lifeline),
            dir,
        };
        machine.qmp_line();
        machine.qmp("qmp_capabilities", json!({})).expect("a greeting");
        machine
    }

    /// One QMP command: its return value, or the description of its error.
    pub(crate) fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.qmp.get_mut(), "{request}").expect("QMP is open");
        loop {
            let mut reply = self.qmp_line();
            if let Some(result) = reply.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = reply.get("error") {
                return Err(error["desc"].as_str().expect("errors are described").to_owned());
            }
        }
    }

    fn qmp_line(&mut self) -> Value {
        let mut line = String::new();
        self.qmp.read_line(&mut line).expect("QMP answers");
        serde_json::from_str(&line).expect("QMP is JSON")
    }

    /// Sets a property of the card.
    pub(crate) fn set(&mut self, property: &str, value: impl Into<Value>) -> Result<(), String> {
        self.set_of(CARD, property, value)
    }

    /// Sets a property of an object.
    pub(crate) fn set_of(
        &mut self,
        path: &str,
        property: &str,
        value: impl Into<Value>,
    ) -> Result<(), String> {
        let value = value.into();
        self.qmp("qom-set", json!({ "path": path, "property": property, "value": value })).map(drop)
    }

    /// A property of the card.
    pub(crate) fn get(&mut self, property: &str) -> Value {
        self.qmp("qom-get", json!({ "path": CARD, "property": property })).expect("the property exists")
    }

    /// A counter, by its place in `stats`.
    pub(crate) fn counter(&mut self, pointer: &str) -> u64 {
        self.stats().pointer(pointer).and_then(Value::as_u64).expect("the counter exists")
    }

    pub(crate) fn stats(&mut self) -> Value {
        self.stats_of(CARD)
    }

    /// The counters of a card.
    pub(crate) fn stats_of(&mut self, path: &str) -> Value {
        let text =
            self.qmp("qom-get", json!({ "path": path, "property": "stats" })).expect("the property exists");
        serde_json::from_str(text.as_str().expect("stats are text")).expect("stats are JSON")
    }

    /// Waits until a counter is at least `least`.
    pub(crate) fn wait_for(&mut self, pointer: &str, least: u64) {
        let begun = Instant::now();
        while self.counter(pointer) < least {
            let stats = self.stats();
            assert!(begun.elapsed() < PATIENCE, "{pointer} does not reach {least}: {stats}");
            sleep(Duration::from_millis(1));
        }
    }

    /// One command of the test protocol, and what it answers after OK.
    fn qtest(&mut self, command: &str) -> String {
        writeln!(self.qtest.get_mut(), "{command}").expect("the test protocol is open");
        loop {
            let mut line = String::new();
            self.qtest.read_line(&mut line).expect("the test protocol answers");
            let line = line.trim_end();
            match line.strip_prefix("OK") {
                Some(answer) => return answer.trim_start().to_owned(),
                None => {
                    let interrupt = line.strip_prefix("IRQ ");
                    self.interrupts.push(interrupt.expect("OK or IRQ").to_owned());
                }
            }
        }
    }

    fn number(&mut self, command: &str) -> u32 {
        let answer = self.qtest(command);
        let digits = answer.strip_prefix("0x").expect("a number");
        u64::from_str_radix(digits, 16).expect("a number") as u32
    }

    /// Reads a port: `width` is `b`, `w` or `l`.
    pub(crate) fn read(&mut self, width: char, port: u16) -> u32 {
        self.number(&format!("in{width} {port:#x}"))
    }

    /// Writes a port.
    pub(crate) fn write(&mut self, width: char, port: u16, value: u32) {
        self.qtest(&format!("out{width} {port:#x} {value:#x}"));
    }

    /// Reads 32 bits of memory.
    pub(crate) fn memory(&mut self, address: u64) -> u32 {
        self.number(&format!("readl {address:#x}"))
    }

    /// Waits until 32 bits of memory are as they should be.
    pub(crate) fn wait_for_memory(&mut self, address: u64, good: impl Fn(u32) -> bool) {
        let begun = Instant::now();
        while !good(self.memory(address)) {
            assert!(begun.elapsed() < PATIENCE, "{address:#x} stays {:#x}", self.memory(address));
            sleep(Duration::from_millis(1));
        }
    }

    /// Writes 32 bits of memory, or of what is mapped there.
    pub(crate) fn write_memory(&mut self, address: u64, value: u32) {
        self.qtest(&format!("writel {address:#x} {value:#x}"));
    }

    /// The process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Has interrupts reported instead of delivered.
    pub(crate) fn intercept(&mut self) {
        self.qtest("irq_intercept_in ioapic");
        self.interrupts.clear();
    }

    /// What an interrupt line did since this was last asked.
    pub(crate) fn interrupts(&mut self, irq: u32) -> Vec<String> {
        // Reports come before the answer of whatever is asked next.
        self.read('b', 0x80);
        // Other devices of the machine interrupt too.
        let suffix = format!(" {irq}");
        self.interrupts
            .drain(..)
            .filter_map(|report| report.strip_suffix(&suffix).map(str::to_owned))
            .collect()
    }

    /// A directory that goes with the machine.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Runs a job to its end.
    pub(crate) fn job(&mut self, command: &str, mut arguments: Value) {
        arguments["job-id"] = json!("job");
        self.qmp(command, arguments).expect("the job begins");
        let begun = Instant::now();
        loop {
            let jobs = self.qmp("query-jobs", json!({})).expect("jobs are told");
            if jobs[0]["status"] == "concluded" {
                assert!(jobs[0].get("error").is_none(), "{command}: {jobs}");
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{command} does not end: {jobs}");
        }
        self.qmp("job-dismiss", json!({ "id": "job" })).expect("the job is over");
    }

    /// Adds a disk for snapshots, a new one or one that holds some.
    pub(crate) fn add_disk(&mut self, path: &std::path::Path, new: bool) {
        let path = path.to_str().expect("a path in text");
        if new {
            let file = json!({ "driver": "file", "filename": path, "size": 0 });
            self.job("blockdev-create", json!({ "options": file }));
        }
        let file = json!({ "driver": "file", "node-name": "file", "filename": path });
        self.qmp("blockdev-add", file).expect("a file");
        if new {
            let format = json!({ "driver": "qcow2", "file": "file", "size": 1 << 26 });
            self.job("blockdev-create", json!({ "options": format }));
        }
        let format = json!({ "driver": "qcow2", "node-name": "disk", "file": "file" });
        self.qmp("blockdev-add", format).expect("a disk");
    }

    /// Runs a command of the human monitor, which says nothing if it worked.
    pub(crate) fn monitor(&mut self, command: &str) {
        let said = self.qmp("human-monitor-command", json!({ "command-line": command }));
        assert_eq!(said, Ok(json!("")), "{command}");
    }

    /// The flight recorder's bytes, as they are now.
    pub(crate) fn trace(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("flight.bin")).expect("a trace")
    }

    /// Lets go of the lifeline.
    pub(crate) fn cut_lifeline(&mut self) {
        self.lifeline = None;
    }

    /// Waits until QEMU has ended by itself.
    pub(crate) fn wait_for_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return Some(status);
            }
            sleep(Duration::from_millis(2));
        }
        None
    }

    /// Ends QEMU as nothing else does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a QEMU that is expected to refuse its arguments: what it said, and how it ended.
pub(crate) fn refusal(plugin_options: &str, device_options: &str) -> (String, ExitStatus) {
    let mut child = Command::new(qemu_command())
        .args(["-M", "pc", "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-S"])
        .args(["-plugin", &format!("file={}{plugin_options}", device_library().display())])
        .args(["-device", &format!("squall-isa{device_options}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("QEMU starts");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    (said, child.wait().expect("a child of ours"))
}

/// A ROM whose processor sleeps: `cli; hlt; jmp .-1` at the reset vector.
fn asleep() -> Vec<u8> {
    let mut rom = vec![0xF4; 0x1_0000];
    rom[0xFFF0..0xFFF4].copy_from_slice(&[0xFA, 0xF4, 0xEB, 0xFD]);
    rom
}
