//! The image once it lies in memory: sections in their places, words that move with it, imports, the cookie.

use alloc::string::String;
use alloc::vec::Vec;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageThunkData, ImportTable, RelocationBlockIterator};

use super::{Import, Invalid, Layout, MAX_IMPORTS, Symbol, range, word32};

/// The most modules that an image may import from.
const MAX_IMPORT_MODULES: usize = 64;
/// The longest module or routine name.
const MAX_NAME: usize = 512;

impl Layout {
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

pub(super) fn word64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// A printable ASCII name of a sane length.
fn text(bytes: &[u8]) -> Option<String> {
    let sane = !bytes.is_empty() && bytes.len() <= MAX_NAME && bytes.iter().all(u8::is_ascii_graphic);
    sane.then(|| String::from_utf8_lossy(bytes).into_owned())
}
