//! The card, as the harness sees it: an object in QEMU with properties.
//!
//! Everything goes over QMP (`qom-set`, `qom-get`) to the object's own path, so a storm is started the way any other
//! device is configured, and a value that the device refuses comes back as QEMU's own error.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    hex::Hex,
    misbehaviour::Misbehaviour,
    qmp::{Qmp, QmpError},
    storm::Storm,
};

/// The card's id on QEMU's command line.
pub const CARD_ID: &str = "card0";
const SCHEMA: &str = "squall.device-stats/1";

/// What the device is told about a storm: one schedule, or those that run side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StormSpec {
    /// One schedule.
    One(Box<ScheduleSpec>),
    /// Several.
    Several(Vec<ScheduleSpec>),
}

/// A schedule of a storm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// All that the scenario says.
    #[serde(flatten)]
    pub storm: Storm,
    /// Decides the jitter.
    pub seed: u64,
}

impl StormSpec {
    /// The device's form of a scenario's storm; `None` where there is none to start.
    pub fn new(storm: &Storm, seed: u64) -> Option<Self> {
        // Each schedule draws numbers of its own.
        let seeds = (0..).map(|number| seed.wrapping_add(number));
        let mut all: Vec<_> =
            storm.each().zip(seeds).map(|(storm, seed)| ScheduleSpec { storm, seed }).collect();
        match all.len() {
            0 => None,
            1 => all.pop().map(|one| Self::One(Box::new(one))),
            _ => Some(Self::Several(all)),
        }
    }
}

/// The instructions at which the device marks Unload's beginning and end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Unload's first instruction.
    pub enter: Hex,
    /// The instruction to which Unload returns, where the guest knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave: Option<Hex>,
    /// Assert the interrupt at exactly the boundary before `enter`.
    pub fire_at_enter: bool,
}

/// The device's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Always `squall.device-stats/1`.
    pub schema: String,
    /// Samples asked for.
    pub fired: u64,
    /// Rising edges of the line.
    pub asserted: u64,
    /// Fired while IRQ_ENABLE was 0.
    pub suppressed: u64,
    /// Fired while a sample was already waiting.
    pub coalesced: u64,
    /// Assertions that the guest acknowledged.
    pub serviced: u64,
    /// Samples in the FIFO.
    pub fifo_level: u32,
    /// CONTROL.IRQ_ENABLE.
    pub irq_enabled: bool,
    /// The line.
    pub line: bool,
    /// Register reads.
    pub reads: u64,
    /// Register writes.
    pub writes: u64,
    /// Counted since the last entry into Unload.
    pub unload: UnloadStats,
}

impl Stats {
    /// What was counted since then. The counts around Unload begin anew with each of its entries anyhow.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            fired: self.fired.saturating_sub(before.fired),
            asserted: self.asserted.saturating_sub(before.asserted),
            suppressed: self.suppressed.saturating_sub(before.suppressed),
            coalesced: self.coalesced.saturating_sub(before.coalesced),
            serviced: self.serviced.saturating_sub(before.serviced),
            reads: self.reads.saturating_sub(before.reads),
            writes: self.writes.saturating_sub(before.writes),
            ..self.clone()
        }
    }

    /// Whether the guest ever touched the card.
    pub fn touched(&self) -> bool {
        self.reads + self.writes > 0
    }
}

/// The device's counters around Unload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadStats {
    /// How often Unload was entered.
    pub entered: u64,
    /// How often it was left.
    pub left: u64,
    /// Asserted between entry and leave.
    pub asserted: u64,
    /// Acknowledged between entry and leave.
    pub serviced: u64,
    /// Interrupts outstanding at some time between Unload's entry and the moment the device was silenced.
    pub before_silence: u64,
    /// Whether it was silenced at all.
    pub silenced: bool,
}

/// The card did not do what it was told.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// QEMU refused or is gone.
    #[error("device {property}: {source}")]
    Qmp {
        /// Which property.
        property: &'static str,
        /// What QMP said.
        source: QmpError,
    },
    /// An answer that is not what was agreed.
    #[error("device {property}: unexpected answer: {why}")]
    Answer {
        /// Which property.
        property: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// The card's properties.
#[derive(Clone, Debug)]
pub struct Device {
    qmp: Qmp,
    path: String,
}

impl Device {
    /// The card behind this QMP connection.
    pub fn new(qmp: Qmp) -> Self {
        Self { qmp, path: format!("/machine/peripheral/{CARD_ID}") }
    }

    /// Asks for that many samples now.
    pub async fn fire(&self, samples: u64) -> Result<(), DeviceError> {
        self.set("fire", samples.into()).await
    }

    /// Starts a storm, or replaces the one that blows.
    pub async fn start_storm(&self, storm: &StormSpec) -> Result<(), DeviceError> {
        self.set_json("storm", storm).await
    }

    /// Ends the storm.
    pub async fn stop_storm(&self) -> Result<(), DeviceError> {
        self.set("storm", "".into()).await
    }

    /// Has the card do this wrong from now on, and nothing else.
    pub async fn misbehave(&self, wrong: &Misbehaviour) -> Result<(), DeviceError> {
        self.set_json("misbehave", wrong).await
    }

    /// Marks Unload's beginning and end from now on.
    pub async fn watch(&self, watch: &Watch) -> Result<(), DeviceError> {
        self.set_json("watch", watch).await
    }

    /// Has QEMU forget the code that it has translated: what is done before the machine, which is stopped, is brought back.
    pub(crate) async fn forget_translations(&self) -> Result<(), DeviceError> {
        self.set("forget-translations", true.into()).await
    }

    /// The counters.
    pub async fn stats(&self) -> Result<Stats, DeviceError> {
        let property = "stats";
        let value = self
            .qmp
            .qom_get(&self.path, property)
            .await
            .map_err(|source| DeviceError::Qmp { property, source })?;
        let answer = |why: String| DeviceError::Answer { property, why };
        let text = value.as_str().ok_or_else(|| answer("not a string".to_owned()))?;
        let stats: Stats = serde_json::from_str(text).map_err(|error| answer(error.to_string()))?;
        if stats.schema != SCHEMA {
            return Err(answer(format!("schema {:?}, {SCHEMA} is expected", stats.schema)));
        }
        Ok(stats)
    }

    async fn set_json(&self, property: &'static str, value: &impl Serialize) -> Result<(), DeviceError> {
        let text = serde_json::to_string(value)
            .map_err(|error| DeviceError::Answer { property, why: error.to_string() })?;
        self.set(property, text.into()).await
    }

    async fn set(&self, property: &'static str, value: serde_json::Value) -> Result<(), DeviceError> {
        self.qmp
            .qom_set(&self.path, property, value)
            .await
            .map_err(|source| DeviceError::Qmp { property, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fake_qmp::FakeQmp;

    const STATS: &str = r#"{"schema":"squall.device-stats/1","fired":3,"asserted":2,"suppressed":1,"coalesced":0,
        "serviced":2,"fifo_level":0,"irq_enabled":false,"line":false,"reads":4,"writes":5,"unload":{"entered":1,
        "left":1,"asserted":1,"serviced":1,"before_silence":1,"silenced":true}}"#;

    #[tokio::test]
    async fn the_properties_are_set_as_the_joint_says() {
        let (fake, qmp) =
            FakeQmp::start(|command, arguments| match (command, arguments["property"].as_str()) {
                ("qom-get", Some("stats")) => Ok(STATS.into()),
                ("qom-set", Some("fire")) if arguments["value"] == 0 => {
                    Err("fire: 0 is not 1 to 1000000".to_owned())
                }
                ("qom-set", _) => Ok(serde_json::json!({})),
                _ => Err("unexpected".to_owned()),
            })
            .await;
        let device = Device::new(qmp);
        device.start_storm(&StormSpec::new(&Storm::default(), 7).unwrap()).await.unwrap();
        device.watch(&Watch { enter: Hex(0x1000), leave: None, fire_at_enter: true }).await.unwrap();
        device.stop_storm().await.unwrap();
        assert_eq!(device.stats().await.unwrap().unload.before_silence, 1);
        let refused = device.fire(0).await.unwrap_err().to_string();
        assert!(refused.contains("1 to 1000000"), "{refused}");

        let seen = fake.seen();
        assert_eq!(seen[0]["path"], "/machine/peripheral/card0");
        assert_eq!(seen[0]["value"], r#"{"pace":"ack","gap_ns":20000,"jitter_ns":0,"count":0,"seed":7}"#);
        assert_eq!(seen[1]["value"], r#"{"enter":"0x1000","fire_at_enter":true}"#);
        assert_eq!(seen[2]["value"], "");
    }

    #[test]
    fn schedules_side_by_side_are_a_list_each_with_its_seed() {
        let storm = "ack+access,write=CONTROL:0/1,delay=2us,count=1".parse().unwrap();
        let spec = StormSpec::new(&storm, 7).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        let expected = concat!(
            r#"[{"pace":"ack","gap_ns":20000,"jitter_ns":0,"count":0,"seed":7},"#,
            r#"{"pace":"access","register":"CONTROL","access":"write","mask":1,"value":0,"delay_ns":2000,"#,
            r#""jitter_ns":0,"count":1,"seed":8}]"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<StormSpec>(&text).unwrap(), spec);
        let one = StormSpec::new(&Storm::default(), 7).unwrap();
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<StormSpec>(&text).unwrap(), one);
        assert_eq!(StormSpec::new(&Storm::none(), 7), None);
    }

    #[tokio::test]
    async fn counters_of_another_schema_are_refused() {
        let (_fake, qmp) =
            FakeQmp::start(|_, _| Ok(STATS.replace("device-stats/1", "device-stats/2").into())).await;
        let error = Device::new(qmp).stats().await.unwrap_err().to_string();
        assert!(error.contains("device-stats/2"), "{error}");
    }
}
