//! Drivers that are told of images: of each, before anything of it runs; and of handles for threads. One that unloads and stays registered is called in an
//! image that is gone.

use crate::{bench::Bench, guest::Guest};

const TOLD: &str = r"listener: \??\C:\squall\start_io.sys process 0x0 system mapped passive";

async fn both_ways(processors: u8) {
    let bench = Bench::new();
    let mut guest = Guest::with_drivers(&bench, processors, &["listener", "listener_left", "start_io"]).await;
    let load = guest.load(&bench, "listener", &[]).await.unwrap();
    assert!(load.status.is_success(), "{load:?}");
    let heard = |guest: &Guest| guest.console().lines().filter(|line| *line == TOLD).count();
    guest.load(&bench, "start_io", &[]).await.unwrap();
    assert_eq!(heard(&guest), 1, "{}", guest.console());
    guest.unload("start_io").await.unwrap();
    let unload = guest.unload("listener").await.unwrap();
    assert!(unload.findings.is_empty(), "{unload:?}");
    guest.load(&bench, "start_io", &[]).await.unwrap();
    assert_eq!(heard(&guest), 1, "{}", guest.console());
    guest.unload("start_io").await.unwrap();

    guest.load(&bench, "listener_left", &[]).await.unwrap();
    let unload = guest.unload("listener_left").await.unwrap();
    let kinds: Vec<&str> = unload.findings.iter().map(|finding| finding.kind.as_str()).collect();
    assert_eq!(kinds, ["notify-routine-left", "object-callback-left"], "{unload:?}");
    assert!(guest.load(&bench, "start_io", &[]).await.is_err(), "nothing was called: {}", guest.console());
    let crash = guest.crash().unwrap_or_else(|| panic!("no crash record\n{}", guest.console()));
    guest.session.end().await;
    // *Bug Check 0xCE*: execution in a driver that was unloaded.
    assert_eq!(crash.code, 0xCE, "{crash:?}");
    assert!(crash.module.as_ref().is_some_and(|module| module.name == "listener_left.sys"), "{crash:?}");
}

#[tokio::test]
async fn hear_of_images_until_they_are_taken_back_on_one_processor() {
    both_ways(1).await;
}

#[tokio::test]
async fn hear_of_images_until_they_are_taken_back_on_four_processors() {
    both_ways(4).await;
}
