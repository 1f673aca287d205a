//! What `squall-agent` answers, verb by verb.
//!
//! The text comes from a guest that a broken driver may have damaged: lists are bounded and strings are cut when
//! they are read, so nothing downstream has to think of it again.

use serde::{Deserialize, Deserializer, Serialize};

use crate::hex::{Hex, Status};

/// The longest answer of a verb.
pub const LONGEST_ANSWER: usize = 1 << 20;
const MOST_ITEMS: usize = 1024;
/// The most cycles of one command.
const MOST_CYCLES: usize = 10_000;
const LONGEST_TEXT: usize = 1024;

/// A driver in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverInfo {
    /// The image's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Where the image lies.
    pub base: Hex,
    /// Bytes.
    pub size: u64,
    /// DriverEntry.
    pub entry: Hex,
    /// Unload, where the driver has one.
    pub unload: Option<Hex>,
    /// Where Unload returns to, where the guest knows it.
    #[serde(default)]
    pub unload_return: Option<Hex>,
}

/// A loaded or unloaded image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// The image's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Where it lies or lay.
    pub base: Hex,
    /// Bytes.
    pub size: u64,
}

/// Something wrong that did not stop the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What, in one word with hyphens.
    #[serde(deserialize_with = "text")]
    pub kind: String,
    /// Which object.
    #[serde(deserialize_with = "text", default)]
    pub object: String,
    /// In one sentence.
    #[serde(deserialize_with = "text", default)]
    pub detail: String,
    /// Whether real Windows would have let it pass.
    #[serde(default)]
    pub stricter_than_windows: bool,
}

/// `install`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct InstallAnswer {
    pub(super) status: Status,
}

/// `load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadAnswer {
    /// DriverEntry's status, or the loader's.
    pub status: Status,
    /// The driver, where its image was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverInfo>,
    /// Every import that the guest does not export, as `module!name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "texts")]
    pub missing_imports: Vec<String>,
    /// Why the loader would not take the image.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_text")]
    pub invalid_image: Option<String>,
    /// What a DriverEntry that failed had and did not give back.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "findings")]
    pub findings: Vec<Finding>,
    /// What came of making a call of DriverEntry's fail, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<Injection>,
}

/// Failure injection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injection {
    /// How many calls DriverEntry made that can fail.
    pub calls: u32,
    /// The routine that did; none where there were not that many calls.
    #[serde(deserialize_with = "some_text")]
    pub failed: Option<String>,
}

/// `unload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnloadAnswer {
    /// How it went.
    pub status: Status,
    /// What was left behind.
    #[serde(default, deserialize_with = "findings")]
    pub findings: Vec<Finding>,
    /// Why it was not unloaded.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_text")]
    pub refused: Option<String>,
}

/// Why cycles ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CyclesStopped {
    /// In which part of a cycle.
    pub during: CyclePart,
    /// In one line.
    #[serde(deserialize_with = "text")]
    pub why: String,
}

/// A part of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CyclePart {
    /// The driver was not loaded.
    Load,
    /// No more interrupts came, or none was claimed.
    Storm,
    /// It was not unloaded, or has left something behind.
    Unload,
}

/// `cycle`. Times are the guest's, in microseconds, one for each cycle that was completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleAnswer {
    /// How the last one ended.
    pub status: Status,
    /// Cycles completed.
    pub cycles: u64,
    /// Interrupts that the driver's ISR claimed, as the guest has counted.
    pub interrupts: u64,
    /// For the load, DriverEntry and all.
    #[serde(deserialize_with = "times")]
    pub load_us: Vec<u32>,
    /// For the whole cycle.
    #[serde(deserialize_with = "times")]
    pub cycle_us: Vec<u32>,
    /// For Unload, until the image was gone.
    #[serde(deserialize_with = "times")]
    pub unload_us: Vec<u32>,
    /// Why they ended early, where they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<CyclesStopped>,
    /// What the last one left behind.
    #[serde(default, deserialize_with = "findings")]
    pub findings: Vec<Finding>,
}

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateAnswer {
    /// The service's state.
    pub state: ServiceState,
}

/// A service's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// No such service.
    NotInstalled,
    /// Known, never loaded.
    Installed,
    /// Its driver is loaded.
    Loaded,
    /// Unload ran, yet something still holds the driver.
    Unloading,
    /// Its driver is gone.
    Unloaded,
}

/// `verifier`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VerifierAnswer {
    /// The checks that the guest has.
    #[serde(deserialize_with = "classes")]
    pub supported: Vec<VerifierClass>,
}

/// One of Driver Verifier's classes of checks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VerifierClass {
    /// Its bit among the flags.
    pub flag: Hex,
}

impl VerifierAnswer {
    /// All that the guest has, in one number.
    pub fn supported_flags(&self) -> u64 {
        self.supported.iter().fold(0, |flags, class| flags | class.flag.0)
    }
}

/// `memory`: what is in use in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What is allocated from pool.
    pub pool: PoolUse,
    /// Pages of addresses taken for everything but images.
    pub mapped_pages: u64,
    /// Pages of addresses taken for images.
    pub image_pages: u64,
    /// Bytes of the guest's own heap.
    pub heap_bytes: u64,
    /// Page frames that nobody has, those of the guest's heap among them.
    pub free_pages: u64,
}

/// What is allocated from pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUse {
    /// Blocks.
    pub blocks: u64,
    /// Bytes.
    pub bytes: u64,
}

/// `modules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// The images that are there.
    #[serde(deserialize_with = "modules")]
    pub loaded: Vec<ModuleInfo>,
    /// The images that were.
    #[serde(deserialize_with = "modules")]
    pub unloaded: Vec<ModuleInfo>,
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(cut)
}

fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(cut))
}

fn bounded<T>(mut items: Vec<T>) -> Vec<T> {
    items.truncate(MOST_ITEMS);
    items
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(bounded(Vec::<String>::deserialize(deserializer)?).into_iter().map(cut).collect())
}

/// One number for each cycle of a command, of which there are not more.
fn times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let mut times = Vec::deserialize(deserializer)?;
    times.truncate(MOST_CYCLES);
    Ok(times)
}

fn findings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Finding>, D::Error> {
    Vec::deserialize(deserializer).map(bounded)
}

fn classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VerifierClass>, D::Error> {
    Vec::deserialize(deserializer).map(bounded)
}

fn modules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ModuleInfo>, D::Error> {
    Vec::deserialize(deserializer).map(bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_answers_to_load_are_told_apart() {
        let loaded: LoadAnswer = serde_json::from_str(
            r#"{"status":"0x00000000","driver":{"name":"squall.sys","base":"0xffff900000010000","size":24576,
                "entry":"0xffff900000015000","unload":"0xffff900000011000","unload_return":null}}"#,
        )
        .unwrap();
        assert!(loaded.status.is_success());
        assert_eq!(loaded.driver.unwrap().unload, Some(Hex(0xffff_9000_0001_1000)));
        let missing: LoadAnswer =
            serde_json::from_str(r#"{"status":"0xC0000263","missing_imports":["ntoskrnl.exe!Nope"]}"#)
                .unwrap();
        assert_eq!(missing.missing_imports, ["ntoskrnl.exe!Nope"]);
        let invalid: LoadAnswer =
            serde_json::from_str(r#"{"status":"0xC000007B","invalid_image":"why"}"#).unwrap();
        assert_eq!(invalid.invalid_image.as_deref(), Some("why"));
    }

    #[test]
    fn an_unload_names_what_was_left() {
        let answer: UnloadAnswer = serde_json::from_str(
            r#"{"status":"0x00000000","findings":[{"kind":"interrupt-left-connected","object":"o","detail":"d",
                "stricter_than_windows":true}]}"#,
        )
        .unwrap();
        assert!(answer.findings[0].stricter_than_windows);
        let refused: UnloadAnswer =
            serde_json::from_str(r#"{"status":"0xC0000001","refused":"1 handle open"}"#).unwrap();
        assert_eq!(refused.refused.as_deref(), Some("1 handle open"));
    }

    #[test]
    fn the_verifiers_checks_are_flags() {
        let answer: VerifierAnswer = serde_json::from_str(
            r#"{"supported":[{"flag":"0x1","name":"Special pool"},{"flag":"0x800","name":"Miscellaneous checks"}],
                "enabled":[{"driver":"squall.sys","flags":"0x1"}]}"#,
        )
        .unwrap();
        assert_eq!(answer.supported_flags(), 0x801);
    }

    #[test]
    fn long_texts_and_lists_are_cut() {
        let many = format!(r#"{{"status":"0x0","missing_imports":[{}"x"]}}"#, r#""x","#.repeat(5_000));
        assert_eq!(serde_json::from_str::<LoadAnswer>(&many).unwrap().missing_imports.len(), MOST_ITEMS);
        let long = format!(r#"{{"status":"0x0","refused":"{}"}}"#, "ß".repeat(5_000));
        let refused = serde_json::from_str::<UnloadAnswer>(&long).unwrap().refused.unwrap();
        assert_eq!(refused.chars().count(), LONGEST_TEXT + 1);
    }

    #[test]
    fn states_are_spelt_as_the_joint_spells_them() {
        let state: StateAnswer = serde_json::from_str(r#"{"state":"not-installed"}"#).unwrap();
        assert_eq!(state.state, ServiceState::NotInstalled);
        assert!(serde_json::from_str::<StateAnswer>(r#"{"state":"lost"}"#).is_err());
    }
}
