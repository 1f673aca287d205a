//! What was measured, as a table, as JSON, and against its limits.

use serde_json::{Value, json};

/// At most so many times what an access of `edu`'s takes.
const SLOWEST_ACCESS: f64 = 1.3;
/// At least so many times `edu`'s interrupts in a second.
const FEWEST_INTERRUPTS: f64 = 1.0;
/// At most so many times what the card without its recorder takes.
const SLOWEST_RECORDER: f64 = 1.1;

/// One of something for each side: the card with its recorder, without, and `edu`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sides<T>([T; 3]);

impl<T> Sides<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> From<[T; 3]> for Sides<T> {
    fn from(sides: [T; 3]) -> Self {
        Self(sides)
    }
}

impl<T: Default> FromIterator<T> for Sides<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut sides = Self(std::array::from_fn(|_| T::default()));
        for (place, value) in sides.0.iter_mut().zip(values) {
            *place = value;
        }
        sides
    }
}

/// One line: nanoseconds for each access or interrupt, round by round. What a side does not take part in is empty.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// Whether it is shown as a rate.
    pub(crate) rate: bool,
    pub(crate) ns: Sides<Vec<f64>>,
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Something that must hold.
#[derive(Debug)]
pub(crate) struct Limit {
    what: String,
    ratio: f64,
    limit: f64,
    at_least: bool,
}

impl Limit {
    /// A figure that could not be measured holds nothing.
    pub(crate) fn holds(&self) -> bool {
        if self.at_least { self.ratio >= self.limit } else { self.ratio <= self.limit }
    }
}

impl Row {
    /// The median of each side, in nanoseconds or as a rate.
    fn medians(&self) -> [Option<f64>; 3] {
        let shown = |ns: f64| if self.rate { 1e9 / ns } else { ns };
        self.ns.0.each_ref().map(|ns| median(ns.iter().copied()).map(shown))
    }

    /// Card to `edu`, with the recorder and without; and recorder to none, as times. A ratio is taken within a round, as
    /// the host's other work slows the sides of one round down alike; of those the median counts.
    fn ratios(&self) -> [Option<f64>; 3] {
        let Sides([with, without, edu]) = &self.ns;
        let over = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b));
        match self.rate {
            true => [over(edu, with), over(edu, without), over(with, without)],
            false => [over(with, edu), over(without, edu), over(with, without)],
        }
    }

    /// The limits that this line is held against: none where `edu` has nothing of the kind, as it has no ports.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        if self.ns.0[2].is_empty() {
            return Vec::new();
        }
        let [with, without, recorder] = self.ratios();
        let what = self.what;
        let (limit, at_least) = if self.rate { (FEWEST_INTERRUPTS, true) } else { (SLOWEST_ACCESS, false) };
        let against = |name: &str, ratio: Option<f64>| {
            ratio.map(|ratio| Limit { what: format!("{what}: {name}"), ratio, limit, at_least })
        };
        let recorder = recorder.map(|ratio| Limit {
            what: format!("{what}: recorder on against off, time"),
            ratio,
            limit: SLOWEST_RECORDER,
            at_least: false,
        });
        [against("card against edu", with), against("card without recorder against edu", without), recorder]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn version_text(version: &Value) -> String {
    ["major", "minor", "micro"].map(|part| version[part].to_string()).join(".")
}

/// Prints everything.
pub(crate) fn print(version: &Value, rows: &[Row], limits: &[Limit]) {
    println!("QEMU {}, TCG, one processor; medians of interleaved rounds\n", version_text(version));
    println!(
        "{:<26}{:>12}{:>14}{:>12}{:>12}{:>12}",
        "", "card", "no recorder", "edu", "card/edu", "recorder"
    );
    for row in rows {
        let shown = |value: Option<f64>| match value {
            None => "-".to_owned(),
            Some(value) if row.rate => format!("{:.0} k/s", value / 1e3),
            Some(value) => format!("{value:.1} ns"),
        };
        let [with, without, edu] = row.medians().map(shown);
        let [against_edu, _, recorder] =
            row.ratios().map(|ratio| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        println!("{:<26}{with:>12}{without:>14}{edu:>12}{against_edu:>12}{recorder:>12}", row.what);
    }
    println!();
    for limit in limits {
        let word = if limit.holds() { "holds" } else { "FAILS" };
        let than = if limit.at_least { "at least" } else { "at most" };
        println!("{word}  {:<58} {:.2}, {than} {:.2}", limit.what, limit.ratio, limit.limit);
    }
}

/// The same for programs: `squall.bench-device/1`.
pub(crate) fn json(version: &Value, rounds: usize, rows: &[Row], limits: &[Limit]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let [with, without, edu] = row.medians();
            let [card_to_edu, card_without_recorder_to_edu, recorder] = row.ratios();
            json!({
                "what": row.what, "unit": if row.rate { "1/s" } else { "ns" },
                "card": with, "card_without_recorder": without, "edu": edu,
                "card_to_edu": card_to_edu, "card_without_recorder_to_edu": card_without_recorder_to_edu,
                "recorder_time": recorder,
            })
        })
        .collect();
    let limits: Vec<Value> = limits
        .iter()
        .map(|limit| {
            let than = if limit.at_least { "at_least" } else { "at_most" };
            json!({ "what": limit.what, "ratio": limit.ratio, than: limit.limit, "holds": limit.holds() })
        })
        .collect();
    json!({
        "schema": "squall.bench-device/1", "qemu": version_text(version), "rounds": rounds, "rows": rows,
        "limits": limits,
    })
}
