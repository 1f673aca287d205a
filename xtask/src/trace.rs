//! `cargo xtask trace`: what the card saw, record by record.

use std::{
    fs::File,
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use squall_harness::{
    flight::{Flight, FlightError, Kind, Record},
    run_dir::FLIGHT,
    trace::{self, Filter, KindName, RegisterName},
};

use crate::failure::Failure;

/// Prints the flight recorder of a run: every access, assertion and acknowledgement
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run directory, or a recorder's file
    run: PathBuf,
    /// Only this kind of record, such as ASSERT or WRITE; may be given again
    #[arg(long, value_name = "KIND")]
    kind: Vec<KindName>,
    /// Only accesses to this register, such as STATUS
    #[arg(long, value_name = "NAME")]
    register: Option<RegisterName>,
    /// Only what this processor did
    #[arg(long, value_name = "N")]
    cpu: Option<u16>,
    /// Only what fell into Unload
    #[arg(long)]
    unload: bool,
    /// Writes the records to a file, one JSON object on each line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Prints the records that are wanted; times count from Unload's entry, or from the first record where there is none.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let path = if args.run.is_dir() { args.run.join(FLIGHT) } else { args.run };
    let unreadable = |error: FlightError| Failure::usage(format!("{}: {error}", path.display()));
    let flight = Flight::open(&path).map_err(unreadable)?;
    let filter =
        Filter { kinds: args.kind, register: args.register, processor: args.cpu, unload: args.unload };
    let mut json = args.json.as_deref().map(JsonLines::create).transpose()?;
    let Survey { reference, whole } = survey(&flight).map_err(unreadable)?;
    let mut shown = 0_u64;
    let mut out = BufWriter::new(io::stdout().lock());
    for record in filter.apply(&flight).map_err(unreadable)? {
        let record = record.map_err(unreadable)?;
        shown += 1;
        if let Some(json) = &mut json {
            json.write(&record)?;
        }
        match writeln!(out, "{}", trace::line(&record, reference)) {
            // Whoever read, such as head, has enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            other => other.map_err(|error| Failure::infrastructure(format!("standard output: {error}")))?,
        }
    }
    if let Some(json) = json {
        json.finish()?;
    }
    drop(out);
    let written = flight.written().map_err(unreadable)?;
    let overwritten = written.saturating_sub(flight.capacity());
    let torn = written.saturating_sub(overwritten).saturating_sub(whole);
    eprintln!("{shown} shown of {written} records ever written; {overwritten} were overwritten, {torn} torn");
    Ok(ExitCode::SUCCESS)
}

/// What one reading of the ring tells about it.
struct Survey {
    /// The guest's time at the last entry of Unload, else at the oldest record.
    reference: u64,
    /// Records that are whole.
    whole: u64,
}

fn survey(flight: &Flight) -> Result<Survey, FlightError> {
    let (mut first, mut entry, mut whole) = (None, None, 0);
    for record in flight.records()? {
        let record = record?;
        whole += 1;
        first = first.or(Some(record.virtual_ns));
        if record.kind == Kind::UnloadEnter {
            entry = Some(record.virtual_ns);
        }
    }
    Ok(Survey { reference: entry.or(first).unwrap_or(0), whole })
}

/// The file of `--json`.
struct JsonLines<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> JsonLines<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self { path, file: BufWriter::new(file) }),
            Err(error) => Err(Failure::usage(format!("--json {}: {error}", path.display()))),
        }
    }

    fn write(&mut self, record: &Record) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.file, record).map_err(io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(|error| self.failure(&error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::infrastructure(format!("--json {}: {error}", self.path.display()))
    }
}
