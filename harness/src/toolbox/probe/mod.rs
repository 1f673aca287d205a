//! Can the device live in this QEMU? Asked of the QEMU itself.
//!
//! 1. `--version`: in the tested range?
//! 2. Its dynamic symbol table: does it export the internal functions that the device calls?
//! 3. `-plugin` with a file that is no plugin: does it try to load it, or does it not know the option?
//!
//! The second needs the file that QEMU's code is in. What the user has may be a wrapper (a script, a program that sets an
//! environment first), so where the program is not that file, QEMU is started without a machine and its memory map read.
//!
//! The answer is kept ([`memory`]), so that the next run asks nobody.

mod memory;
mod symbols;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::cache::Cache;
use super::command::{run_within, wait_within};
use super::qemu::{Candidate, OLDEST_QEMU, Qemu};
use super::version::Version;
use symbols::{NEEDED_SYMBOLS, exported_symbols, missing_symbols};

/// For a program that only prints something.
const ANSWER: Duration = Duration::from_secs(20);

/// Why a candidate will not do, in a few words.
#[derive(Debug)]
struct Refusal {
    problem: String,
    /// The file of QEMU's code, where it is known that the problem lies in it: then it will be the same tomorrow.
    binary: Option<PathBuf>,
}

impl From<String> for Refusal {
    fn from(problem: String) -> Self {
        Self { problem, binary: None }
    }
}

/// Probes a candidate, unless the cache remembers what came of it. The error says in a few words why it will not do.
pub(super) fn cached(cache: &Cache, candidate: &Candidate) -> Result<Qemu, String> {
    if let Some(answer) = memory::recall(cache, candidate) {
        return answer;
    }
    let answer = ask(candidate);
    match &answer {
        Ok(qemu) => memory::remember(cache, candidate, &qemu.binary, Ok(qemu)),
        Err(Refusal { problem, binary: Some(binary) }) => {
            memory::remember(cache, candidate, binary, Err(problem))
        }
        // A system without memory or time to spare may say something else tomorrow.
        Err(Refusal { binary: None, .. }) => {}
    }
    answer.map_err(|refusal| refusal.problem)
}

/// Probes a candidate.
pub(super) fn fresh(candidate: &Candidate) -> Result<Qemu, String> {
    ask(candidate).map_err(|refusal| refusal.problem)
}

fn ask(candidate: &Candidate) -> Result<Qemu, Refusal> {
    let (version, version_text) = version(candidate)?;
    let own = candidate
        .binary
        .clone()
        .or_else(|| is_elf_with_qemu(&candidate.program).then(|| candidate.program.clone()));
    if version < OLDEST_QEMU {
        let problem = format!("QEMU {version} is older than {OLDEST_QEMU}, the oldest that was tested");
        return Err(Refusal { problem, binary: own });
    }
    let binary = own.map_or_else(|| mapped_binary(candidate), Ok)?;
    let missing = missing_symbols(&binary)?;
    if let Some(first) = missing.first() {
        let problem = format!(
            "QEMU {version} does not export its internal functions ({} of {} missing, {first} first), so it cannot take the device",
            missing.len(),
            NEEDED_SYMBOLS.len()
        );
        return Err(Refusal { problem, binary: Some(binary) });
    }
    loads_plugins(candidate)?;
    Ok(Qemu {
        program: candidate.program.clone(),
        prefix_args: candidate.prefix_args.clone(),
        binary,
        version,
        version_text,
        origin: candidate.origin,
        firmware_dirs: firmware_dirs(candidate),
    })
}

fn version(candidate: &Candidate) -> Result<(Version, String), String> {
    let output = run_within("QEMU", candidate.command().arg("--version"), ANSWER)
        .map_err(|error| error.to_string())?;
    let first = output.stdout.lines().next().unwrap_or_default().trim();
    if !output.status.success() || !first.contains("QEMU") {
        let said = [first, output.stderr.lines().next().unwrap_or_default().trim()]
            .into_iter()
            .find(|line| !line.is_empty());
        return Err(format!("--version does not answer as QEMU does: {}", said.unwrap_or("nothing")));
    }
    let version = Version::in_text(first).ok_or_else(|| format!("--version names no version: {first}"))?;
    let text = first.split_once("version ").map_or(first, |(_, text)| text);
    Ok((version, text.to_owned()))
}

/// Whether QEMU tries to load what it is told to.
fn loads_plugins(candidate: &Candidate) -> Result<(), String> {
    let mut command = candidate.command();
    command.args([
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-plugin",
        "file=/dev/null/no-plugin",
    ]);
    let output = run_within("QEMU", &mut command, ANSWER).map_err(|error| error.to_string())?;
    if output.stderr.contains("Could not load plugin") {
        return Ok(());
    }
    let said = output.stderr.lines().next().unwrap_or("it says nothing");
    Err(format!("it was built without plugins (-plugin: {said})"))
}

fn firmware_dirs(candidate: &Candidate) -> Vec<PathBuf> {
    let output = run_within("QEMU", candidate.command().args(["-L", "help"]), ANSWER);
    let listed = output.map(|output| output.stdout).unwrap_or_default();
    listed.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from).collect()
}

/// Whether a file is QEMU's code, however little it exports, and not a wrapper: a wrapper has none of QEMU's functions
/// but may well be an ELF. A QEMU that exports nothing is told from it by its size.
fn is_elf_with_qemu(program: &Path) -> bool {
    const LARGER_THAN_ANY_WRAPPER: u64 = 4 << 20;
    match exported_symbols(program, &NEEDED_SYMBOLS) {
        Ok(found) => {
            !found.is_empty() || fs::metadata(program).is_ok_and(|meta| meta.len() > LARGER_THAN_ANY_WRAPPER)
        }
        Err(_) => false,
    }
}

/// The file of QEMU's code behind a wrapper: the first one mapped into the running process that exports what QEMU does.
///
/// QEMU is started without a machine and with QMP on its standard output, so that its greeting says when it is up.
fn mapped_binary(candidate: &Candidate) -> Result<PathBuf, String> {
    let mut command = candidate.command();
    command.args(["-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run it: {error}"))?;
    let greeting = child.stdout.take().map(|pipe| {
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(pipe.take(64 << 10)).read_line(&mut line);
            let _ = send.send(line);
        });
        receive.recv_timeout(ANSWER).unwrap_or_default()
    });
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap_or_default();
    let _ = child.kill();
    let _ = wait_within(&mut child, ANSWER);

    if !greeting.unwrap_or_default().contains("\"QMP\"") {
        return Err("it is a wrapper, and QEMU did not come up behind it".into());
    }
    let mut seen = HashSet::new();
    mapped_files(&maps)
        .filter(|file| seen.insert(file.clone()))
        .find(|file| {
            exported_symbols(file, &["qemu_main_loop", "type_register_static"])
                .is_ok_and(|found| !found.is_empty())
        })
        .ok_or_else(|| "it is a wrapper that does not become QEMU (exec), or its QEMU exports nothing".into())
}

/// The files that are mapped as code, from `/proc/PID/maps`.
fn mapped_files(maps: &str) -> impl Iterator<Item = PathBuf> {
    maps.lines().filter_map(|line| {
        let permissions = line.split_whitespace().nth(1)?;
        let path = &line[line.find('/')?..];
        permissions.contains('x').then(|| PathBuf::from(path))
    })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::symbols::tests::shared_object;
    use super::*;
    use crate::toolbox::Origin;

    /// A directory with a program that answers as QEMU does, and the file of its code.
    struct Fake {
        directory: tempfile::TempDir,
        cache: Cache,
    }

    impl Fake {
        fn new(version: &str, exported: &[&str], plugin_answer: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let script = format!(
                "#!/bin/sh\necho run >> {count}\ncase \"$*\" in\n--version) echo 'QEMU emulator version {version} (Fake)';;\n\
                 '-L help') echo /fake/share;;\n*-plugin*) echo '{plugin_answer}' >&2; exit 1;;\n*) exit 1;;\nesac\n",
                count = directory.path().join("runs").display()
            );
            let program = directory.path().join("qemu");
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            fs::write(directory.path().join("code"), shared_object(exported, &["malloc"])).unwrap();
            let cache = Cache::at(directory.path().join("cache"));
            Self { directory, cache }
        }

        fn candidate(&self) -> Candidate {
            Candidate {
                program: self.directory.path().join("qemu"),
                prefix_args: Vec::new(),
                binary: Some(self.directory.path().join("code")),
                origin: Origin::Chosen,
            }
        }

        fn probe(&self) -> Result<Qemu, String> {
            cached(&self.cache, &self.candidate())
        }

        fn runs(&self) -> usize {
            fs::read_to_string(self.directory.path().join("runs")).map_or(0, |text| text.lines().count())
        }
    }

    const PLUGIN: &str = "qemu: Could not load plugin /dev/null/no-plugin";

    #[test]
    fn a_good_one_is_taken_and_remembered() {
        let fake = Fake::new("10.0.2", &NEEDED_SYMBOLS, PLUGIN);
        let qemu = fake.probe().unwrap();
        assert_eq!((qemu.version, qemu.version_text.as_str()), (Version::new(10, 0, 2), "10.0.2 (Fake)"));
        assert_eq!(qemu.firmware_dirs, [PathBuf::from("/fake/share")]);
        let runs = fake.runs();
        assert_eq!(fake.probe().unwrap(), qemu);
        assert_eq!(fake.runs(), runs, "the second answer costs no process");
    }

    #[test]
    fn what_was_remembered_of_another_file_does_not_count() {
        let fake = Fake::new("10.0.2", &NEEDED_SYMBOLS, PLUGIN);
        fake.probe().unwrap();
        fs::write(fake.directory.path().join("code"), shared_object(&NEEDED_SYMBOLS[1..], &[])).unwrap();
        assert!(fake.probe().unwrap_err().contains("does not export"));
        fs::remove_file(fake.directory.path().join("code")).unwrap();
        assert!(fake.probe().unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_damaged_memory_is_no_memory() {
        let fake = Fake::new("10.0.2", &NEEDED_SYMBOLS, PLUGIN);
        let qemu = fake.probe().unwrap();
        fs::write(memory::place(&fake.cache, &fake.candidate()), "{\"schema\":").unwrap();
        assert_eq!(fake.probe().unwrap(), qemu);
    }

    #[test]
    fn each_refusal_says_why() {
        let cases = [
            (Fake::new("9.2.4", &NEEDED_SYMBOLS, PLUGIN), "QEMU 9.2.4 is older than 10.0.0"),
            (
                Fake::new("10.0.2", &NEEDED_SYMBOLS[1..], PLUGIN),
                "1 of 11 missing, type_register_static first",
            ),
            (Fake::new("10.0.2", &[], PLUGIN), "11 of 11 missing"),
            (Fake::new("10.0.2", &NEEDED_SYMBOLS, "qemu: -plugin: invalid option"), "built without plugins"),
            (Fake::new("tomorrow", &NEEDED_SYMBOLS, PLUGIN), "names no version"),
        ];
        for (fake, why) in cases {
            let problem = fake.probe().unwrap_err();
            assert!(problem.contains(why), "{problem} lacks {why}");
        }
    }

    #[test]
    fn only_a_refusal_that_lasts_is_remembered() {
        for (version, plugin, lasts) in [("9.2.4", PLUGIN, true), ("10.0.2", "qemu: out of memory", false)] {
            let fake = Fake::new(version, &NEEDED_SYMBOLS, plugin);
            let problem = fake.probe().unwrap_err();
            let runs = fake.runs();
            assert_eq!(fake.probe().unwrap_err(), problem);
            assert_eq!(fake.runs() == runs, lasts, "{problem}");
        }
    }

    #[test]
    fn code_behind_a_wrapper_is_found_in_the_memory_map() {
        let maps = "\
55d0-55d1 r--p 00000000 08:01 1 /usr/bin/qemu-system-x86_64
55d1-55d2 r-xp 00001000 08:01 1 /usr/bin/qemu-system-x86_64
7f00-7f01 r-xp 00000000 08:01 2 /opt/with space/libc.so.6
7f01-7f02 rw-p 00000000 00:00 0
7f02-7f03 r-xp 00000000 00:00 0 [vdso]
";
        let files: Vec<PathBuf> = mapped_files(maps).collect();
        assert_eq!(
            files,
            [PathBuf::from("/usr/bin/qemu-system-x86_64"), PathBuf::from("/opt/with space/libc.so.6")]
        );
    }

    #[test]
    fn a_wrapper_without_qemu_behind_it_is_refused() {
        let fake = Fake::new("10.0.2", &NEEDED_SYMBOLS, PLUGIN);
        let problem = fresh(&Candidate { binary: None, ..fake.candidate() }).unwrap_err();
        assert!(problem.contains("QEMU did not come up"), "{problem}");
    }
}
