//! Where the time goes: a spinner with the stage's name and time on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// A stage shorter than this needs no line of its own in a log.
const WORTH_A_TIME: Duration = Duration::from_secs(1);

/// The stages of a command, one after the other.
#[derive(Debug)]
pub(crate) struct Stages {
    terminal: bool,
    current: Mutex<Option<Stage>>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Stages {
    /// No stage yet.
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), current: Mutex::new(None) }
    }

    /// Ends the stage before and begins the next.
    pub(crate) fn begin(&self, name: &str) {
        self.end();
        let bar = if self.terminal {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed} {prefix:.dim}") {
                bar.set_style(style);
            }
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            Some(bar)
        } else {
            eprintln!("{name} ...");
            None
        };
        *self.lock() = Some(Stage { name: name.to_owned(), began: Instant::now(), bar });
    }

    /// What is going on inside the stage; only a terminal shows it.
    pub(crate) fn detail(&self, text: &str) {
        if let Some(Stage { bar: Some(bar), .. }) = &*self.lock() {
            bar.set_prefix(text.chars().filter(|c| !c.is_control()).take(60).collect::<String>());
        }
    }

    /// Hands the terminal to somebody else.
    pub(crate) fn end(&self) {
        let Some(stage) = self.lock().take() else { return };
        let took = stage.began.elapsed();
        match stage.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("  {:<44} {:>7.2} s", stage.name, took.as_secs_f64());
            }
            None if took >= WORTH_A_TIME => eprintln!("{} took {:.1} s", stage.name, took.as_secs_f64()),
            None => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Stage>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Many like things, one after the other: a bar on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Count {
    name: String,
    of: usize,
    bar: Option<ProgressBar>,
    said: Mutex<Instant>,
}

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Count {
    /// None done yet.
    pub(crate) fn new(name: &str, of: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(of as u64);
            if let Ok(style) =
                ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {elapsed} {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        if bar.is_none() {
            eprintln!("{name} ...");
        }
        Self { name: name.to_owned(), of, bar, said: Mutex::new(Instant::now()) }
    }

    /// So many done, this one last.
    pub(crate) fn step(&self, done: usize, last: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(last.to_owned());
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= LINE_EVERY {
            eprintln!("{}: {done} of {} done", self.name, self.of);
            *said = Instant::now();
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        self.end();
    }
}
