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
    "unusual",
    "rust",
];

/// Fewer than this were not all of them.
const LEAST_RULES: usize = 1155;

/// The same for drivers that are verified.
const LEAST_VERIFIED: usize = 700;

/// Families with a rule about what the Verifier stops a driver for: a handle that is none, a mutex that is made twice.
const NOT_FOR_THE_VERIFIER: &[&str] =
    &["rtl_misc", "ke_more", "ex", "mm_more", "objects", "exceptions", "files", "system", "tracing"];

/// Everything, or, where no driver may be stopped though all that the Verifier has is on, what is right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    No,
    ByTheVerifier,
}

async fn suite(processors: u8, watched: Watched) {
    let bench = Bench::new();
    let left_out =
        |family: &&&str| watched == Watched::ByTheVerifier && NOT_FOR_THE_VERIFIER.contains(*family);
    let families: Vec<&str> = FAMILIES.iter().filter(|family| !left_out(family)).copied().collect();
    let mut guest = Guest::with_drivers(&bench, processors, &families).await;
    if watched == Watched::ByTheVerifier {
        let agent = &mut guest.session.agent;
        let flags = u32::try_from(agent.verifier_query().await.unwrap().supported_flags()).unwrap();
        for family in &families {
            agent.verify(&format!("{family}.sys"), flags).await.unwrap();
        }
    }
    let mut problems = Vec::new();
    for family in &families {
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
    let least = if watched == Watched::No { LEAST_RULES } else { LEAST_VERIFIED };
    assert!(report.rules() >= least, "only {} rules were checked", report.rules());
}

/// What else was said on the console.
fn unreported(console: &str) -> String {
    console.lines().filter(|line| !line.starts_with('@')).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn holds_on_one_processor() {
    suite(1, Watched::No).await;
}

#[tokio::test]
async fn holds_on_two_processors() {
    suite(2, Watched::No).await;
}

#[tokio::test]
async fn holds_on_four_processors() {
    suite(4, Watched::No).await;
}

#[tokio::test]
async fn holds_on_eight_processors() {
    suite(8, Watched::No).await;
}

#[tokio::test]
async fn breaks_no_rule_of_the_verifiers_on_two_processors() {
    suite(2, Watched::ByTheVerifier).await;
}

#[tokio::test]
async fn breaks_no_rule_of_the_verifiers_on_eight_processors() {
    suite(8, Watched::ByTheVerifier).await;
}
