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

use alloc::string::String;
use alloc::vec::Vec;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{
    DataDirectories, ImageNtHeaders, ImageThunkData, ImportTable, RelocationBlockIterator, SectionTable,
};

const PAGE: u32 = 4096;
/// The largest image that is loaded.
pub const MAX_IMAGE: u32 = 16 << 20;
/// The most routines that an image may import.
pub const MAX_IMPORTS: usize = 4096;
/// The most modules that an image may import from.
const MAX_IMPORT_MODULES: usize = 64;
/// The most sections that the PE format's own loader takes.
const MAX_SECTIONS: usize = 96;
/// The longest module or routine name.
const MAX_NAME: usize = 512;

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
    /// Reads and checks the headers and section table of `file`.
    pub fn parse(file: &[u8]) -> Result<Self, Invalid> {
        if file.is_empty() {
            return Err(Invalid::NotPe("the file is empty"));
        }
        let dos = pe::ImageDosHeader::parse(file).map_err(|_| Invalid::NotPe("no MZ header at its start"))?;
        let (signature, machine) = signature_and_machine(file, dos.nt_headers_offset())
            .ok_or(Invalid::NotPe("its MZ header points past the end of the file"))?;
        if signature != pe::IMAGE_NT_SIGNATURE {
            return Err(Invalid::NotPe("no PE signature where its MZ header points"));
        }
        if machine != pe::IMAGE_FILE_MACHINE_AMD64.0 {
            return Err(Invalid::Machine(machine));
        }
        let mut offset = u64::from(dos.nt_headers_offset());
        let (nt, directories) = pe::ImageNtHeaders64::parse(file, &mut offset)
            .map_err(|_| Invalid::NotPe("its optional header is cut short or not PE32+"))?;
        let optional = nt.optional_header();
        let characteristics = nt.file_header.characteristics.get(LE);
        if characteristics & pe::IMAGE_FILE_EXECUTABLE_IMAGE != pe::IMAGE_FILE_EXECUTABLE_IMAGE {
            return Err(Invalid::Kind("an object file, not a linked image"));
        }
        if optional.subsystem.get(LE) != pe::IMAGE_SUBSYSTEM_NATIVE {
            return Err(Invalid::Kind("its subsystem is not NATIVE (link with /SUBSYSTEM:NATIVE /DRIVER)"));
        }
        let relocations = directory(&directories, pe::IMAGE_DIRECTORY_ENTRY_BASERELOC);
        if characteristics & pe::IMAGE_FILE_RELOCS_STRIPPED == pe::IMAGE_FILE_RELOCS_STRIPPED {
            return Err(Invalid::Kind("its relocations were stripped (link with /DYNAMICBASE)"));
        }
        let size = image_size(optional)?;
        let headers = optional.size_of_headers.get(LE);
        if headers > size || headers as usize > file.len() {
            return Err(Invalid::Size {
                what: "SizeOfHeaders",
                value: headers.into(),
                why: "more than the file or the image holds",
            });
        }
        let table =
            nt.sections(file, offset).map_err(|_| Invalid::NotPe("its section table is cut short"))?;
        let sections = sections(&table, file, size, headers)?;
        let layout = Self {
            size,
            headers,
            entry: optional.address_of_entry_point.get(LE),
            sections,
            preferred_base: optional.image_base.get(LE),
            imports: directory(&directories, pe::IMAGE_DIRECTORY_ENTRY_IMPORT).0,
            relocations,
            load_config: directory(&directories, pe::IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG),
        };
        if !layout.section_at(layout.entry).is_some_and(|section| section.protection.execute) {
            return Err(Invalid::Size {
                what: "AddressOfEntryPoint",
                value: layout.entry.into(),
                why: "not in an executable section",
            });
        }
        Ok(layout)
    }

    /// The section that `rva` lies in.
    pub fn section_at(&self, rva: u32) -> Option<&Section> {
        self.sections.iter().find(|section| (section.rva..section.rva + section.size).contains(&rva))
    }

    /// Copies headers and sections of `file` to their places in `image`, which is zeroed and [`Self::size`] long.
    pub fn lay_out(&self, file: &[u8], image: &mut [u8]) -> Result<(), Invalid> {
        let headers = (0, 0, self.headers as usize);
        let sections = self.sections.iter().map(|s| (s.rva as usize, s.file_offset, s.file_size));
        for (rva, offset, size) in core::iter::once(headers).chain(sections) {
            let from = offset.checked_add(size).and_then(|end| file.get(offset..end));
            let to = rva.checked_add(size).and_then(|end| image.get_mut(rva..end));
            match (from, to) {
                (Some(from), Some(to)) => to.copy_from_slice(from),
                _ => {
                    return Err(Invalid::Size {
                        what: "a section's place",
                        value: rva as u64,
                        why: "outside the file or the image",
                    });
                }
            }
        }
        Ok(())
    }

    /// Moves the image laid out in `image` from its preferred base to `base`.
    pub fn relocate(&self, image: &mut [u8], base: u64) -> Result<(), Invalid> {
        let (rva, size) = self.relocations;
        if size == 0 {
            return Ok(());
        }
        let wrong = |why| Invalid::Directory { directory: "relocation directory", rva, why };
        let delta = base.wrapping_sub(self.preferred_base);
        // Its own copy: a relocation may lie in the relocation directory, and must not change what is still to be read.
        let table = range(image, rva, size).ok_or(wrong("lies outside the image"))?.to_vec();
        for block in RelocationBlockIterator::new(&table) {
            let block = block.map_err(|_| wrong("holds a block whose size makes no sense"))?;
            for relocation in block {
                if relocation.typ == pe::IMAGE_REL_BASED_ABSOLUTE {
                    continue;
                }
                if relocation.typ != pe::IMAGE_REL_BASED_DIR64 {
                    return Err(wrong("holds a relocation that is not DIR64"));
                }
                let at = relocation.virtual_address as usize;
                let word = at
                    .checked_add(8)
                    .and_then(|end| image.get_mut(at..end))
                    .and_then(|bytes| <&mut [u8; 8]>::try_from(bytes).ok())
                    .ok_or(wrong("relocates a word outside the image"))?;
                *word = u64::from_le_bytes(*word).wrapping_add(delta).to_le_bytes();
            }
        }
        Ok(())
    }

    /// Every import of the image laid out in `image`.
    pub fn imports(&self, image: &[u8]) -> Result<Vec<Import>, Invalid> {
        let rva = self.imports;
        let mut imports = Vec::new();
        if rva == 0 {
            return Ok(imports);
        }
        let wrong = |why| Invalid::Directory { directory: "import directory", rva, why };
        let table = ImportTable::new(image, 0, rva);
        let mut descriptors = table.descriptors().map_err(|_| wrong("lies outside the image"))?;
        let mut modules = 0;
        while let Some(descriptor) =
            descriptors.next().map_err(|_| wrong("has no end: its last descriptor is not null"))?
        {
            modules += 1;
            if modules > MAX_IMPORT_MODULES {
                return Err(wrong("names more than 64 modules"));
            }
            let module = table
                .name(descriptor.name.get(LE))
                .ok()
                .and_then(text)
                .ok_or(wrong("names a module badly"))?;
            let slots = descriptor.first_thunk.get(LE);
            let names = match descriptor.original_first_thunk.get(LE) {
                0 => slots,
                names => names,
            };
            let mut thunks = table.thunks(names).map_err(|_| wrong("points outside the image"))?;
            let mut slot = slots;
            while let Some(thunk) = thunks
                .next::<pe::ImageNtHeaders64>()
                .map_err(|_| wrong("has a list of routines without an end"))?
            {
                if imports.len() == MAX_IMPORTS {
                    return Err(wrong("names more than 4096 routines"));
                }
                range(image, slot, 8).ok_or(wrong("has its address table outside the image"))?;
                let symbol = if thunk.is_ordinal() {
                    Symbol::Ordinal(thunk.ordinal())
                } else {
                    let name = table.hint_name(thunk.address()).ok().and_then(|(_, name)| text(name));
                    Symbol::Name(name.ok_or(wrong("names a routine badly"))?)
                };
                imports.push(Import { module: module.clone(), symbol, slot });
                slot = slot.checked_add(8).ok_or(wrong("has its address table outside the image"))?;
            }
        }
        Ok(imports)
    }

    /// Gives the image its own /GS cookie, where its load configuration says that it has one.
    ///
    /// The image's own entry code refuses to run with the linker's default cookie still in place.
    pub fn set_cookie(&self, image: &mut [u8], base: u64, cookie: u64) -> Result<(), Invalid> {
        const COOKIE: u32 = core::mem::offset_of!(pe::ImageLoadConfigDirectory64, security_cookie) as u32;
        let (rva, size) = self.load_config;
        if size == 0 {
            return Ok(());
        }
        let wrong = |why| Invalid::Directory { directory: "load configuration", rva, why };
        // The directory's own first field says how much of it there is; the header's figure is known to lie.
        let declared = word32(image, rva).ok_or(wrong("lies outside the image"))?;
        if declared < COOKIE + 8 {
            return Ok(());
        }
        let field = rva.checked_add(COOKIE).and_then(|at| range(image, at, 8)).and_then(word64);
        // The image is relocated already, so the field holds an address in it.
        let address = field.ok_or(wrong("lies outside the image"))?;
        if address == 0 {
            return Ok(());
        }
        let at = address.checked_sub(base).and_then(|at| u32::try_from(at).ok());
        let place = at.filter(|&at| self.section_at(at).is_some_and(|section| section.protection.write));
        let place = place.map(|at| at as usize).and_then(|at| image.get_mut(at..at + 8));
        place
            .ok_or(wrong("has its cookie outside the image's writable sections"))?
            .copy_from_slice(&cookie.to_le_bytes());
        Ok(())
    }
}

/// Stores the address of an import in its slot.
pub fn bind(image: &mut [u8], slot: u32, address: u64) {
    let slot = slot as usize;
    if let Some(word) = slot.checked_add(8).and_then(|end| image.get_mut(slot..end)) {
        word.copy_from_slice(&address.to_le_bytes());
    }
}

/// The first six bytes of the NT headers, which 32-bit images have in common with 64-bit ones.
fn signature_and_machine(file: &[u8], offset: u32) -> Option<(u32, u16)> {
    let signature = word32(file, offset)?;
    let machine = range(file, offset.checked_add(4)?, 2)?;
    Some((signature, u16::from_le_bytes(machine.try_into().ok()?)))
}

fn image_size(optional: &pe::ImageOptionalHeader64) -> Result<u32, Invalid> {
    let alignment = optional.section_alignment.get(LE);
    if alignment < PAGE || !alignment.is_power_of_two() {
        return Err(Invalid::Size {
            what: "SectionAlignment",
            value: alignment.into(),
            why: "must be a power of two of at least a page",
        });
    }
    let size = optional.size_of_image.get(LE);
    if size == 0 || size > MAX_IMAGE {
        return Err(Invalid::Size {
            what: "SizeOfImage",
            value: size.into(),
            why: "must be above 0 and at most 16 MiB",
        });
    }
    Ok(size.next_multiple_of(PAGE))
}

fn sections(table: &SectionTable<'_>, file: &[u8], size: u32, headers: u32) -> Result<Vec<Section>, Invalid> {
    let mut sections: Vec<Section> = Vec::new();
    let mut floor = headers.next_multiple_of(PAGE);
    for (index, header) in table.iter().enumerate() {
        let name: String = String::from_utf8_lossy(header.raw_name()).into_owned();
        let wrong = |why| Invalid::Section { index, name: name.clone(), why };
        if index == MAX_SECTIONS {
            return Err(wrong("is one too many: 96 are allowed"));
        }
        let rva = header.virtual_address.get(LE);
        let raw = header.size_of_raw_data.get(LE);
        let virtual_size = match header.virtual_size.get(LE) {
            0 => raw,
            bytes => bytes,
        };
        if rva % PAGE != 0 {
            return Err(wrong("does not begin on a page"));
        }
        if rva < floor {
            return Err(wrong("overlaps the headers or an earlier section, or is out of order"));
        }
        let end = u64::from(rva) + u64::from(virtual_size).next_multiple_of(PAGE.into());
        if virtual_size == 0 || end > size.into() {
            return Err(wrong("is empty or lies outside the image"));
        }
        let pages = (end - u64::from(rva)) as u32;
        let offset = header.pointer_to_raw_data.get(LE);
        let copied = if offset == 0 { 0 } else { raw };
        if u64::from(offset) + u64::from(copied) > file.len() as u64 {
            return Err(wrong("points past the end of the file"));
        }
        let flags = header.characteristics.get(LE);
        let has = |flag| flags & flag == flag;
        sections.push(Section {
            name,
            rva,
            size: pages,
            protection: Protection {
                write: has(pe::IMAGE_SCN_MEM_WRITE),
                execute: has(pe::IMAGE_SCN_MEM_EXECUTE),
            },
            discardable: has(pe::IMAGE_SCN_MEM_DISCARDABLE),
            file_offset: offset as usize,
            file_size: copied.min(pages) as usize,
        });
        floor = rva + pages;
    }
    Ok(sections)
}

fn directory(directories: &DataDirectories<'_>, index: usize) -> (u32, u32) {
    let entry = directories.get(index);
    entry.map_or((0, 0), |entry| (entry.virtual_address.get(LE), entry.size.get(LE)))
}

fn range(image: &[u8], rva: u32, size: u32) -> Option<&[u8]> {
    let start = rva as usize;
    image.get(start..start.checked_add(size as usize)?)
}

fn word32(image: &[u8], rva: u32) -> Option<u32> {
    Some(u32::from_le_bytes(range(image, rva, 4)?.try_into().ok()?))
}

fn word64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// A printable ASCII name of a sane length.
fn text(bytes: &[u8]) -> Option<String> {
    let sane = !bytes.is_empty() && bytes.len() <= MAX_NAME && bytes.iter().all(u8::is_ascii_graphic);
    sane.then(|| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0x1_4000_0000;

    /// A file of the smallest kind that loads: headers, `.text` at 0x1000, `.data` at 0x2000, both one page.
    ///
    /// `.data` holds the directories: imports at 0x2000, relocations at 0x2400, load configuration at 0x2600.
    struct Sample(Vec<u8>);

    const NT: usize = 0x80;
    const OPTIONAL: usize = NT + 24;
    const TABLE: usize = OPTIONAL + 240;
    const DATA: usize = 0x400;

    impl Sample {
        fn new() -> Self {
            let mut sample = Self(vec![0; DATA + 0x1000]);
            sample.put(0, b"MZ").put32(0x3C, NT as u32);
            sample
                .put(NT, b"PE\0\0")
                .put16(NT + 4, 0x8664)
                .put16(NT + 6, 2)
                .put16(NT + 20, 240)
                .put16(NT + 22, 0x22);
            sample.put16(OPTIONAL, 0x20B).put32(OPTIONAL + 16, 0x1000).put64(OPTIONAL + 24, BASE);
            sample.put32(OPTIONAL + 32, 0x1000).put32(OPTIONAL + 36, 0x200);
            sample.put32(OPTIONAL + 56, 0x3000).put32(OPTIONAL + 60, 0x200);
            sample.put16(OPTIONAL + 68, 1).put32(OPTIONAL + 108, 16);
            sample.section(0, b".text", 0x1000, 0x200, 0x200, 0x6000_0020);
            sample.section(1, b".data", 0x2000, 0x1000, DATA as u32, 0xC000_0040);
            sample
        }

        fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
            self
        }
        fn put16(&mut self, at: usize, value: u16) -> &mut Self {
            self.put(at, &value.to_le_bytes())
        }
        fn put32(&mut self, at: usize, value: u32) -> &mut Self {
            self.put(at, &value.to_le_bytes())
        }
        fn put64(&mut self, at: usize, value: u64) -> &mut Self {
            self.put(at, &value.to_le_bytes())
        }
        fn section(
            &mut self,
            index: usize,
            name: &[u8],
            rva: u32,
            raw: u32,
            offset: u32,
            flags: u32,
        ) -> &mut Self {
            let at = TABLE + 40 * index;
            self.put(at, name).put32(at + 8, 0x1000).put32(at + 12, rva);
            self.put32(at + 16, raw).put32(at + 20, offset).put32(at + 36, flags)
        }
        fn directory(&mut self, index: usize, rva: u32, size: u32) -> &mut Self {
            self.put32(OPTIONAL + 112 + 8 * index, rva).put32(OPTIONAL + 116 + 8 * index, size)
        }

        /// Two routines from ntoskrnl.exe (one by ordinal) and one from hal.dll.
        fn with_imports(&mut self) -> &mut Self {
            self.directory(1, 0x2000, 60);
            self.put32(DATA, 0x2100).put32(DATA + 12, 0x2080).put32(DATA + 16, 0x2200);
            self.put32(DATA + 20, 0x2140).put32(DATA + 32, 0x2090).put32(DATA + 36, 0x2240);
            self.put(DATA + 0x80, b"ntoskrnl.exe\0").put(DATA + 0x90, b"HAL.dll\0");
            self.put64(DATA + 0x100, 0x20A0).put64(DATA + 0x108, 1 << 63 | 12);
            self.put64(DATA + 0x140, 0x20C0);
            self.put(DATA + 0xA2, b"IoCreateDevice\0").put(DATA + 0xC2, b"HalGetInterruptVector\0")
        }

        /// One DIR64 relocation, of the word at 0x2300, padded with an ABSOLUTE one.
        fn with_relocation(&mut self) -> &mut Self {
            self.directory(5, 0x2400, 12).put64(DATA + 0x300, BASE + 0x1234);
            self.put32(DATA + 0x400, 0x2000).put32(DATA + 0x404, 12).put16(DATA + 0x408, 0xA300)
        }

        fn laid_out(&self) -> (Layout, Vec<u8>) {
            let layout = Layout::parse(&self.0).unwrap();
            let mut image = vec![0; layout.size as usize];
            layout.lay_out(&self.0, &mut image).unwrap();
            (layout, image)
        }

        fn refusal(&self) -> String {
            Layout::parse(&self.0).unwrap_err().to_string()
        }
    }

    #[test]
    fn sections_lie_where_their_headers_say() {
        let mut sample = Sample::new();
        let (layout, image) = sample.put(0x200, &[0xC3]).put(DATA + 5, &[7]).laid_out();
        assert_eq!(layout.size, 0x3000);
        assert_eq!((image[0x1000], image[0x2005], &image[..2]), (0xC3, 7, &b"MZ"[..]));
        let protections: Vec<_> =
            layout.sections.iter().map(|s| (s.protection.write, s.protection.execute)).collect();
        assert_eq!(protections, [(false, true), (true, false)]);
    }

    #[test]
    fn imports_are_listed_with_their_slots() {
        let (layout, mut image) = Sample::new().with_imports().laid_out();
        let imports = layout.imports(&image).unwrap();
        let listed: Vec<_> = imports.iter().map(|import| (import.to_string(), import.slot)).collect();
        let expected = [
            ("ntoskrnl.exe!IoCreateDevice", 0x2200),
            ("ntoskrnl.exe!#12", 0x2208),
            ("HAL.dll!HalGetInterruptVector", 0x2240),
        ];
        assert_eq!(listed, expected.map(|(name, slot)| (name.to_string(), slot)));
        bind(&mut image, 0x2208, 0x1122_3344_5566_7788);
        assert_eq!(word64(&image[0x2208..0x2210]), Some(0x1122_3344_5566_7788));
    }

    #[test]
    fn a_relocated_word_moves_with_the_image() {
        let (layout, mut image) = Sample::new().with_relocation().laid_out();
        layout.relocate(&mut image, 0xFFFF_F800_0000_0000).unwrap();
        assert_eq!(word64(&image[0x2300..0x2308]), Some(0xFFFF_F800_0000_1234));
    }

    #[test]
    fn relocations_outside_the_image_are_refused() {
        let mut sample = Sample::new();
        sample.with_relocation().put32(DATA + 0x400, 0x2FF8).put16(DATA + 0x408, 0xA001);
        let (layout, mut image) = sample.laid_out();
        let error = layout.relocate(&mut image, 0).unwrap_err().to_string();
        assert_eq!(error, "the relocation directory at 0x2400 relocates a word outside the image");
    }

    #[test]
    fn the_cookie_is_set_where_the_load_configuration_points() {
        let mut sample = Sample::new();
        sample
            .directory(10, 0x2600, 0x70)
            .put32(DATA + 0x600, 0x70)
            .put64(DATA + 0x600 + 0x58, BASE + 0x2700);
        let (layout, mut image) = sample.laid_out();
        layout.set_cookie(&mut image, BASE, 0xC00C).unwrap();
        assert_eq!(word64(&image[0x2700..0x2708]), Some(0xC00C));
        sample.put64(DATA + 0x600 + 0x58, BASE + 0x1000);
        let (layout, mut image) = sample.laid_out();
        assert!(layout.set_cookie(&mut image, BASE, 0xC00C).is_err(), "a cookie in .text");
    }

    #[test]
    fn what_is_not_an_image_is_named() {
        assert_eq!(Layout::parse(b"").unwrap_err().to_string(), "not a PE image: the file is empty");
        assert_eq!(
            Layout::parse(b"hello, world").unwrap_err().to_string(),
            "not a PE image: no MZ header at its start"
        );
        let mut sample = Sample::new();
        assert_eq!(sample.put16(NT + 4, 0x14C).refusal(), "built for machine 0x014C, not for x64 (0x8664)");
        assert!(Sample::new().put16(OPTIONAL + 68, 3).refusal().contains("NATIVE"));
        assert!(Sample::new().put16(NT + 22, 0x23).refusal().contains("/DYNAMICBASE"));
    }

    #[test]
    fn sections_outside_file_or_image_are_named() {
        let past = Sample::new().put32(TABLE + 40 + 20, 0x10_0000).refusal();
        assert_eq!(past, "section 1 (.data) points past the end of the file");
        let outside = Sample::new().put32(TABLE + 40 + 12, 0x3000).refusal();
        assert_eq!(outside, "section 1 (.data) is empty or lies outside the image");
        let overlap = Sample::new().put32(TABLE + 40 + 12, 0x1000).refusal();
        assert!(overlap.contains("overlaps"), "{overlap}");
        let entry = Sample::new().put32(OPTIONAL + 16, 0x2000).refusal();
        assert!(entry.contains("AddressOfEntryPoint"), "{entry}");
    }

    fn whole_load(file: &[u8]) {
        if let Ok(layout) = Layout::parse(file) {
            let mut image = vec![0; layout.size as usize];
            if layout.lay_out(file, &mut image).is_ok() {
                let _ = layout.relocate(&mut image, 0xFFFF_8000_0000_0000);
                let _ = layout.imports(&image);
                let _ = layout.set_cookie(&mut image, 0xFFFF_8000_0000_0000, 1);
            }
        }
    }

    proptest! {
        #[test]
        fn a_truncated_file_never_panics(length in 0usize..0x1400) {
            let mut sample = Sample::new();
            sample.with_imports().with_relocation();
            whole_load(&sample.0[..length]);
        }

        #[test]
        fn corrupted_words_never_panic(words in prop::collection::vec((0usize..0xA00, any::<u32>()), 1..8)) {
            let mut sample = Sample::new();
            sample.with_imports().with_relocation().directory(10, 0x2600, 0x70);
            for (at, value) in words {
                // Keep what makes it a PE at all, so that the rest is reached.
                if !(NT..NT + 8).contains(&at) && at >= 0x40 {
                    sample.put32(at, value);
                }
            }
            whole_load(&sample.0);
        }
    }
}
