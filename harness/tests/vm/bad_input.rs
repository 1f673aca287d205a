//! What is no driver is refused in one line before anything boots, and leaves nothing behind.

use squall_harness::{run::Parts, scenario::Scenario, verdict::Outcome};

use crate::{bench::Bench, halting_kernel::halting_kernel, pe::PeBuilder};

async fn refused(bytes: &[u8], words: &[&str]) {
    let bench = Bench::new();
    let error = bench.bytes(bytes, |_| ()).await.unwrap_err();
    assert!(error.is_usage(), "{error}");
    let message = error.to_string();
    assert!(message.contains("other.sys") && !message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    assert!(!bench.runs().exists(), "a run directory was made");
}

#[tokio::test]
async fn an_empty_file() {
    refused(b"", &["is empty"]).await;
}

#[tokio::test]
async fn a_text_file() {
    refused(b"hello, world\n", &["not a PE image", "offset 0"]).await;
}

#[tokio::test]
async fn a_32_bit_driver() {
    refused(&PeBuilder { machine: 0x14C, ..PeBuilder::driver() }.build(), &["32-bit x86"]).await;
}

#[tokio::test]
async fn a_truncated_driver() {
    let whole = PeBuilder::driver().build();
    refused(&whole[..0x80], &["truncated", "offset 0x58"]).await;
    refused(&whole[..0x300], &[".text", "outside the file"]).await;
}

#[tokio::test]
async fn a_section_table_that_points_outside_the_file() {
    let driver = PeBuilder { section_file_offset: 0x7FFF_0000, ..PeBuilder::driver() };
    refused(&driver.build(), &[".text", "0x7fff0000", "outside the file"]).await;
}

#[tokio::test]
async fn a_missing_file() {
    let bench = Bench::new();
    let mut scenario = Scenario::default();
    scenario.driver.image = bench.folder.path().join("missing.sys");
    let error = bench.run_with(&scenario, &bench.parts()).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("missing.sys"), "{error}");
    assert!(!bench.runs().exists());
}

#[tokio::test]
async fn a_guest_that_never_answers_is_no_fault_of_the_driver() {
    let bench = Bench::new();
    let kernel = bench.folder.path().join("halts");
    std::fs::write(&kernel, halting_kernel()).unwrap();
    let mut scenario = bench.scenario(1, None);
    scenario.deadlines.boot_ms = 1_500;
    let verdict = bench.run_with(&scenario, &Parts { kernel, ..bench.parts() }).await.unwrap();
    assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Infrastructure, 3));
    assert!(verdict.summary.contains("did not answer within 1.5 s"), "{}", verdict.summary);
}

#[tokio::test]
async fn a_device_library_that_is_none_is_told_in_qemus_words() {
    let bench = Bench::new();
    let device_library = bench.folder.path().join("library.so");
    std::fs::write(&device_library, "not a library").unwrap();
    let parts = Parts { device_library, ..bench.parts() };
    let verdict = bench.run_with(&bench.scenario(1, None), &parts).await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Infrastructure);
    assert!(verdict.summary.contains("library.so"), "{}", verdict.summary);
}
