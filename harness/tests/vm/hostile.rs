//! A driver that does the worst, one deed at a time. Whatever it does, the run ends in bounded time, and the verdict is one
//! that the deed deserves: never clean, never a fault of the tool's where the driver's can be told from it.

use std::time::{Duration, Instant};

use squall_harness::{
    scenario::{Parameter, Scenario},
    verdict::{Outcome, Verdict},
};

use crate::{bench::Bench, guest::c_driver};

/// Longer than any of these runs may take, deadlines and all, on a machine that has more to do.
const BOUND: Duration = Duration::from_secs(60);

/// More than any of them may leave in the log, in bytes.
const LOG: u64 = 1 << 20;

async fn ends(deed: &str, processors: u8) -> Verdict {
    let bench = Bench::new();
    let mut scenario = Scenario { processors, ..Scenario::default() };
    scenario.driver.image = c_driver(&bench, "hostile");
    scenario.driver.service = "hostile".to_owned();
    scenario.driver.parameters.insert("Deed".to_owned(), Parameter::Text(deed.to_owned()));
    scenario.before_unload.nothing_after_ms = 50;
    let hangs = deed.contains("never") || deed == "interrupts-off-for-ever" || deed == "unload-flood";
    // What hangs is waited for in vain; what does not may take its time.
    let patience = if hangs { 3_000 } else { 30_000 };
    scenario.deadlines.load_ms = patience;
    scenario.deadlines.unload_ms = patience;
    let began = Instant::now();
    let verdict = bench.run_with(&scenario, &bench.parts()).await.unwrap();
    assert!(began.elapsed() < BOUND, "{deed} on {processors}: {:?}", began.elapsed());
    let log = std::fs::metadata(verdict.run_dir.join("console.log")).unwrap().len();
    assert!(log < LOG, "{deed} on {processors}: {log} bytes of log");
    println!("{deed} on {processors}: {}", verdict.summary);
    verdict
}

/// A bug check with this code, and this third parameter where one is given.
async fn stops(deed: &str, code: u32) -> Verdict {
    let mut last = None;
    for processors in [1, 2] {
        let verdict = ends(deed, processors).await;
        assert_eq!(verdict.outcome, Outcome::Bugcheck, "{deed}: {verdict:#?}");
        let bugcheck = verdict.bugcheck.as_ref().unwrap();
        assert_eq!(bugcheck.code, code, "{deed}: {verdict:#?}");
        last = Some(verdict);
    }
    last.unwrap()
}

async fn hangs(deed: &str, waited_for: &str) {
    for processors in [1, 2] {
        let verdict = ends(deed, processors).await;
        assert_eq!(verdict.outcome, Outcome::Hang, "{deed}: {verdict:#?}");
        let hang = verdict.hang.as_ref().unwrap();
        assert_eq!(hang.waited_for, waited_for, "{deed}");
        // Where the image lies is known once DriverEntry has returned.
        let is_in_driver =
            |place: &String| place.starts_with("hostile.sys+") || place.starts_with("0xfffff80");
        let in_driver = hang.processors.iter().any(is_in_driver);
        assert!(in_driver, "{deed}: no processor is in the driver: {hang:?}");
    }
}

/// *Bug Check 0x7E: SYSTEM_THREAD_EXCEPTION_NOT_HANDLED*: an access violation at PASSIVE_LEVEL of a user-mode address, or of
/// one that is not an address.
#[tokio::test]
async fn jumps_to_where_no_kernel_memory_is() {
    for deed in ["jump-to-null", "jump-to-user-address", "jump-to-no-address"] {
        let verdict = stops(deed, 0x7E).await;
        assert_eq!(verdict.bugcheck.unwrap().parameters[0].0 as u32, 0xC000_0005, "{deed}");
    }
}

/// *Bug Check 0x50: PAGE_FAULT_IN_NONPAGED_AREA*: system memory that is not there; 0x10 is an execution.
#[tokio::test]
async fn jumps_to_system_memory_that_is_not_there() {
    let bugcheck = stops("jump-to-kernel-address", 0x50).await.bugcheck.unwrap();
    assert_eq!((bugcheck.parameters[0].0, bugcheck.parameters[1].0), (0xFFFF_F900_1234_5678, 0x10));
}

/// *Bug Check 0xFC: ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY*.
#[tokio::test]
async fn executes_data() {
    for deed in ["execute-pool", "execute-stack"] {
        stops(deed, 0xFC).await;
    }
}

/// *Bug Check 0x7F: UNEXPECTED_KERNEL_MODE_TRAP*: 8 is a double fault.
#[tokio::test]
async fn overflows_its_stack() {
    let bugcheck = stops("overflow-stack", 0x7F).await.bugcheck.unwrap();
    assert_eq!(bugcheck.parameters[0].0, 8);
    assert_eq!(bugcheck.module.as_deref(), Some("hostile.sys"));
}

/// *Bug Check 0x20: KERNEL_APC_PENDING_DURING_EXIT*: the second parameter is minus the critical regions that were not left.
#[tokio::test]
async fn ends_a_thread_in_a_critical_region() {
    for deed in ["thread-ends-in-a-critical-region", "thread-ends-with-a-mutex"] {
        let bugcheck = stops(deed, 0x20).await.bugcheck.unwrap();
        assert_eq!((bugcheck.parameters[1].0, bugcheck.parameters[2].0), (0xFFFF, 0), "{deed}");
    }
}

/// *Bug Check 0x1: APC_INDEX_MISMATCH*, of a worker routine.
#[tokio::test]
async fn returns_in_a_critical_region() {
    let bugcheck = stops("driver-entry-returns-in-a-critical-region", 0x1).await.bugcheck.unwrap();
    assert_eq!((bugcheck.parameters[2].0, bugcheck.parameters[3].0), (0xFFFF, 1));
}

/// *Bug Check 0xC7: TIMER_OR_DPC_INVALID*, value 4: the count before and after the DPC's routine.
#[tokio::test]
async fn has_a_dpc_that_stays_in_a_critical_region() {
    let bugcheck = stops("dpc-returns-in-a-critical-region", 0xC7).await.bugcheck.unwrap();
    assert_eq!(
        (bugcheck.parameters[0].0, bugcheck.parameters[2].0, bugcheck.parameters[3].0),
        (4, 0, 0xFFFF)
    );
}

/// *Bug Check 0xC8: IRQL_UNEXPECTED_VALUE*: 3 is an interrupt's service routine.
#[tokio::test]
async fn has_an_isr_that_returns_at_another_irql() {
    let bugcheck = stops("isr-returns-raised", 0xC8).await.bugcheck.unwrap();
    assert_eq!(bugcheck.parameters[0].0 & 0xFF, 3);
    assert_eq!(bugcheck.parameters[0].0 >> 16, 15);
}

/// *Bug Check 0xBE: ATTEMPTED_WRITE_TO_READONLY_MEMORY*.
#[tokio::test]
async fn writes_over_code() {
    for deed in ["write-kernel-code", "write-own-code"] {
        stops(deed, 0xBE).await;
    }
}

/// *Bug Check 0x7E*, STATUS_INTEGER_DIVIDE_BY_ZERO.
#[tokio::test]
async fn divides_by_zero() {
    let bugcheck = stops("divide-by-zero", 0x7E).await.bugcheck.unwrap();
    assert_eq!(bugcheck.parameters[0].0 as u32, 0xC000_0094);
    assert_eq!(bugcheck.module.as_deref(), Some("hostile.sys"));
}

/// mingw-w64's compiler puts the line numbers into the image: the line of the deed, and the call that led to it.
#[tokio::test]
async fn is_caught_at_its_own_line() {
    let bugcheck = stops("overflow-stack", 0x7F).await.bugcheck.unwrap();
    assert_eq!(bugcheck.symbol.as_deref(), Some("overflow"), "{bugcheck:#?}");
    let line = |source: &str| {
        let (path, number) = source.rsplit_once(':').unwrap();
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.lines().nth(number.parse::<usize>().unwrap() - 1).unwrap().trim().to_owned()
    };
    let source = line(bugcheck.source.as_deref().unwrap());
    assert!(source.contains("overflow") || source.contains("frame"), "{source}: {bugcheck:#?}");
    let calls = bugcheck.stack.iter().filter(|call| call.symbol.as_deref() == Some("overflow"));
    let calls: Vec<_> = calls.map(|call| line(call.source.as_deref().unwrap())).collect();
    assert!(calls.iter().any(|call| call == "return overflow(frame) + frame[0];"), "{calls:?}");
}

#[tokio::test]
async fn resets_the_machine() {
    for processors in [1, 2] {
        assert_eq!(ends("triple-fault", processors).await.outcome, Outcome::Reset);
    }
}

/// What the system does once its own memory has been written over is anybody's guess, here as on Windows. It must end, and
/// not as if nothing had been. A guest that can say nothing any more looks like one that is broken by itself, and is blamed
/// on the tool rather than on a driver about which nothing is known.
#[tokio::test]
async fn writes_over_the_kernels_memory() {
    for deed in ["write-kernel-data", "write-kernel-heap"] {
        for processors in [1, 2] {
            let verdict = ends(deed, processors).await;
            assert_ne!(verdict.outcome, Outcome::Clean, "{deed} on {processors}: {verdict:#?}");
        }
    }
}

#[tokio::test]
async fn breaks_what_it_was_lent() {
    let deeds =
        ["write-own-driver-object", "privileged-instruction", "jump-into-the-kernel", "isr-scribbles"];
    for deed in deeds {
        for processors in [1, 2] {
            let verdict = ends(deed, processors).await;
            let deserved = [
                Outcome::Bugcheck,
                Outcome::Hang,
                Outcome::Reset,
                Outcome::Finding,
                Outcome::LoadFailed,
                Outcome::UnloadRefused,
            ];
            assert!(deserved.contains(&verdict.outcome), "{deed} on {processors}: {verdict:#?}");
        }
    }
}

#[tokio::test]
async fn floods_the_debugger_and_the_log_stays_short() {
    for processors in [1, 2] {
        let verdict = ends("flood", processors).await;
        assert_eq!(verdict.outcome, Outcome::Clean, "{verdict:#?}");
    }
    for processors in [1, 2] {
        let verdict = ends("unload-flood", processors).await;
        assert_eq!(verdict.outcome, Outcome::Hang, "{verdict:#?}");
        assert_eq!(verdict.hang.unwrap().waited_for, "Unload to return");
    }
}

#[tokio::test]
async fn never_returns() {
    hangs("driver-entry-never-returns", "DriverEntry to return").await;
    hangs("driver-entry-never-returns-at-dispatch", "DriverEntry to return").await;
    hangs("interrupts-off-for-ever", "DriverEntry to return").await;
    hangs("unload-never-returns", "Unload to return").await;
}

#[tokio::test]
async fn never_returns_from_its_isr() {
    for processors in [1, 2] {
        let verdict = ends("isr-never-returns", processors).await;
        assert_eq!(verdict.outcome, Outcome::Hang, "{verdict:#?}");
        let hang = verdict.hang.unwrap();
        assert!(hang.processors.iter().any(|place| place.starts_with("hostile.sys+")), "{hang:?}");
    }
}

/// *Bug Check 0xA* and its kin, or *Bug Check 0xC8: IRQL_UNEXPECTED_VALUE*: whoever calls a driver finds the IRQL raised.
#[tokio::test]
async fn returns_at_a_raised_irql() {
    for deed in ["driver-entry-returns-raised", "unload-returns-raised"] {
        for processors in [1, 2] {
            let verdict = ends(deed, processors).await;
            assert_eq!(verdict.outcome, Outcome::Bugcheck, "{deed} on {processors}: {verdict:#?}");
        }
    }
}
