//! Drivers of a few bytes: every way in which somebody else's can end.

use squall_harness::{scenario::Scenario, verdict::Outcome};

use crate::{bench::Bench, pe::PeBuilder};

/// ret
const RETURNS: &[u8] = &[0xC3];
/// jmp to itself
const NEVER_RETURNS: &[u8] = &[0xEB, 0xFE];
/// sub rsp, 16; mov qword [rsp], 0; mov qword [rsp + 8], 0; lidt [rsp]; int3
const RESETS: &[u8] = &[
    0x48, 0x83, 0xEC, 0x10, 0x48, 0xC7, 0x04, 0x24, 0, 0, 0, 0, 0x48, 0xC7, 0x44, 0x24, 0x08, 0, 0, 0, 0,
    0x0F, 0x01, 0x1C, 0x24, 0xCC,
];

fn unchanged(_: &mut Scenario) {}

#[tokio::test]
async fn one_that_connects_nothing_is_clean_and_nothing_was_serviced() {
    let bench = Bench::new();
    let verdict = bench.bytes(&PeBuilder::with_unload(RETURNS).build(), unchanged).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Clean, "{verdict:#?}");
    assert_eq!(verdict.driver.name, "other.sys");
    assert!(verdict.notes.iter().any(|note| note.contains("nothing was serviced")), "{:?}", verdict.notes);
}

#[tokio::test]
async fn one_whose_unload_never_returns_hangs_and_the_processor_is_found_in_it() {
    let bench = Bench::new();
    let driver = PeBuilder::with_unload(NEVER_RETURNS).build();
    let verdict = bench.bytes(&driver, |scenario| scenario.deadlines.unload_ms = 1_500).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Hang, "{verdict:#?}");
    let hang = verdict.hang.unwrap();
    assert_eq!(hang.waited_for, "Unload to return");
    assert!(hang.processors.contains(&"other.sys+0x100e".to_owned()), "{hang:?}");
}

#[tokio::test]
async fn one_whose_unload_resets_the_machine_is_told_from_a_crash() {
    let bench = Bench::new();
    let verdict = bench.bytes(&PeBuilder::with_unload(RESETS).build(), unchanged).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Reset, "{verdict:#?}");
}

#[tokio::test]
async fn one_without_unload_cannot_be_unloaded() {
    let bench = Bench::new();
    let verdict = bench.bytes(&PeBuilder::driver().build(), unchanged).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::UnloadRefused, "{verdict:#?}");
}

#[tokio::test]
async fn one_whose_driver_entry_fails_has_its_status_in_the_verdict() {
    let bench = Bench::new();
    // mov eax, STATUS_INSUFFICIENT_RESOURCES; ret
    let driver = PeBuilder { code: vec![0xB8, 0x9A, 0, 0, 0xC0, 0xC3], ..PeBuilder::driver() };
    let verdict = bench.bytes(&driver.build(), unchanged).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::LoadFailed, "{verdict:#?}");
    assert_eq!(verdict.load_status.unwrap().to_string(), "0xC000009A");
}

#[tokio::test]
async fn one_that_imports_what_the_guest_lacks_is_unsupported_by_name() {
    let bench = Bench::new();
    let driver = PeBuilder { import: Some("SquallHasNoSuchFunction"), ..PeBuilder::driver() };
    let verdict = bench.bytes(&driver.build(), unchanged).await.unwrap();
    assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Unsupported, 3), "{verdict:#?}");
    assert!(verdict.summary.contains("SquallHasNoSuchFunction"), "{}", verdict.summary);
}
