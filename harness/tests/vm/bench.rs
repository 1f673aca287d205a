//! A place to run drivers in.

use std::path::PathBuf;

use squall_harness::{
    artifacts::{Artifacts, Driver},
    profile::GuestProfile,
    qemu::Machine,
    run::{self, Parts, RunError},
    run_dir::RunDir,
    scenario::Scenario,
    verdict::Verdict,
};
use tempfile::TempDir;

/// What was built, and a folder for this test's runs.
pub(crate) struct Bench {
    pub(crate) artifacts: Artifacts,
    pub(crate) folder: TempDir,
}

impl Bench {
    /// Fails in one line where nothing was built.
    pub(crate) fn new() -> Self {
        let artifacts = Artifacts::from_environment().unwrap_or_else(|error| panic!("{error}"));
        Self { artifacts, folder: tempfile::tempdir().unwrap() }
    }

    /// Where runs go.
    pub(crate) fn runs(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    /// A machine of these with nothing that comes with it.
    pub(crate) fn machine<'a>(
        &'a self,
        profile: &'a GuestProfile,
        scenario: &'a Scenario,
        run: &'a RunDir,
    ) -> Machine<'a> {
        let Artifacts { qemu, kernel, device_library, .. } = &self.artifacts;
        Machine { qemu, profile, scenario, kernel, device_library, files: &[], run }
    }

    /// Everything but the driver.
    pub(crate) fn parts(&self) -> Parts {
        Parts {
            qemu: self.artifacts.qemu.clone(),
            kernel: self.artifacts.kernel.clone(),
            device_library: self.artifacts.device_library.clone(),
            symbols: None,
            runs: self.runs(),
        }
    }

    /// Everything, with this driver's symbols.
    pub(crate) fn parts_with(&self, driver: &Driver) -> Parts {
        Parts { symbols: Some(driver.symbols.clone()), ..self.parts() }
    }

    /// A scenario of the built driver, with a defect or without.
    pub(crate) fn scenario(&self, processors: u8, defect: Option<&str>) -> Scenario {
        let built = if defect.is_some() { &self.artifacts.defects } else { &self.artifacts.driver };
        let mut scenario = Scenario { processors, ..Scenario::default() };
        scenario.driver.image.clone_from(&built.image);
        scenario.driver.defect = defect.map(str::to_owned);
        scenario.driver.device = Some(r"\\.\Squall0".to_owned());
        scenario
    }

    /// Runs the built driver.
    pub(crate) async fn built(&self, processors: u8, defect: Option<&str>) -> Verdict {
        let built = if defect.is_some() { &self.artifacts.defects } else { &self.artifacts.driver };
        self.run_with(&self.scenario(processors, defect), &self.parts_with(built)).await.unwrap()
    }

    /// Runs a driver made of these bytes; the change is made to its scenario.
    pub(crate) async fn bytes(
        &self,
        bytes: &[u8],
        change: impl FnOnce(&mut Scenario),
    ) -> Result<Verdict, RunError> {
        let image = self.folder.path().join("other.sys");
        std::fs::write(&image, bytes).unwrap();
        let mut scenario = Scenario::default();
        scenario.driver.image = image;
        scenario.before_unload.nothing_after_ms = 50;
        change(&mut scenario);
        self.run_with(&scenario, &self.parts()).await
    }

    /// Runs a scenario with these parts.
    pub(crate) async fn run_with(&self, scenario: &Scenario, parts: &Parts) -> Result<Verdict, RunError> {
        run::run(scenario, parts, &|_| ()).await
    }
}
