//! What a driver has the system call when it stops: each routine once for each thing that it is for, at HIGH_LEVEL, in order.

use crate::{bench::Bench, guest::Guest};

/// By *Writing a Bug Check Callback Routine* and the pages of the three reasons: the plain callback; pages as long as there are
/// more; the dump written sequentially, in which the driver's data stand between the header and the end.
const CALLS: &[&str] = &[
    "plain 15 0x1 0x10",
    "pages 15 0xe2 0x0",
    "pages 15 0xe2 0x1",
    "pages 15 0xe2 0x2",
    "io 15 0x1 0x2000",
    "header 15 0x1 0x1",
    "data 15 0x0 0x1",
    "data 15 0x1 0x1",
    "io 15 0x3 0x1770",
    "is-mine 15 0x1 0x1",
    "io 15 0x4 0x0",
];

async fn called(processors: u8) {
    let bench = Bench::new();
    let mut guest = Guest::with_processors(&bench, processors).await;
    let end = guest.load(&bench, "bugcheck", &[]).await;
    assert!(end.is_err(), "the driver did not stop the system: {end:?}\n{}", guest.console());
    let console = guest.console();
    let crash = guest.crash().unwrap_or_else(|| panic!("no crash record\n{console}"));
    guest.session.end().await;
    assert_eq!((crash.code, crash.parameters.map(|parameter| parameter.0)), (0xE2, [1, 2, 3, 4]));
    let calls: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("bugcheck: ")).collect();
    assert_eq!(calls, CALLS, "{console}");
    let told = "*** bugcheck adds 6000 bytes to the dump as 6a1f3c52-0d7e-4b1a-9c35-8e2f4477d001";
    assert!(console.contains(told) && console.contains("*** bugcheck adds 6 pages to the dump"), "{console}");
}

#[tokio::test]
async fn are_called_on_one_processor() {
    called(1).await;
}

#[tokio::test]
async fn are_called_on_two_processors() {
    called(2).await;
}
