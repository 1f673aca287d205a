//! A verdict for people: the last lines that a command prints.
//!
//! Names and texts in it come from the guest, so control characters never reach the terminal.

use std::fmt::Write as _;

use crate::{
    flight::Flight,
    run_dir::{FLIGHT, RunDir},
    trace,
    verdict::{Outcome, Verdict},
};

/// Recorder events shown.
const EVENTS_SHOWN: u64 = 8;

/// Puts a verdict into words. With `colour`, the outcome is coloured for a terminal.
pub fn render(verdict: &Verdict, colour: bool) -> String {
    let mut text = String::new();
    let mut line = |label: &str, content: &str| {
        let content: String = content.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {label:<11} {content}");
    };
    line("outcome", verdict.outcome.word());
    line("", &verdict.summary);
    let driver = match &verdict.driver.defect {
        Some(defect) => format!("{} with defect {defect}", verdict.driver.name),
        None => verdict.driver.name.clone(),
    };
    let guest = format!("{}, {} processor(s), seed {}", verdict.guest, verdict.processors, verdict.seed);
    line("driver", &format!("{driver} on {guest}"));
    if verdict.outcome != Outcome::Infrastructure {
        let device = &verdict.device;
        line(
            "interrupts",
            &format!(
                "{} asserted, {} serviced; {} suppressed, {} coalesced",
                device.asserted, device.serviced, device.suppressed, device.coalesced
            ),
        );
        let unload = &device.unload;
        let silence = if unload.silenced {
            format!(", {} before the device was silenced", unload.before_silence)
        } else {
            format!("; the device was never silenced, {} since Unload began", unload.before_silence)
        };
        line("in Unload", &format!("{} asserted, {} serviced{silence}", unload.asserted, unload.serviced));
    }
    if let Some(bugcheck) = &verdict.bugcheck {
        line("bugcheck", &format!("0x{:X} {}", bugcheck.code, bugcheck.name));
        line("parameters", &bugcheck.parameters.map(|parameter| format!("{:#018x}", parameter.0)).join(" "));
        if let (Some(module), Some(offset)) = (&bugcheck.module, bugcheck.offset) {
            let mut place = format!("{module}+{offset}");
            if let Some(symbol) = &bugcheck.symbol {
                let _ = write!(place, "  {symbol}");
            }
            line("at", &place);
        }
        if let Some(source) = &bugcheck.source {
            line("source", source);
        }
        let merged = if bugcheck.inlined.len() > 1 { bugcheck.inlined.as_slice() } else { &[] };
        for frame in merged {
            let symbol = frame.function.as_deref().unwrap_or("?");
            line("inlined", &format!("{symbol}  {}", frame.source.as_deref().unwrap_or_default()));
        }
        // A routine that calls itself until the stack ends is one line.
        for same in bugcheck.stack.chunk_by(|one, next| one == next) {
            let Some(frame) = same.first() else { continue };
            let symbol = frame.symbol.as_deref().unwrap_or("?");
            let source = frame.source.as_deref().unwrap_or_default();
            let times = if same.len() > 1 { format!("  ({} times)", same.len()) } else { String::new() };
            line("called from", &format!("{}+{}  {symbol}  {source}{times}", frame.module, frame.offset));
        }
    }
    for finding in &verdict.findings {
        let stricter = if finding.stricter_than_windows { " (stricter than Windows)" } else { "" };
        let kind = &finding.kind;
        line("finding", &format!("{kind}: {}: {}{stricter}", finding.object, finding.detail));
    }
    if let Some(hang) = &verdict.hang {
        line("processors", &format!("at {}", hang.processors.join(", ")));
    }
    for note in &verdict.notes {
        line("note", note);
    }
    if matches!(verdict.outcome, Outcome::Bugcheck | Outcome::Hang | Outcome::Reset) {
        for (number, event) in last_events(verdict).into_iter().enumerate() {
            line(if number == 0 { "recorder" } else { "" }, &event);
        }
    }
    line("run", &verdict.run_dir.display().to_string());
    if colour {
        let word = verdict.outcome.word();
        let code = match verdict.outcome {
            Outcome::Clean => 32,
            Outcome::Unsupported | Outcome::Infrastructure => 33,
            _ => 31,
        };
        text = text.replacen(word, &format!("\x1b[1;{code}m{word}\x1b[0m"), 1);
    }
    text
}

/// The recorder's last events as lines; none where it cannot be read.
fn last_events(verdict: &Verdict) -> Vec<String> {
    let flight = RunDir::open(&verdict.run_dir).file(FLIGHT);
    let Ok(records) = Flight::open(&flight).and_then(|flight| flight.tail(EVENTS_SHOWN)) else {
        return Vec::new();
    };
    let end = records.last().map_or(0, |record| record.virtual_ns);
    records.iter().map(|record| trace::line(record, end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hex::Hex, testing::verdict::example, verdict::StackFrame};

    #[test]
    fn a_bugcheck_is_told_with_code_place_and_line() {
        let text = render(&example(), false);
        for part in [
            "0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL",
            "0xffff900000011120 0x0000000000000005",
            "squall.sys+0x1120  squall::isr",
            "driver/src/interrupt.rs:7",
            "1100 asserted, 1099 serviced",
            "2 before the device was silenced",
            "/nonexistent",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_routine_that_calls_itself_is_one_line() {
        let mut verdict = example();
        let stack = &mut verdict.bugcheck.as_mut().unwrap().stack;
        let frame = StackFrame {
            module: "own.sys".to_owned(),
            offset: Hex(0x10),
            symbol: Some("deeper".to_owned()),
            source: None,
        };
        *stack = vec![frame; 3];
        let text = render(&verdict, false);
        assert_eq!(text.matches("own.sys+0x10").count(), 1, "{text}");
        assert!(text.contains("(3 times)"), "{text}");
    }

    #[test]
    fn nothing_from_the_guest_steers_the_terminal() {
        assert!(!render(&example(), false).contains('\x1b'));
        assert_eq!(render(&example(), true).matches('\x1b').count(), 2);
    }
}
