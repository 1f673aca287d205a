//! How the card is attached to the machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the card is attached to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bus {
    /// A legacy ISA card: fixed ports, an edge-triggered line.
    #[serde(rename = "isa")]
    Isa,
    /// A PCI card that has nothing but INTA#, a level.
    #[serde(rename = "pci-intx")]
    PciIntx,
    /// A PCI card with MSI.
    #[serde(rename = "pci-msi")]
    PciMsi,
    /// A PCI card with MSI and MSI-X, of which a driver takes MSI-X.
    #[serde(rename = "pci-msix")]
    PciMsix,
}

/// No bus of that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no bus: isa, pci-intx, pci-msi or pci-msix")]
pub struct UnknownBus(String);

impl Bus {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Isa, Self::PciIntx, Self::PciMsi, Self::PciMsix];

    /// The name in scenarios, flags and verdicts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isa => "isa",
            Self::PciIntx => "pci-intx",
            Self::PciMsi => "pci-msi",
            Self::PciMsix => "pci-msix",
        }
    }

    /// Whether an interrupt stays asserted until the device is served, instead of being an edge or a message.
    pub fn is_level(self) -> bool {
        self == Self::PciIntx
    }
}

impl FromStr for Bus {
    type Err = UnknownBus;

    fn from_str(text: &str) -> Result<Self, UnknownBus> {
        Self::ALL.into_iter().find(|bus| bus.name() == text).ok_or_else(|| UnknownBus(text.to_owned()))
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
