//! The flight recorder's file, read back.
//!
//! The device keeps its last records in a ring in a mapped file, so the file is whole up to the last record however
//! QEMU ended. It is read one record at a time, by number: nothing here holds more than one of them, and a slot that
//! is marked as being replaced was torn by the end and is skipped. What no recorder can have written is an error with its
//! place.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

use serde::Serialize;
use thiserror::Error;

const MAGIC: &[u8; 8] = b"SQFLIGHT";
const VERSION: u32 = 1;
const HEADER: u64 = 64;
const RECORD: usize = 48;
/// Where the header's used bytes end.
const REST_OF_HEADER: usize = 32;
/// The number of a record that is being replaced.
const TORN: u64 = u64::MAX;
/// The processor of a record that none has caused.
const NO_PROCESSOR: u16 = 0xFFFF;
/// The device tells so many processors apart.
const MOST_PROCESSORS: u16 = 64;
/// Kinds are numbered from 1 to far less than this.
const MOST_KINDS: u16 = 255;
/// Bytes of the register window.
const WINDOW: u32 = 32;
/// The largest ring that is believed: 2^26 records are 3 GiB.
const MOST_RECORDS: u64 = 1 << 26;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The guest read a register.
    Read,
    /// The guest wrote a register.
    Write,
    /// A sample was asked for.
    Fire,
    /// The line rose.
    Assert,
    /// The line fell.
    Deassert,
    /// The guest acknowledged an assertion.
    Serviced,
    /// A sample came while interrupts were disabled.
    Suppressed,
    /// A sample came while one was already waiting.
    Coalesced,
    /// IRQ_ENABLE went from 1 to 0.
    Silenced,
    /// IRQ_ENABLE went from 0 to 1.
    Enabled,
    /// The card was reset.
    Reset,
    /// A processor reached Unload's first instruction.
    UnloadEnter,
    /// A processor reached the instruction after Unload.
    UnloadLeave,
    /// The storm was started or stopped.
    Storm,
    /// An access that the register map does not answer.
    Refused,
    /// A snapshot of the machine was loaded: time may step back, and what follows continues the snapshot.
    Restored,
    /// What the card does wrong was changed.
    Misbehave,
    /// IRQ_ENABLE was cleared, and that takes effect later.
    Posted,
    /// The line is held high for no reason.
    Spurious,
    /// The read before showed what the register had been.
    Stale,
    /// The access before did not reach the card, which is removed.
    Vanished,
    /// A kind that this reader does not know.
    Unknown(u16),
}

impl Kind {
    /// Every kind that this reader knows.
    pub const ALL: [Self; 21] = [
        Self::Read,
        Self::Write,
        Self::Fire,
        Self::Assert,
        Self::Deassert,
        Self::Serviced,
        Self::Suppressed,
        Self::Coalesced,
        Self::Silenced,
        Self::Enabled,
        Self::Reset,
        Self::UnloadEnter,
        Self::UnloadLeave,
        Self::Storm,
        Self::Refused,
        Self::Restored,
        Self::Misbehave,
        Self::Posted,
        Self::Spurious,
        Self::Stale,
        Self::Vanished,
    ];

    fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Read,
            2 => Self::Write,
            3 => Self::Fire,
            4 => Self::Assert,
            5 => Self::Deassert,
            6 => Self::Serviced,
            7 => Self::Suppressed,
            8 => Self::Coalesced,
            9 => Self::Silenced,
            10 => Self::Enabled,
            11 => Self::Reset,
            12 => Self::UnloadEnter,
            13 => Self::UnloadLeave,
            14 => Self::Storm,
            15 => Self::Refused,
            16 => Self::Restored,
            17 => Self::Misbehave,
            18 => Self::Posted,
            19 => Self::Spurious,
            20 => Self::Stale,
            21 => Self::Vanished,
            other => Self::Unknown(other),
        }
    }

    /// The kind's name in capitals, as the register map and the design write it.
    pub fn name(self) -> String {
        match self {
            Self::Read => "READ".into(),
            Self::Write => "WRITE".into(),
            Self::Fire => "FIRE".into(),
            Self::Assert => "ASSERT".into(),
            Self::Deassert => "DEASSERT".into(),
            Self::Serviced => "SERVICED".into(),
            Self::Suppressed => "SUPPRESSED".into(),
            Self::Coalesced => "COALESCED".into(),
            Self::Silenced => "SILENCED".into(),
            Self::Enabled => "ENABLED".into(),
            Self::Reset => "RESET".into(),
            Self::UnloadEnter => "UNLOAD_ENTER".into(),
            Self::UnloadLeave => "UNLOAD_LEAVE".into(),
            Self::Storm => "STORM".into(),
            Self::Refused => "REFUSED".into(),
            Self::Restored => "RESTORED".into(),
            Self::Misbehave => "MISBEHAVE".into(),
            Self::Posted => "POSTED".into(),
            Self::Spurious => "SPURIOUS".into(),
            Self::Stale => "STALE".into(),
            Self::Vanished => "VANISHED".into(),
            Self::Unknown(number) => format!("KIND_{number}"),
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its number, from 0.
    pub sequence: u64,
    /// The guest's time.
    pub virtual_ns: u64,
    /// The host's CLOCK_MONOTONIC.
    pub host_ns: u64,
    /// What was read or written, or what the kind says.
    pub value: u64,
    /// The register's offset.
    pub offset: u32,
    /// What it is of.
    pub kind: Kind,
    /// The processor, where it is known.
    pub processor: Option<u16>,
    /// Bytes accessed.
    pub size: u8,
    /// The line after the event.
    pub level: bool,
}

/// A recorder's file that cannot be read.
#[derive(Debug, Error)]
pub enum FlightError {
    /// The file cannot be read.
    #[error("flight recorder: {0}")]
    Read(#[from] io::Error),
    /// Too short to hold a header.
    #[error("flight recorder: {0} bytes are no header of {HEADER}")]
    NoHeader(u64),
    /// Another kind of file.
    #[error("flight recorder: no SQFLIGHT at offset 0")]
    Magic,
    /// A format from another time.
    #[error(
        "flight recorder: version {version}, records of {record} bytes; version {VERSION} and {RECORD} are read"
    )]
    Version {
        /// The file's version.
        version: u32,
        /// The file's record size.
        record: u32,
    },
    /// A capacity that is none, or that the file does not hold.
    #[error("flight recorder: capacity {capacity} does not fit into {size} bytes")]
    Capacity {
        /// What the header says.
        capacity: u64,
        /// The file's length.
        size: u64,
    },
    /// Bytes of the header that this version leaves zero.
    #[error(
        "flight recorder: the header has a byte {byte:#04x} at offset {offset}, where version {VERSION} has 0: the file is corrupt"
    )]
    Header {
        /// Where.
        offset: usize,
        /// What is there.
        byte: u8,
    },
    /// A record that no recorder writes.
    #[error("flight recorder: record {number} at offset {offset}: {what}: the file is corrupt")]
    Record {
        /// The record's number.
        number: u64,
        /// Where its slot begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// An open recorder's file.
#[derive(Debug)]
pub struct Flight {
    file: File,
    capacity: u64,
}

impl Flight {
    /// Opens a recorder's file; QEMU may still be writing to it.
    pub fn open(path: &Path) -> Result<Self, FlightError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        if size < HEADER {
            return Err(FlightError::NoHeader(size));
        }
        let mut header = [0; HEADER as usize];
        file.read_exact_at(&mut header, 0)?;
        if &header[..8] != MAGIC {
            return Err(FlightError::Magic);
        }
        let (version, record) = (u32_at(&header, 8), u32_at(&header, 12));
        if version != VERSION || record as usize != RECORD {
            return Err(FlightError::Version { version, record });
        }
        let capacity = u64_at(&header, 16);
        // The limit first: the product below cannot overflow then.
        let fits = capacity.is_power_of_two()
            && capacity <= MOST_RECORDS
            && HEADER + capacity * RECORD as u64 <= size;
        if !fits {
            return Err(FlightError::Capacity { capacity, size });
        }
        let rest = header.iter().enumerate().skip(REST_OF_HEADER);
        if let Some((offset, &byte)) = rest.into_iter().find(|(_, byte)| **byte != 0) {
            return Err(FlightError::Header { offset, byte });
        }
        Ok(Self { file, capacity })
    }

    /// How many records the ring holds.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many records were ever written.
    pub fn written(&self) -> Result<u64, FlightError> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 24)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The record of that number; `None` where its slot is being replaced, was torn by the end, or holds a later one
    /// already.
    ///
    /// # Errors
    /// [`FlightError::Record`] where the slot holds what no recorder can have left there.
    pub fn record(&self, number: u64) -> Result<Option<Record>, FlightError> {
        let mut bytes = [0; RECORD];
        let offset = HEADER + (number & (self.capacity - 1)) * RECORD as u64;
        let corrupt = |what: String| FlightError::Record { number, offset, what };
        match self.file.read_exact_at(&mut bytes, offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(corrupt("the file ends before it".to_owned()));
            }
            other => other?,
        }
        let sequence = u64_at(&bytes, 0);
        if sequence == TORN {
            return Ok(None);
        }
        if sequence != number {
            // The writer may have come round while this was read.
            let later = sequence > number && (sequence - number).is_multiple_of(self.capacity);
            let what = || format!("its slot says {sequence}");
            return if later && sequence <= self.written()? { Ok(None) } else { Err(corrupt(what())) };
        }
        check(&bytes).map_err(corrupt)?;
        Ok(Some(decode(&bytes)))
    }

    /// The records that the ring still holds, oldest first, each read when it is asked for.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record, FlightError>> + '_, FlightError> {
        let written = self.written()?;
        let first = written.saturating_sub(self.capacity);
        Ok((first..written).filter_map(|number| self.record(number).transpose()))
    }

    /// The last `count` records, oldest first.
    pub fn tail(&self, count: u64) -> Result<Vec<Record>, FlightError> {
        let written = self.written()?;
        let first = written.saturating_sub(count.min(self.capacity));
        (first..written).filter_map(|number| self.record(number).transpose()).collect()
    }

    /// The guest's time at the last record.
    pub fn last_virtual_ns(&self) -> Result<Option<u64>, FlightError> {
        Ok(self.tail(1)?.last().map(|record| record.virtual_ns))
    }
}

/// Whether a recorder can have written a record; what is wrong if not. A time and a value may be any number.
fn check(bytes: &[u8; RECORD]) -> Result<(), String> {
    let (offset, kind, processor) = (u32_at(bytes, 32), u16_at(bytes, 36), u16_at(bytes, 38));
    let (size, level) = (bytes[40], bytes[41]);
    // A newer device of the same version may have more kinds than this reader knows, but not hundreds.
    if !(1..=MOST_KINDS).contains(&kind) {
        return Err(format!("its kind is {kind}"));
    }
    if processor >= MOST_PROCESSORS && processor != NO_PROCESSOR {
        return Err(format!("its processor is {processor}"));
    }
    if matches!(Kind::from_number(kind), Kind::Read | Kind::Write)
        && !(matches!(size, 1 | 2 | 4) && offset < WINDOW)
    {
        return Err(format!("it accesses {size} bytes at {offset:#x} of a window of {WINDOW:#x}"));
    }
    if level > 1 {
        return Err(format!("its level is {level}"));
    }
    match bytes[42..].iter().find(|byte| **byte != 0) {
        Some(byte) => Err(format!("its last bytes are not 0 but {byte:#04x}")),
        None => Ok(()),
    }
}

fn decode(bytes: &[u8; RECORD]) -> Record {
    let processor = u16_at(bytes, 38);
    Record {
        sequence: u64_at(bytes, 0),
        virtual_ns: u64_at(bytes, 8),
        host_ns: u64_at(bytes, 16),
        value: u64_at(bytes, 24),
        offset: u32_at(bytes, 32),
        kind: Kind::from_number(u16_at(bytes, 36)),
        processor: (processor != NO_PROCESSOR).then_some(processor),
        size: bytes[40],
        level: bytes[41] != 0,
    }
}

// The arrays are longer than every offset used here, which is a constant of the format.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(capacity: u64, written: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&48_u32.to_le_bytes());
        bytes[16..24].copy_from_slice(&capacity.to_le_bytes());
        bytes[24..32].copy_from_slice(&written.to_le_bytes());
        bytes
    }

    fn slot(sequence: u64, kind: u16) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&sequence.wrapping_mul(1_000).to_le_bytes());
        bytes[24..32].copy_from_slice(&0xDEAD_u64.to_le_bytes());
        bytes[32..36].copy_from_slice(&8_u32.to_le_bytes());
        bytes[36..38].copy_from_slice(&kind.to_le_bytes());
        bytes[38..40].copy_from_slice(&1_u16.to_le_bytes());
        bytes[40] = 4;
        bytes[41] = 1;
        bytes
    }

    fn open(bytes: &[u8]) -> Result<Flight, FlightError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Flight::open(file.path())
    }

    #[test]
    fn a_ring_that_went_round_gives_its_last_records_in_order() {
        let mut bytes = header(4, 6);
        for sequence in [4, 5, 2, 3] {
            bytes.extend(slot(sequence, 2));
        }
        let flight = open(&bytes).unwrap();
        let numbers: Vec<_> = flight.records().unwrap().map(|record| record.unwrap().sequence).collect();
        assert_eq!(numbers, [2, 3, 4, 5]);
        let last = flight.tail(1).unwrap()[0];
        assert_eq!(
            (last.sequence, last.kind, last.offset, last.size, last.level),
            (5, Kind::Write, 8, 4, true)
        );
        assert_eq!((last.value, last.processor), (0xDEAD, Some(1)));
        assert_eq!(flight.last_virtual_ns().unwrap(), Some(5_000));
        assert_eq!(flight.tail(100).unwrap().len(), 4);
    }

    #[test]
    fn torn_slots_and_those_that_were_overwritten_meanwhile_are_skipped() {
        let mut bytes = header(4, 7);
        for sequence in [4, TORN, 6, 3] {
            bytes.extend(slot(sequence, 1));
        }
        let flight = open(&bytes).unwrap();
        let numbers: Vec<_> = flight.records().unwrap().map(|record| record.unwrap().sequence).collect();
        assert_eq!(numbers, [3, 4, 6]);
        assert_eq!(flight.record(2).unwrap(), None, "6 is in its slot by now");
    }

    #[test]
    fn a_corrupt_field_is_named_with_its_place() {
        let mut whole = header(2, 2);
        whole.extend(slot(0, 1));
        whole.extend(slot(1, 2));
        let cases: [(usize, u8, &str); 12] = [
            (0, b'X', "no SQFLIGHT"),
            (8, 2, "version 2"),
            (12, 47, "records of 47 bytes"),
            (16, 3, "capacity 3 does not fit"),
            (19, 1, "capacity 16777218 does not fit"),
            (24, 9, "record 7 at offset 112: its slot says 1"),
            (40, 1, "a byte 0x01 at offset 40"),
            (112, 5, "record 1 at offset 112: its slot says 5"),
            (112 + 33, 9, "it accesses 4 bytes at 0x908"),
            (112 + 36, 0, "its kind is 0"),
            (112 + 40, 3, "it accesses 3 bytes"),
            (112 + 41, 2, "its level is 2"),
        ];
        let more = [
            (112 + 37, 9, "its kind is 2306"),
            (112 + 39, 7, "its processor is 1793"),
            (159, 1, "not 0 but 0x01"),
        ];
        for (place, byte, expected) in cases.into_iter().chain(more) {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            let error = open(&bytes)
                .and_then(|flight| flight.records()?.collect::<Result<Vec<_>, _>>().map(drop))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "byte {place}: {error}");
        }
        assert!(open(&whole).unwrap().records().unwrap().all(|record| record.is_ok()));
        for length in 0..whole.len() {
            assert!(open(&whole[..length]).is_err(), "truncated to {length} bytes");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert!(matches!(open(b"SQFLIGHT"), Err(FlightError::NoHeader(8))));
        assert!(matches!(open(&[0; 64]), Err(FlightError::Magic)));
        let mut other = header(4, 0);
        other[8] = 2;
        assert!(matches!(open(&other), Err(FlightError::Version { version: 2, .. })));
        for capacity in [0, 3, 4, 1 << 27, u64::MAX] {
            assert!(matches!(open(&header(capacity, 0)), Err(FlightError::Capacity { .. })), "{capacity}");
        }
    }

    #[test]
    fn an_absurd_count_of_records_costs_nothing() {
        let mut bytes = header(2, u64::MAX);
        bytes.extend(slot(0, 1));
        bytes.extend(slot(1, 1));
        let flight = open(&bytes).unwrap();
        assert!(flight.records().unwrap().all(|record| record.is_err()));
        assert_eq!(flight.records().unwrap().count(), 2);
    }
}
