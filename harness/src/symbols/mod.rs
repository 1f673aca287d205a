//! From an offset in the driver's image to a function and a source line.
//!
//! Two kinds of compilers build drivers: those that write a PDB beside the image, and those, as mingw-w64's, that write DWARF into
//! it. Both come from whoever built the driver, and may be damaged; the libraries that read them are careful, and where one panics
//! all the same, the source line is lost and nothing else.

mod dwarf;
mod pdb;

use std::panic::AssertUnwindSafe;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use dwarf::resolve as resolve_within;
pub use pdb::resolve;

/// Where an address lies in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function, where its name is known.
    pub function: Option<String>,
    /// `file:line`, where it is known.
    pub source: Option<String>,
}

/// Why there are no symbols.
#[derive(Debug, Error)]
pub enum SymbolError {
    /// The file cannot be read.
    #[error("symbols: {0}")]
    Read(#[from] std::io::Error),
    /// Larger than any driver's.
    #[error("symbols: larger than {} MiB", pdb::LARGEST >> 20)]
    TooLarge,
    /// Of another kind, or damaged.
    #[error("symbols: {0}")]
    Damaged(String),
    /// A PDB of another build.
    #[error("symbols: the PDB is of another build than the image (its GUID differs)")]
    OtherBuild,
}

/// Whatever reads a file of somebody else's gives an error, and no panic.
fn careful<T>(read: impl FnOnce() -> Result<T, SymbolError>) -> Result<T, SymbolError> {
    std::panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(SymbolError::Damaged("damaged: its reader gave up".to_owned())))
}
