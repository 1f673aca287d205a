//! A guest that is up, with drivers going in and out of it one after another.

use std::{future::Future, path::PathBuf, time::Duration};

use squall_harness::{
    agent::{AgentError, LoadAnswer, UnloadAnswer},
    crash::CrashRecord,
    evidence::Recorder,
    profile::GuestProfile,
    qemu::Machine,
    qmp::Qmp,
    run_dir::RunDir,
    scenario::{Parameter, Scenario},
    session::Session,
};

use crate::bench::Bench;

/// Longer than anything that a guest is asked to do here, on a machine that has more to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session and where its logs are.
pub(crate) struct Guest {
    pub(crate) session: Session,
    run: RunDir,
}

impl Guest {
    /// Boots the embedded guest.
    pub(crate) async fn start(bench: &Bench, scenario: &Scenario) -> Self {
        Self::start_with(bench, scenario, &[]).await
    }

    /// Boots it with files that come with the machine: the host's, and where they are to be.
    pub(crate) async fn start_with(bench: &Bench, scenario: &Scenario, files: &[(PathBuf, String)]) -> Self {
        let run = RunDir::create(&bench.runs(), scenario.seed).unwrap();
        let profile = GuestProfile::named(&scenario.guest).unwrap();
        let machine = Machine { files, ..bench.machine(&profile, scenario, &run) };
        let recorder = Recorder::create(&run).unwrap();
        let session = Session::start(&machine, PATIENCE, &recorder).await.unwrap();
        Self { session, run }
    }

    /// With so many processors.
    pub(crate) async fn with_processors(bench: &Bench, processors: u8) -> Self {
        Self::start(bench, &Scenario { processors, ..Scenario::default() }).await
    }

    /// With drivers in C, or the rules in Rust, which come with it.
    pub(crate) async fn with_drivers(bench: &Bench, processors: u8, names: &[&str]) -> Self {
        let files: Vec<_> = names.iter().map(|name| (image(bench, name), guest_path(name))).collect();
        Self::start_with(bench, &Scenario { processors, ..Scenario::default() }, &files).await
    }

    /// Uploads a driver in C that has not come with the machine, installs it as a service of its name, and loads it.
    pub(crate) async fn load(
        &mut self,
        bench: &Bench,
        name: &str,
        parameters: &[(String, Parameter)],
    ) -> Result<LoadAnswer, String> {
        let (image, path) = (image(bench, name), guest_path(name));
        let agent = &mut self.session.agent;
        let load = async {
            if !agent.has_file(&path).await? {
                let bytes =
                    std::fs::read(&image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
                agent.upload(&path, &bytes).await?;
            }
            let parameters = parameters.iter().map(|(name, value)| (name, value));
            agent.install(name, &path, parameters).await?;
            agent.load(name).await
        };
        let qmp = self.session.qmp.clone();
        tokio::select! {
            end = qmp.ended() => Err(format!("the guest stopped: {end}")),
            answer = tokio::time::timeout(PATIENCE, load) => finished(answer, "to load"),
        }
    }

    /// Unloads it.
    pub(crate) async fn unload(&mut self, name: &str) -> Result<UnloadAnswer, String> {
        let qmp = self.session.qmp.clone();
        tokio::select! {
            end = qmp.ended() => Err(format!("the guest stopped: {end}")),
            answer = tokio::time::timeout(PATIENCE, self.session.agent.unload(name)) => finished(answer, "to unload"),
        }
    }

    /// Something to see the guest's end with, while the guest itself is in use.
    pub(crate) fn watch(&self) -> Watch {
        Watch { qmp: self.session.qmp.clone(), run: RunDir::open(self.run.path()) }
    }

    /// Everything that was printed.
    pub(crate) fn console(&self) -> String {
        let bytes = std::fs::read(self.run.file("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The crash record, where there was a crash.
    pub(crate) fn crash(&self) -> Option<CrashRecord> {
        CrashRecord::read(&self.run.file("crash.jsonl")).unwrap()
    }
}

/// Sees a guest's end.
pub(crate) struct Watch {
    qmp: Qmp,
    run: RunDir,
}

impl Watch {
    /// Does the work, unless the guest stops first or it takes too long: then the test ends with the guest's last words.
    pub(crate) async fn over<T>(&self, work: impl Future<Output = T>) -> T {
        let why = tokio::select! {
            done = work => return done,
            end = self.qmp.ended() => end.to_string(),
            () = tokio::time::sleep(2 * PATIENCE) => "it took too long".to_owned(),
        };
        let words = |file: &str| std::fs::read(self.run.file(file)).unwrap_or_default();
        let (console, crash) = (words("console.log"), words("crash.jsonl"));
        panic!("{why}\n{}\n{}", String::from_utf8_lossy(&console), String::from_utf8_lossy(&crash));
    }
}

/// The image of a driver of the conformance suite.
fn image(bench: &Bench, name: &str) -> PathBuf {
    if name == "rust" { bench.artifacts.rust_rules.image.clone() } else { c_driver(bench, name) }
}

/// Where it is in the guest.
fn guest_path(name: &str) -> String {
    format!(r"C:\squall\{name}.sys")
}

/// The image of a driver in C.
pub(crate) fn c_driver(bench: &Bench, name: &str) -> PathBuf {
    bench.artifacts.c_drivers.join(name).with_extension("sys")
}

fn finished<T>(
    answer: Result<Result<T, AgentError>, tokio::time::error::Elapsed>,
    what: &str,
) -> Result<T, String> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("the guest took more than {} s {what}", PATIENCE.as_secs())),
    }
}
