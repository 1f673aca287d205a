//! What the suite's drivers print, read back: `conformance/include/check.h` has the other side.

use std::{collections::BTreeMap, fmt};

/// One rule as it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    family: String,
    line: String,
    page: String,
    text: String,
    complaints: Vec<String>,
    /// `None` where the system stopped in it.
    held: Option<bool>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}): {}: {}", self.family, self.line, self.page, self.text)
    }
}

/// Every rule that was begun, in order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rules: Vec<Rule>,
    /// Families that came to their end.
    ended: Vec<(String, usize)>,
    /// Lines of the suite's that make no sense.
    garbled: Vec<String>,
}

impl Report {
    /// Of a console's text.
    pub(crate) fn of(console: &str) -> Self {
        let mut report = Self::default();
        for line in console.lines().filter(|line| line.starts_with('@')) {
            if report.take(line).is_none() {
                report.garbled.push(line.to_owned());
            }
        }
        report
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut parts = line.split('\t');
        let kind = parts.next()?;
        let mut part = || parts.next().map(str::to_owned);
        match kind {
            "@rule" => self.rules.push(Rule {
                family: part()?,
                line: part()?,
                page: part()?,
                text: part()?,
                complaints: Vec::new(),
                held: None,
            }),
            "@bad" => self.rules.last_mut()?.complaints.push(part()?),
            "@held" => self.rules.last_mut()?.held = Some(true),
            "@failed" => self.rules.last_mut()?.held = Some(false),
            "@end" => self.ended.push((part()?, part()?.parse().ok()?)),
            "@unloaded" => {}
            _ => return None,
        }
        Some(())
    }

    /// How many rules held.
    pub(crate) fn rules(&self) -> usize {
        self.rules.iter().filter(|rule| rule.held == Some(true)).count()
    }

    /// Everything that is not as it should be, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for rule in &self.rules {
            match rule.held {
                Some(true) if rule.complaints.is_empty() => {}
                None => problems.push(format!("stopped at: {rule}")),
                _ => problems.push(format!("failed: {rule}")),
            }
            problems.extend(rule.complaints.iter().map(|complaint| format!("    {complaint}")));
        }
        for (family, (begun, _)) in self.families() {
            match self.ended.iter().find(|(ended, _)| *ended == family) {
                None => problems.push(format!("{family} did not come to its end")),
                Some((_, counted)) if *counted != begun => {
                    problems.push(format!("{family} counted {counted} rules, {begun} are reported"));
                }
                Some(_) => {}
            }
        }
        problems.extend(self.garbled.iter().map(|line| format!("not understood: {line}")));
        problems
    }

    /// Rules begun and rules held, by family.
    fn families(&self) -> BTreeMap<String, (usize, usize)> {
        let mut families = BTreeMap::new();
        for rule in &self.rules {
            let (begun, held): &mut (usize, usize) = families.entry(rule.family.clone()).or_default();
            *begun += 1;
            *held += usize::from(rule.held == Some(true));
        }
        families
    }
}

impl fmt::Display for Report {
    /// A table for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}{:>8}{:>8}", "FAMILY", "RULES", "HELD")?;
        for (family, (begun, held)) in self.families() {
            writeln!(f, "{family:<24}{begun:>8}{held:>8}")?;
        }
        write!(f, "{:<24}{:>8}{:>8}", "all", self.rules.len(), self.rules())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "boot\n@rule\tKe\t7\tKeFoo function\tdoes\n@held\n@end\tKe\t1\t0\n@unloaded\n";

    #[test]
    fn what_held_is_no_problem() {
        let report = Report::of(GOOD);
        assert_eq!((report.rules(), report.problems()), (1, Vec::new()));
        assert!(report.to_string().contains("Ke                             1       1"), "{report}");
    }

    #[test]
    fn a_run_that_stops_half_way_names_the_rule_it_stopped_at() {
        let report = Report::of("@rule\tKe\t7\tKeFoo function\tdoes\n");
        assert_eq!(
            report.problems(),
            ["stopped at: Ke (line 7): KeFoo function: does", "Ke did not come to its end"]
        );
    }

    #[test]
    fn a_failed_rule_is_told_with_its_complaints_and_a_garbled_line_is_told_as_well() {
        let report =
            Report::of("@rule\tKe\t7\tp\tr\n@bad\tline 8: x is 1, not 2\n@failed\n@end\tKe\t2\t1\n@hel\n");
        let problems = report.problems();
        assert_eq!(problems[0], "failed: Ke (line 7): p: r");
        assert_eq!(problems[1], "    line 8: x is 1, not 2");
        assert_eq!(problems[2], "Ke counted 2 rules, 1 are reported");
        assert_eq!(problems[3], "not understood: @hel");
    }
}
