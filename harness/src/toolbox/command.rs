//! Running the programs that the toolbox stands on: apt-get, dpkg-deb, rustup, and the tools being probed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, thread};

use super::error::Error;
use super::host::on_path;

/// What a program left behind.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// As much as is kept of a program's output; what a tool is asked for is far shorter.
const KEPT: u64 = 4 << 20;

/// A command that dies with us, where the system can arrange that.
///
/// Without it, apt-get would go on downloading after its parent was killed, into a directory that another process has
/// taken over. The kernel can send a signal to the children of a thread that ends; asking for it takes code between
/// fork and exec, so the small program of util-linux that does exactly that is put in front.
pub(super) fn dying_with_us(program: impl AsRef<OsStr>) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let usable = *SETPRIV.get_or_init(|| {
        on_path("setpriv").next().is_some()
            && Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--", "true"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    });
    if usable {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Runs a command to its end, calling `on_line` with each line of its standard output as it comes.
pub(super) fn run(name: &str, command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<Output, Error> {
    let mut child = spawn(name, command)?;
    let stderr = collect(child.stderr.take());
    let mut stdout = String::new();
    if let Some(pipe) = child.stdout.take() {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while read_line(&mut pipe, &mut line) {
            let text = String::from_utf8_lossy(&line);
            on_line(text.trim_end());
            if (stdout.len() as u64) < KEPT {
                stdout.push_str(&text);
            }
        }
    }
    let status = child.wait().map_err(|source| Error::Spawn { program: name.to_owned(), source })?;
    Ok(Output { status, stdout, stderr: stderr.join().unwrap_or_default() })
}

/// Runs a command that must do its work.
pub(super) fn run_to_success(name: &str, command: &mut Command) -> Result<Output, Error> {
    let output = run(name, command, |_| ())?;
    if output.status.success() { Ok(output) } else { Err(output.failure(name)) }
}

/// Runs a command that must end soon; one that does not is killed, and that is its failure.
pub(super) fn run_within(name: &str, command: &mut Command, limit: Duration) -> Result<Output, Error> {
    let mut child = spawn(name, command)?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let fail = |problem: String| Error::Command { program: name.to_owned(), problem };
    let status = wait_within(&mut child, limit)
        .map_err(|source| Error::Spawn { program: name.to_owned(), source })?
        .ok_or_else(|| fail(format!("no answer within {} s", limit.as_secs())))?;
    Ok(Output {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

/// The status of a child that ends in time. One that does not is killed.
pub(super) fn wait_within(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn spawn(name: &str, command: &mut Command) -> Result<Child, Error> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What is read from these programs is read in the language that it was written for.
        .env("LC_ALL", "C")
        .spawn()
        .map_err(|source| Error::Spawn { program: name.to_owned(), source })
}

/// Reads a pipe on a thread, so that a program that fills it does not wait for us.
fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(KEPT).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// One line, of bounded length.
fn read_line(pipe: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    pipe.take(64 << 10).read_until(b'\n', line).is_ok_and(|length| length > 0)
}

impl Output {
    /// The error of a program that ended badly: the line in which it says why.
    pub(super) fn failure(&self, name: &str) -> Error {
        let lines = || self.stderr.lines().chain(self.stdout.lines()).map(str::trim);
        let problem = lines()
            .find(|line| line.starts_with("E: ") || line.starts_with("error:"))
            .or_else(|| lines().rfind(|line| !line.is_empty()))
            .map_or_else(|| self.status.to_string(), str::to_owned);
        Error::Command { program: name.to_owned(), problem }
    }
}

/// The value of an environment variable that names something.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = dying_with_us("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_come_one_by_one_and_errors_apart() {
        let mut lines = Vec::new();
        let output =
            run("sh", &mut shell("echo one; echo no >&2; echo two"), |line| lines.push(line.to_owned()));
        let output = output.unwrap();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\ntwo\n", "no\n"));
    }

    #[test]
    fn a_failure_is_one_line_that_says_why() {
        let script = "echo W: unimportant >&2; echo E: no such suite >&2; echo bye >&2; exit 100";
        let error = run_to_success("apt-get update", &mut shell(script)).unwrap_err();
        assert_eq!(error.to_string(), "apt-get update failed: E: no such suite");
        let error = run_to_success("tool", &mut shell("exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "tool failed: exit status: 3");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run_to_success("nothing", &mut Command::new("/nonexistent/nothing")).unwrap_err();
        assert!(error.to_string().starts_with("cannot run nothing: "), "{error}");
    }

    #[test]
    fn a_program_that_never_ends_is_killed() {
        let began = Instant::now();
        let error = run_within("sleep", &mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::Command { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn much_output_is_neither_kept_nor_in_the_way() {
        let script = "head -c 9000000 /dev/zero | tr '\\0' x >&2; head -c 9000000 /dev/zero; echo; echo end";
        let mut last = String::new();
        let output = run("sh", &mut shell(script), |line| line.clone_into(&mut last)).unwrap();
        assert!(output.stderr.len() as u64 <= KEPT && output.stdout.len() as u64 <= KEPT + (64 << 10));
        assert_eq!(last, "end");
    }
}
