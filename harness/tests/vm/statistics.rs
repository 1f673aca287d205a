//! What the built driver says it has counted, asked for by another driver, beside what the card has.

use squall_harness::{device::StormSpec, storm::Storm};

use crate::{
    bench::Bench,
    guest::Guest,
    reads::{loaded, unloaded},
};

/// The numbers after `asker: WHAT` on the console's last such line.
fn told(guest: &Guest, what: &str) -> (String, Vec<u64>) {
    let console = guest.console();
    let begin = format!("asker: {what}");
    let line = console.lines().rfind(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("{console}"));
    let (status, numbers) = line[begin.len()..].split_once(" bytes").unwrap_or_else(|| panic!("{line}"));
    let numbers = numbers.split([' ', ':']).filter(|word| !word.is_empty());
    (status.trim().to_owned(), numbers.map(|number| number.parse().unwrap()).collect())
}

/// Interrupts, samples and what became of them, as driver and card have counted them.
#[tokio::test]
async fn the_driver_counts_what_the_card_counts() {
    let bench = Bench::new();
    let mut guest = loaded(&bench, 0).await;
    let storm = StormSpec::new(&Storm::default(), 1).unwrap();
    guest.session.device.start_storm(&storm).await.unwrap();
    while guest.session.device.stats().await.unwrap().serviced < 500 {
        tokio::task::yield_now().await;
    }
    guest.session.device.stop_storm().await.unwrap();
    // The last of them may still be on its way.
    let mut before = guest.session.device.stats().await.unwrap();
    let card = loop {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let now = guest.session.device.stats().await.unwrap();
        if now.serviced == before.serviced && now.serviced == now.asserted {
            break now;
        }
        before = now;
    };
    let answer = guest.load(&bench, "asker", &[]).await.unwrap();
    assert!(answer.status.is_success(), "{answer:#?}\n{}", guest.console());

    let (status, numbers) = told(&guest, "status ");
    assert_eq!(status, "0, 48");
    let [interrupts, overruns, delivered, lost, recovered, timed_out] = numbers[..] else {
        panic!("{numbers:?}")
    };
    assert_eq!((interrupts, delivered, timed_out), (card.serviced, 0, 0), "{numbers:?} {card:?}");
    // Nobody read: what its ring could not hold is lost, and nothing of it more than once.
    assert!(lost <= interrupts + recovered && overruns <= interrupts, "{numbers:?} {card:?}");
    assert_eq!(told(&guest, "too small: status "), ("c0000023, 0".to_owned(), vec![]));
    let (status, samples) = told(&guest, "recording: status ");
    assert_eq!(status, "0, 16");
    assert!(samples.windows(2).all(|pair| pair[0] < pair[1]), "{samples:?}");

    assert!(guest.unload("asker").await.unwrap().status.is_success());
    unloaded(guest).await;
}
