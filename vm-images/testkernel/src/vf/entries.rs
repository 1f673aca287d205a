//! What a driver enters into the system's books, and has to take out again: names in the registry's DeviceMap, and counts of
//! its devices.
//!
//! The books are the system's, and nobody signs an entry. So what DriverEntry adds is compared with what is there when
//! Unload has returned; what a driver enters later is not seen.
//!
//! Source: *Releasing Driver-Allocated Resources* (names in the DeviceMap), *Releasing Device and Controller Objects*
//! (IoGetConfigurationInformation).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use squall_testkernel_pure::registry::Value;
use squall_testkernel_pure::utf16;

use crate::cm;
use crate::io::config;
use crate::ke::lock::SpinLock;
use crate::selftest::{check, kernel_test};

const DEVICE_MAP: &str = r"\Registry\Machine\Hardware\DeviceMap";

/// The books at one moment.
#[derive(Debug)]
pub struct Snapshot {
    names: Vec<String>,
    counts: [(&'static str, u32); 8],
}

impl Snapshot {
    /// Now.
    pub fn take() -> Self {
        let names = cm::with(|registry| {
            let Ok(map) = registry.open(None, &utf16::encode(DEVICE_MAP)) else { return Vec::new() };
            let name = |(path, value): (Vec<u16>, &Value)| {
                format!("{}\\{}", utf16::display(&path), utf16::display(&value.name))
            };
            registry.values_below(map).into_iter().map(name).collect()
        });
        Self { names, counts: config::counts() }
    }
}

/// What one driver's DriverEntry entered.
struct Entered {
    names: Vec<String>,
    counts: [i64; 8],
    before_unload: Option<[(&'static str, u32); 8]>,
}

/// By address of the driver object.
static ENTERED: SpinLock<BTreeMap<usize, Entered>> = SpinLock::new(BTreeMap::new());

fn difference(after: &[(&'static str, u32); 8], before: &[(&'static str, u32); 8]) -> [i64; 8] {
    core::array::from_fn(|index| i64::from(after[index].1) - i64::from(before[index].1))
}

/// The DriverEntry of `driver` has returned; `before` was before it was called.
pub fn entry_returned(driver: usize, before: &Snapshot) {
    let mut after = Snapshot::take();
    after.names.retain(|name| !before.names.contains(name));
    let counts = difference(&after.counts, &before.counts);
    ENTERED.lock().insert(driver, Entered { names: after.names, counts, before_unload: None });
}

/// Unload of `driver` is about to be called.
pub fn unload_begins(driver: usize) {
    let now = config::counts();
    if let Some(entered) = ENTERED.lock().get_mut(&driver) {
        entered.before_unload = Some(now);
    }
}

/// What `driver` has entered and not taken out: names in the DeviceMap, and counts with what they are too high by. It is
/// told once.
pub fn left(driver: usize) -> (Vec<String>, Vec<(&'static str, i64)>) {
    let now = Snapshot::take();
    let Some(entered) = ENTERED.lock().remove(&driver) else { return (Vec::new(), Vec::new()) };
    let names = entered.names.into_iter().filter(|name| now.names.contains(name)).collect();
    let by_unload = entered.before_unload.map_or([0; 8], |before| difference(&now.counts, &before));
    let counts = (0..8).map(|index| (now.counts[index].0, entered.counts[index] + by_unload[index]));
    (names, counts.filter(|(_, left)| *left > 0).collect())
}

kernel_test! {
    fn what_driver_entry_entered_is_missed_when_unload_leaves_it() {
        const DRIVER: usize = 0x1230;
        let set = |name: &str| {
            cm::with(|registry| {
                let (key, _) = registry.create(None, &utf16::encode(DEVICE_MAP))?;
                registry.set_value(key, &utf16::encode(name), 1, b"")
            })
        };
        for leaves in [false, true] {
            let before = Snapshot::take();
            check!(set("EntriesTest").is_ok());
            change_tapes(1);
            entry_returned(DRIVER, &before);
            unload_begins(DRIVER);
            if !leaves {
                let key = cm::with(|registry| {
                    let key = registry.open(None, &utf16::encode(DEVICE_MAP)).ok()?;
                    registry.delete_value(key, &utf16::encode("EntriesTest")).then_some(key)
                });
                check!(key.is_some());
                change_tapes(-1);
            }
            let (names, counts) = left(DRIVER);
            check!(names.len() == usize::from(leaves) && counts.len() == usize::from(leaves));
            check!(counts.iter().all(|&count| count == ("TapeCount", 1)));
            check!(left(DRIVER).0.is_empty());
        }
        change_tapes(-1);
    }
}

/// Changes the number of tapes, as a driver would.
fn change_tapes(by: i32) {
    // SAFETY: the counts are the system's, and this is how drivers change them.
    unsafe {
        let counts = config::IoGetConfigurationInformation();
        (*counts).TapeCount = (*counts).TapeCount.wrapping_add_signed(by);
    }
}
