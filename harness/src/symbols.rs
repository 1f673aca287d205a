//! From an offset in the driver's image to a function and a source line.
//!
//! The PDB comes from whoever built the driver and may be of another build: it is used only where its GUID is the one
//! that the image names. It may also be damaged; the libraries that read it are careful, and where one panics all the
//! same, the source line is lost and nothing else.

use std::{fs::File, panic::AssertUnwindSafe, path::Path};

use pdb_addr2line::{ContextPdbData, pdb::PDB};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::image::PdbIdentity;

/// The largest PDB that is read.
const LARGEST_PDB: u64 = 1 << 30;

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
    #[error("symbols: larger than {} MiB", LARGEST_PDB >> 20)]
    TooLarge,
    /// Not a PDB, or a damaged one.
    #[error("symbols: {0}")]
    Pdb(String),
    /// A PDB of another build.
    #[error("symbols: the PDB is of another build than the image (its GUID differs)")]
    OtherBuild,
}

/// The frames of each offset, innermost (inlined) first; an offset outside every function has none.
pub fn resolve(
    pdb: &Path,
    identity: Option<PdbIdentity>,
    offsets: &[u32],
) -> Result<Vec<Vec<Frame>>, SymbolError> {
    let file = File::open(pdb)?;
    if file.metadata()?.len() > LARGEST_PDB {
        return Err(SymbolError::TooLarge);
    }
    std::panic::catch_unwind(AssertUnwindSafe(|| read(file, identity, offsets)))
        .unwrap_or_else(|_| Err(SymbolError::Pdb("damaged: its reader gave up".to_owned())))
}

fn read(file: File, identity: Option<PdbIdentity>, offsets: &[u32]) -> Result<Vec<Vec<Frame>>, SymbolError> {
    let mut pdb = PDB::open(file).map_err(|error| SymbolError::Pdb(error.to_string()))?;
    let guid = pdb.pdb_information().map_err(|error| SymbolError::Pdb(error.to_string()))?.guid;
    if identity.is_some_and(|identity| identity.guid != guid.to_bytes_le()) {
        return Err(SymbolError::OtherBuild);
    }
    let failed = |error: pdb_addr2line::Error| SymbolError::Pdb(error.to_string());
    let data = ContextPdbData::try_from_pdb(pdb).map_err(failed)?;
    let context = data.make_context().map_err(failed)?;
    offsets
        .iter()
        .map(|&offset| {
            let frames =
                context.find_frames(offset).map_err(failed)?.map_or_else(Vec::new, |found| found.frames);
            Ok(frames.into_iter().map(frame).collect())
        })
        .collect()
}

fn frame(frame: pdb_addr2line::Frame<'_>) -> Frame {
    let source = frame.file.map(|file| match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => file.into_owned(),
    });
    Frame { function: frame.function, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pdb_is_an_error_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("driver.pdb");
        assert!(matches!(resolve(&file, None, &[0]), Err(SymbolError::Read(_))));
        for content in [&b""[..], b"hello", b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0", &[0xFF; 4096]] {
            std::fs::write(&file, content).unwrap();
            assert!(matches!(resolve(&file, None, &[0, u32::MAX]), Err(SymbolError::Pdb(_))), "{content:?}");
        }
    }
}
