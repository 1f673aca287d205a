//! Can the device live in this QEMU? Asked of the QEMU itself.
//!
//! 1. `--version`: in the tested range?
//! 2. Its dynamic symbol table: does it export the internal functions that the device calls?
//! 3. `-plugin` with a file that is no plugin: does it try to load it, or does it not know the option?
//!
//! The second needs the file that QEMU's code is in. What the user has may be a wrapper (a script, a program that sets an
//! environment first), so where the program is not that file, QEMU is started without a machine and its memory map read.
//!
//! A good answer is kept in the cache, keyed by the path, size and time of the files it came from; the next run then costs a
//! `stat` of each.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use object::read::elf::{ElfFile32, ElfFile64};
use object::{FileKind, Object, ObjectSymbol};
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::command::{run_within, wait_within};
use super::qemu::{Candidate, OLDEST_QEMU, Qemu};
use super::version::Version;

/// One of each kind of function that the device calls: a QEMU that exports these exports its internals. The device names
/// every one that it misses when it is loaded; this list only has to tell builds apart.
const NEEDED_SYMBOLS: [&str; 11] = [
    "type_register_static",
    "object_class_property_add",
    "device_class_set_parent_realize",
    "isa_register_ioport",
    "isa_get_irq",
    "memory_region_init_io",
    "qemu_set_irq",
    "timer_init_full",
    "async_run_on_cpu",
    "cpu_loop_exit_restore",
    "qemu_plugin_register_vcpu_tb_trans_cb",
];

/// For a program that only prints something.
const ANSWER: Duration = Duration::from_secs(20);

/// An ELF larger than this is no QEMU.
const LARGEST_BINARY: u64 = 1 << 30;

const SCHEMA: &str = "squall.qemu-probe/1";

/// `probes/*.json` in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    schema: String,
    /// The program and the binary as they were.
    files: Vec<Stamp>,
    qemu: Qemu,
}

/// What changes when a file is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    size: u64,
    modified_ns: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            path: path.to_owned(),
            size: meta.len(),
            modified_ns: u64::try_from(modified.as_nanos()).ok()?,
        })
    }
}

/// Probes a candidate, unless the cache remembers it. The error says in a few words why it will not do.
pub(super) fn cached(cache: &Cache, candidate: &Candidate) -> Result<Qemu, String> {
    let place = place(cache, candidate);
    if let Some(qemu) = recall(&place, candidate) {
        return Ok(qemu);
    }
    let qemu = fresh(candidate)?;
    remember(&place, candidate, &qemu);
    Ok(qemu)
}

/// Probes a candidate.
pub(super) fn fresh(candidate: &Candidate) -> Result<Qemu, String> {
    let (version, version_text) = version(candidate)?;
    if version < OLDEST_QEMU {
        return Err(format!("QEMU {version} is older than {OLDEST_QEMU}, the oldest that was tested"));
    }
    let binary = match &candidate.binary {
        Some(binary) => binary.clone(),
        None if is_elf_with_qemu(&candidate.program) => candidate.program.clone(),
        None => mapped_binary(candidate)?,
    };
    let missing = missing_symbols(&binary)?;
    if !missing.is_empty() {
        let (count, first) = (missing.len(), missing[0]);
        return Err(format!(
            "QEMU {version} does not export its internal functions ({count} of {} missing, {first} first), so it cannot take the device",
            NEEDED_SYMBOLS.len()
        ));
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

/// Those of the needed symbols that an ELF does not define in its dynamic symbol table.
fn missing_symbols(binary: &Path) -> Result<Vec<&'static str>, String> {
    let exported = exported_symbols(binary, &NEEDED_SYMBOLS)?;
    Ok(NEEDED_SYMBOLS.into_iter().filter(|symbol| !exported.contains(*symbol)).collect())
}

fn exported_symbols(binary: &Path, wanted: &[&str]) -> Result<HashSet<String>, String> {
    let say = |problem: &str| format!("{} {problem}", binary.display());
    let size = fs::metadata(binary).map_err(|error| say(&format!("cannot be read: {error}")))?.len();
    if size > LARGEST_BINARY {
        return Err(say("is too large for a QEMU"));
    }
    let data = fs::read(binary).map_err(|error| say(&format!("cannot be read: {error}")))?;
    let no_elf = |error| say(&format!("is no ELF that can be read: {error}"));
    match FileKind::parse(&*data).map_err(no_elf)? {
        FileKind::Elf64 => {
            Ok(defined(&ElfFile64::<object::Endianness>::parse(&*data).map_err(no_elf)?, wanted))
        }
        FileKind::Elf32 => {
            Ok(defined(&ElfFile32::<object::Endianness>::parse(&*data).map_err(no_elf)?, wanted))
        }
        _ => Err(say("is no ELF")),
    }
}

fn defined<'data>(elf: &impl Object<'data>, wanted: &[&str]) -> HashSet<String> {
    elf.dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|name| wanted.contains(&name.as_str()))
        .collect()
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

fn place(cache: &Cache, candidate: &Candidate) -> PathBuf {
    let key = candidate.binary.as_ref().unwrap_or(&candidate.program);
    let name: String = key
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
        .collect();
    // Long paths share their ends; a clash only costs a probe, because the paths inside are compared.
    let start = name.len().saturating_sub(120);
    cache.directory("probes").join(format!("qemu-{}.json", &name[start..]))
}

fn recall(place: &Path, candidate: &Candidate) -> Option<Qemu> {
    let remembered: Remembered = serde_json::from_slice(&fs::read(place).ok()?).ok()?;
    let qemu = &remembered.qemu;
    let is_that = remembered.schema == SCHEMA
        && qemu.version >= OLDEST_QEMU
        && qemu.program == candidate.program
        && qemu.prefix_args == candidate.prefix_args
        && !remembered.files.is_empty()
        && remembered.files.iter().all(|stamp| Stamp::of(&stamp.path).as_ref() == Some(stamp));
    is_that.then_some(Qemu { origin: candidate.origin, ..remembered.qemu })
}

/// Keeps a good answer. Where it cannot be kept the next run probes again, no more.
fn remember(place: &Path, candidate: &Candidate, qemu: &Qemu) {
    let files = [&candidate.program, &qemu.binary]
        .into_iter()
        .map(|path| Stamp::of(path))
        .collect::<Option<Vec<_>>>();
    let Some(files) = files else { return };
    let remembered = Remembered { schema: SCHEMA.into(), files, qemu: qemu.clone() };
    let Ok(text) = serde_json::to_vec(&remembered) else { return };
    let building = place.with_extension(format!("{}.new", std::process::id()));
    let kept = place
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&building, text))
        .and_then(|()| fs::rename(&building, place));
    if let Err(error) = kept {
        tracing::debug!(place = %place.display(), %error, "probe not remembered");
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::toolbox::Origin;

    /// A shared object, as small as can be, that exports functions and asks for others: ELF header, dynamic symbols,
    /// their names, three section headers.
    fn shared_object(defined: &[&str], undefined: &[&str]) -> Vec<u8> {
        let (mut symbols, mut names) = (vec![0; 24], vec![0]);
        for (name, section) in
            defined.iter().map(|name| (name, 1_u16)).chain(undefined.iter().map(|name| (name, 0)))
        {
            symbols.extend((names.len() as u32).to_le_bytes());
            symbols.extend([0x12, 0]); // global, function
            symbols.extend(section.to_le_bytes());
            symbols.extend([0; 16]);
            names.extend(name.as_bytes());
            names.push(0);
        }
        let (at_symbols, at_names) = (64, 64 + symbols.len());
        let at_headers = at_names + names.len();
        let mut header = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 9]].concat();
        header.extend([3, 0, 62, 0, 1, 0, 0, 0]); // shared object, x86-64
        header.extend([0; 16]);
        header.extend((at_headers as u64).to_le_bytes());
        header.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        let section = |kind: u32, offset: usize, size: usize, link: u32, entry: u64| {
            let mut bytes = [0_u32.to_le_bytes(), kind.to_le_bytes()].concat();
            bytes.extend([0; 16]);
            bytes.extend([(offset as u64).to_le_bytes(), (size as u64).to_le_bytes()].concat());
            bytes.extend([link.to_le_bytes(), 1_u32.to_le_bytes()].concat());
            bytes.extend([8_u64.to_le_bytes(), entry.to_le_bytes()].concat());
            bytes
        };
        const DYNSYM: u32 = 11;
        const STRTAB: u32 = 3;
        let headers = [
            vec![0; 64],
            section(DYNSYM, at_symbols, symbols.len(), 2, 24),
            section(STRTAB, at_names, names.len(), 0, 0),
        ];
        [header, symbols, names, headers.concat()].concat()
    }

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
        fs::write(place(&fake.cache, &fake.candidate()), "{\"schema\":").unwrap();
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
    fn a_symbol_that_is_only_asked_for_is_not_exported() {
        let directory = tempfile::tempdir().unwrap();
        let code = directory.path().join("code");
        fs::write(&code, shared_object(&["isa_get_irq"], &["qemu_set_irq"])).unwrap();
        let found = exported_symbols(&code, &NEEDED_SYMBOLS).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["isa_get_irq"]);
    }

    #[test]
    fn a_file_that_is_no_whole_elf_is_refused_at_every_length() {
        let directory = tempfile::tempdir().unwrap();
        let code = directory.path().join("code");
        let whole = shared_object(&NEEDED_SYMBOLS, &[]);
        for length in 0..whole.len() {
            fs::write(&code, &whole[..length]).unwrap();
            assert_ne!(missing_symbols(&code), Ok(vec![]), "{length} bytes");
        }
        fs::write(&code, &whole).unwrap();
        assert_eq!(missing_symbols(&code), Ok(vec![]));
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

    /// The probe's list is short on purpose, but it must not ask for what the device does without.
    #[test]
    fn only_what_the_device_calls_is_asked_for() {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../vdevice/qemu/src/symbols.rs");
        let device = fs::read_to_string(place).unwrap();
        for symbol in NEEDED_SYMBOLS {
            assert!(device.contains(&format!("fn {symbol}(")), "{symbol}");
        }
    }
}
