//! Symbols in a PDB: what Microsoft's tools and Rust's make.
//!
//! The PDB comes from whoever built the driver and may be of another build: it is used only where its GUID is the one
//! that the image names.

use std::{fs::File, path::Path};

use pdb_addr2line::{ContextPdbData, pdb::PDB};

use super::{Frame, SymbolError, careful};
use crate::image::PdbIdentity;

/// The largest PDB that is read.
pub(super) const LARGEST: u64 = 1 << 30;

/// The frames of each offset, innermost (inlined) first; an offset outside every function has none.
pub fn resolve(
    pdb: &Path,
    identity: Option<PdbIdentity>,
    offsets: &[u32],
) -> Result<Vec<Vec<Frame>>, SymbolError> {
    let file = File::open(pdb)?;
    if file.metadata()?.len() > LARGEST {
        return Err(SymbolError::TooLarge);
    }
    careful(|| read(file, identity, offsets))
}

fn read(file: File, identity: Option<PdbIdentity>, offsets: &[u32]) -> Result<Vec<Vec<Frame>>, SymbolError> {
    let mut pdb = PDB::open(file).map_err(|error| SymbolError::Damaged(error.to_string()))?;
    let guid = pdb.pdb_information().map_err(|error| SymbolError::Damaged(error.to_string()))?.guid;
    if identity.is_some_and(|identity| identity.guid != guid.to_bytes_le()) {
        return Err(SymbolError::OtherBuild);
    }
    let failed = |error: pdb_addr2line::Error| SymbolError::Damaged(error.to_string());
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
            assert!(
                matches!(resolve(&file, None, &[0, u32::MAX]), Err(SymbolError::Damaged(_))),
                "{content:?}"
            );
        }
    }
}
