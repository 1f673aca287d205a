//! What a person sees while a tool is fetched: a bar on a terminal, lines in a log.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Bars where standard error is a terminal, lines elsewhere.
    #[default]
    Shown,
    /// Nothing.
    Silent,
}

/// One piece of work that takes its time.
#[derive(Debug)]
pub(super) struct Task {
    title: String,
    look: Look,
    began: Instant,
}

#[derive(Debug)]
enum Look {
    Bar(ProgressBar),
    Lines { last: Instant, said: String },
    Nothing,
}

const PLAIN: &str = "{spinner} {prefix}  {wide_msg}";
const BYTES: &str =
    "{spinner} {prefix}  {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}  {wide_msg}";
const PIECES: &str = "{spinner} {prefix}  {bar:30} {pos}/{len}  {wide_msg}";

/// How often a log without a terminal hears of a work in progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Task {
    /// Says that the work begins.
    pub(super) fn begin(progress: Progress, title: impl Into<String>) -> Self {
        let (title, began) = (title.into(), Instant::now());
        let look = match progress {
            Progress::Silent => Look::Nothing,
            Progress::Shown if io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_style(style(PLAIN));
                bar.set_prefix(title.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                Look::Bar(bar)
            }
            Progress::Shown => {
                eprintln!("{title} ...");
                Look::Lines { last: began, said: String::new() }
            }
        };
        Self { title, look, began }
    }

    /// Says what is being done at the moment.
    pub(super) fn say(&mut self, message: impl Into<String>) {
        let message = message.into();
        match &mut self.look {
            Look::Bar(bar) => bar.set_message(message),
            Look::Lines { last, said } => {
                if *said != message && last.elapsed() >= LINE_EVERY {
                    eprintln!("{}: {message}", self.title);
                    *last = Instant::now();
                    *said = message;
                }
            }
            Look::Nothing => {}
        }
    }

    /// So many bytes of so many.
    pub(super) fn bytes(&mut self, done: u64, total: u64) {
        if let Look::Bar(bar) = &self.look {
            if bar.length() != Some(total) {
                bar.set_style(style(BYTES));
                bar.set_length(total);
            }
            bar.set_position(done);
        } else {
            self.say(format!("{} of {} MB", done / 1_000_000, total.div_ceil(1_000_000)));
        }
    }

    /// So many pieces of so many.
    pub(super) fn pieces(&mut self, done: u64, total: u64, what: &str) {
        if let Look::Bar(bar) = &self.look {
            bar.set_style(style(PIECES));
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(what.to_owned());
        } else {
            self.say(format!("{what}, {done} of {total}"));
        }
    }

    /// Says how it ended, in a line that stays.
    pub(super) fn end(self, outcome: &str) {
        let line = format!("{}: {outcome} ({:.1} s)", self.title, self.began.elapsed().as_secs_f32());
        match &self.look {
            Look::Bar(bar) => {
                bar.finish_and_clear();
                eprintln!("{line}");
            }
            Look::Lines { .. } => eprintln!("{line}"),
            Look::Nothing => {}
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Look::Bar(bar) = &self.look {
            bar.finish_and_clear();
        }
    }
}

/// The templates above are constants; should one be wrong, a plain bar is better than none.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_well_formed() {
        for template in [PLAIN, BYTES, PIECES] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
