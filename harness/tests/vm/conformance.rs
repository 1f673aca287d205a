//! The embedded guest against the documentation: every rule of `vm-images/testkernel/conformance`, in guests of one, two,
//! four and eight processors.

mod report;

use crate::{bench::Bench, guest::Guest};
use report::Report;

/// The families, in the order in which one stands on the other.
const FAMILIES: &[&str] = &[
    "rtl_string",
    "rtl_misc",
    "ke_irql",
    "ke_wait",
    "ke_more",
    "ke_storm",
    "newer",
    "ex",
    "ex_more",
    "mm",
    "io_device",
    "io_irp",
    "io_open",
    "hal",
    "io_more",
    "mm_more",
    "mm_parts",
    "po",
    "pnp",
    "registry",
    "access",
    "se",
    "objects",
    "exceptions",
    "files",
    "names",
    "sections",
    "tables",
    "trees",
    "rtl_values",
    "rtl_more",
    "system",
    "crt",
    "dbg",
    "callbacks",
    "filters",
    "tracing",
    "processors",
    "rundown",
    "rust",
];

/// Fewer than this were not all of them.
const LEAST_RULES: usize = 1124;

async fn suite(processors: u8) {
    let bench = Bench::new();
    let mut guest = Guest::with_drivers(&bench, processors, FAMILIES).await;
    let mut problems = Vec::new();
    for family in FAMILIES {
        match guest.load(&bench, family, &[]).await {
            Err(why) => {
                problems.push(format!("{family}: {why}"));
                break;
            }
            Ok(answer) if !answer.status.is_success() => {
                problems.push(format!("{family} was not loaded: {answer:?}"));
                continue;
            }
            Ok(_) => {}
        }
        match guest.unload(family).await {
            Err(why) => {
                problems.push(format!("{family}: {why}"));
                break;
            }
            Ok(answer) if !answer.status.is_success() || !answer.findings.is_empty() => {
                problems.push(format!("{family} was not unloaded cleanly: {answer:?}"));
            }
            Ok(_) => {}
        }
    }
    let console = guest.console();
    let crash = guest.crash();
    guest.session.end().await;
    let report = Report::of(&console);
    println!("{} processors\n{report}", processors);
    problems.extend(report.problems());
    if let Some(crash) = crash {
        problems.push(format!("{crash:x?}"));
    }
    assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), unreported(&console));
    assert!(report.rules() >= LEAST_RULES, "only {} rules were checked", report.rules());
}

/// What else was said on the console.
fn unreported(console: &str) -> String {
    console.lines().filter(|line| !line.starts_with('@')).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn holds_on_one_processor() {
    suite(1).await;
}

#[tokio::test]
async fn holds_on_two_processors() {
    suite(2).await;
}

#[tokio::test]
async fn holds_on_four_processors() {
    suite(4).await;
}

#[tokio::test]
async fn holds_on_eight_processors() {
    suite(8).await;
}
