//! Guest profiles: what differs between guests, as data.
//!
//! The rest of the harness never asks which guest it has before it; it does what the profile says. A profile is a
//! TOML file beside the sources, compiled in.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::scenario::Bus;

/// Every profile that is compiled in, by name.
const PROFILES: &[(&str, &str)] = &[("testkernel", include_str!("../profiles/testkernel.toml"))];

/// What the harness has to know about a guest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestProfile {
    /// The name by which a scenario asks for it.
    pub name: String,
    /// One line on what it is, for people.
    pub description: String,
    /// How many processors it can run on.
    pub processors: Processors,
    /// The buses on which it can drive the card.
    pub buses: Vec<Bus>,
    /// Whether it has a Driver Verifier.
    pub verifier: bool,
    /// Whether it reports, as findings that say so, what Windows would let pass.
    pub stricter: bool,
    /// The folder in which a driver's image is put.
    pub driver_directory: String,
    /// The item of QEMU's firmware configuration in which the guest looks for files: an archive ([`handover`](crate::handover)).
    #[serde(default)]
    pub files_item: Option<String>,
    /// Bugcheck codes that mean a fault of the guest itself.
    #[serde(default)]
    pub own_faults: Vec<u32>,
    /// The emulated machine.
    pub machine: Machine,
    /// What is started on it.
    pub boot: Boot,
    /// Debug ports and the run directory's files that their bytes go to.
    #[serde(default)]
    pub logs: BTreeMap<String, u16>,
}

/// An inclusive range of processor counts.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processors {
    /// The fewest.
    pub least: u8,
    /// The most.
    pub most: u8,
}

/// The emulated machine, in QEMU's own words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `-M`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `-accel`.
    pub accelerator: String,
    /// `-cpu`, where it is not QEMU's default.
    #[serde(default)]
    pub processor: Option<String>,
    /// `-m`, in MiB.
    pub memory_mib: u32,
    /// `-bios`, where this QEMU has a file of that name.
    #[serde(default)]
    pub firmware: Option<String>,
    /// `-device`, each.
    #[serde(default)]
    pub devices: Vec<String>,
}

/// What is started.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Whether a kernel file is handed to QEMU (`-kernel`).
    pub kernel: bool,
    /// `-append`, where not empty.
    #[serde(default)]
    pub command_line: String,
}

/// A guest that cannot be had.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// No profile of that name.
    #[error("guest {name:?} is not built yet; this build has: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The compiled-in file is wrong: a bug of the harness.
    #[error("guest profile {name}: {source}")]
    Invalid {
        /// Which profile.
        name: &'static str,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
}

impl GuestProfile {
    /// The profile of that name.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let Some(&(name, text)) = PROFILES.iter().find(|(known, _)| *known == name) else {
            let known = PROFILES.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            return Err(ProfileError::Unknown { name: name.to_owned(), known });
        };
        toml::from_str(text).map_err(|source| ProfileError::Invalid { name, source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_compiled_in_profile_is_valid_and_named_after_itself() {
        for (name, _) in PROFILES {
            let profile = GuestProfile::named(name).unwrap();
            assert_eq!(profile.name, *name);
            assert!(profile.processors.least >= 1 && profile.processors.least <= profile.processors.most);
            assert!(!profile.buses.is_empty());
        }
    }

    #[test]
    fn an_unknown_guest_is_refused_with_the_known_ones() {
        let error = GuestProfile::named("solaris").unwrap_err().to_string();
        assert!(error.contains("solaris") && error.contains("testkernel"), "{error}");
    }
}
