//! From the bytes of a `.sys` to the bytes of an image in memory.
//!
//! A PE32+ file says where each of its sections goes relative to the image's base, which words must change when that
//! base is not the preferred one (base relocations), and which words receive the addresses of routines in other
//! modules (imports). [`Layout::parse`] checks the headers and the section table against the file; everything else is
//! read from the image once it is laid out, where the directories are plain offsets.
//!
//! Every byte is the driver author's, or an attacker's: each offset is checked before it is used, and what is wrong
//! is named in one line. What the real loader tolerates and this one does not: sections aligned to less than a page
//! (they could not have protections of their own), relocation types other than `DIR64`, images above 16 MiB.

mod headers;
mod image;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

pub use self::image::bind;

/// The largest image that is loaded.
pub const MAX_IMAGE: u32 = 16 << 20;
/// The most routines that an image may import.
pub const MAX_IMPORTS: usize = 4096;

/// Why a file is not an image that can run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No MZ or PE signature, or a header that does not fit the file.
    #[error("not a PE image: {0}")]
    NotPe(&'static str),
    /// Built for another processor.
    #[error("built for machine 0x{0:04X}, not for x64 (0x8664)")]
    Machine(u16),
    /// A PE, and not of the kind that the kernel loads.
    #[error("not a kernel-mode image: {0}")]
    Kind(&'static str),
    /// A size that makes no sense, or too much.
    #[error("the headers give {what} as 0x{value:X}: {why}")]
    Size {
        /// Which field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// Why that will not do.
        why: &'static str,
    },
    /// A section that is not where a section may be.
    #[error("section {index} ({name}) {why}")]
    Section {
        /// Its place in the section table, from 0.
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A directory that points nowhere, or holds nonsense.
    #[error("the {directory} at 0x{rva:X} {why}")]
    Directory {
        /// Which.
        directory: &'static str,
        /// Where.
        rva: u32,
        /// What is wrong.
        why: &'static str,
    },
}

/// What may be done with the pages of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The section may be written.
    pub write: bool,
    /// The section may be executed.
    pub execute: bool,
}

/// A section as it lies in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, at most eight bytes, lossy.
    pub name: String,
    /// Offset in the image; page aligned.
    pub rva: u32,
    /// Bytes in the image; whole pages.
    pub size: u32,
    /// Pages' protection.
    pub protection: Protection,
    /// Needed only while the driver initializes.
    pub discardable: bool,
    file_offset: usize,
    file_size: usize,
}

/// What an image asks of another module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module's file name.
    pub module: String,
    /// The routine.
    pub symbol: Symbol,
    /// Offset in the image of the word that receives the routine's address.
    pub slot: u32,
}

/// How an import names its routine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// By name.
    Name(String),
    /// By number, which the guest never resolves: nothing says what number a routine has.
    Ordinal(u16),
}

impl core::fmt::Display for Import {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.symbol {
            Symbol::Name(name) => write!(f, "{}!{name}", self.module),
            Symbol::Ordinal(ordinal) => write!(f, "{}!#{ordinal}", self.module),
        }
    }
}

/// The headers' plan of an image, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the whole image; whole pages.
    pub size: u32,
    /// Bytes of the headers at its start.
    pub headers: u32,
    /// Offset of `DriverEntry`.
    pub entry: u32,
    /// The sections, ascending.
    pub sections: Vec<Section>,
    preferred_base: u64,
    imports: u32,
    relocations: (u32, u32),
    load_config: (u32, u32),
}
impl Layout {
    /// The section that `rva` lies in.
    pub fn section_at(&self, rva: u32) -> Option<&Section> {
        self.sections.iter().find(|section| (section.rva..section.rva + section.size).contains(&rva))
    }
}

fn range(image: &[u8], rva: u32, size: u32) -> Option<&[u8]> {
    let start = rva as usize;
    image.get(start..start.checked_add(size as usize)?)
}

fn word32(image: &[u8], rva: u32) -> Option<u32> {
    Some(u32::from_le_bytes(range(image, rva, 4)?.try_into().ok()?))
}
