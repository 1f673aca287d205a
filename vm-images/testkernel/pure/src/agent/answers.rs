//! What the verbs of `squall-agent` print: one JSON object each.
//!
//! Addresses and statuses travel as `0x` text, because JSON's numbers are doubles to half the world.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Serialize, Serializer};

use super::finding_kind::FindingKind;

/// An address, printed `0x...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{:x}", self.0))
    }
}

/// A status, printed `0xC0000001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

/// A driver that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// Its image's file name.
    pub name: String,
    /// Where its image is.
    pub base: Address,
    /// How large that is.
    pub size: u32,
    /// Address of DriverEntry.
    pub entry: Address,
    /// Address of Unload, where the driver has set one.
    pub unload: Option<Address>,
    /// The address to which Unload returns.
    pub unload_return: Option<Address>,
}

/// Flags of Driver Verifier, printed `0x209bb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// An image, loaded or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its file name.
    pub name: String,
    /// Where it is or was.
    pub base: Address,
    /// How large.
    pub size: u64,
}

/// Something wrong that did not stop the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of wrong.
    pub kind: FindingKind,
    /// Which object.
    pub object: String,
    /// One line about it.
    pub detail: String,
    /// Real Windows would not have noticed.
    pub stricter_than_windows: bool,
}

/// Of `install`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// How it went.
    pub status: Status,
    /// What stood in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Why cycles ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// `load`, `storm` or `unload`.
    pub during: &'static str,
    /// In one line.
    pub why: String,
}

/// Of `cycle`. Times are the guest's, in microseconds, one of each for every cycle that was completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cycled {
    /// How it ended: the first load or unload that failed gives its own status.
    pub status: Status,
    /// Cycles completed.
    pub cycles: u32,
    /// Interrupts that the driver's ISR claimed in them.
    pub interrupts: u64,
    /// From before DriverEntry until its return, with the image's loading.
    pub load_us: Vec<u32>,
    /// From before the load until the image was gone.
    pub cycle_us: Vec<u32>,
    /// From before Unload until the image was gone.
    pub unload_us: Vec<u32>,
    /// Why they ended early, where they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// What the cycle that ended it left behind.
    pub findings: Vec<Finding>,
}

/// Of `load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// How it went; DriverEntry's own status where it came to that.
    pub status: Status,
    /// What was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// Imports that the guest lacks, every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_imports: Vec<String>,
    /// Why the file is not an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_image: Option<String>,
    /// What else stood in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What a DriverEntry that failed had and did not give back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<Finding>>,
    /// Which call of DriverEntry's was made to fail, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injection: Option<Injection>,
}

/// Failure injection, in the answer to `load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Injection {
    /// How many calls DriverEntry made that can fail.
    pub calls: u32,
    /// The routine that did; none where there were not that many calls.
    pub failed: Option<&'static str>,
}

/// Of `unload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unloaded {
    /// How it went.
    pub status: Status,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What the driver left behind, where it was unloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<Finding>>,
}

/// Of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Where the service is in its life.
    pub state: State,
    /// Its driver, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Never heard of.
    NotInstalled,
    /// It has a key, and was never loaded.
    Installed,
    /// DriverEntry succeeded.
    Loaded,
    /// Unload is running.
    Unloading,
    /// Unload has returned.
    Unloaded,
}

/// Of `modules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Modules {
    /// Images that are there.
    pub loaded: Vec<Module>,
    /// Images that were.
    pub unloaded: Vec<Module>,
}

/// One of Windows' classes of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Its bit among the flags.
    pub flag: Flags,
    /// What Windows calls it.
    pub name: &'static str,
}

/// A driver that is verified from its next load on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its image's file name.
    pub driver: String,
    /// For what.
    pub flags: Flags,
}

/// Of `verifier`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verifier {
    /// Checks that the guest has.
    pub supported: Vec<Class>,
    /// Drivers that are set to be checked.
    pub enabled: Vec<Verified>,
}

/// Of `shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Notified {
    /// How many devices were told.
    pub notified: usize,
}

/// Of `memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What is allocated from pool.
    pub pool: PoolUse,
    /// Pages of addresses taken for stacks, pool, mapped registers, MDLs and contiguous memory.
    pub mapped_pages: usize,
    /// Pages of addresses taken for images.
    pub image_pages: usize,
    /// Bytes of the kernel's own heap.
    pub heap_bytes: usize,
    /// Page frames that nobody has, but the kernel's heap and stacks.
    pub free_pages: usize,
}

/// What is allocated from pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PoolUse {
    /// Blocks in use.
    pub blocks: usize,
    /// Bytes that were asked for with them.
    pub bytes: usize,
}

/// Of any verb whose command line makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageError {
    /// What is wrong with it.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn answers_have_the_joints_form() {
        let driver = Driver {
            name: "squall.sys".into(),
            base: Address(0xFFFF_F800_1000_0000),
            size: 0x6000,
            entry: Address(0xFFFF_F800_1000_1000),
            unload: None,
            unload_return: Some(Address(0xFFFF_FFFF_8020_0000)),
        };
        let loaded = Loaded {
            status: Status(0),
            driver: Some(driver),
            missing_imports: vec![],
            invalid_image: None,
            refused: None,
            findings: None,
            injection: None,
        };
        let expected = json!({"status": "0x00000000", "driver": {
            "name": "squall.sys", "base": "0xfffff80010000000", "size": 0x6000, "entry": "0xfffff80010001000",
            "unload": null, "unload_return": "0xffffffff80200000",
        }});
        assert_eq!(to_value(loaded).unwrap(), expected);
    }

    #[test]
    fn a_refused_load_names_every_missing_import() {
        let missing_imports = vec!["ntoskrnl.exe!KeNothing".into(), "HAL.dll!#7".into()];
        let refused = Loaded {
            status: Status(0xC000_0263),
            driver: None,
            missing_imports,
            invalid_image: None,
            refused: None,
            findings: None,
            injection: None,
        };
        let expected =
            json!({"status": "0xC0000263", "missing_imports": ["ntoskrnl.exe!KeNothing", "HAL.dll!#7"]});
        assert_eq!(to_value(refused).unwrap(), expected);
    }

    #[test]
    fn the_verifiers_settings_name_classes_and_flags() {
        let settings = Verifier {
            supported: vec![Class { flag: Flags(1), name: "Special pool" }],
            enabled: vec![Verified { driver: "squall.sys".into(), flags: Flags(0x209BB) }],
        };
        let expected = json!({
            "supported": [{"flag": "0x1", "name": "Special pool"}],
            "enabled": [{"driver": "squall.sys", "flags": "0x209bb"}],
        });
        assert_eq!(to_value(settings).unwrap(), expected);
    }

    #[test]
    fn a_driver_entry_that_was_made_to_fail_tells_where_and_what_it_kept() {
        let failed = Loaded {
            status: Status(0xC000_009A),
            driver: None,
            missing_imports: vec![],
            invalid_image: None,
            refused: None,
            findings: Some(vec![]),
            injection: Some(Injection { calls: 4, failed: Some("IoCreateDevice") }),
        };
        let expected = json!({"status": "0xC000009A", "findings": [],
            "injection": {"calls": 4, "failed": "IoCreateDevice"}});
        assert_eq!(to_value(failed).unwrap(), expected);
    }

    #[test]
    fn the_memory_in_use_is_numbers() {
        let memory = Memory {
            pool: PoolUse { blocks: 3, bytes: 96 },
            mapped_pages: 5,
            image_pages: 17,
            heap_bytes: 4096,
            free_pages: 1000,
        };
        let expected = json!({
            "pool": {"blocks": 3, "bytes": 96}, "mapped_pages": 5, "image_pages": 17, "heap_bytes": 4096, "free_pages": 1000,
        });
        assert_eq!(to_value(memory).unwrap(), expected);
    }

    #[test]
    fn states_are_spelled_as_the_joint_says() {
        assert_eq!(to_value(State::NotInstalled).unwrap(), json!("not-installed"));
        let unloaded = Unloaded { status: Status(0), refused: None, findings: Some(vec![]) };
        assert_eq!(to_value(unloaded).unwrap(), json!({"status": "0x00000000", "findings": []}));
    }
}
