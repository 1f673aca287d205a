//! Services: drivers by the name under which they are installed, and where each is in its life.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use squall_testkernel_pure::agent::answers::{Address, Driver, Finding, ServiceStatus, State};
use squall_testkernel_pure::agent::verbs::Parameter;
use squall_testkernel_pure::registry::RegistryError;
use squall_testkernel_pure::utf16;

use super::FILES;
use crate::cm;
use crate::io::driver::{self, Loaded, Refusal};
use crate::io::unload;
use crate::ke::call;
use crate::ke::lock::SpinLock;
use crate::ldr::inject::Watch;
use crate::nt::{REG_DWORD, REG_EXPAND_SZ, REG_SZ};

/// The prefix that Windows' service manager gives to a driver's path.
const PATH_PREFIX: &str = r"\??\";
/// `SERVICE_KERNEL_DRIVER`, `SERVICE_DEMAND_START`, `SERVICE_ERROR_NORMAL`.
const SERVICE_VALUES: [(&str, u32); 3] = [("Type", 1), ("Start", 3), ("ErrorControl", 1)];

#[derive(Clone)]
enum Life {
    Installed,
    Loading,
    Loaded(Loaded),
    Unloading(Loaded),
    Unloaded,
}

/// By upper-case name.
static SERVICES: SpinLock<BTreeMap<String, Life>> = SpinLock::new(BTreeMap::new());

/// Why a service was not loaded.
pub enum NotLoaded {
    /// It is not there, or not in a state to be loaded.
    Refused(String),
    /// The loader or the driver said no.
    Driver(Refusal),
}

/// Writes a service's key and parameters.
pub fn install(service: &str, image: &str, parameters: &[(String, Parameter)]) -> Result<(), RegistryError> {
    let key = cm::service_key(service)?;
    cm::with(|registry| {
        for (name, value) in SERVICE_VALUES {
            registry.set_value(key, &utf16::encode(name), REG_DWORD, &value.to_le_bytes())?;
        }
        let path = format!("{PATH_PREFIX}{image}");
        registry.set_value(key, &utf16::encode("ImagePath"), REG_EXPAND_SZ, &terminated(&path))?;
        let (key, _) = registry.create(Some(key), &utf16::encode("Parameters"))?;
        for (name, value) in parameters {
            let (kind, data) = match value {
                Parameter::Dword(number) => (REG_DWORD, number.to_le_bytes().to_vec()),
                Parameter::Sz(text) => (REG_SZ, terminated(text)),
            };
            registry.set_value(key, &utf16::encode(name), kind, &data)?;
        }
        Ok(())
    })?;
    SERVICES.lock().entry(service.to_ascii_uppercase()).or_insert(Life::Installed);
    Ok(())
}

/// Takes note of a service that a driver has written a key for.
pub fn adopt(service: &str) {
    SERVICES.lock().entry(service.to_ascii_uppercase()).or_insert(Life::Installed);
}

/// Whether a service's driver is loaded.
pub fn is_loaded(service: &str) -> bool {
    matches!(SERVICES.lock().get(&service.to_ascii_uppercase()), Some(Life::Loaded(_)))
}

/// A string as the registry keeps it.
fn terminated(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// The path that a service's key gives for its image.
fn image_path(service: &str) -> Option<String> {
    let key = cm::service_key(service).ok()?;
    let data = cm::with(|registry| registry.value(key, &utf16::encode("ImagePath")).cloned())?.data;
    let units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let path = utf16::display(units.strip_suffix(&[0]).unwrap_or(&units));
    let prefixes =
        [(PATH_PREFIX, ""), (r"\SystemRoot\", r"C:\Windows\"), (r"System32\", r"C:\Windows\System32\")];
    let whole = prefixes.iter().find_map(|(prefix, stands_for)| {
        let start = path.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix))?;
        Some(format!("{stands_for}{}", &path[start.len()..]))
    });
    Some(whole.unwrap_or(path))
}

/// Loads a service's driver, where `watch` is given with the calls of its DriverEntry watched. On the thread that DriverEntry
/// is to run on.
pub fn load(service: &str, watch: Option<&Arc<Watch>>) -> Result<Driver, NotLoaded> {
    let name = service.to_ascii_uppercase();
    let before = {
        let mut services = SERVICES.lock();
        let life = services
            .get_mut(&name)
            .ok_or_else(|| NotLoaded::Refused(format!("{service} is not installed")))?;
        match life {
            Life::Installed | Life::Unloaded => core::mem::replace(life, Life::Loading),
            Life::Loading => return Err(NotLoaded::Refused(format!("{service} is being loaded"))),
            Life::Loaded(_) => return Err(NotLoaded::Refused(format!("{service} is loaded"))),
            Life::Unloading(_) => return Err(NotLoaded::Refused(format!("{service} is being unloaded"))),
        }
    };
    let loaded = load_image(service, watch);
    let after = match &loaded {
        Ok(loaded) => Life::Loaded(loaded.clone()),
        Err(_) => before,
    };
    SERVICES.lock().insert(name, after);
    loaded.map(|loaded| describe(&loaded))
}

fn load_image(service: &str, watch: Option<&Arc<Watch>>) -> Result<Loaded, NotLoaded> {
    let path =
        image_path(service).ok_or_else(|| NotLoaded::Refused(format!("{service} has no ImagePath")))?;
    let file = FILES.lock().contents(&path).map_err(|error| NotLoaded::Refused(format!("{error}")))?;
    driver::load(service, &path, &file, watch).map_err(NotLoaded::Driver)
}

/// Why a driver was not unloaded.
#[derive(Debug)]
pub struct NotUnloaded {
    /// In words.
    pub why: String,
    /// What was left behind, where Unload has run all the same.
    pub findings: Option<Vec<Finding>>,
}

impl From<String> for NotUnloaded {
    fn from(why: String) -> Self {
        Self { why, findings: None }
    }
}

/// Unloads a service's driver; gives what it left behind. On the thread that Unload is to run on.
pub fn unload(service: &str) -> Result<Vec<Finding>, NotUnloaded> {
    let name = service.to_ascii_uppercase();
    let (loaded, routine) = {
        let mut services = SERVICES.lock();
        let life = services.get_mut(&name).ok_or_else(|| format!("{service} is not installed"))?;
        let Life::Loaded(loaded) = life else { return Err(format!("{service} is not loaded").into()) };
        let loaded = loaded.clone();
        let routine = unload::begin(&loaded)?;
        *life = Life::Unloading(loaded.clone());
        (loaded, routine)
    };
    let (findings, held) = unload::run(&loaded, routine);
    SERVICES.lock().insert(name, Life::Unloaded);
    match held {
        None => Ok(findings),
        Some(why) => Err(NotUnloaded { why, findings: Some(findings) }),
    }
}

/// Where a service is in its life.
pub fn status(service: &str) -> ServiceStatus {
    let life = SERVICES.lock().get(&service.to_ascii_uppercase()).cloned();
    let (state, loaded) = match life {
        None => (State::NotInstalled, None),
        Some(Life::Installed | Life::Loading) => (State::Installed, None),
        Some(Life::Loaded(loaded)) => (State::Loaded, Some(loaded)),
        Some(Life::Unloading(loaded)) => (State::Unloading, Some(loaded)),
        Some(Life::Unloaded) => (State::Unloaded, None),
    };
    ServiceStatus { state, driver: loaded.as_ref().map(describe) }
}

fn describe(loaded: &Loaded) -> Driver {
    let unload = loaded.unload.map(|routine| Address(routine as usize as u64));
    Driver {
        name: loaded.name.clone(),
        base: Address(loaded.range.start),
        size: (loaded.range.end - loaded.range.start) as u32,
        entry: Address(loaded.entry),
        unload_return: unload.map(|_| Address(call::unload_return_address())),
        unload,
    }
}
