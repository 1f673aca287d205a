//! Reads of the built driver from a program's side: they wait for samples, and end without when they are cancelled or time out.

use std::time::Duration;

use squall_harness::{agent::AgentError, scenario::Parameter};

use crate::{bench::Bench, guest::Guest};

const SERVICE: &str = "squall";
const DEVICE: &str = r"\\.\Squall0";

/// The built driver in a guest, on whose reads this limit of seconds is set.
pub(crate) async fn loaded(bench: &Bench, timeout: u32) -> Guest {
    let mut guest = Guest::with_processors(bench, 2).await;
    let mut parameters = bench.scenario(2, None).service_parameters();
    parameters.insert("ReadTimeout".to_owned(), Parameter::Dword(timeout));
    let image = std::fs::read(&bench.artifacts.driver.image).unwrap();
    let agent = &mut guest.session.agent;
    agent.upload(r"C:\squall.sys", &image).await.unwrap();
    assert!(agent.install(SERVICE, r"C:\squall.sys", &parameters).await.unwrap().is_success());
    let answer = agent.load(SERVICE).await.unwrap();
    assert!(answer.status.is_success(), "{answer:#?}");
    guest
}

pub(crate) async fn unloaded(mut guest: Guest) {
    let answer = guest.unload(SERVICE).await.unwrap();
    assert!(answer.status.is_success() && answer.findings.is_empty(), "{answer:#?}");
    assert!(guest.crash().is_none());
    guest.session.end().await;
}

/// A read for which there is no sample: why it ended.
async fn in_vain(guest: &mut Guest) -> String {
    let agent = &mut guest.session.agent;
    let handle = agent.open(DEVICE, "rb").await.unwrap();
    let error =
        tokio::time::timeout(Duration::from_secs(60), agent.read(handle, 64)).await.unwrap().unwrap_err();
    agent.close(handle).await.unwrap();
    assert!(matches!(error, AgentError::Refused { .. }), "{error}");
    error.to_string()
}

/// Samples that were fired are what a read then gets.
async fn samples_come_through(guest: &mut Guest) {
    guest.session.device.fire(3).await.unwrap();
    let agent = &mut guest.session.agent;
    let handle = agent.open(DEVICE, "rb").await.unwrap();
    let mut samples = Vec::new();
    while samples.len() < 12 {
        samples.extend(agent.read(handle, 64).await.unwrap());
    }
    agent.close(handle).await.unwrap();
    let first = u32::from_le_bytes(samples[..4].try_into().unwrap());
    let expected: Vec<u8> = (first..first + 3).flat_map(u32::to_le_bytes).collect();
    assert_eq!(samples, expected);
}

/// STATUS_IO_TIMEOUT, by the driver's IoTimer, before the program gives up.
#[tokio::test]
async fn a_read_times_out_after_its_seconds() {
    let bench = Bench::new();
    let mut guest = loaded(&bench, 1).await;
    let why = in_vain(&mut guest).await.to_lowercase();
    assert!(why.contains("c00000b5"), "{why}");
    samples_come_through(&mut guest).await;
    unloaded(guest).await;
}

/// Without a limit it waits until the program gives up: its cancel routine ends it, and the next read is served.
#[tokio::test]
async fn a_read_without_a_limit_waits_until_it_is_cancelled() {
    let bench = Bench::new();
    let mut guest = loaded(&bench, 0).await;
    let why = in_vain(&mut guest).await.to_lowercase();
    assert!(!why.contains("c00000b5"), "{why}");
    samples_come_through(&mut guest).await;
    unloaded(guest).await;
}
