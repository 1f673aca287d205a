//! QEMU ends when its lifeline does.

use std::time::Duration;

use serde_json::json;

use crate::machine::Machine;

/// A second is what the harness promises.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn qemu_ends_with_its_lifeline() {
    let mut machine = Machine::new();
    assert_eq!(machine.wait_for_end(Duration::from_millis(200)), None, "not before");
    machine.cut_lifeline();
    let status = machine.wait_for_end(SOON).expect("ended");
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_stopped_machine_ends_as_well() {
    let mut machine = Machine::new();
    machine.qmp("stop", json!({})).unwrap();
    machine.cut_lifeline();
    assert!(machine.wait_for_end(SOON).is_some());
}
