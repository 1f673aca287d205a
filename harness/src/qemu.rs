//! QEMU as a process of ours.
//!
//! The machine is the one of `docs/joints.md`, put together from a guest profile and a scenario. Its two
//! conversations, QMP and the agent, run over socket pairs that it inherits by number: nothing has a name in the file
//! system, so nothing is left there and no stranger connects. A third inherited file is the *lifeline*, a pipe whose
//! write end only this process holds: however this process dies, the kernel closes it, and the device library in QEMU
//! sees that and ends QEMU.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, PipeWriter, Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping, FdMappingCollision};
use thiserror::Error;
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

use crate::{
    device::CARD_ID,
    handover,
    profile::GuestProfile,
    run_dir::{FILES, FLIGHT, QEMU_ARGS, QEMU_LOG, RunDir, RunDirError},
    scenario::{Bus, Scenario},
    toolbox::Qemu,
};

// Numbers far above what the standard library uses between fork and exec.
const QMP_FD: i32 = 100;
const AGENT_FD: i32 = 101;
const LIFELINE_FD: i32 = 102;

/// The C library's settings; whoever sets them already knows better.
const GLIBC_TUNABLES: &str = "GLIBC_TUNABLES";
/// QEMU fills some 8 MiB of heap before the guest's first instruction: 2000 page faults, or four. Source: *Memory Allocation Tunables* in the GNU
/// C library's manual.
const HEAP_IN_LARGE_PAGES: &str = "glibc.malloc.hugetlb=1";

/// QEMU could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The run directory would not take a file.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A socket pair or the lifeline.
    #[error("cannot make QEMU's channels: {0}")]
    Channels(#[source] io::Error),
    /// Two channels of one number: a bug of this module.
    #[error("cannot make QEMU's channels: {0}")]
    Collision(#[from] FdMappingCollision),
    /// The program does not start.
    #[error("cannot start QEMU {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a machine is put together from.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Which QEMU.
    pub qemu: &'a Qemu,
    /// Which guest.
    pub profile: &'a GuestProfile,
    /// What for.
    pub scenario: &'a Scenario,
    /// The guest's kernel, where it is booted by one.
    pub kernel: &'a Path,
    /// The library that makes the card.
    pub device_library: &'a Path,
    /// The files that come with it, where the guest takes them so: the host's, and the paths in the guest.
    pub files: &'a [(PathBuf, String)],
    /// Where its logs go.
    pub run: &'a RunDir,
}

impl Machine<'_> {
    /// The command line after the program.
    pub fn arguments(&self) -> Vec<OsString> {
        let Self { qemu, profile, scenario, files, run, .. } = *self;
        let machine = &profile.machine;
        let mut line = Line::default();
        line.words(["-nodefaults", "-no-user-config", "-display", "none"]);
        line.words(["-M", &machine.kind, "-accel", &machine.accelerator]);
        if let Some(processor) = &machine.processor {
            line.words(["-cpu", processor]);
        }
        line.words(["-m", &machine.memory_mib.to_string(), "-smp", &scenario.processors.to_string()]);
        line.words(["-action", "panic=pause", "-action", "reboot=shutdown"]);
        if let Some(firmware) = machine.firmware.as_deref().and_then(|name| qemu.firmware(name)) {
            line.option("-bios", firmware);
        }
        if profile.boot.kernel {
            line.option("-kernel", self.kernel);
            if !profile.boot.command_line.is_empty() {
                line.words(["-append", &profile.boot.command_line]);
            }
        }

        if let (Some(item), false) = (&profile.files_item, files.is_empty()) {
            line.option("-fw_cfg", Property::new(&format!("name={item},file=")).path(&run.file(FILES)));
        }

        let plugin =
            Property::new("file=").path(self.device_library).text(&format!(",lifeline={LIFELINE_FD}"));
        line.option("-plugin", plugin);
        line.words(["-chardev", &format!("socket,id=qmp,fd={QMP_FD}"), "-mon", "chardev=qmp,mode=control"]);
        line.words(["-chardev", &format!("socket,id=agent,fd={AGENT_FD}")]);
        line.words(["-device", "isa-serial,index=0,chardev=agent"]);
        for (number, (file, port)) in profile.logs.iter().enumerate() {
            // Appended to, so that whoever empties the file between two runs finds the next one at its beginning.
            let log =
                Property::new(&format!("file,id=log{number},path=")).path(&run.file(file)).text(",append=on");
            line.option("-chardev", log);
            line.words(["-device", &format!("isa-debugcon,iobase={port:#x},chardev=log{number}")]);
        }
        for device in &machine.devices {
            line.words(["-device", device]);
        }
        let card = &scenario.card;
        let card = match scenario.bus {
            Bus::Isa => format!("squall-isa,id={CARD_ID},iobase={:#x},irq={}", card.io_base, card.irq),
            Bus::PciIntx => format!("squall-pci,id={CARD_ID},vectors=0,msi=off"),
            Bus::PciMsi => format!("squall-pci,id={CARD_ID},vectors=0"),
            Bus::PciMsix => format!("squall-pci,id={CARD_ID}"),
        };
        let records = format!(",trace-records={}", scenario.card.recorder_records);
        let card = Property::new(&card).text(",trace=").path(&run.file(FLIGHT)).text(&records);
        line.option("-device", card);
        line.0
    }

    /// Starts QEMU and leaves `qemu.args` and `qemu.log` in the run directory.
    pub fn start(&self) -> Result<Process, LaunchError> {
        let arguments = self.arguments();
        if self.profile.files_item.is_some() && !self.files.is_empty() {
            handover::pack(self.files, &self.run.file(FILES))?;
        }
        self.run.write(QEMU_ARGS, shell_text(&self.qemu.argv(&arguments)).as_bytes())?;
        let log = self.run.file(QEMU_LOG);
        let output = File::create_new(&log).map_err(RunDirError::new("create", &log))?;
        let errors = output.try_clone().map_err(LaunchError::Channels)?;

        let (qmp, qmp_inherited) = pair()?;
        let (agent, agent_inherited) = StdUnixStream::pair().map_err(LaunchError::Channels)?;
        agent.set_nonblocking(true).map_err(LaunchError::Channels)?;
        let (lifeline_inherited, lifeline) = io::pipe().map_err(LaunchError::Channels)?;
        let map = |parent_fd, child_fd| FdMapping { parent_fd, child_fd };

        let mut command = Command::from(self.qemu.command());
        command.args(&arguments).stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
        if std::env::var_os(GLIBC_TUNABLES).is_none() {
            command.env(GLIBC_TUNABLES, HEAP_IN_LARGE_PAGES);
        }
        command.fd_mappings(vec![
            map(qmp_inherited, QMP_FD),
            map(agent_inherited.into(), AGENT_FD),
            map(lifeline_inherited.into(), LIFELINE_FD),
        ])?;
        let program = &self.qemu.program;
        let child =
            command.spawn().map_err(|source| LaunchError::Spawn { program: program.clone(), source })?;
        // Dropping the command closes this process's copies of the inherited ends.
        drop(command);
        Ok(Process { child, log, qmp: Some(qmp), agent, _lifeline: lifeline })
    }
}

fn pair() -> Result<(UnixStream, OwnedFd), LaunchError> {
    let (ours, theirs) = StdUnixStream::pair().map_err(LaunchError::Channels)?;
    ours.set_nonblocking(true).map_err(LaunchError::Channels)?;
    Ok((UnixStream::from_std(ours).map_err(LaunchError::Channels)?, theirs.into()))
}

/// A running QEMU; it does not outlive this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    qmp: Option<UnixStream>,
    agent: StdUnixStream,
    _lifeline: PipeWriter,
}

impl Process {
    /// Its process number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The wire to QMP; once.
    pub fn take_qmp(&mut self) -> Option<UnixStream> {
        self.qmp.take()
    }

    /// The wire to the guest's serial port, for one conversation; the one before must have ended.
    pub fn agent_wire(&self) -> io::Result<UnixStream> {
        UnixStream::from_std(self.agent.try_clone()?)
    }

    /// Throws away what the guest has sent and nobody has read.
    pub(crate) fn drain_agent(&self) -> io::Result<()> {
        let mut heard = [0; 4096];
        loop {
            match (&self.agent).read(&mut heard) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for its end for so long, then makes one.
    pub async fn end_within(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.child.kill().await?;
                self.child.wait().await
            }
        }
    }

    /// Its exit status, where it ended by itself within so long.
    pub async fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        timeout(limit, self.child.wait()).await.ok()?.ok()
    }

    /// The last thing that it said, in one line.
    pub fn last_words(&self) -> Option<String> {
        last_line(&self.log).ok().flatten()
    }
}

/// The last line of a log that is not blank, cut to a length that fits a message.
fn last_line(path: &Path) -> io::Result<Option<String>> {
    const TAIL: u64 = 4096;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    Ok(line.map(|line| line.chars().filter(|character| !character.is_control()).take(300).collect()))
}

/// A command line being put together.
#[derive(Debug, Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }
}

/// A value of the form `a=b,c=d`, in which a path's own commas have to be doubled.
#[derive(Debug)]
struct Property(OsString);

impl Property {
    fn new(text: &str) -> Self {
        Self(text.into())
    }

    fn text(mut self, text: &str) -> Self {
        self.0.push(text);
        self
    }

    fn path(mut self, path: &Path) -> Self {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let bytes = path.as_os_str().as_bytes();
        let doubled =
            bytes.iter().flat_map(|&byte| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
        self.0.push(OsString::from_vec(doubled.collect()));
        self
    }
}

impl From<Property> for OsString {
    fn from(property: Property) -> Self {
        property.0
    }
}

/// The command as a shell would take it, one option a line.
fn shell_text(argv: &[OsString]) -> String {
    let mut text = String::new();
    for (number, word) in argv.iter().enumerate() {
        if number > 0 {
            let option = word.as_encoded_bytes().starts_with(b"-");
            text.push_str(if option { " \\\n  " } else { " " });
        }
        text.push_str(&quoted(word));
    }
    text.push('\n');
    text
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./=,:+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolbox::{Origin, Version};

    fn qemu(program: &str, prefix: &[&str]) -> Qemu {
        Qemu {
            program: program.into(),
            prefix_args: prefix.iter().map(OsString::from).collect(),
            binary: program.into(),
            version: Version::new(10, 0, 2),
            version_text: "10.0.2".into(),
            origin: Origin::Chosen,
            firmware_dirs: Vec::new(),
        }
    }

    struct Parts {
        _folder: tempfile::TempDir,
        run: RunDir,
        profile: GuestProfile,
        scenario: Scenario,
        files: [(PathBuf, String); 1],
    }

    impl Parts {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let run = RunDir::create(&folder.path().join("runs, all"), 1).unwrap();
            let profile = GuestProfile::named("testkernel").unwrap();
            let driver = run.file("d.sys");
            std::fs::write(&driver, b"MZ").unwrap();
            Self {
                _folder: folder,
                run,
                profile,
                scenario: Scenario { processors: 4, ..Scenario::default() },
                files: [(driver, r"C:\squall\d.sys".to_owned())],
            }
        }

        fn machine<'a>(&'a self, qemu: &'a Qemu) -> Machine<'a> {
            let Self { run, profile, scenario, files, .. } = self;
            let (kernel, device_library) = (Path::new("/k"), Path::new("/lib.so"));
            Machine { qemu, profile, scenario, kernel, device_library, files, run }
        }
    }

    #[test]
    fn the_machine_is_the_one_of_the_joints() {
        let parts = Parts::new();
        let qemu = qemu("/q", &[]);
        let arguments = parts.machine(&qemu).arguments();
        let text = shell_text(&arguments);
        for part in [
            "-M pc,acpi=off,hpet=off,vmport=off,smbus=off,usb=off",
            "-smp 4",
            "-cpu qemu64,+x2apic",
            "-m 64",
            "-kernel /k",
            "-action panic=pause",
            "-action reboot=shutdown",
            "-plugin file=/lib.so,lifeline=102",
            "isa-debugcon,iobase=0x402",
            "isa-debugcon,iobase=0xe9",
            "-device pvpanic",
            "squall-isa,id=card0,iobase=0x300,irq=5,trace=",
            "trace-records=65536",
            "name=opt/squall/files,file=",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn each_bus_has_its_card() {
        for (bus, card) in [
            (Bus::PciIntx, "squall-pci,id=card0,vectors=0,msi=off,trace="),
            (Bus::PciMsi, "squall-pci,id=card0,vectors=0,trace="),
            (Bus::PciMsix, "squall-pci,id=card0,trace="),
        ] {
            let mut parts = Parts::new();
            parts.scenario.bus = bus;
            let qemu = qemu("/q", &[]);
            let text = shell_text(&parts.machine(&qemu).arguments());
            assert!(text.contains(card), "{card} is not in {text}");
        }
    }

    #[test]
    fn commas_in_paths_reach_qemu_doubled() {
        let parts = Parts::new();
        let qemu = qemu("/q", &[]);
        let arguments = parts.machine(&qemu).arguments();
        let crash = arguments.iter().find(|word| word.to_string_lossy().contains("crash.jsonl")).unwrap();
        assert!(crash.to_string_lossy().contains("runs,, all"), "{crash:?}");
    }

    #[test]
    fn the_arguments_file_can_be_pasted_into_a_shell() {
        let words = ["qemu", "-a", "b c", "it's", ""].map(OsString::from);
        assert_eq!(shell_text(&words), "qemu \\\n  -a 'b c' 'it'\\''s' ''\n");
    }

    #[tokio::test]
    async fn the_channels_are_inherited() {
        let parts = Parts::new();
        // Stands in for QEMU: speaks on both sockets, waits for the lifeline's end, ignores its arguments.
        let script = "echo to-qmp >&100; echo to-agent >&101; echo said >&2; cat <&102; exit 3";
        // bash, because a plain sh knows only descriptors of one digit.
        let qemu = qemu("bash", &["-c", script]);
        let mut process = parts.machine(&qemu).start().unwrap();
        let mut heard = Vec::new();
        for (mut socket, word) in
            [(process.take_qmp().unwrap(), "to-qmp\n"), (process.agent_wire().unwrap(), "to-agent\n")]
        {
            heard.clear();
            tokio::io::AsyncReadExt::read_buf(&mut socket, &mut heard).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&heard), word);
        }
        let Process { child, log, _lifeline, .. } = process;
        let mut child = child;
        assert!(timeout(Duration::from_millis(50), child.wait()).await.is_err(), "ended before its lifeline");
        drop(_lifeline);
        let status = timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(last_line(&log).unwrap().as_deref(), Some("said"));
        assert!(parts.run.file(QEMU_ARGS).exists());
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let parts = Parts::new();
        let qemu = qemu("/nonexistent/qemu", &[]);
        let error = parts.machine(&qemu).start().unwrap_err().to_string();
        assert!(error.contains("/nonexistent/qemu"), "{error}");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_ended() {
        let parts = Parts::new();
        let qemu = qemu("sh", &["-c", "exec sleep 1000"]);
        let mut process = parts.machine(&qemu).start().unwrap();
        let status = process.end_within(Duration::from_millis(20)).await.unwrap();
        assert!(!status.success());
    }
}
