//! Whole drivers in C: each is loaded, takes interrupts, completes reads, has one cancelled, and goes without a trace, on one,
//! two and four processors.

use squall_harness::{agent::AgentError, device::StormSpec, storm::Storm};

use crate::{bench::Bench, guest::Guest};

/// Samples that are read of each driver.
const SAMPLES: usize = 200;

/// A driver, and what is to be expected of it.
struct Subject {
    name: &'static str,
    /// By which a program opens it.
    path: &'static str,
    /// Whether a read for which there is no sample waits until it is cancelled.
    waits: bool,
}

const SUBJECTS: [Subject; 5] = [
    Subject { name: "start_io", path: r"\\.\StartIo", waits: true },
    Subject { name: "controller", path: r"\\.\Controller1", waits: false },
    Subject { name: "timer_thread", path: r"\\.\TimerThread", waits: false },
    Subject { name: "inverted_call", path: r"\\.\InvertedCall", waits: true },
    Subject { name: "dma", path: r"\\.\Dma", waits: true },
];

async fn loaded(guest: &mut Guest, bench: &Bench, name: &str) {
    let answer = guest.load(bench, name, &[]).await.unwrap_or_else(|why| panic!("{name}: {why}"));
    assert!(answer.status.is_success() && answer.driver.is_some(), "{name}: {answer:?}\n{}", guest.console());
}

async fn unloaded(guest: &mut Guest, name: &str) {
    let answer = guest.unload(name).await.unwrap_or_else(|why| panic!("{name}: {why}"));
    assert!(answer.status.is_success() && answer.refused.is_none(), "{name}: {answer:?}");
    assert!(answer.findings.is_empty(), "{name}: {answer:?}\n{}", guest.console());
}

async fn storm(guest: &Guest) {
    let storm = StormSpec::new(&Storm::default(), 1).unwrap();
    guest.session.device.start_storm(&storm).await.unwrap();
}

/// Reads so many samples the way a program does.
async fn read(guest: &mut Guest, path: &str, samples: usize) -> Vec<u32> {
    let agent = &mut guest.session.agent;
    let handle = agent.open(path, "rb").await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut read = Vec::new();
    while read.len() < samples {
        let bytes = agent.read(handle, 64).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        read.extend(
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])),
        );
    }
    agent.close(handle).await.unwrap();
    read
}

/// A read without a sample is pending until the agent gives it up, which cancels it.
async fn cancelled(guest: &mut Guest, path: &str) {
    let agent = &mut guest.session.agent;
    let handle = agent.open(path, "rb").await.unwrap();
    // What the card or the driver still had comes first.
    let error = loop {
        match agent.read(handle, 64).await {
            Ok(bytes) => assert!(!bytes.is_empty(), "a read without a sample was completed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AgentError::Refused { .. }), "{error}");
    agent.close(handle).await.unwrap();
}

fn increasing(samples: &[u32]) -> bool {
    samples.windows(2).all(|pair| pair[0] < pair[1])
}

/// Whether the Verifier looks on, with every class that it has: nothing that these drivers do may be taken for a mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verifier {
    Off,
    On,
}

/// A guest with these drivers.
async fn guest_with(bench: &Bench, processors: u8, verifier: Verifier, names: &[&str]) -> Guest {
    let mut guest = Guest::with_drivers(bench, processors, names).await;
    if verifier == Verifier::On {
        let agent = &mut guest.session.agent;
        let flags = u32::try_from(agent.verifier_query().await.unwrap().supported_flags()).unwrap();
        for name in names {
            agent.verify(&format!("{name}.sys"), flags).await.unwrap();
        }
    }
    guest
}

async fn each(processors: u8, verifier: Verifier) {
    let bench = Bench::new();
    let names = SUBJECTS.each_ref().map(|subject| subject.name);
    let mut guest = guest_with(&bench, processors, verifier, &names).await;
    let watch = guest.watch();
    watch.over(exercise(&mut guest, &bench)).await;
    assert!(guest.crash().is_none());
    guest.session.end().await;
}

async fn exercise(guest: &mut Guest, bench: &Bench) {
    for Subject { name, path, waits } in &SUBJECTS {
        let before = guest.session.device.stats().await.unwrap();
        loaded(guest, bench, name).await;
        storm(guest).await;
        let samples = read(guest, path, SAMPLES).await;
        assert!(increasing(&samples), "{name} mixed samples up: {samples:?}");
        let stats = guest.session.device.stats().await.unwrap();
        assert!(stats.serviced > before.serviced + 50, "{name}: {stats:?}");
        guest.session.device.stop_storm().await.unwrap();
        if *waits {
            cancelled(guest, path).await;
        }
        unloaded(guest, name).await;
        let stats = guest.session.device.stats().await.unwrap();
        assert!(!stats.irq_enabled, "{name} left the card enabled");
        let console = guest.console();
        let last = console.lines().rfind(|line| line.starts_with(&format!("{name}: "))).unwrap_or_default();
        assert!(!last.is_empty() && !last.contains("wrong"), "{name} said {last:?}");
    }
}

#[tokio::test]
async fn work_on_one_processor() {
    each(1, Verifier::Off).await;
}

#[tokio::test]
async fn work_on_two_processors() {
    each(2, Verifier::Off).await;
}

#[tokio::test]
async fn work_on_four_processors() {
    each(4, Verifier::Off).await;
}

/// The upper driver turns every sample round; the lower one cannot go while the other is attached.
async fn pair(processors: u8, verifier: Verifier) {
    let bench = Bench::new();
    let mut guest = guest_with(&bench, processors, verifier, &["start_io", "layer"]).await;
    let watch = guest.watch();
    watch.over(exercise_pair(&mut guest, &bench)).await;
    assert!(guest.crash().is_none());
    guest.session.end().await;
}

async fn exercise_pair(guest: &mut Guest, bench: &Bench) {
    loaded(guest, bench, "start_io").await;
    loaded(guest, bench, "layer").await;
    storm(guest).await;
    let samples: Vec<u32> =
        read(guest, r"\\.\StartIo", SAMPLES).await.into_iter().map(|sample| !sample).collect();
    assert!(increasing(&samples), "{samples:?}");
    let refused = guest.unload("start_io").await.unwrap();
    let why = refused.refused.unwrap_or_default().to_uppercase();
    assert!(why.contains("STARTIO"), "a driver with another's device on top was unloaded, or not: {why:?}");
    guest.session.device.stop_storm().await.unwrap();
    cancelled(guest, r"\\.\StartIo").await;
    unloaded(guest, "layer").await;
    storm(guest).await;
    let samples = read(guest, r"\\.\StartIo", 16).await;
    assert!(increasing(&samples), "{samples:?}");
    unloaded(guest, "start_io").await;
}

#[tokio::test]
async fn a_layered_pair_works_on_one_processor() {
    pair(1, Verifier::Off).await;
}

#[tokio::test]
async fn a_layered_pair_works_on_two_processors() {
    pair(2, Verifier::Off).await;
}

#[tokio::test]
async fn a_layered_pair_works_on_four_processors() {
    pair(4, Verifier::Off).await;
}

#[tokio::test]
async fn work_under_the_verifier() {
    for processors in [1, 2, 8] {
        each(processors, Verifier::On).await;
    }
}

#[tokio::test]
async fn a_layered_pair_works_under_the_verifier() {
    for processors in [1, 2, 8] {
        pair(processors, Verifier::On).await;
    }
}
