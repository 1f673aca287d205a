//! The source line that a verdict names is that of the mistake's victim: where the driver was when it found out.
//!
//! A line is told by what it says, not by its number.

use std::path::Path;

use squall_harness::{scenario::Bus, verdict::Verdict};

use crate::bench::Bench;

/// Where one defect is found out.
struct Victim {
    defect: &'static str,
    verifier: bool,
    bus: Bus,
    /// The file, and parts of lines: one of them.
    line: (&'static str, &'static [&'static str]),
}

const fn plain(defect: &'static str, file: &'static str, line: &'static [&'static str]) -> Victim {
    Victim { defect, verifier: false, bus: Bus::Isa, line: (file, line) }
}

const fn verified(defect: &'static str, file: &'static str, line: &'static [&'static str]) -> Victim {
    Victim { verifier: true, ..plain(defect, file, line) }
}

const fn on_pci(defect: &'static str, file: &'static str, line: &'static [&'static str]) -> Victim {
    Victim { bus: Bus::PciMsi, ..plain(defect, file, line) }
}

/// The instruction that faulted is the driver's own.
const FAULTED: [Victim; 7] = [
    plain("interrupts-left-enabled-and-connected", "service.rs", &["extern \"C\" fn isr("]),
    // The ISR's access, or the DPC's where the ISR came while the registers were being unmapped; the compiler has made that one with the comparison.
    on_pci(
        "unmapped-registers-before-disconnect",
        "card.rs",
        &["address(start, register).read_volatile()", "if self.level() == 0"],
    ),
    plain("active-timer-freed", "watch.rs", &["extern \"C\" fn look("]),
    plain("io-timer-left-running", "clock.rs", &["self.interrupts.store(interrupts"]),
    plain("work-item-outlives-image", "defect/mod.rs", &["for _ in 0..LONG {"]),
    plain("system-thread-left", "defect/mod.rs", &["for _ in 0..LONG {"]),
    verified("pageable-isr", "defect/mod.rs", &["extern \"C\" fn pageable_isr("]),
];

/// The system stopped in a call of the driver's: that call's line is among those of the stack, which a scan has found and where traces of
/// earlier calls may stand as well.
const CALLED: [Victim; 4] = [
    verified("disconnect-above-passive", "nt/interrupt.rs", &["IoDisconnectInterruptEx(&mut parameters)"]),
    verified("waits-at-dispatch-in-unload", "nt/thread.rs", &["KeWaitForSingleObject("]),
    verified("pool-freed-twice", "nt/pool.rs", &["ExFreePoolWithTag("]),
    plain("work-item-freed-while-queued", "nt/work_item.rs", &["IoFreeWorkItem(self.0.as_ptr())"]),
];

/// Some mistakes are races, which the catalogue gives a budget of storms too.
const STORMS: u64 = 6;

/// What becomes of the defect: of the first storm that shows it, or of the last. On one processor, where Unload never finds the ISR under
/// way: on two it may be anywhere when its code goes.
async fn verdict_on(bench: &Bench, victim: &Victim) -> Verdict {
    let mut scenario = bench.scenario(1, Some(victim.defect));
    (scenario.bus, scenario.verifier) = (victim.bus, victim.verifier);
    let parts = bench.parts_with(&bench.artifacts.defects);
    let mut verdict = bench.run_with(&scenario, &parts).await.unwrap();
    while verdict.bugcheck.is_none() && scenario.seed < STORMS {
        scenario.seed += 1;
        verdict = bench.run_with(&scenario, &parts).await.unwrap();
    }
    verdict
}

/// `driver/src/FILE:LINE` says what the victim's line says.
fn is_its_line(source: &str, victim: &Victim) -> bool {
    let (file, says) = victim.line;
    let Some((path, number)) = source.rsplit_once(':') else { return false };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(repository.join(path)).unwrap_or_default();
    let line = number.parse::<usize>().ok().and_then(|number| text.lines().nth(number.checked_sub(1)?));
    path == format!("driver/src/{file}")
        && line.is_some_and(|line| says.iter().any(|says| line.contains(says)))
}

#[tokio::test]
async fn a_fault_of_the_drivers_is_told_by_its_own_line() {
    let bench = Bench::new();
    for victim in &FAULTED {
        let verdict = verdict_on(&bench, victim).await;
        let bugcheck = verdict.bugcheck.as_ref().unwrap_or_else(|| panic!("{}: {verdict:#?}", victim.defect));
        let source = bugcheck.source.as_deref().unwrap_or_default();
        assert!(is_its_line(source, victim), "{}: {source}: {bugcheck:#?}", victim.defect);
        assert!(bugcheck.symbol.as_deref().is_some_and(|symbol| symbol.contains("squall")), "{bugcheck:#?}");
        assert!(!bugcheck.inlined.is_empty(), "{bugcheck:#?}");
    }
}

#[tokio::test]
async fn a_stop_in_a_call_of_the_drivers_is_told_by_the_calls_line() {
    let bench = Bench::new();
    let mut elsewhere = Vec::new();
    for victim in &CALLED {
        let verdict = verdict_on(&bench, victim).await;
        let bugcheck = verdict.bugcheck.as_ref().unwrap_or_else(|| panic!("{}: {verdict:#?}", victim.defect));
        let mut calls = bugcheck.stack.iter().filter_map(|call| call.source.as_deref());
        if !calls.any(|call| is_its_line(call, victim)) {
            elsewhere.push((victim.defect, bugcheck.name.clone(), bugcheck.stack.clone()));
        }
    }
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}
