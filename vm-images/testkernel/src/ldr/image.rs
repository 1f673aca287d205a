//! Loads an image and takes it away again.
//!
//! The order matters little to a good file and a lot to a bad one: headers first, then the bytes in place, relocated,
//! then *all* imports looked up, so that a driver that lacks several is told all of them; only then does any page become
//! executable. An image that cannot run leaves nothing behind.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use squall_testkernel_pure::pe::{self, Invalid, Layout, Section, Symbol};

use super::export::{self, Module};
use super::inject::{Planned, Stubs, Watch};
use crate::hal::clock;
use crate::mm::image::{self, ImageRegion};
use crate::mm::modules;
use crate::mm::paging::Protection;
use crate::vf::verified::{self, Verified};
use crate::vf::{noted, unload};

/// Why a file did not become an image.
#[derive(Debug)]
pub enum LoadError {
    /// It is not one.
    Invalid(Invalid),
    /// It imports what the guest does not have, every name listed.
    MissingImports(Vec<String>),
    /// No room for it.
    NoMemory,
}

impl From<Invalid> for LoadError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// An image in memory.
#[derive(Debug)]
pub struct Image {
    region: ImageRegion,
    layout: Layout,
    name: String,
    /// What lies between it and the routines that it imports, where anything does.
    _stubs: Option<Stubs>,
}

impl Image {
    /// Makes an image of `file`, to be known as `name`; where `watch` is given, its calls are watched.
    pub fn load(file: &[u8], name: &str, watch: Option<&Arc<Watch>>) -> Result<Self, LoadError> {
        let layout = Layout::parse(file)?;
        let place = image::reserve(layout.size as usize).ok_or(LoadError::NoMemory)?;
        let base = place.base();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(layout.size as usize).map_err(|_| LoadError::NoMemory)?;
        bytes.resize(layout.size as usize, 0);
        layout.lay_out(file, &mut bytes)?;
        layout.relocate(&mut bytes, base)?;
        let range = base..base + u64::from(layout.size);
        let driver = verified::begin_load(name, &range);
        let made = bind(&layout, &mut bytes, driver, watch).and_then(|stubs| {
            layout.set_cookie(&mut bytes, base, fresh_cookie())?;
            let region = place.fill(&bytes, |offset| protection_at(&layout, offset as u32));
            Ok((region.ok_or(LoadError::NoMemory)?, stubs))
        });
        let (region, stubs) = match made {
            Ok(made) => made,
            Err(error) => {
                unload::image_is_gone(&range);
                return Err(error);
            }
        };
        noted::image_is_ready(&range, pageable(&layout, region.base()));
        if let Some(driver) = driver {
            unload::image_is_ready(driver, &range, pageable(&layout, region.base()));
        }
        modules::loaded(name, region.base(), u64::from(layout.size));
        Ok(Self { region, layout, name: name.to_string(), _stubs: stubs })
    }

    /// Its file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first address.
    pub fn base(&self) -> u64 {
        self.region.base()
    }

    /// Its size in bytes.
    pub fn size(&self) -> u32 {
        self.layout.size
    }

    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        self.base()..self.base() + u64::from(self.size())
    }

    /// Address of its entry point.
    pub fn entry(&self) -> u64 {
        self.base() + u64::from(self.layout.entry)
    }

    /// Takes the image away; it is remembered as unloaded before its first page goes.
    pub fn unload(self) {
        let range = self.range();
        modules::unloaded(range.start);
        image::unmap(self.region);
        unload::image_is_gone(&range);
    }
}

/// Fills in what the image imports: the exports, or what stands before them for a driver that is verified or watched.
fn bind(
    layout: &Layout,
    bytes: &mut [u8],
    driver: Option<&'static Verified>,
    watch: Option<&Arc<Watch>>,
) -> Result<Option<Stubs>, LoadError> {
    let imports = layout.imports(bytes)?;
    let planned = watch.map(|watch| Planned::new(watch, imports.len()).ok_or(LoadError::NoMemory));
    let mut planned = planned.transpose()?;
    let mut missing = Vec::new();
    for import in imports {
        let export = match (&import.symbol, Module::from_dll_name(&import.module)) {
            (Symbol::Name(name), Some(module)) => export::lookup(module, name),
            _ => None,
        };
        let Some(export) = export else {
            missing.push(import.to_string());
            continue;
        };
        let routine = export.address().expose_provenance();
        let routine = driver.map_or(routine, |driver| driver.bound(export.name(), routine));
        let target = planned.as_mut().map_or(routine, |planned| planned.lead(export, routine));
        pe::bind(bytes, import.slot, target as u64);
    }
    if missing.is_empty() {
        Ok(planned.map(Planned::finish))
    } else {
        Err(LoadError::MissingImports(missing))
    }
}

/// The sections that may be paged: those that are called so, as for Windows' loader.
fn pageable(layout: &Layout, base: u64) -> impl Iterator<Item = Range<u64>> {
    layout.sections.iter().filter(|section| section.name.starts_with("PAGE")).map(move |section| {
        let start = base + u64::from(section.rva);
        start..start + u64::from(section.size)
    })
}

/// What may be done with the page at that offset. Headers and whatever lies between sections can be read, no more.
fn protection_at(layout: &Layout, offset: u32) -> Protection {
    let holds =
        |section: &&Section| (section.rva..section.rva.saturating_add(section.size)).contains(&offset);
    let asked = layout.sections.iter().rev().find(holds).map(|section| section.protection);
    asked.map_or(Protection::Read, |asked| match (asked.write, asked.execute) {
        (false, false) => Protection::Read,
        (true, false) => Protection::ReadWrite,
        (false, true) => Protection::ReadExecute,
        (true, true) => Protection::ReadWriteExecute,
    })
}

/// A /GS cookie that differs from load to load. Not a secret here: it only must not be the linker's default, whose upper
/// 16 bits are zero too.
fn fresh_cookie() -> u64 {
    const DEFAULT: u64 = 0x0000_2B99_2DDF_A232;
    let mixed = clock::now_ns().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    if mixed == DEFAULT || mixed == 0 { DEFAULT + 1 } else { mixed }
}
