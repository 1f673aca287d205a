//! Files that come with the machine are those that the host has.

use squall_harness::scenario::Scenario;

use crate::{bench::Bench, guest::Guest};

const PATH: &str = r"C:\squall\handed over.sys";
/// More than a page, and no whole number of them.
const LENGTH: u32 = 70_001;

#[tokio::test]
async fn a_driver_that_comes_with_the_machine_is_there_byte_for_byte() {
    let bench = Bench::new();
    let file = bench.runs().join("a, driver.sys");
    let bytes: Vec<u8> = (0..LENGTH).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::create_dir_all(bench.runs()).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let files = [(file.clone(), r"C:\first.sys".to_owned()), (file, PATH.to_owned())];
    let mut guest = Guest::start_with(&bench, &Scenario::default(), &files).await;
    let agent = &mut guest.session.agent;
    assert!(
        agent.has_file(r"C:\first.sys").await.unwrap()
            && !agent.has_file(r"C:\squall\other.sys").await.unwrap()
    );
    let handle = agent.open(PATH, "rb").await.unwrap();
    let mut read = Vec::new();
    loop {
        let piece = agent.read(handle, 32 << 10).await.unwrap();
        if piece.is_empty() {
            break;
        }
        read.extend(piece);
    }
    assert!(read == bytes, "{} bytes, not the {LENGTH} that were handed over", read.len());
}
