//! A scenario: everything that decides a run, in one TOML file.
//!
//! Flags, a scenario file and the defaults come together here; the run directory keeps the result with nothing left
//! implicit, so that the same file gives the same run again.

mod bus;
mod parameter;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    misbehaviour::{Misbehaviour, MisbehaviourError},
    profile::{GuestProfile, ProfileError},
    storm::{self, Storm, StormError},
};

use self::parameter::is_value_name;
pub use self::{
    bus::{Bus, UnknownBus},
    parameter::{Parameter, ServiceParameter},
};

/// What is to be done to which driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// The guest profile's name.
    pub guest: String,
    /// How the card is attached.
    pub bus: Bus,
    /// The guest's processors.
    pub processors: u8,
    /// Whether Driver Verifier watches the driver, with its standard settings.
    pub verifier: bool,
    /// Decides every random choice of the run.
    pub seed: u64,
    /// How often the driver is loaded, stormed and unloaded. More than once: by the guest itself, without the host in between,
    /// so that no interrupt is placed in Unload and nothing is read from the device.
    pub cycles: u32,
    /// The driver under test.
    pub driver: Driver,
    /// The card's resources.
    pub card: Card,
    /// The interrupts.
    #[serde(deserialize_with = "storm::filled_in")]
    pub storm: Storm,
    /// What the card does wrong from the storm's beginning on.
    #[serde(skip_serializing_if = "Misbehaviour::is_nothing")]
    pub misbehave: Misbehaviour,
    /// What has to have happened before Unload begins.
    pub before_unload: BeforeUnload,
    /// What happens around Unload.
    pub unload: Unload,
    /// Whether the guest's memory is kept, as a dump in Windows' format, where the run ends in a crash or a hang.
    pub dump: bool,
    /// How long each step may take before the watchdog ends the run.
    pub deadlines: Deadlines,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            guest: "testkernel".to_owned(),
            bus: Bus::Isa,
            processors: 2,
            verifier: false,
            seed: 1,
            cycles: 1,
            driver: Driver::default(),
            card: Card::default(),
            storm: Storm::default(),
            misbehave: Misbehaviour::default(),
            before_unload: BeforeUnload::default(),
            unload: Unload::default(),
            dump: false,
            deadlines: Deadlines::default(),
        }
    }
}

/// The most cycles of one run.
pub const MOST_CYCLES: u32 = 10_000;

/// The driver under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Driver {
    /// The image's file on the host.
    pub image: PathBuf,
    /// Its service's name in the guest.
    pub service: String,
    /// The defect that it is asked to show, where it was built with any.
    pub defect: Option<String>,
    /// The path by which a program opens its device (`\\.\NAME`), where it is to be read before Unload.
    pub device: Option<String>,
    /// More values under its `Parameters` key.
    pub parameters: BTreeMap<String, Parameter>,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            image: PathBuf::new(),
            service: "squall".to_owned(),
            defect: None,
            device: None,
            parameters: BTreeMap::new(),
        }
    }
}

/// The card's resources and its recorder's size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Card {
    /// First of its 32 I/O ports.
    pub io_base: u16,
    /// Its ISA interrupt line.
    pub irq: u8,
    /// How many records the flight recorder keeps; a power of two.
    pub recorder_records: u32,
}

impl Default for Card {
    fn default() -> Self {
        Self { io_base: 0x300, irq: 5, recorder_records: 65_536 }
    }
}

/// What has to have happened before Unload begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BeforeUnload {
    /// Interrupts acknowledged by the driver.
    pub serviced: u64,
    /// Samples read through the driver's device, where it has one.
    pub samples_read: u32,
    /// Milliseconds without a single acknowledged interrupt after which nothing is taken to be connected.
    pub nothing_after_ms: u64,
}

impl Default for BeforeUnload {
    fn default() -> Self {
        Self { serviced: 1_000, samples_read: 16, nothing_after_ms: 500 }
    }
}

/// What happens around Unload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unload {
    /// Assert the interrupt at the boundary before Unload's first instruction.
    pub fire_at_enter: bool,
    /// Virtual milliseconds for which the storm goes on after Unload, so that a left-over interrupt strikes.
    pub settle_ms: u64,
    /// What the card does wrong from just before Unload on, in place of what it did wrong until then; `{}` for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misbehave: Option<Misbehaviour>,
}

impl Default for Unload {
    fn default() -> Self {
        Self { fire_at_enter: true, settle_ms: 50, misbehave: None }
    }
}

/// How long each step may take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// From QEMU's start to the agent's first answer.
    pub boot_ms: u64,
    /// For DriverEntry to return.
    pub load_ms: u64,
    /// For the wanted number of interrupts.
    pub serviced_ms: u64,
    /// For Unload to return and the image to go.
    pub unload_ms: u64,
    /// For anything that involves neither driver nor boot.
    pub answer_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { boot_ms: 30_000, load_ms: 20_000, serviced_ms: 20_000, unload_ms: 20_000, answer_ms: 10_000 }
    }
}

impl Deadlines {
    /// From QEMU's start to the agent's first answer.
    pub fn boot(&self) -> Duration {
        Duration::from_millis(self.boot_ms)
    }

    /// For DriverEntry to return.
    pub fn load(&self) -> Duration {
        Duration::from_millis(self.load_ms)
    }

    /// For the wanted number of interrupts.
    pub fn serviced(&self) -> Duration {
        Duration::from_millis(self.serviced_ms)
    }

    /// For Unload to return and the image to go.
    pub fn unload(&self) -> Duration {
        Duration::from_millis(self.unload_ms)
    }

    /// For anything that involves neither driver nor boot.
    pub fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }
}

/// A scenario that cannot be run; always the asker's to mend.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file is not a scenario.
    #[error("scenario {}: {}", path.display(), one_line(.source))]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// The file cannot be read.
    #[error("scenario {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The guest does not exist.
    #[error(transparent)]
    Guest(#[from] ProfileError),
    /// The storm cannot be.
    #[error(transparent)]
    Storm(#[from] StormError),
    /// The card cannot go wrong like that.
    #[error(transparent)]
    Misbehaviour(#[from] MisbehaviourError),
    /// Too few or too many processors.
    #[error("processors: {asked} asked for, the {guest} guest runs on {least} to {most}")]
    Processors {
        /// What was asked for.
        asked: u8,
        /// Of which guest.
        guest: String,
        /// The fewest it takes.
        least: u8,
        /// The most it takes.
        most: u8,
    },
    /// The guest has no such bus.
    #[error("bus {bus} is not built yet for the {guest} guest")]
    Bus {
        /// What was asked for.
        bus: Bus,
        /// Of which guest.
        guest: String,
    },
    /// The guest has no Driver Verifier.
    #[error("verifier: the {guest} guest has none")]
    Verifier {
        /// Of which guest.
        guest: String,
    },
    /// A service parameter that cannot be.
    #[error("service parameter {text:?}: {why}")]
    Parameter {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A service name that cannot be.
    #[error("service {0:?}: a name is 1 to 32 letters, digits, '-' or '_'")]
    Service(String),
    /// A value outside its range.
    #[error("{field}: {value} is not {range}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What is accepted.
        range: &'static str,
    },
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(", ")
}

impl Scenario {
    /// Reads a scenario file; what it does not say is filled in with the defaults.
    pub fn load(path: &std::path::Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| ScenarioError::Toml { path: path.to_owned(), source: Box::new(source) })
    }

    /// The scenario as TOML, with nothing left implicit.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// Refuses what cannot be run, and gives the guest's profile.
    pub fn check(&self) -> Result<GuestProfile, ScenarioError> {
        let profile = GuestProfile::named(&self.guest)?;
        let (least, most) = (profile.processors.least, profile.processors.most);
        if !(least..=most).contains(&self.processors) {
            let guest = self.guest.clone();
            return Err(ScenarioError::Processors { asked: self.processors, guest, least, most });
        }
        if !profile.buses.contains(&self.bus) {
            return Err(ScenarioError::Bus { bus: self.bus, guest: self.guest.clone() });
        }
        if self.verifier && !profile.verifier {
            return Err(ScenarioError::Verifier { guest: self.guest.clone() });
        }
        self.storm.check()?;
        self.wrongs().try_for_each(Misbehaviour::check)?;
        if !is_value_name(&self.driver.service) || self.driver.service.len() > 32 {
            return Err(ScenarioError::Service(self.driver.service.clone()));
        }
        for name in self.driver.parameters.keys() {
            if !is_value_name(name) {
                return Err(ScenarioError::Parameter {
                    text: name.clone(),
                    why: "a value's name is 1 to 64 letters, digits, '-' or '_'",
                });
            }
        }
        let range = |field, value, ok, range| {
            if ok { Ok(()) } else { Err(ScenarioError::Range { field, value, range }) }
        };
        let Card { io_base, irq, recorder_records } = self.card;
        range(
            "card.io_base",
            io_base.into(),
            io_base >= 0x100 && io_base % 32 == 0,
            "a multiple of 32 from 0x100 to 0xffe0",
        )?;
        range(
            "card.irq",
            irq.into(),
            matches!(irq, 3 | 5..=7 | 9..=12 | 14 | 15),
            "a free ISA line: 3, 5 to 7, 9 to 12, 14 or 15",
        )?;
        let records = recorder_records;
        range(
            "card.recorder_records",
            records.into(),
            records.is_power_of_two() && (64..=1 << 24).contains(&records),
            "a power of two from 64 to 16777216",
        )?;
        range("cycles", self.cycles.into(), (1..=MOST_CYCLES).contains(&self.cycles), "1 to 10000")?;
        let samples = self.before_unload.samples_read.into();
        range(
            "before_unload.samples_read",
            samples,
            self.cycles == 1 || samples == 0,
            "0, as cycles are more than 1",
        )?;
        range("unload.settle_ms", self.unload.settle_ms, self.unload.settle_ms <= 60_000, "at most 60000")?;
        let deadlines = &self.deadlines;
        for (field, value) in [
            ("deadlines.boot_ms", deadlines.boot_ms),
            ("deadlines.load_ms", deadlines.load_ms),
            ("deadlines.serviced_ms", deadlines.serviced_ms),
            ("deadlines.unload_ms", deadlines.unload_ms),
            ("deadlines.answer_ms", deadlines.answer_ms),
        ] {
            range(field, value, (1..=86_400_000).contains(&value), "1 to 86400000 milliseconds")?;
        }
        Ok(profile)
    }

    /// Everything that the card is to do wrong, at whatever time.
    pub fn wrongs(&self) -> impl Iterator<Item = &Misbehaviour> {
        [Some(&self.misbehave), self.unload.misbehave.as_ref()]
            .into_iter()
            .flatten()
            .filter(|wrong| !wrong.is_nothing())
    }

    /// Every value under the service's `Parameters` key, in the order in which they are set: the card's resources,
    /// the defect, and what was asked for on top, which wins.
    pub fn service_parameters(&self) -> BTreeMap<String, Parameter> {
        let mut all = BTreeMap::new();
        // A PCI card is found, and says itself where it is.
        if self.bus == Bus::Isa {
            all.insert("IoPortBase".to_owned(), Parameter::Dword(self.card.io_base.into()));
            all.insert("InterruptLine".to_owned(), Parameter::Dword(self.card.irq.into()));
        } else {
            all.insert("Bus".to_owned(), Parameter::Text("pci".to_owned()));
        }
        if let Some(defect) = &self.driver.defect {
            all.insert("Defect".to_owned(), Parameter::Text(defect.clone()));
        }
        all.extend(self.driver.parameters.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_scenario() {
        assert_eq!(toml::from_str::<Scenario>("").unwrap(), Scenario::default());
        Scenario::default().check().unwrap();
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let mut scenario = Scenario::default();
        scenario.driver.defect = Some("interrupts-left-enabled-and-connected".to_owned());
        scenario.driver.device = Some(r"\\.\Squall0".to_owned());
        scenario.driver.parameters.insert("Depth".to_owned(), Parameter::Dword(7));
        scenario.driver.parameters.insert("Label".to_owned(), Parameter::Text("7".to_owned()));
        let text = scenario.to_toml().unwrap();
        assert!(text.contains("gap_ns = 20000") && text.contains("boot_ms = 30000"), "{text}");
        assert_eq!(toml::from_str::<Scenario>(&text).unwrap(), scenario);
    }

    #[test]
    fn misbehaviour_is_stated_for_the_storm_and_for_unload() {
        let text = "[misbehave]\nfifo_places = 4\n[unload.misbehave]\nremoved = true\n";
        let scenario: Scenario = toml::from_str(text).unwrap();
        scenario.check().unwrap();
        assert_eq!(scenario.wrongs().count(), 2);
        assert_eq!(toml::from_str::<Scenario>(&scenario.to_toml().unwrap()).unwrap(), scenario);
        let wrong: Scenario = toml::from_str("[unload.misbehave]\nfifo_places = 65\n").unwrap();
        let error = wrong.check().unwrap_err().to_string();
        assert_eq!(error, "misbehave: fifo_places is 65; it must be from 0 to 64");
        assert!(!Scenario::default().to_toml().unwrap().contains("misbehave"));
    }

    #[test]
    fn a_field_that_does_not_exist_is_refused_at_every_level() {
        for text in ["colour = 1", "[storm]\ncolour = 1", "[driver]\ncolour = 1", "[deadlines]\ncolour = 1"] {
            let error = toml::from_str::<Scenario>(text).unwrap_err();
            assert!(error.message().contains("colour"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_before_anything_boots() {
        let refused = |change: &dyn Fn(&mut Scenario)| {
            let mut scenario = Scenario::default();
            change(&mut scenario);
            scenario.check().unwrap_err().to_string()
        };
        assert!(refused(&|s| s.processors = 0).contains("1 to 8"));
        assert!(refused(&|s| s.processors = 9).contains("1 to 8"));
        assert!(refused(&|s| s.guest = "windows".to_owned()).contains("not built yet"));
        assert!(refused(&|s| s.card.irq = 4).contains("card.irq"));
        assert!(refused(&|s| s.card.io_base = 0x301).contains("io_base"));
        assert!(refused(&|s| s.card.recorder_records = 1000).contains("power of two"));
        assert!(refused(&|s| s.storm.gap_ns = Some(2_000_000_000)).contains("gap_ns"));
        assert!(refused(&|s| s.driver.service = "a b".to_owned()).contains("service"));
        assert!(refused(&|s| s.deadlines.boot_ms = 0).contains("boot_ms"));
    }

    #[test]
    fn the_cards_resources_reach_the_registry_and_can_be_overridden() {
        let mut scenario = Scenario::default();
        scenario.driver.parameters.insert("InterruptLine".to_owned(), Parameter::Dword(7));
        let all = scenario.service_parameters();
        assert_eq!(all["IoPortBase"], Parameter::Dword(0x300));
        assert_eq!(all["InterruptLine"], Parameter::Dword(7));
        let on_pci = Scenario { bus: Bus::PciMsi, ..Scenario::default() }.service_parameters();
        assert_eq!(on_pci, BTreeMap::from([("Bus".to_owned(), Parameter::Text("pci".to_owned()))]));
    }
}
