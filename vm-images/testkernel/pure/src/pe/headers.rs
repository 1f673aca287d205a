//! The headers and the section table of a file, checked against it.

use alloc::string::String;
use alloc::vec::Vec;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{DataDirectories, ImageNtHeaders, SectionTable};

use super::{Invalid, Layout, MAX_IMAGE, Protection, Section, range, word32};

const PAGE: u32 = 4096;
/// The most sections that the PE format's own loader takes.
const MAX_SECTIONS: usize = 96;

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
