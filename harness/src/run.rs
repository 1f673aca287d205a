//! A run: the driver is loaded, the storm blows, the driver is unloaded in the middle of it.
//!
//! Each step is told to the evidence, and every wait is a wait for three things at once: the answer, the end of the
//! machine, and the watchdog. What stops a run early is evidence as well; nothing here judges it.

mod steps;

use std::path::PathBuf;

use thiserror::Error;

pub(crate) use self::steps::{Steps, Stop};
use crate::{
    evidence::{Event, Recorder},
    image::{DriverImage, ImageError},
    profile::GuestProfile,
    qemu::Machine,
    run_dir::{DRIVER, DRIVER_PDB, FLIGHT, MEMORY, RunDir, RunDirError, SCENARIO, VERDICT},
    scenario::{Scenario, ScenarioError},
    session::Session,
    toolbox::Qemu,
    verdict::{Verdict, VerdictError},
};

/// What a run needs beside its scenario.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Which QEMU.
    pub qemu: Qemu,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The library that makes the card.
    pub device_library: PathBuf,
    /// The driver's symbols, where there are any.
    pub symbols: Option<PathBuf>,
    /// Where run directories are made.
    pub runs: PathBuf,
}

/// A run that came to no verdict.
#[derive(Debug, Error)]
pub enum RunError {
    /// What was asked for cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The driver's file is no driver.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The run directory would not take a file.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The scenario could not be written down.
    #[error("cannot write the scenario down: {0}")]
    ScenarioText(#[from] toml::ser::Error),
    /// The evidence could not be judged.
    #[error(transparent)]
    Verdict(#[from] VerdictError),
}

impl RunError {
    /// Whether it is the asker's to mend.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Scenario(_) | Self::Image(_))
    }
}

/// Runs a scenario to its verdict, which is in the run directory then. `stage` is told what is going on.
pub async fn run(
    scenario: &Scenario,
    parts: &Parts,
    stage: &(dyn Fn(&str) + Sync),
) -> Result<Verdict, RunError> {
    let profile = scenario.check()?;
    let image = DriverImage::read(&scenario.driver.image)?;
    let dir = RunDir::create(&parts.runs, scenario.seed)?;
    let recorder = Recorder::create(&dir)?;
    recorder.record(Event::RunStarted {
        run_dir: dir.path().to_owned(),
        driver: guest_name(&image),
        squall: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    dir.write(SCENARIO, scenario.to_toml()?.as_bytes())?;
    dir.write(DRIVER, &image.bytes)?;
    if let Some(symbols) = &parts.symbols {
        let bytes = std::fs::read(symbols).map_err(RunDirError::new("read", symbols))?;
        dir.write(DRIVER_PDB, &bytes)?;
    }
    let files = [(dir.file(DRIVER), guest_path(&profile, &image))];
    let machine = Machine {
        qemu: &parts.qemu,
        profile: &profile,
        scenario,
        kernel: &parts.kernel,
        device_library: &parts.device_library,
        files: &files,
        run: &dir,
    };
    stage("booting the guest");
    match Session::start(&machine, scenario.deadlines.boot(), &recorder).await {
        Err(error) => recorder.record(Event::Infrastructure { message: error.to_string() })?,
        Ok(mut session) => {
            let memory = scenario.dump.then(|| dir.file(MEMORY));
            let mut steps = Steps {
                session: &mut session,
                scenario,
                profile: &profile,
                image: &image,
                recorder: &recorder,
                flight: &dir.file(FLIGHT),
                memory: memory.as_deref(),
                stage,
            };
            let mut done = steps.upload().await;
            if done.is_ok() {
                done = steps.go_through().await;
            }
            if let Err(stop) = done {
                steps.post_mortem(stop).await?;
            }
            session.end().await;
        }
    }
    recorder.record(Event::RunEnded {})?;
    let verdict = Verdict::of_run(&dir)?;
    dir.write_json(VERDICT, &verdict)?;
    Ok(verdict)
}

/// Where a driver's image is in the guest.
pub(crate) fn guest_path(profile: &GuestProfile, image: &DriverImage) -> String {
    format!("{}{}", profile.driver_directory, guest_name(image))
}

/// The image's name in the guest: the file's own, without characters that a path could trip over.
pub(crate) fn guest_name(image: &DriverImage) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => character,
        _ => '_',
    };
    image.file_name().chars().take(64).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_the_guest_are_plain() {
        let image = |name: &str| DriverImage { path: name.into(), bytes: Vec::new(), pdb: None };
        assert_eq!(guest_name(&image("/a/squall.sys")), "squall.sys");
        assert_eq!(guest_name(&image("/a/my driver\\..;x.sys")), "my_driver_.._x.sys");
    }
}
