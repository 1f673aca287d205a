//! A driver in C that breaks one documented rule at a time: the stop that it is, with its four parameters, and who is blamed.

use squall_harness::{crash::CrashRecord, scenario::Parameter};

use crate::{bench::Bench, guest::Guest};

/// A parameter.
enum P {
    Is(u64),
    /// An address in the driver's image.
    Driver,
    /// Any address of the system's.
    System,
    /// Differs from run to run, or is reserved.
    Any,
}
use P::{Any, Driver, Is, System};

/// Classes of the Verifier's; [`ANY`] brings the automatic checks alone, and special pool.
const NONE: u32 = 0;
const ANY: u32 = 0x1;
const TRACKING: u32 = 0x8;
const IO: u32 = 0x10;
const DMA: u32 = 0x80;
const SECURITY: u32 = 0x100;
const MISCELLANEOUS: u32 = 0x800;
const DDI: u32 = 0x2_0000;

/// A deed of `conformance/drivers/violations.c`, what it is verified for, the code and its parameters.
type Violation = (&'static str, u32, u32, [P; 4]);

const NOT_LOCKED: [P; 4] = [Is(7), Any, Is(1), Is(0)];

/// By the pages of the bug checks.
#[rustfmt::skip]
const VIOLATIONS: &[Violation] = &[
    ("unlock-never-locked", NONE, 0x4E, NOT_LOCKED),
    ("unlock-never-locked", ANY, 0xC4, [Is(0x7C), System, Is(8), Is(0)]),
    ("unlock-nonpaged", ANY, 0xC4, [Is(0x7D), System, Is(0xC), Is(0)]),
    ("lock-nonpaged", ANY, 0xC4, [Is(0xB0), System, Is(0xC), Is(4)]),
    ("map-and-bug-check", ANY, 0xC4, [Is(0x82), System, Is(0x8A), Is(0)]),
    ("map-without-a-word", ANY, 0xC4, [Is(0x81), System, Is(0x8A), Is(0)]),
    ("map-twice", ANY, 0xC4, [Is(0xB2), System, Is(0x8B), Is(1)]),
    ("map-unlocked", ANY, 0xC4, [Is(0xB3), System, Is(8), Is(0x12)]),
    ("free-mapped", ANY, 0xC4, [Is(0xB8), System, Is(0x8B), Is(0)]),
    ("unlock-partial", ANY, 0xC4, [Is(0xB4), System, Any, Is(0x10)]),
    ("build-of-paged", ANY, 0xC4, [Is(0x7F), Is(0), System, Is(8)]),
    ("unmap-unmapped", NONE, 0xDA, [Is(6), System, Driver, Is(1)]),
    ("unmap-io-twice", NONE, 0xDA, [Is(0x303), System, Is(1), Is(0)]),
    ("unmap-io-by-half", NONE, 0xDA, [Is(0x305), System, Is(1), Is(2)]),
    ("free-contiguous-of-nothing", NONE, 0xC2, [Is(0x60), Driver, Is(0), Is(0)]),
    ("event-in-paged-pool", ANY, 0xC4, [Is(0xE1), System, Is(0), Is(0)]),
    ("work-item-in-paged-pool", ANY, 0xC4, [Is(0x131), System, Is(0), Is(0)]),
    ("work-for-no-queue", NONE, 0xE4, [Is(6), Driver, Is(20), Is(0)]),
    ("work-of-no-routine", NONE, 0xE4, [Is(7), Driver, Is(1), Is(0)]),
    ("reference-by-bad-handle", ANY, 0xC4, [Is(0x3C), Is(0x1234), Is(0), Is(0)]),
    ("reference-by-null-handle", ANY, 0xC4, [Is(0xF5), Is(0), Is(0), Is(0)]),
    ("dereference-nothing", NONE, 0x18, [Any, Driver, Any, Any]),
    ("dereference-nothing", ANY, 0xC4, [Is(0x3F), Driver, Is(u64::MAX), Is(0)]),
    ("close-twice", MISCELLANEOUS, 0x93, [System, Is(1), Is(0), Is(0)]),
    ("wait-in-user-mode-on-the-stack", MISCELLANEOUS, 0xC4, [Is(0x123), System, Is(0), Is(0)]),
    ("copy-over-itself", ANY, 0xC4, [Is(0xF0), Driver, Driver, Is(64)]),
    ("tiny-lookaside", MISCELLANEOUS, 0xC4, [Is(0xCD), Driver, Is(4), Is(8)]),
    ("release-remove-lock-otherwise", IO, 0xC4, [Is(0xD5), Driver, Driver, Is(0)]),
    ("wait-for-remove-lock-otherwise", IO, 0xC4, [Is(0xD6), Driver, Driver, Driver]),
    ("remove-lock-again", IO, 0xC4, [Is(0xD7), Driver, Driver, Is(0)]),
    ("dpc-enters-a-region", NONE, 0xC7, [Is(4), Driver, Any, Any]),
    ("leave-region-twice", ANY, 0xC4, [Is(0x3E), Is(0), Is(0), Is(0)]),
    ("leave-region-twice", DDI, 0xC4, [Is(0x4_0003), System, Is(0), Is(0)]),
    ("leave-guarded-region-twice", DDI, 0xC4, [Is(0x4_000E), System, Is(0), Is(0)]),
    ("release-spin-lock-twice", DDI, 0xC4, [Is(0x4_000B), System, Is(0), Is(0)]),
    ("acquire-spin-lock-twice", DDI, 0xC4, [Is(0x4_0009), System, Is(0), Is(0)]),
    ("acquire-queued-lock-twice", DDI, 0xC4, [Is(0x4_0006), System, Is(0), Is(0)]),
    ("release-queued-lock-twice", DDI, 0xC4, [Is(0x4_0007), System, Is(0), Is(0)]),
    ("dma-not-flushed", DMA, 0xE6, [Is(0x10), Is(1), Any, Any]),
    ("dma-mapped-twice", DMA, 0xE6, [Is(0x1D), Driver, Driver, Driver]),
    ("dma-flushed-only", DMA, 0xE6, [Is(0x20), Any, Driver, System]),
    ("dma-of-unlocked", DMA, 0xE6, [Is(0xE), System, Any, Any]),
    ("dma-outside", DMA, 0xE6, [Is(0x1B), Driver, System, Any]),
    ("dma-adapter-left", DMA, 0xE6, [Is(0x11), Is(1), System, Any]),
    ("zw-at-apc-level", SECURITY, 0xC4, [Is(0xE6), Driver, Is(1), Is(0)]),
    ("user-address-in-packet", SECURITY, 0xC4, [Is(0xE2), System, Is(0x7FF6_1234_5000), Is(0)]),
    ("disconnect-twice", NONE, 0xC2, [Is(7), Any, Any, System]),
    ("disconnect-nothing", NONE, 0x7E, [Is(0xFFFF_FFFF_C000_0005), System, System, System]),
    ("leave-pool", TRACKING, 0xC4, [Is(0x62), System, Any, Is(1)]),
    ("free-pool-twice", NONE, 0xC2, [Is(7), Any, Any, System]),
    ("free-pool-twice", TRACKING, 0xC4, [Is(0x13), Any, System, Any]),
    ("overrun-pool", ANY, 0xC1, [System, System, Any, Is(0x24)]),
    ("free-a-user-address", NONE, 0xC2, [Is(0x40), Is(0x1_0000), Any, Is(0)]),
];

fn is_in_driver(record: &CrashRecord, address: u64) -> bool {
    let mut images = record.modules.iter().filter(|module| module.name.starts_with("violations"));
    images.any(|module| (module.base.0..module.base.0 + module.size).contains(&address))
}

fn holds(record: &CrashRecord, seen: u64, wanted: &P) -> bool {
    match wanted {
        Is(value) => seen == *value,
        Driver => is_in_driver(record, seen),
        System => seen >> 47 == 0x1_FFFF,
        Any => true,
    }
}

/// What is wrong with the stop that a deed ended in.
async fn fault(bench: &Bench, processors: u8, violation: &Violation) -> Option<String> {
    let (deed, flags, code, parameters) = violation;
    let mut guest = Guest::with_drivers(bench, processors, &["violations"]).await;
    if *flags != NONE {
        guest.session.agent.verify("violations.sys", *flags).await.unwrap();
    }
    let parameter = ("Deed".to_owned(), Parameter::Text((*deed).to_owned()));
    if guest.load(bench, "violations", &[parameter]).await.is_ok() {
        let _ = guest.unload("violations").await;
    }
    let crash = guest.crash();
    guest.session.end().await;
    let Some(record) = crash else { return Some(format!("{deed} on {processors}: no stop")) };
    let told = record.parameters.iter().zip(parameters).all(|(seen, wanted)| holds(&record, seen.0, wanted));
    let is_right = record.code == *code && told && record.verifier == (*flags != NONE);
    let (code, parameters, verifier) = (record.code, &record.parameters, record.verifier);
    (!is_right).then(|| {
        format!("{deed} with {flags:#x} on {processors}: {code:#x} {parameters:?}, verifier {verifier}")
    })
}

async fn all(processors: u8) {
    let bench = Bench::new();
    let mut faults = Vec::new();
    for violation in VIOLATIONS {
        faults.extend(fault(&bench, processors, violation).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn stop_as_documented_on_one_processor() {
    all(1).await;
}

#[tokio::test]
async fn stop_as_documented_on_four_processors() {
    all(4).await;
}
