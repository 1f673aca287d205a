//! Values that are refused: one line that says what and why, and QEMU lives on, or does not start.

use serde_json::json;

use crate::machine::{Machine, refusal};

#[test]
fn wrong_values_are_refused_and_change_nothing() {
    let mut machine = Machine::new();
    let wrong = [
        ("fire", json!(0), "fire: 0 samples; it must be from 1 to 1000000"),
        ("fire", json!(1_000_001), "fire: 1000001 samples; it must be from 1 to 1000000"),
        ("fire", json!(-1), "fire"),
        ("fire", json!("lots"), "fire"),
        ("storm", json!("{}"), "storm: missing field `pace`"),
        ("storm", json!("blow"), "storm: expected value at line 1 column 1"),
        ("storm", json!(r#"{"pace":"ack","gap_ns":2000000000}"#), "storm: gap_ns is 2000000000"),
        ("storm", json!(r#"{"pace":"ack","force":12}"#), "storm: unknown field `force`"),
        ("storm", json!("[]"), "storm: 0 schedules; a storm has from 1 to 4"),
        ("storm", json!(format!("[{}]", [r#"{"pace":"ack"}"#; 5].join(","))), "storm: 5 schedules;"),
        ("storm", json!(r#"{"pace":"period"}"#), "storm: the pace period needs period_ns"),
        (
            "storm",
            json!(r#"{"pace":"period","period_ns":999}"#),
            "storm: period_ns is 999; it must be from 1000",
        ),
        (
            "storm",
            json!(r#"{"pace":"ack","period_ns":5000}"#),
            "storm: period_ns does not go with the pace ack",
        ),
        ("storm", json!(r#"{"pace":"ack","burst":0}"#), "storm: burst is 0; it must be from 1 to 1000"),
        (
            "storm",
            json!(r#"{"pace":"period","period_ns":5000,"burst":6,"burst_gap_ns":1000}"#),
            "storm: a burst with its jitter takes 5000 ns; it must be shorter than the period of 5000 ns",
        ),
        ("storm", json!(r#"{"pace":"access","register":"STATOS","access":"read"}"#), "storm: invalid value"),
        ("storm", json!("9".repeat(5000)), "storm: the description is 5000 bytes long, more than 4096"),
        ("misbehave", json!("badly"), "misbehave: expected value at line 1 column 1"),
        ("misbehave", json!("[]"), "misbehave: a JSON object is expected"),
        ("misbehave", json!(r#"{"on_fire":true}"#), "misbehave: unknown field `on_fire`"),
        ("misbehave", json!(r#"{"stuck_line":"up"}"#), "misbehave: unknown variant `up`"),
        (
            "misbehave",
            json!(r#"{"fifo_places":65}"#),
            "misbehave: fifo_places is 65; it must be from 0 to 64",
        ),
        (
            "misbehave",
            json!(r#"{"late_disable":{"delay_ns":0}}"#),
            "misbehave: late_disable.delay_ns is 0; it must be from 1 to 1000000000",
        ),
        (
            "misbehave",
            json!(r#"{"spurious":{"period_ns":2000,"width_ns":2000}}"#),
            "misbehave: spurious.width_ns is 2000; it must be from 1 to 1999",
        ),
        (
            "misbehave",
            json!(r#"{"late_register":{"register":"STATUS"}}"#),
            "misbehave: late_register: delay_ns and reads are both 0, so STATUS would not be late",
        ),
        ("misbehave", json!(5), "misbehave"),
        ("watch", json!(r#"{"enter":"main"}"#), "watch: invalid value: string \"main\""),
        ("watch", json!(r#"{"enter":"0x1","leave":"0x1"}"#), "watch: leave is the same address as enter"),
        ("stats", json!(""), "stats"),
        ("iobase", json!(0x200), "iobase: the device is already plugged in"),
        ("trace", json!("elsewhere"), "trace: the device is already plugged in"),
    ];
    for (property, value, expected) in wrong {
        let error = machine.set(property, value.clone()).unwrap_err();
        assert!(error.contains(expected), "{property} = {value}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert_eq!(machine.counter("/fired"), 0);
    for property in ["storm", "misbehave", "watch"] {
        assert_eq!(machine.get(property), json!(""), "{property}");
    }
    machine.set("fire", 1).unwrap();
    assert_eq!(machine.counter("/fired"), 1);
}

#[test]
fn wrong_options_are_refused_before_the_machine_starts() {
    let wrong = [
        ("", ",iobase=0x301", "iobase is 0x301; it must be a multiple of 0x20 from 0x100 to 0xffe0"),
        ("", ",iobase=0x10000", "iobase is 0x10000;"),
        ("", ",irq=2", "irq is 2; it must be from 3 to 15"),
        ("", ",irq=many", "irq"),
        ("", ",trace=/nonexistent/flight.bin", "cannot write the trace file '/nonexistent/flight.bin'"),
        ("", ",trace-records=100", "trace-records is 100; it must be a power of two from 16 to 16777216"),
        ("", ",fire=1", "fire: the device is not plugged in yet"),
        ("", ",misbehave={}", "misbehave: the device is not plugged in yet"),
        ("", ",colour=red", "colour"),
        (",colour=red", "", "unknown argument 'colour=red': the only one is lifeline=FD"),
        (",lifeline=nine", "", "lifeline=nine: not a file descriptor"),
        (",lifeline=999", "", "lifeline=999: not open in this process"),
        (",lifeline=0", "", "lifeline=0: not a pipe"),
    ];
    for (plugin, device, expected) in wrong {
        let (said, status) = refusal(plugin, device);
        let line = said.lines().find(|line| line.contains(expected));
        assert!(line.is_some() && !status.success(), "{plugin}{device}: {status}: {said}");
    }
}
