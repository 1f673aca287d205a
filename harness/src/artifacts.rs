//! What has to be built before a guest can be booted, as a list in a file.
//!
//! Whoever builds (`cargo xtask`) writes it; the tests that boot the real thing read it, and so need to know nothing
//! about building.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::toolbox::Qemu;

/// The environment variable that holds the list's path.
pub const VARIABLE: &str = "SQUALL_ARTIFACTS";

/// Everything that a run is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// Which QEMU.
    pub qemu: Qemu,
    /// The library that makes the card.
    pub device_library: PathBuf,
    /// The embedded guest's kernel.
    pub kernel: PathBuf,
    /// The driver as it should be.
    pub driver: Driver,
    /// The driver with the catalogue of defects in it.
    pub defects: Driver,
    /// The catalogue.
    pub catalogue: PathBuf,
    /// The folder of the drivers that are written in C, each `NAME.sys`.
    pub c_drivers: PathBuf,
    /// The driver of the rules that are written in Rust.
    pub rust_rules: Driver,
}

/// A driver and its symbols.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// The image.
    pub image: PathBuf,
    /// Its PDB.
    pub symbols: PathBuf,
}

/// A list that cannot be had.
#[derive(Debug, Error)]
pub enum ArtifactsError {
    /// Nobody says where it is.
    #[error("{VARIABLE} is not set: run the tests that boot a guest with `cargo xtask test`")]
    Unset,
    /// It cannot be read.
    #[error("{VARIABLE} {}: {source}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no such list.
    #[error("{VARIABLE} {}: {source}", path.display())]
    Json {
        /// Where it is.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

impl Artifacts {
    /// The list that the environment names.
    pub fn from_environment() -> Result<Self, ArtifactsError> {
        Self::read(Path::new(&std::env::var_os(VARIABLE).ok_or(ArtifactsError::Unset)?))
    }

    /// A list in a file.
    pub fn read(path: &Path) -> Result<Self, ArtifactsError> {
        let bytes =
            std::fs::read(path).map_err(|source| ArtifactsError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| ArtifactsError::Json { path: path.to_owned(), source })
    }
}
