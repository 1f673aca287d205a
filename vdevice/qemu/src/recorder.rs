//! The flight recorder: a ring of records in a file that is mapped and shared.
//!
//! Stores to a shared mapping are the kernel's the moment they are made, so the file is whole up to the last
//! record however QEMU ends, and a record costs a few stores instead of a system call. `docs/joints.md`
//! states the format; this is its only writer.
//!
//! A ring that is full is overwritten from its oldest record on. While a slot changes hands, its `sequence`
//! is all ones, so that a reader of a file whose writer died in between sees a number that it does not
//! expect, and leaves the slot out.

use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::MmapRaw;
use rustix::fs::{FallocateFlags, fallocate};
use squall_model::Event;
use thiserror::Error;

use crate::clock::Times;
use crate::device::Settings;

/// The file's first bytes.
const MAGIC: [u8; 8] = *b"SQFLIGHT";
/// The format's version.
const VERSION: u32 = 1;
const HEADER_LEN: usize = 64;
const RECORD_LEN: usize = 48;
/// Where the header counts the records ever written.
const WRITTEN_OFFSET: usize = 24;
/// The sequence of a slot that is being overwritten.
const TORN: u64 = u64::MAX;
/// How many records ahead a slot is fetched: a burst of interrupts writes some ten at once.
const AHEAD: u64 = 16;
/// The processor of an event that happened on none.
const NO_PROCESSOR: u16 = 0xFFFF;

/// The fewest records that a recorder can be asked to hold.
pub(crate) const MIN_RECORDS: u32 = 16;
/// The most.
pub(crate) const MAX_RECORDS: u32 = 1 << 24;
/// How many it holds if nobody says.
pub(crate) const DEFAULT_RECORDS: u32 = 1 << 16;

/// Why there is no recorder.
#[derive(Debug, Error)]
pub(crate) enum RecorderError {
    #[error("trace-records is {0}; it must be a power of two from {MIN_RECORDS} to {MAX_RECORDS}")]
    Capacity(u32),
    #[error("cannot write the trace file '{path}': {source}; check its directory and the free space there")]
    File { path: String, source: io::Error },
}

/// When and where something happened. It is the same for all of one step's events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    times: Times,
    /// Where a record has it: the uppermost 16 bits of a word.
    processor: u64,
}

impl Stamp {
    /// At those times, on that processor.
    pub(crate) fn new(times: Times, processor: Option<u16>) -> Self {
        Self { times, processor: u64::from(processor.unwrap_or(NO_PROCESSOR)) << 48 }
    }
}

/// A flight recorder. Whoever holds it exclusively may write.
pub(crate) struct Recorder {
    map: MmapRaw,
    mask: u64,
    written: u64,
}

/// Checks a capacity without making a recorder of it.
pub(crate) fn check_capacity(records: u32) -> Result<(), RecorderError> {
    let fits = (MIN_RECORDS..=MAX_RECORDS).contains(&records) && records.is_power_of_two();
    if fits { Ok(()) } else { Err(RecorderError::Capacity(records)) }
}

impl Recorder {
    /// A recorder that holds the last `records` events in the file at `path`, which is replaced.
    pub(crate) fn create(path: &Path, records: u32) -> Result<Self, RecorderError> {
        check_capacity(records)?;
        let map = map(path, records)
            .map_err(|source| RecorderError::File { path: path.display().to_string(), source })?;
        let mut recorder = Self { map, mask: u64::from(records) - 1, written: 0 };
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(RECORD_LEN as u32).to_le_bytes());
        header[16..24].copy_from_slice(&u64::from(records).to_le_bytes());
        recorder.store(0, &header);
        Ok(recorder)
    }

    /// The recorder that a device's settings ask for, if they do.
    pub(crate) fn of(settings: &Settings) -> Result<Option<Self>, RecorderError> {
        match settings.trace.as_str() {
            "" => Ok(None),
            path => Self::create(Path::new(path), settings.trace_records).map(Some),
        }
    }

    /// Adds a record of what happened when and where.
    pub(crate) fn record(&mut self, event: Event, Stamp { times, processor }: Stamp) {
        let slot = self.slot(self.written);
        let what = u64::from(event.offset) | u64::from(event.kind as u16) << 32 | processor;
        let how = u64::from(event.size) | u64::from(event.level) << 8;

        self.word(slot).store(TORN.to_le(), Ordering::Relaxed);
        fence(Ordering::Release);
        // Whole words: bytes that are put together in memory are slow to load as one.
        let words = [times.virtual_ns, times.host_ns, event.value, what, how];
        for (place, word) in (slot + 8..).step_by(8).zip(words) {
            self.word(place).store(word.to_le(), Ordering::Relaxed);
        }
        self.word(slot).store(self.written.to_le(), Ordering::Release);
        self.written += 1;
        self.word(WRITTEN_OFFSET).store(self.written.to_le(), Ordering::Release);
        self.fetch_ahead();
    }

    /// Has the processor fetch the slot of a record to come. A ring is larger than the caches that are near, so that each
    /// record would wait for memory, and the guest for the record.
    fn fetch_ahead(&self) {
        let place = self.map.as_mut_ptr().wrapping_add(self.slot(self.written + AHEAD));
        // SAFETY: a hint, which touches nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(place.cast_const().cast()) };
    }

    /// Where the record of that number goes.
    fn slot(&self, number: u64) -> usize {
        HEADER_LEN + (number & self.mask) as usize * RECORD_LEN
    }

    /// The 8 bytes at `offset`, which is a multiple of 8 and in the header or in a slot.
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= self.map.len());
        let place = self.map.as_mut_ptr().wrapping_add(offset).cast();
        // SAFETY: inside the mapping, which starts on a page and lives as long as `self`; other processes see
        // the memory, but of this one only atomics and `store`, with `&mut self`, touch it.
        unsafe { AtomicU64::from_ptr(place) }
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset + bytes.len() <= self.map.len());
        let place = self.map.as_mut_ptr().wrapping_add(offset);
        // SAFETY: inside the mapping, as every caller's offset is that of the header or of a slot; no
        // reference into it is alive, by `&mut self`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }
}

fn map(path: &Path, records: u32) -> io::Result<MmapRaw> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let len = HEADER_LEN + records as usize * RECORD_LEN;
    // The blocks are taken now: a store into a hole of a full file system would be a SIGBUS, in the middle of
    // a run.
    fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
    MmapRaw::map_raw(&file)
}

#[cfg(test)]
mod tests {
    use squall_model::Kind;

    use super::*;

    const EVENT: Event = Event { kind: Kind::Write, offset: 8, size: 4, value: 0x1122_3344, level: true };
    const TIMES: Times = Times { virtual_ns: 7, host_ns: 9 };

    fn u64_at(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn the_file_is_laid_out_as_documented_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flight.bin");
        let mut recorder = Recorder::create(&path, 16).unwrap();
        recorder.record(EVENT, Stamp::new(TIMES, Some(3)));
        recorder.record(Event { level: false, ..EVENT }, Stamp::new(TIMES, None));

        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 64 + 16 * 48);
        assert_eq!(&bytes[..8], b"SQFLIGHT");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 48, 0, 0, 0]);
        assert_eq!((u64_at(&bytes, 16), u64_at(&bytes, 24)), (16, 2));
        assert!(bytes[32..64].iter().all(|&byte| byte == 0));

        let record = &bytes[64..112];
        let words = [0, 8, 16, 24].map(|at| u64_at(record, at));
        assert_eq!(words, [0, 7, 9, 0x1122_3344]);
        assert_eq!(record[32..48], [8, 0, 0, 0, 2, 0, 3, 0, 4, 1, 0, 0, 0, 0, 0, 0]);
        let second = &bytes[112..160];
        assert_eq!(u64_at(second, 0), 1);
        assert_eq!(second[38..42], [0xFF, 0xFF, 4, 0]);
    }

    #[test]
    fn the_ring_holds_the_last_records_each_in_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flight.bin");
        let mut recorder = Recorder::create(&path, 16).unwrap();
        for value in 0..41 {
            recorder.record(Event { value, ..EVENT }, Stamp::new(TIMES, Some(3)));
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(u64_at(&bytes, 24), 41);
        for n in 25..41u64 {
            let slot = 64 + (n % 16) as usize * 48;
            assert_eq!((u64_at(&bytes, slot), u64_at(&bytes, slot + 24)), (n, n));
        }
    }

    #[test]
    fn capacities_that_make_no_ring_are_refused() {
        for records in [0, 1, 8, 17, 100, MAX_RECORDS + 1, MAX_RECORDS * 2, u32::MAX] {
            let text = check_capacity(records).unwrap_err().to_string();
            assert!(text.contains(&records.to_string()), "{text}");
        }
        assert!(check_capacity(MIN_RECORDS).is_ok() && check_capacity(MAX_RECORDS).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_is_an_error_with_its_name() {
        let error = Recorder::create(Path::new("/nonexistent/flight.bin"), 16).err().unwrap().to_string();
        assert!(error.contains("'/nonexistent/flight.bin': No such file"), "{error}");
        // Nothing can be allocated in a device.
        assert!(Recorder::create(Path::new("/dev/null"), 16).is_err());
    }
}
