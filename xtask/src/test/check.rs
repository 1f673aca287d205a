//! One check: a command whose output is kept, or a piece of work of ours.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use crate::failure::Failure;

/// Lines of a failed check that are shown at once; all of them are in its log.
const SHOWN: usize = 100;

/// What a check came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    failure: Option<String>,
    /// What the tests themselves say at their end.
    pub(super) summary: Vec<String>,
}

impl Outcome {
    /// Why it failed, where it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The first failure of two.
    fn or(self, other: Self) -> Self {
        if self.failure.is_some() { self } else { other }
    }

    fn failed(why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), summary: Vec::new() }
    }
}

/// Something that is checked.
pub(super) struct Check {
    /// Its name in the table.
    pub(super) name: String,
    work: Work,
}

enum Work {
    /// Quiet unless it fails.
    Commands(Vec<Command>),
    /// Runs tests: shown as it runs, and its summary is kept.
    Tests(Box<dyn FnMut() -> Result<Command, String>>),
    /// Anything else.
    Own(Box<dyn FnMut() -> Result<(), Failure>>),
}

impl Check {
    /// Commands that must all succeed.
    pub(super) fn commands(name: impl Into<String>, commands: impl IntoIterator<Item = Command>) -> Self {
        Self { name: name.into(), work: Work::Commands(commands.into_iter().collect()) }
    }

    /// A command that runs tests; what it needs may turn out to be missing.
    pub(super) fn tests(
        name: impl Into<String>,
        command: impl FnMut() -> Result<Command, String> + 'static,
    ) -> Self {
        Self { name: name.into(), work: Work::Tests(Box::new(command)) }
    }

    /// Work of ours.
    pub(super) fn own(name: impl Into<String>, work: impl FnMut() -> Result<(), Failure> + 'static) -> Self {
        Self { name: name.into(), work: Work::Own(Box::new(work)) }
    }

    /// Does it; its output goes into a log of its name.
    pub(super) fn run(&mut self, logs: &Path) -> Outcome {
        let file = logs.join(self.name.replace([' ', ':'], "-") + ".log");
        let mut log = match File::create(&file) {
            Ok(log) => log,
            Err(error) => return Outcome::failed(format!("cannot create {}: {error}", file.display())),
        };
        match &mut self.work {
            Work::Own(work) => match work() {
                Ok(()) => Outcome::default(),
                Err(failure) => Outcome::failed(failure.message()),
            },
            // All of them run: who mends one failure wants to know of the others.
            Work::Commands(commands) => commands
                .iter_mut()
                .map(|command| execute(command, &mut log, &file, false))
                .fold(Outcome::default(), Outcome::or),
            Work::Tests(command) => match command() {
                Ok(mut command) => execute(&mut command, &mut log, &file, true),
                Err(why) => Outcome::failed(why),
            },
        }
    }
}

/// Runs a command, both of its outputs in one.
fn execute(command: &mut Command, log: &mut File, place: &Path, shown: bool) -> Outcome {
    let mut last = VecDeque::new();
    let mut summary = Vec::new();
    let mut run = || -> io::Result<_> {
        let (output, input) = io::pipe()?;
        let mut child = command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input).spawn()?;
        // This process's copies of the pipe's end would keep it open for ever.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            log.write_all(&line)?;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if shown {
                eprintln!("{text}");
            }
            if is_summary(&text) {
                summary.push(text.trim().to_owned());
            }
            last.push_back(text);
            if last.len() > SHOWN {
                last.pop_front();
            }
        }
        child.wait()
    };
    let failure = match run() {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("{status}; all of its output is in {}", place.display())),
        Err(error) => Some(format!("cannot run {}: {error}", command.get_program().display())),
    };
    if failure.is_some() && !shown {
        for line in last {
            eprintln!("{line}");
        }
    }
    Outcome { failure, summary }
}

/// nextest's last line, or those of cargo's own test runner, which nextest shows indented for each failed test.
fn is_summary(line: &str) -> bool {
    line.trim_start().starts_with("Summary [") || line.starts_with("test result: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn logs() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("squall-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_failed_command_is_a_failed_check_and_the_rest_runs_all_the_same() {
        let logs = logs();
        let mut check =
            Check::commands("a: failure", [shell("echo one; echo two >&2; exit 3"), shell("echo three")]);
        let outcome = check.run(&logs);
        let log = std::fs::read_to_string(logs.join("a--failure.log")).unwrap();
        std::fs::remove_dir_all(&logs).unwrap();
        assert!(outcome.failure().unwrap().contains("exit status: 3"), "{outcome:?}");
        assert_eq!(log, "one\ntwo\nthree\n");
    }

    #[test]
    fn the_runners_summary_is_kept_and_those_it_quotes_are_not() {
        assert!(is_summary("     Summary [   0.4s] 86 tests run: 86 passed, 0 skipped"));
        assert!(is_summary("test result: ok. 5 passed; 0 failed"));
        assert!(!is_summary("    test result: FAILED. 0 passed; 1 failed"));
    }

    #[test]
    fn tests_whose_needs_are_missing_fail_with_the_reason() {
        let logs = std::env::temp_dir();
        let outcome = Check::tests("squall needs", || Err("nothing was built".to_owned())).run(&logs);
        std::fs::remove_file(logs.join("squall-needs.log")).unwrap();
        assert_eq!(outcome.failure(), Some("nothing was built"));
    }
}
