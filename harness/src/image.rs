//! The driver's image, looked at before anything boots.
//!
//! A `.sys` file is hostile until it is read: what is not a 64-bit native PE image is refused here in one line that
//! names the file, the place and what is wrong there, and neither QEMU nor a run directory comes into being for it.
//! Whether its imports can be satisfied is the guest's to say.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use object::{
    LittleEndian as LE, Object,
    pe::{self, ImageNtHeaders64},
    read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile, optional_header_magic},
};
use thiserror::Error;

/// The largest image that is read: far above any driver, far below what would hurt.
pub const LARGEST_IMAGE: u64 = 64 << 20;

/// A driver's image that passed.
#[derive(Clone, Debug)]
pub struct DriverImage {
    /// The file it was read from.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The identity of the PDB that belongs to it, where it names one.
    pub pdb: Option<PdbIdentity>,
}

/// What ties an image to its PDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdbIdentity {
    /// The GUID, as the image stores it (first three fields little-endian).
    pub guid: [u8; 16],
}

/// A file that is no driver for these guests.
#[derive(Debug, Error)]
#[error("driver {}: {defect}", path.display())]
pub struct ImageError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it, and where.
    #[source]
    pub defect: ImageDefect,
}

/// What is wrong with a file, and where.
#[derive(Debug, Error)]
pub enum ImageDefect {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// It is a directory, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Larger than any driver.
    #[error("is larger than {} MiB", LARGEST_IMAGE >> 20)]
    TooLarge,
    /// No `MZ`.
    #[error("is not a PE image: no MZ at offset 0, it begins with {0}")]
    NoDosHeader(String),
    /// It ends inside a header.
    #[error("is a truncated PE image: {what} at offset {at:#x} needs {need} bytes, the file has {size}")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// How long it is.
        need: u64,
        /// How long the file is.
        size: u64,
    },
    /// No `PE\0\0`.
    #[error("is not a PE image: no PE signature at offset {0:#x}, where its DOS header points")]
    NoPeSignature(u32),
    /// Another processor's, or 32-bit.
    #[error("is for machine {machine:#06x} ({name}); a driver for x86_64 (0x8664) is needed")]
    Machine {
        /// The COFF machine number.
        machine: u16,
        /// Its name.
        name: &'static str,
    },
    /// PE32 in an x86_64 image.
    #[error("has an optional header of kind {0:#x}; PE32+ (0x20b) is needed")]
    OptionalHeader(u16),
    /// A program or a DLL for user mode.
    #[error("is for subsystem {0}; a driver's is 1 (native): is this a program?")]
    Subsystem(u16),
    /// Nowhere to begin.
    #[error("has no entry point inside its image (entry {entry:#x}, image size {size:#x})")]
    EntryPoint {
        /// Relative address of the entry point.
        entry: u32,
        /// Size of the image.
        size: u32,
    },
    /// A section lies outside.
    #[error("section {name}: {what} {start:#x} to {end:#x} lies outside {whole}, which ends at {limit:#x}")]
    Section {
        /// The section's name.
        name: String,
        /// Its file bytes or its addresses.
        what: &'static str,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// The file or the image.
        whole: &'static str,
        /// Where that ends.
        limit: u64,
    },
    /// Anything else that the PE parser found.
    #[error("is not a valid PE image: {0}")]
    Invalid(#[source] object::read::Error),
}

impl DriverImage {
    /// Reads a driver's image and refuses what cannot be one.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let in_file = |defect| ImageError { path: path.to_owned(), defect };
        let bytes = read_bounded(path).map_err(in_file)?;
        let pdb = check(&bytes).map_err(in_file)?;
        Ok(Self { path: path.to_owned(), bytes, pdb })
    }

    /// The file's name, as it will be in the guest.
    pub fn file_name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| "driver.sys".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// Whether the code before this relative address is a call: otherwise it is no return address, whatever a stack says.
pub fn follows_call(image: &[u8], address: u32) -> bool {
    let Ok(file) = PeFile::<ImageNtHeaders64, _>::parse(image) else { return false };
    let Some((section, base)) = file.section_table().pe_data_containing(image, address.saturating_sub(1))
    else {
        return false;
    };
    let Some(before) = section.get(..address.saturating_sub(base) as usize) else { return false };
    // From the shortest call to the longest; a relative one is E8 and four bytes.
    (2..=7).filter_map(|length| before.len().checked_sub(length).map(|at| &before[at..])).any(|code| {
        (code[0] == 0xE8 && code.len() == 5) || indirect_call_length(code[0], code[1]) == Some(code.len())
    })
}

/// The length of `call` through a register or memory (FF /2), from its first two bytes.
fn indirect_call_length(opcode: u8, operands: u8) -> Option<usize> {
    let (mode, extension, base) = (operands >> 6, operands >> 3 & 7, operands & 7);
    if opcode != 0xFF || extension != 2 {
        return None;
    }
    // A base of 4 means one more byte, which scales an index; a base of 5 without displacement is RIP and 32 bits.
    let index = usize::from(mode != 3 && base == 4);
    let displacement = match (mode, base) {
        (0, 5) | (2, _) => 4,
        (1, _) => 1,
        _ => 0,
    };
    Some(2 + index + displacement)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ImageDefect> {
    // Asked before opening: opening a pipe would wait for its writer.
    let about = std::fs::metadata(path).map_err(ImageDefect::Unreadable)?;
    if !about.is_file() {
        return Err(ImageDefect::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_IMAGE + 1).read_to_end(&mut bytes))
        .map_err(ImageDefect::Unreadable)?;
    match bytes.len() as u64 {
        0 => Err(ImageDefect::Empty),
        size if size > LARGEST_IMAGE => Err(ImageDefect::TooLarge),
        _ => Ok(bytes),
    }
}

/// The checks, from the first byte inwards; each names its place.
fn check(bytes: &[u8]) -> Result<Option<PdbIdentity>, ImageDefect> {
    let size = bytes.len() as u64;
    if !bytes.starts_with(b"MZ") {
        return Err(ImageDefect::NoDosHeader(beginning(bytes)));
    }
    let fits = |what, at: u64, need: u64| {
        if at.checked_add(need).is_some_and(|end| end <= size) {
            Ok(())
        } else {
            Err(ImageDefect::Truncated { what, at, need, size })
        }
    };
    fits("the DOS header", 0, size_of::<pe::ImageDosHeader>() as u64)?;
    let dos = pe::ImageDosHeader::parse(bytes).map_err(ImageDefect::Invalid)?;
    let at = dos.nt_headers_offset();
    let headers = u64::from(at);
    fits("the PE signature and file header", headers, 24)?;
    let start = headers as usize;
    if !bytes[start..].starts_with(b"PE\0\0") {
        return Err(ImageDefect::NoPeSignature(at));
    }
    let machine = u16::from_le_bytes([bytes[start + 4], bytes[start + 5]]);
    if machine != 0x8664 {
        return Err(ImageDefect::Machine { machine, name: machine_name(machine) });
    }
    fits("the optional header", headers + 24, 112)?;
    let magic = optional_header_magic(bytes).map_err(ImageDefect::Invalid)?;
    if magic != 0x20B {
        return Err(ImageDefect::OptionalHeader(magic));
    }
    let sections = u64::from(u16::from_le_bytes([bytes[start + 6], bytes[start + 7]]));
    let optional = u64::from(u16::from_le_bytes([bytes[start + 20], bytes[start + 21]]));
    fits("the section table", headers + 24 + optional, sections * 40)?;

    let file = PeFile::<ImageNtHeaders64, _>::parse(bytes).map_err(ImageDefect::Invalid)?;
    let optional = file.nt_headers().optional_header();
    let subsystem = optional.subsystem;
    if subsystem.get(LE) != pe::IMAGE_SUBSYSTEM_NATIVE {
        return Err(ImageDefect::Subsystem(subsystem.get(LE).0));
    }
    let (entry, image) = (optional.address_of_entry_point(), optional.size_of_image());
    if entry == 0 || entry >= image {
        return Err(ImageDefect::EntryPoint { entry, size: image });
    }
    for section in file.section_table().iter() {
        let name = || String::from_utf8_lossy(section.raw_name()).escape_debug().to_string();
        let inside = |what, start: u32, length: u32, whole, limit: u64| {
            let (start, end) = (u64::from(start), u64::from(start) + u64::from(length));
            if end > limit {
                return Err(ImageDefect::Section { name: name(), what, start, end, whole, limit });
            }
            Ok(())
        };
        let raw = section.size_of_raw_data.get(LE);
        if raw != 0 {
            inside("file bytes", section.pointer_to_raw_data.get(LE), raw, "the file", size)?;
        }
        let (address, length) = section.pe_address_range();
        inside("addresses", address, length, "the image", image.into())?;
    }
    // A damaged debug directory costs the source line, not the run.
    Ok(file.pdb_info().ok().flatten().map(|pdb| PdbIdentity { guid: pdb.guid() }))
}

fn beginning(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(8)];
    if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        format!("the text {:?}", String::from_utf8_lossy(head))
    } else {
        format!("the bytes {}", head.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
    }
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        0x014C => "32-bit x86",
        0x01C4 => "32-bit ARM",
        0xAA64 => "ARM64",
        0x0200 => "Itanium",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pe::PeBuilder;

    fn why(bytes: &[u8]) -> String {
        check(bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_small_driver_passes() {
        check(&PeBuilder::driver().build()).unwrap();
    }

    #[test]
    fn what_is_not_pe_says_how_it_begins() {
        assert!(why(b"hello, world").contains(r#"the text "hello, w""#));
        assert!(why(b"\x7fELF\x02\x01\x01\x00").contains("7f 45 4c 46"));
    }

    #[test]
    fn a_32_bit_driver_is_named_as_such() {
        let message = why(&PeBuilder { machine: 0x014C, ..PeBuilder::driver() }.build());
        assert!(message.contains("32-bit x86"), "{message}");
    }

    #[test]
    fn every_truncation_is_refused_and_none_panics() {
        let whole = PeBuilder::driver().build();
        for length in 2..whole.len() {
            check(&whole[..length]).unwrap_err();
        }
        assert!(why(&whole[..0x40]).contains("the PE signature"), "{}", why(&whole[..0x40]));
        assert!(why(&whole[..0x60]).contains("optional header"), "{}", why(&whole[..0x60]));
        assert!(why(&whole[..whole.len() - 1]).contains("outside the file"));
    }

    #[test]
    fn any_flipped_byte_is_survived() {
        let whole = PeBuilder::driver().build();
        for position in 0..whole.len() {
            for value in [0x00, 0x7F, 0x80, 0xFF] {
                let mut broken = whole.clone();
                broken[position] = value;
                let _ = check(&broken);
            }
        }
    }

    #[test]
    fn only_what_follows_a_call_is_a_return_address() {
        // call +0; call rax; call [rip + 0]; nop
        let code = vec![0xE8, 0, 0, 0, 0, 0xFF, 0xD0, 0xFF, 0x15, 0, 0, 0, 0, 0x90];
        let image = PeBuilder { code, ..PeBuilder::driver() }.build();
        let returns: Vec<_> = (0..16).filter(|offset| follows_call(&image, 0x1000 + offset)).collect();
        assert_eq!(returns, [5, 7, 13]);
        for address in [0, 1, 0xFFF, 0x2000, u32::MAX] {
            assert!(!follows_call(&image, address));
        }
        assert!(!follows_call(b"no image", 0x1005));
    }

    #[test]
    fn a_section_outside_the_file_is_named() {
        let message = why(&PeBuilder { section_file_offset: 0x10_0000, ..PeBuilder::driver() }.build());
        assert!(message.contains(".text") && message.contains("0x100000"), "{message}");
    }

    #[test]
    fn a_section_table_outside_the_file_is_refused() {
        let message = why(&PeBuilder { sections_claimed: 5_000, ..PeBuilder::driver() }.build());
        assert!(message.contains("section table"), "{message}");
    }

    #[test]
    fn a_program_is_not_a_driver() {
        let message = why(&PeBuilder { subsystem: 3, ..PeBuilder::driver() }.build());
        assert!(message.contains("subsystem 3"), "{message}");
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = DriverImage::read(&folder.path().join("missing.sys")).unwrap_err().to_string();
        assert!(missing.contains("missing.sys") && missing.contains("No such file"), "{missing}");
        assert!(DriverImage::read(folder.path()).unwrap_err().to_string().contains("regular file"));
        let empty = folder.path().join("empty.sys");
        std::fs::write(&empty, b"").unwrap();
        assert!(DriverImage::read(&empty).unwrap_err().to_string().ends_with("is empty"));
    }
}
