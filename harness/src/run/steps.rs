//! The steps of a run, one after the other, in a guest that is up.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{guest_name, guest_path};
use crate::{
    agent::{AgentError, DriverInfo, LoadAnswer},
    device::{DeviceError, Stats, StormSpec, Watch},
    evidence::{Event, Recorder},
    flight::Flight,
    hex::Hex,
    image::DriverImage,
    misbehaviour::Misbehaviour,
    profile::GuestProfile,
    qmp::{MachineEnd, QmpError},
    run_dir::RunDirError,
    scenario::Scenario,
    session::Session,
};

/// A sample is one register.
const SAMPLE: u32 = 4;
/// Between two looks at the device's counters.
const LOOK: Duration = Duration::from_millis(2);
/// What a cycle of the guest's own may take on a busy host, the driver's own waits apart.
const LONG_CYCLE: Duration = Duration::from_millis(200);
/// How long something that is gone may take to say why.
const EXPLANATION: Duration = Duration::from_secs(1);
/// How often the processors of a guest that hangs are looked at, to tell where they usually are, and what is between two looks.
const LOOKS: usize = 9;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// How long QEMU gets to write the guest's memory into a file.
const DUMP: Duration = Duration::from_secs(60);

/// What `verifier /standard` turns on (*Driver Verifier Command Syntax*): special pool, force IRQL checking, pool tracking, I/O
/// verification, deadlock detection, DMA, security, miscellaneous and DDI compliance checks.
const STANDARD_CHECKS: u32 = 0x2_09BB;

/// Why a run does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The machine ended.
    Machine(MachineEnd),
    /// Nothing came in time.
    Watchdog { waited_for: &'static str, host: Duration },
    /// Something other than the driver failed.
    Infrastructure(String),
}

impl From<RunDirError> for Stop {
    fn from(error: RunDirError) -> Self {
        Self::Infrastructure(error.to_string())
    }
}

/// Errors after which it is worth waiting for the machine to say what became of it.
trait Lost: std::fmt::Display {
    fn is_lost(&self) -> bool;
}

impl Lost for AgentError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Connection(_))
    }
}

impl Lost for DeviceError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Qmp { source: QmpError::Connection(_), .. })
    }
}

/// The answer, the end of the machine or the watchdog: whatever comes first.
async fn answered<T, E: Lost>(
    qmp: &crate::qmp::Qmp,
    waited_for: &'static str,
    deadline: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        end = qmp.ended() => Err(Stop::Machine(end)),
        answer = timeout(deadline, answer) => match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if error.is_lost() && let Ok(end) = timeout(EXPLANATION, qmp.ended()).await {
                    return Err(Stop::Machine(end));
                }
                Err(Stop::Infrastructure(error.to_string()))
            }
            Err(_) => Err(Stop::Watchdog { waited_for, host: deadline }),
        }
    }
}

/// What the steps are taken with.
pub(crate) struct Steps<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) scenario: &'a Scenario,
    pub(crate) profile: &'a GuestProfile,
    pub(crate) image: &'a DriverImage,
    pub(crate) recorder: &'a Recorder,
    /// The machine's flight recorder.
    pub(crate) flight: &'a Path,
    /// Where the guest's memory goes after a crash or a hang, if it is wanted.
    pub(crate) memory: Option<&'a Path>,
    pub(crate) stage: &'a (dyn Fn(&str) + Sync),
}

impl Steps<'_> {
    /// From installing the service to the last look at what is left of it.
    pub(crate) async fn go_through(&mut self) -> Result<(), Stop> {
        let before = self.stats().await?;
        self.recorder.record(Event::CountersAtBeginning { stats: before.clone() })?;
        self.install().await?;
        self.verify().await?;
        if self.scenario.cycles > 1 {
            self.blow().await?;
            self.cycle().await?;
            return self.take_stock().await;
        }
        let Some(driver) = self.load().await? else { return Ok(()) };
        self.blow().await?;
        self.read_device().await?;
        self.await_interrupts(before.serviced).await?;
        self.watch(&driver).await?;
        if self.unload().await? {
            self.settle().await?;
        }
        self.take_stock().await
    }

    /// Gives the guest the image.
    pub(crate) async fn upload(&mut self) -> Result<(), Stop> {
        (self.stage)("giving the guest the driver");
        let path = self.path();
        let deadline = self.scenario.deadlines.answer();
        let Session { qmp, agent, .. } = &mut *self.session;
        let comes_with_the_machine = self.profile.files_item.is_some();
        let give = async {
            if comes_with_the_machine && agent.has_file(&path).await? {
                return Ok(());
            }
            agent.upload(&path, &self.image.bytes).await
        };
        answered(qmp, "the guest to take the image", deadline, give).await?;
        let bytes = self.image.bytes.len() as u64;
        self.recorder.record(Event::DriverUploaded { path, bytes })?;
        Ok(())
    }

    /// Where the image is in the guest.
    fn path(&self) -> String {
        guest_path(self.profile, self.image)
    }

    /// Makes a service of the image.
    async fn install(&mut self) -> Result<(), Stop> {
        (self.stage)("installing the driver");
        let service = &self.scenario.driver.service;
        let path = self.path();
        let deadline = self.scenario.deadlines.answer();
        let Session { qmp, agent, .. } = &mut *self.session;
        let parameters = self.scenario.service_parameters();
        let install = agent.install(service, &path, &parameters);
        let status = answered(qmp, "the guest to install the service", deadline, install).await?;
        self.recorder.record(Event::ServiceInstalled { service: service.clone(), status })?;
        if status.is_success() {
            return Ok(());
        }
        Err(Stop::Infrastructure(format!("guest did not install service {service}: status {status}")))
    }

    /// Turns Driver Verifier on where that is asked for, with as much of its standard settings as the guest has.
    async fn verify(&mut self) -> Result<(), Stop> {
        if !self.scenario.verifier {
            return Ok(());
        }
        let deadline = self.scenario.deadlines.answer();
        let Session { qmp, agent, .. } = &mut *self.session;
        let supported = answered(qmp, "the guest's Verifier", deadline, agent.verifier_query()).await?;
        let supported = u32::try_from(supported.supported_flags()).unwrap_or(u32::MAX);
        let flags = STANDARD_CHECKS & supported;
        let driver = guest_name(self.image);
        answered(qmp, "the guest's Verifier", deadline, agent.verify(&driver, flags)).await?;
        let lacking = Hex((STANDARD_CHECKS & !supported).into());
        self.recorder.record(Event::VerifierSet { flags: Hex(flags.into()), lacking })?;
        Ok(())
    }

    /// Calls DriverEntry; no driver where the loader or DriverEntry refused.
    async fn load(&mut self) -> Result<Option<DriverInfo>, Stop> {
        (self.stage)("loading the driver");
        self.recorder.record(Event::LoadStarted {})?;
        let Session { qmp, agent, .. } = &mut *self.session;
        let load = agent.load(&self.scenario.driver.service);
        let answer = answered(qmp, "DriverEntry to return", self.scenario.deadlines.load(), load).await?;
        self.recorder.record(Event::LoadAnswered { answer: answer.clone() })?;
        let LoadAnswer { status, driver, .. } = answer;
        match driver {
            Some(driver) if status.is_success() => Ok(Some(driver)),
            None if status.is_success() => {
                Err(Stop::Infrastructure("guest loaded the driver and did not say where".to_owned()))
            }
            _ => Ok(None),
        }
    }

    /// Has the card do this wrong from now on, and nothing else.
    async fn misbehave(&mut self, wrong: &Misbehaviour) -> Result<(), Stop> {
        let Session { qmp, device, .. } = &*self.session;
        let set = device.misbehave(wrong);
        answered(qmp, "the device to misbehave", self.scenario.deadlines.answer(), set).await?;
        self.recorder.record(Event::MisbehaviourSet { misbehave: wrong.clone() })?;
        Ok(())
    }

    async fn blow(&mut self) -> Result<(), Stop> {
        if !self.scenario.misbehave.is_nothing() {
            self.misbehave(&self.scenario.misbehave.clone()).await?;
        }
        let Some(storm) = StormSpec::new(&self.scenario.storm, self.scenario.seed) else { return Ok(()) };
        let Session { qmp, device, .. } = &*self.session;
        let start = device.start_storm(&storm);
        answered(qmp, "the device to start the storm", self.scenario.deadlines.answer(), start).await?;
        self.recorder.record(Event::StormStarted { storm })?;
        Ok(())
    }

    /// Reads samples the way a program would. What is in the way is noted; it decides nothing.
    async fn read_device(&mut self) -> Result<(), Stop> {
        let Some(path) = &self.scenario.driver.device else { return Ok(()) };
        (self.stage)("reading samples");
        let (qmp, deadline) = (self.session.qmp.clone(), self.scenario.deadlines.answer());
        let agent = &mut self.session.agent;
        let mut samples = 0;
        let error = match answered(&qmp, "IRP_MJ_CREATE", deadline, refusable(agent.open(path, "rb"))).await?
        {
            Err(why) => Some(why),
            Ok(handle) => {
                let mut error = None;
                while samples < self.scenario.before_unload.samples_read && error.is_none() {
                    let read = refusable(agent.read(handle, SAMPLE));
                    match answered(&qmp, "IRP_MJ_READ", deadline, read).await? {
                        Ok(bytes) if bytes.len() == SAMPLE as usize => samples += 1,
                        Ok(bytes) => error = Some(format!("{} of {SAMPLE} bytes", bytes.len())),
                        Err(why) => error = Some(why),
                    }
                }
                let close = refusable(agent.close(handle));
                let closed = answered(&qmp, "IRP_MJ_CLEANUP and IRP_MJ_CLOSE", deadline, close).await?;
                error.or(closed.err())
            }
        };
        self.recorder.record(Event::DeviceRead { path: path.clone(), samples, error })?;
        Ok(())
    }

    /// Until enough interrupts were acknowledged, or no more come.
    async fn await_interrupts(&mut self, before: u64) -> Result<(), Stop> {
        let goal = &self.scenario.before_unload;
        if !self.scenario.storm.blows() {
            return Ok(());
        }
        (self.stage)("waiting for interrupts");
        let patience = Duration::from_millis(goal.nothing_after_ms);
        let began = Instant::now();
        let (mut progress, mut last) = (began, None);
        let stats = loop {
            let stats = self.stats().await?;
            if last != Some(stats.serviced) {
                (progress, last) = (Instant::now(), Some(stats.serviced));
            }
            let enough = stats.serviced.saturating_sub(before) >= goal.serviced;
            if enough
                || progress.elapsed() >= patience
                || began.elapsed() >= self.scenario.deadlines.serviced()
            {
                break stats;
            }
            sleep(LOOK).await;
        };
        self.recorder.record(Event::InterruptsAwaited { wanted: goal.serviced, stats })?;
        Ok(())
    }

    async fn watch(&mut self, driver: &DriverInfo) -> Result<(), Stop> {
        let Some(enter) = driver.unload else { return Ok(()) };
        let watch =
            Watch { enter, leave: driver.unload_return, fire_at_enter: self.scenario.unload.fire_at_enter };
        let Session { qmp, device, .. } = &*self.session;
        let set = device.watch(&watch);
        answered(qmp, "the device to watch for Unload", self.scenario.deadlines.answer(), set).await?;
        self.recorder.record(Event::WatchSet { watch })?;
        Ok(())
    }

    /// Whether the driver was unloaded.
    async fn unload(&mut self) -> Result<bool, Stop> {
        (self.stage)("unloading in the storm");
        if let Some(wrong) = self.scenario.unload.misbehave.clone() {
            self.misbehave(&wrong).await?;
        }
        self.recorder.record(Event::UnloadStarted {})?;
        let Session { qmp, agent, .. } = &mut *self.session;
        let unload = agent.unload(&self.scenario.driver.service);
        let answer = answered(qmp, "Unload to return", self.scenario.deadlines.unload(), unload).await?;
        let gone = answer.status.is_success() && answer.refused.is_none();
        self.recorder.record(Event::UnloadAnswered { answer })?;
        Ok(gone)
    }

    /// Has the guest load and unload the driver by itself, over and over.
    async fn cycle(&mut self) -> Result<(), Stop> {
        (self.stage)("loading and unloading in the storm");
        self.recorder.record(Event::LoadStarted {})?;
        self.recorder.record(Event::CyclesStarted {})?;
        let (deadlines, cycles) = (&self.scenario.deadlines, self.scenario.cycles);
        let deadline = deadlines.load() + deadlines.serviced() + deadlines.unload() + cycles * LONG_CYCLE;
        let Session { qmp, agent, .. } = &mut *self.session;
        let cycle = agent.cycle(&self.scenario.driver.service, cycles, self.scenario.before_unload.serviced);
        let answer = answered(qmp, "the guest's cycles", deadline, cycle).await?;
        self.recorder.record(Event::CyclesAnswered { answer })?;
        Ok(())
    }

    /// Lets the storm go on, measured by the guest's clock, so that what was left behind is struck. A sample is
    /// asked for each time: where the driver silenced the device it is suppressed and only moves the recorder's time.
    async fn settle(&mut self) -> Result<(), Stop> {
        (self.stage)("letting the storm go on");
        let wanted = Duration::from_millis(self.scenario.unload.settle_ms);
        let began = Instant::now();
        let mut first = None;
        let virtual_ns = loop {
            if self.scenario.storm.blows() {
                let fire = self.session.device.fire(1);
                let deadline = self.scenario.deadlines.answer();
                answered(&self.session.qmp, "the device to fire", deadline, fire).await?;
            }
            let now = self.recorded_time();
            let passed = now.zip(first).map(|(now, first): (u64, u64)| now.saturating_sub(first));
            first = first.or(now);
            if passed.is_some_and(|passed| u128::from(passed) >= wanted.as_nanos()) {
                break passed;
            }
            // Without the recorder, or without a storm to move its time: by the host's clock, generously.
            if (first.is_none() || !self.scenario.storm.blows()) && began.elapsed() >= wanted {
                break None;
            }
            if began.elapsed() >= wanted + self.scenario.deadlines.answer() {
                break passed;
            }
            answered(&self.session.qmp, "a pause", EXPLANATION, pause(LOOK)).await?;
        };
        let stats = self.stats().await?;
        self.recorder.record(Event::Settled { virtual_ns, stats })?;
        Ok(())
    }

    async fn take_stock(&mut self) -> Result<(), Stop> {
        (self.stage)("taking stock");
        let deadline = self.scenario.deadlines.answer();
        if self.scenario.storm.blows() {
            let Session { qmp, device, .. } = &*self.session;
            answered(qmp, "the device to stop the storm", deadline, device.stop_storm()).await?;
            self.recorder.record(Event::StormStopped {})?;
        }
        let Session { qmp, agent, .. } = &mut *self.session;
        let state = agent.state(&self.scenario.driver.service);
        let answer = answered(qmp, "the service's state", deadline, state).await?;
        self.recorder.record(Event::ServiceState { answer })?;
        let modules = answered(qmp, "the guest's images", deadline, agent.modules()).await?;
        self.recorder.record(Event::GuestModules { modules })?;
        let stats = self.stats().await?;
        self.recorder.record(Event::DeviceStats { stats })?;
        Ok(())
    }

    async fn stats(&self) -> Result<Stats, Stop> {
        let Session { qmp, device, .. } = &*self.session;
        answered(qmp, "the device's counters", self.scenario.deadlines.answer(), device.stats()).await
    }

    /// The guest's time at the recorder's last record.
    fn recorded_time(&self) -> Option<u64> {
        recorded_time(self.flight)
    }

    /// Writes down why the run stopped, and what the dead can still tell.
    pub(crate) async fn post_mortem(&self, stop: Stop) -> Result<(), RunDirError> {
        (self.stage)("looking at what is left");
        let is_worth_a_dump = matches!(stop, Stop::Machine(MachineEnd::Panicked) | Stop::Watchdog { .. });
        match stop {
            Stop::Machine(end) => self.recorder.record(Event::MachineEnded { end })?,
            Stop::Infrastructure(message) => self.recorder.record(Event::Infrastructure { message })?,
            Stop::Watchdog { waited_for, host } => {
                let guest_clock_ns = self.guest_clock().await;
                let processors = self.processors().await;
                self.recorder.record(Event::Watchdog {
                    waited_for: waited_for.to_owned(),
                    host_ms: u64::try_from(host.as_millis()).unwrap_or(u64::MAX),
                    guest_clock_ns,
                    processors,
                })?;
            }
        }
        if let Ok(Ok(stats)) = timeout(EXPLANATION, self.session.device.stats()).await {
            self.recorder.record(Event::DeviceStats { stats })?;
        }
        if let Some(file) = self.memory.filter(|_| is_worth_a_dump) {
            self.dump_memory(file).await?;
        }
        Ok(())
    }

    /// Keeps the guest's memory for whoever wants to look closer. No verdict hangs on it, so what is in the way is
    /// only noted.
    async fn dump_memory(&self, file: &Path) -> Result<(), RunDirError> {
        (self.stage)("keeping the guest's memory");
        let error = match timeout(DUMP, self.session.qmp.dump_memory(file)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("QEMU wrote no dump within {} s", DUMP.as_secs())),
        };
        let bytes = std::fs::metadata(file).ok().map(|metadata| metadata.len());
        self.recorder.record(Event::MemoryDumped { bytes: bytes.filter(|_| error.is_none()), error })
    }

    /// How far the guest's clock moves in a tenth of a second: a guest that is not run at all does not hang.
    async fn guest_clock(&self) -> Option<u64> {
        let mut times = Vec::new();
        for _ in 0..2 {
            timeout(EXPLANATION, self.session.device.fire(1)).await.ok()?.ok()?;
            times.push(self.recorded_time()?);
            sleep(Duration::from_millis(100)).await;
        }
        times[1].checked_sub(times[0])
    }

    /// Where the processors are, most of the time: a single look may find one in the clock's interrupt.
    async fn processors(&self) -> Vec<Hex> {
        let mut looks = Vec::new();
        for _ in 0..LOOKS {
            match timeout(EXPLANATION, self.session.qmp.human("info registers -a")).await {
                Ok(Ok(text)) => looks.push(instruction_pointers(&text)),
                _ => break,
            }
            sleep(BETWEEN_LOOKS).await;
        }
        most_usual(&looks)
    }
}

fn recorded_time(flight: &Path) -> Option<u64> {
    Flight::open(flight).ok()?.last_virtual_ns().ok()?
}

/// A refusal by the guest is an answer here; a lost conversation is not.
async fn refusable<T>(
    answer: impl Future<Output = Result<T, AgentError>>,
) -> Result<Result<T, String>, AgentError> {
    match answer.await {
        Err(AgentError::Refused { why, .. }) => Ok(Err(why)),
        other => other.map(Ok),
    }
}

async fn pause(length: Duration) -> Result<(), AgentError> {
    sleep(length).await;
    Ok(())
}

/// Each `RIP=` of the human monitor's register dump, in the processors' order.
fn instruction_pointers(text: &str) -> Vec<Hex> {
    text.split("RIP=")
        .skip(1)
        .filter_map(|rest| u64::from_str_radix(rest.split_whitespace().next()?, 16).ok().map(Hex))
        .take(64)
        .collect()
}

/// For each processor, the last place seen in the page in which it was seen most often.
fn most_usual(looks: &[Vec<Hex>]) -> Vec<Hex> {
    let processors = looks.iter().map(Vec::len).min().unwrap_or(0);
    let page = |place: &Hex| place.0 >> 12;
    let usual = |processor: usize| {
        let places = || looks.iter().map(move |look| look[processor]);
        let times = |place: &Hex| places().filter(|other| page(other) == page(place)).count();
        places().max_by_key(times)
    };
    (0..processors).filter_map(usual).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fake_agent::FakeAgent, fake_qmp::FakeQmp};

    #[test]
    fn instruction_pointers_are_found_in_a_register_dump() {
        let text =
            "CPU#0\nRAX=00 RBX=01\nR12=0 RIP=ffffffff80001234 RFL=00000246\nCPU#1\nRIP=zz\nRIP=10 RFL=2";
        assert_eq!(instruction_pointers(text), [Hex(0xffff_ffff_8000_1234), Hex(0x10)]);
    }

    #[test]
    fn a_processor_is_where_it_was_seen_most_often() {
        let looks = [[0x5010, 0x8000], [0x9000, 0x8010], [0x5020, 0x7000]];
        let looks = looks.map(|look| look.map(Hex).to_vec());
        assert_eq!(most_usual(&looks), [Hex(0x5020), Hex(0x8010)]);
        assert_eq!(most_usual(&[vec![Hex(1), Hex(2)], vec![Hex(1)]]), [Hex(1)]);
        assert_eq!(most_usual(&[]), []);
    }

    #[tokio::test]
    async fn the_machines_end_wins_over_a_lost_answer() {
        let (fake_qmp, qmp) = FakeQmp::start(|_, _| Ok(serde_json::json!({}))).await;
        let (fake_agent, mut agent) = FakeAgent::start().await;
        fake_agent.hang_up().await;
        let waiting = answered(&qmp, "a ping", Duration::from_secs(5), agent.ping());
        let (stop, ()) = tokio::join!(waiting, async {
            sleep(Duration::from_millis(30)).await;
            fake_qmp.event("GUEST_PANICKED", serde_json::json!({"action": "pause"})).await;
        });
        assert!(matches!(stop.unwrap_err(), Stop::Machine(MachineEnd::Panicked)));
    }

    #[tokio::test]
    async fn silence_is_the_watchdogs_and_names_what_was_waited_for() {
        let (_fake_qmp, qmp) = FakeQmp::start(|_, _| Ok(serde_json::json!({}))).await;
        let (_fake_agent, mut agent) = FakeAgent::start().await;
        let open = agent.open(r"\\.\Stuck", "rb");
        let stop = answered(&qmp, "IRP_MJ_CREATE", Duration::from_millis(30), open).await.unwrap_err();
        assert!(matches!(stop, Stop::Watchdog { waited_for: "IRP_MJ_CREATE", .. }));
    }

    #[tokio::test]
    async fn a_guests_refusal_to_open_is_an_answer() {
        let (_fake, mut agent) = FakeAgent::start().await;
        let refused = refusable(agent.open(r"\\.\Nothing", "rb")).await.unwrap();
        assert_eq!(refused.unwrap_err(), "no such device");
    }
}
