use super::*;
use crate::{
    agent::{DriverInfo, LoadAnswer, Modules, ServiceState, StateAnswer, UnloadAnswer},
    device::Stats,
    evidence::{Event, Recorder},
    qmp::MachineEnd,
    run_dir::{CONSOLE, DRIVER},
};

const BASE: u64 = 0xffff_9000_0001_0000;

fn stats(irq_enabled: bool) -> Stats {
    let mut stats: Stats = serde_json::from_str(
        r#"{"schema":"squall.device-stats/1","fired":1200,"asserted":1100,"suppressed":50,"coalesced":50,
        "serviced":1099,"fifo_level":0,"irq_enabled":false,"line":false,"reads":1,"writes":1,"unload":{"entered":1,
        "left":1,"asserted":2,"serviced":1,"before_silence":2,"silenced":true}}"#,
    )
    .unwrap();
    stats.irq_enabled = irq_enabled;
    stats
}

fn loaded() -> Event {
    let driver = DriverInfo {
        name: "squall.sys".into(),
        base: Hex(BASE),
        size: 0x6000,
        entry: Hex(BASE + 0x5000),
        unload: Some(Hex(BASE + 0x1000)),
        unload_return: None,
    };
    let answer = LoadAnswer {
        status: Status(0),
        driver: Some(driver),
        missing_imports: Vec::new(),
        invalid_image: None,
        findings: Vec::new(),
        injection: None,
    };
    Event::LoadAnswered { answer }
}

fn refused(status: u32, missing: &[&str], invalid: Option<&str>) -> Event {
    let missing_imports = missing.iter().map(|name| (*name).to_owned()).collect();
    let invalid_image = invalid.map(str::to_owned);
    Event::LoadAnswered {
        answer: LoadAnswer {
            status: Status(status),
            driver: None,
            missing_imports,
            invalid_image,
            findings: Vec::new(),
            injection: None,
        },
    }
}

fn unloaded(findings: Vec<Finding>) -> Event {
    Event::UnloadAnswered { answer: UnloadAnswer { status: Status(0), findings, refused: None } }
}

fn aftermath(state: ServiceState, irq_enabled: bool) -> Vec<Event> {
    vec![
        Event::Settled { virtual_ns: Some(50_000_000), stats: stats(irq_enabled) },
        Event::ServiceState { answer: StateAnswer { state } },
        Event::GuestModules { modules: Modules::default() },
        Event::DeviceStats { stats: stats(irq_enabled) },
        Event::RunEnded {},
    ]
}

fn ended(how: MachineEnd) -> Event {
    Event::MachineEnded { end: how }
}

/// An image in which a call ends at 0x1005.
fn image() -> Vec<u8> {
    crate::testing::pe::PeBuilder {
        code: vec![0xE8, 0, 0, 0, 0, 0xC3],
        ..crate::testing::pe::PeBuilder::driver()
    }
    .build()
}

/// A run directory with these events behind the first one, and this crash file.
fn judge(events: impl IntoIterator<Item = Event>, crash: &str) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path(), 9).unwrap();
    let scenario = Scenario { seed: 9, ..Scenario::default() };
    run.write(SCENARIO, scenario.to_toml().unwrap().as_bytes()).unwrap();
    run.write(CRASH, crash.as_bytes()).unwrap();
    run.write(DRIVER, &image()).unwrap();
    let console = "guest: hello\nsquall: unloading after 1 interrupts\nsquall: unloading after 1099 interrupts, 3 lost\n";
    run.write(CONSOLE, console.as_bytes()).unwrap();
    let recorder = Recorder::create(&run).unwrap();
    let first = Event::RunStarted { run_dir: "/r".into(), driver: "squall.sys".into(), squall: "0".into() };
    for event in [first].into_iter().chain(events) {
        recorder.record(event).unwrap();
    }
    let verdict = Verdict::of_run(&run).unwrap();
    // Computing it again, and from what was stored, gives the same.
    run.write_json(VERDICT, &verdict).unwrap();
    assert_eq!(Verdict::stored(&run).unwrap(), verdict);
    assert_eq!(Verdict::of_run(&run).unwrap(), verdict);
    assert!(!verdict.summary.is_empty() && !verdict.summary.contains('\n'), "{}", verdict.summary);
    verdict
}

fn crash(code: u32, access: u64, state: &str) -> String {
    let fault = BASE + 0x1120;
    format!(
        "{{\"schema\":\"squall.crash/1\",\"code\":{code},\"name\":\"NAME\",\"parameters\":[\"{fault:#x}\",\"0x5\",\
         \"{access:#x}\",\"{fault:#x}\"],\"processor\":0,\"irql\":5,\"rip\":\"{fault:#x}\",\"stack\":[\"{:#x}\",\"{:#x}\",\"0x10\"],\
         \"module\":{{\"name\":\"squall.sys\",\"offset\":\"0x1120\",\"state\":\"{state}\"}},\"modules\":[{{\"name\":\
         \"squall.sys\",\"base\":\"{BASE:#x}\",\"size\":24576,\"state\":\"{state}\"}}],\"verifier\":false}}\n",
        BASE + 0x1006,
        BASE + 0x1005
    )
}

#[test]
fn a_driver_that_leaves_nothing_is_clean() {
    let mut events = vec![Event::LoadStarted {}, loaded(), unloaded(Vec::new())];
    events.extend(aftermath(ServiceState::Unloaded, false));
    let verdict = judge(events, "");
    assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Clean, 0));
    assert_eq!((verdict.device.asserted, verdict.device.unload.before_silence), (1100, 2));
    assert_eq!((verdict.seed, verdict.run_dir.to_str().unwrap()), (9, "/r"));
    assert!(verdict.notes.is_empty());
    assert_eq!(verdict.driver.interrupts, Some(1099));
}

#[test]
fn what_is_left_behind_is_a_finding_whoever_saw_it() {
    let finding = Finding {
        kind: "pool-leaked".into(),
        object: "Sqll".into(),
        detail: "96 bytes".into(),
        stricter_than_windows: true,
    };
    for (findings, state, enabled, kind) in [
        (vec![finding], ServiceState::Unloaded, false, "pool-leaked"),
        (Vec::new(), ServiceState::Unloading, false, "driver-not-gone"),
        (Vec::new(), ServiceState::Unloaded, true, "device-left-enabled"),
    ] {
        let mut events = vec![Event::LoadStarted {}, loaded(), unloaded(findings)];
        events.extend(aftermath(state, enabled));
        let verdict = judge(events, "");
        assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Finding, 1));
        assert_eq!(verdict.findings[0].kind, kind);
    }
}

#[test]
fn an_interrupt_into_an_unloaded_image_is_a_bugcheck_with_its_place() {
    let events = [Event::LoadStarted {}, loaded(), ended(MachineEnd::Panicked), Event::RunEnded {}];
    let verdict = judge(events, &crash(0xD1, 8, "unloaded"));
    assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Bugcheck, 1));
    let bugcheck = verdict.bugcheck.unwrap();
    assert_eq!((bugcheck.code, bugcheck.access), (0xD1, Some(Access::Execute)));
    assert_eq!(bugcheck.module_state, Some(ModuleState::Unloaded));
    assert_eq!(bugcheck.offset, Some(Hex(0x1120)));
    assert_eq!((bugcheck.stack.len(), bugcheck.stack[0].offset), (1, Hex(0x1005)));
    assert!(
        verdict.summary.contains("executing squall.sys+0x1120, which is unloaded"),
        "{}",
        verdict.summary
    );
    assert!(verdict.notes[0].contains("no symbols"), "{:?}", verdict.notes);
}

#[test]
fn a_crash_record_counts_even_where_the_run_was_cut_off_before_anybody_saw_it() {
    let verdict = judge([Event::LoadStarted {}, loaded()], &crash(0xD1, 0, "loaded"));
    assert_eq!(verdict.bugcheck.unwrap().access, Some(Access::Read));
}

#[test]
fn the_tools_own_faults_are_never_the_drivers() {
    let begun = || vec![Event::LoadStarted {}, loaded()];
    let with = |event| begun().into_iter().chain([event]).collect::<Vec<_>>();
    let watchdog = |clock| Event::Watchdog {
        waited_for: "Unload to return".into(),
        host_ms: 9,
        guest_clock_ns: clock,
        processors: Vec::new(),
    };
    for (events, crash, word) in [
        (with(ended(MachineEnd::Panicked)), crash(0x5351_0001, 0, "loaded"), "own fault"),
        (vec![ended(MachineEnd::Panicked)], crash(0xD1, 8, "loaded"), "before a driver"),
        (with(ended(MachineEnd::Panicked)), String::new(), "no crash record"),
        (with(ended(MachineEnd::Panicked)), "{\"schema\":".to_owned(), "torn"),
        (with(ended(MachineEnd::Panicked)), "not json\n".to_owned(), "crash record"),
        (
            vec![ended(MachineEnd::Reset { cause: "guest-reset".into(), by_guest: true })],
            String::new(),
            "reset",
        ),
        (with(ended(MachineEnd::Gone { why: "eof".into() })), String::new(), "QEMU is gone"),
        (
            with(ended(MachineEnd::Shutdown { cause: "host-signal".into(), by_guest: false })),
            String::new(),
            "from outside",
        ),
        (vec![watchdog(Some(100_000_000))], String::new(), "no driver was loaded"),
        (with(watchdog(Some(0))), String::new(), "clock stands still"),
        (with(Event::Infrastructure { message: "disk full".into() }), String::new(), "disk full"),
        (begun(), String::new(), "cut off after load-answered"),
        (Vec::new(), String::new(), "cut off after run-started"),
    ] {
        let verdict = judge(events, &crash);
        assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Infrastructure, 3));
        assert!(verdict.summary.contains(word), "{word}: {}", verdict.summary);
    }
}

#[test]
fn a_run_cut_off_between_unload_and_stock_taking_is_not_clean() {
    let verdict = judge([Event::LoadStarted {}, loaded(), unloaded(Vec::new())], "");
    assert_eq!(verdict.outcome, Outcome::Infrastructure);
}

#[test]
fn a_hang_says_what_was_waited_for_and_where_the_processors_were() {
    let watchdog = Event::Watchdog {
        waited_for: "Unload to return".into(),
        host_ms: 20_000,
        guest_clock_ns: Some(100_000_000),
        processors: vec![Hex(BASE + 0x1005), Hex(0xffff_ffff_8000_0000)],
    };
    let verdict = judge([Event::LoadStarted {}, loaded(), watchdog, Event::RunEnded {}], "");
    assert_eq!((verdict.outcome, verdict.outcome.exit_code()), (Outcome::Hang, 1));
    assert!(verdict.summary.contains("Unload to return"));
    assert_eq!(verdict.hang.unwrap().processors, ["squall.sys+0x1005", "0xffffffff80000000"]);
}

#[test]
fn resets_and_refusals_have_outcomes_of_their_own() {
    let reset = ended(MachineEnd::Reset { cause: "guest-reset".into(), by_guest: true });
    assert_eq!(judge([Event::LoadStarted {}, loaded(), reset], "").outcome, Outcome::Reset);
    let answer = UnloadAnswer {
        status: Status(0xC000_0001),
        findings: Vec::new(),
        refused: Some("one handle is open".into()),
    };
    let verdict = judge([Event::LoadStarted {}, loaded(), Event::UnloadAnswered { answer }], "");
    assert_eq!(verdict.outcome, Outcome::UnloadRefused);
    assert!(verdict.summary.contains("one handle is open"));
}

#[test]
fn a_load_can_fail_in_three_ways() {
    let load = |event| judge([Event::LoadStarted {}, event, Event::RunEnded {}], "");
    let failed = load(refused(0xC000_009A, &[], None));
    assert_eq!((failed.outcome, failed.load_status), (Outcome::LoadFailed, Some(Status(0xC000_009A))));
    assert!(failed.summary.contains("STATUS_INSUFFICIENT_RESOURCES"), "{}", failed.summary);
    let invalid = load(refused(0xC000_007B, &[], Some("overlapping sections")));
    assert_eq!(invalid.outcome, Outcome::LoadFailed);
    assert!(invalid.summary.contains("overlapping sections"));
    let missing = load(refused(0xC000_0263, &["ntoskrnl.exe!A", "HAL.dll!B"], None));
    assert_eq!((missing.outcome, missing.outcome.exit_code()), (Outcome::Unsupported, 3));
    assert!(missing.summary.contains("ntoskrnl.exe!A") && missing.summary.contains("HAL.dll!B"));
}

#[test]
fn outcomes_are_written_as_their_words() {
    for outcome in [
        Outcome::Clean,
        Outcome::Bugcheck,
        Outcome::Finding,
        Outcome::Hang,
        Outcome::Reset,
        Outcome::UnloadRefused,
        Outcome::LoadFailed,
        Outcome::Unsupported,
        Outcome::Infrastructure,
    ] {
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.word());
    }
}
