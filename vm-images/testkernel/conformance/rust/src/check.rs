//! Rules and what is expected of them, told as the families in C tell it (`../include/check.h`): a line at a time to the debug port.

use core::{
    arch::asm,
    fmt::{self, Write},
};

const PORT: u16 = 0xE9;

/// The family, and how it does.
pub(crate) struct Suite {
    family: &'static str,
    rules: u32,
    failed: u32,
}

/// A rule that is being checked.
pub(crate) struct Rule {
    expectations: u32,
    bad: bool,
}

impl Suite {
    pub(crate) const fn new(family: &'static str) -> Self {
        Self { family, rules: 0, failed: 0 }
    }

    /// Announces a rule, then checks it: a system that stops in it has said where.
    pub(crate) fn rule(&mut self, page: &str, text: &str, line: u32, check: impl FnOnce(&mut Rule)) {
        self.rules += 1;
        say(format_args!("@rule\t{}\t{line}\t{page}\t{text}", self.family));
        let mut rule = Rule { expectations: 0, bad: false };
        check(&mut rule);
        if rule.expectations == 0 {
            rule.complain(format_args!("the rule expects nothing"));
        }
        self.failed += u32::from(rule.bad);
        say(format_args!("{}", if rule.bad { "@failed" } else { "@held" }));
    }

    /// The last line of the report.
    pub(crate) fn end(self) {
        say(format_args!("@end\t{}\t{}\t{}", self.family, self.rules, self.failed));
    }
}

impl Rule {
    /// Notes whether something holds, and gives it back.
    pub(crate) fn expect(&mut self, holds: bool, what: &str, line: u32) -> bool {
        self.expectations += 1;
        if !holds {
            self.complain(format_args!("line {line}: {what}"));
        }
        holds
    }

    fn complain(&mut self, what: fmt::Arguments<'_>) {
        self.bad = true;
        say(format_args!("@bad\t{what}"));
    }
}

/// Says that Unload ran.
pub(crate) fn unloaded() {
    say(format_args!("@unloaded"));
}

/// `rule!(suite, "page", "what it says", |rule| { ... })`.
macro_rules! rule {
    ($suite:expr, $page:literal, $text:literal, $check:expr) => {
        $suite.rule($page, $text, line!(), $check)
    };
}

/// `holds!(rule, condition)`.
macro_rules! holds {
    ($rule:expr, $condition:expr) => {
        $rule.expect($condition, stringify!($condition), line!())
    };
}

pub(crate) use {holds, rule};

struct Line {
    length: usize,
    bytes: [u8; 640],
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.iter_mut().skip(self.length);
        // A condition that fills lines of source is told on one.
        self.length += room
            .zip(text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }))
            .map(|(to, byte)| *to = byte)
            .count();
        Ok(())
    }
}

fn say(text: fmt::Arguments<'_>) {
    let mut line = Line { length: 0, bytes: [0; 640] };
    // Writing to the line does not fail.
    let _ = line.write_fmt(text);
    let length = line.length.min(line.bytes.len() - 1);
    if let Some(end) = line.bytes.get_mut(length) {
        *end = b'\n';
    }
    // SAFETY: the debug port takes bytes and does nothing else. Interrupts are off for one instruction, so that nothing of this
    // processor comes in between, and on again afterwards if they were on.
    unsafe {
        asm!(
            "pushfq", "pop {flags}", "cli", "rep outsb", "push {flags}", "popfq",
            flags = out(reg) _,
            inout("rsi") line.bytes.as_ptr() => _,
            inout("rcx") length + 1 => _,
            in("dx") PORT,
        );
    }
}
