//! The flight recorder of a machine that is running, and of one that was killed.

use crate::machine::{Machine, Setup};

/// A record, as `docs/joints.md` lays it out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) virtual_ns: u64,
    pub(crate) value: u64,
    pub(crate) offset: u32,
    pub(crate) kind: u16,
    pub(crate) processor: u16,
    pub(crate) size: u8,
    pub(crate) level: u8,
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// The records that a trace holds, oldest first. Every slot must be whole.
pub(crate) fn records(trace: &[u8]) -> Vec<Record> {
    assert_eq!(&trace[..8], b"SQFLIGHT");
    assert_eq!(trace[8..16], [1, 0, 0, 0, 48, 0, 0, 0]);
    let (capacity, written) = (u64_at(trace, 16), u64_at(trace, 24));
    assert_eq!(trace.len() as u64, 64 + 48 * capacity);
    let record = |n: u64| {
        let bytes = &trace[64 + 48 * (n % capacity) as usize..][..48];
        assert_eq!(u64_at(bytes, 0), n, "record {n} is torn");
        Record {
            sequence: n,
            virtual_ns: u64_at(bytes, 8),
            value: u64_at(bytes, 24),
            offset: u32::from_le_bytes(bytes[32..36].try_into().unwrap()),
            kind: u16::from_le_bytes(bytes[36..38].try_into().unwrap()),
            processor: u16::from_le_bytes(bytes[38..40].try_into().unwrap()),
            size: bytes[40],
            level: bytes[41],
        }
    };
    (written.saturating_sub(capacity)..written).map(record).collect()
}

#[test]
fn everything_is_written_down_in_order() {
    let mut machine = Machine::new();
    let before = records(&machine.trace()).len();
    machine.write('l', 0x304, 1);
    machine.set("fire", 1).unwrap();
    machine.read('b', 0x30C);
    machine.write('w', 0x308, 1);
    machine.read('w', 0x301);
    machine.write('l', 0x304, 0);
    let trace = records(&machine.trace());
    let told: Vec<_> = trace[before..].iter().map(|r| (r.kind, r.offset, r.size, r.value, r.level)).collect();
    let expected = [
        (2, 4, 4, 1, 0),   // CONTROL is written:
        (10, 0, 0, 0, 0),  // interrupts are enabled
        (3, 0, 0, 0, 0),   // a sample is taken on demand:
        (4, 0, 0, 0, 1),   // the line rises
        (1, 0xC, 1, 1, 1), // the FIFO is read
        (2, 8, 2, 1, 1),   // STATUS is written:
        (6, 0, 0, 0, 1),   // that services the interrupt
        (5, 0, 0, 0, 0),   // the line falls
        (15, 1, 2, 0, 0),  // nobody answers there
        (2, 4, 4, 0, 0),   // CONTROL is written:
        (9, 0, 0, 0, 0),   // interrupts are disabled
    ];
    assert_eq!(told, expected);
    assert!(trace.is_sorted_by_key(|record| record.virtual_ns));
}

#[test]
fn a_full_ring_holds_the_last_records_and_survives_a_kill() {
    let setup = Setup { device_options: ",trace-records=64", ..Setup::default() };
    let mut machine = Machine::with(setup);
    for value in 0..100 {
        machine.write('l', 0x318, value);
    }
    machine.kill();
    let trace = records(&machine.trace());
    let values: Vec<u64> = trace.iter().map(|record| record.value).collect();
    assert_eq!(values, (36..100).collect::<Vec<u64>>());
}
