//! A thousand times: load a snapshot, run it for a millisecond in a storm, stop.
//!
//! Nothing of the card's may drift (`cycles` says what that is), and a load takes its time: the median of all must be
//! under [`LIMIT`] in a machine of 64 MB. `cargo xtask bench snapshots` runs it; the exit code is 0 if that holds, else 1.
//! A drift ends it with the counter that drifted.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "what can fail ends the measurement"
)]

#[path = "../shared/arguments.rs"]
mod arguments;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/bus.rs"]
mod bus;
#[path = "../../tests/vm/cycles.rs"]
mod cycles;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/guest.rs"]
mod guest;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/machine.rs"]
mod machine;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/vm/real_mode.rs"]
mod real_mode;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

const CYCLES: usize = 1000;
/// The longest that the median load may take.
const LIMIT: Duration = Duration::from_millis(15);

fn main() -> ExitCode {
    let json = match arguments::json("snapshots") {
        Ok(json) => json,
        Err(usage) => return usage,
    };
    let mut took = cycles::no_drift(CYCLES);
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    let [least, median, most] = [0, 50, 99].map(at);
    let holds = median < LIMIT;
    let word = if holds { "holds" } else { "FAILS" };
    println!(
        "{CYCLES} cycles of loadvm, 1 ms of storm, stop: no counter drifts from a run without snapshots"
    );
    println!(
        "{word}  loadvm at 64 MB: median {median:.1?}, less than {LIMIT:?}; least {least:.1?}, 99 of 100 within {most:.1?}"
    );
    if let Some(file) = json {
        let text = json!({
            "schema": "squall.bench-snapshots/1", "cycles": CYCLES, "median_ns": median.as_nanos() as u64,
            "least_ns": least.as_nanos() as u64, "percentile_99_ns": most.as_nanos() as u64,
            "limit_ns": LIMIT.as_nanos() as u64, "holds": holds,
        });
        std::fs::write(file, text.to_string()).expect("the file of --json can be written");
    }
    ExitCode::from(u8::from(!holds))
}
