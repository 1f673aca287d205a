//! Section objects, and views of them.
//!
//! A section is memory that can be made to appear: pages of its own, or all that the machine has at physical addresses
//! (`\Device\PhysicalMemory`, by which drivers of old reach a card's registers). A view makes a part of it appear, among user
//! mode's addresses (*ZwMapViewOfSection*) or the system's (*MmMapViewInSystemSpace*), and keeps the section for as long. Files
//! are not mapped here: a section of one is refused, as it is by a file system that does not offer it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::arch::naked_asm;

use squall_testkernel_pure::utf16;

use super::frame::{self, Frame, PAGE_SIZE};
use super::paging::Protection;
use super::region::{Region, Window};
use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_CONFLICTING_ADDRESSES, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_FILE_FOR_SECTION, STATUS_INVALID_PAGE_PROTECTION, STATUS_INVALID_PARAMETER_4,
    STATUS_INVALID_PARAMETER_6, STATUS_INVALID_VIEW_SIZE, STATUS_NOT_MAPPED_VIEW,
    STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_SECTION_PROTECTION, STATUS_SUCCESS,
};
use crate::ob;
use crate::ob::named::{self, flags_of, give, made_or_there, name_of, with_object};
use crate::ob::types::Kind;
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

const PHYSICAL_MEMORY: &str = r"\Device\PhysicalMemory";
/// Where physical addresses end.
const PHYSICAL_END: u64 = 1 << 46;
/// What an offset into a section is a multiple of.
const GRANULARITY: u64 = 0x1_0000;
/// A section with pages of its own has no more than so many: the guest is small.
const MOST_PAGES: usize = (8 << 20) / PAGE_SIZE;
/// `SEC_RESERVE` and `SEC_COMMIT`, one of which has to be said.
const RESERVE_OR_COMMIT: u32 = 0x0C00_0000;
/// `PAGE_NOCACHE` and `PAGE_WRITECOMBINE`.
const UNCACHED: u32 = 0x600;

enum Backing {
    /// The machine's physical addresses.
    Physical,
    /// Pages that go with the section.
    Pages(Vec<Frame>),
}

struct Section {
    backing: Backing,
    bytes: u64,
    writable: bool,
}

struct View {
    region: Region,
    /// The section, of which this is a reference.
    section: usize,
}

/// Views by where they begin.
static VIEWS: SpinLock<BTreeMap<usize, View>> = SpinLock::new(BTreeMap::new());
/// Views that drivers mapped and did not unmap.
pub static MAPPED: Census = Census::new();

impl Drop for Section {
    fn drop(&mut self) {
        if let Backing::Pages(frames) = &mut self.backing {
            frames.drain(..).for_each(frame::release);
        }
    }
}

fn delete(address: usize) {
    named::forget(address);
    // SAFETY: made as a box by `make`, and nobody refers to it any more: no view of it is left.
    drop(unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Section>(address)) });
}

fn make(section: Section, name: Option<&[u16]>) -> Result<usize, NTSTATUS> {
    let address = Box::into_raw(Box::new(section)).expose_provenance();
    named::insert(address, Kind::Section, delete, name)
}

/// Makes `\Device\PhysicalMemory`. Once, before any driver is loaded.
pub fn init() {
    let section = Section { backing: Backing::Physical, bytes: PHYSICAL_END, writable: true };
    let _ = make(section, Some(&utf16::encode(PHYSICAL_MEMORY)));
}

/// Whether pages of that protection can be written; none where it is no protection.
fn is_writable(protection: u32) -> Option<bool> {
    match protection & 0xFF {
        // PAGE_READONLY, PAGE_EXECUTE, PAGE_EXECUTE_READ
        0x02 | 0x10 | 0x20 => Some(false),
        // PAGE_READWRITE, PAGE_WRITECOPY, PAGE_EXECUTE_READWRITE, PAGE_EXECUTE_WRITECOPY
        0x04 | 0x08 | 0x40 | 0x80 => Some(true),
        _ => None,
    }
}

/// A section with zeroed pages of its own.
fn with_pages(bytes: u64, protection: u32) -> Result<Section, NTSTATUS> {
    let writable = is_writable(protection).ok_or(STATUS_INVALID_PAGE_PROTECTION)?;
    let pages = usize::try_from(bytes.div_ceil(PAGE_SIZE as u64)).ok().filter(|&pages| pages <= MOST_PAGES);
    let pages = pages.ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let mut section =
        Section { backing: Backing::Pages(Vec::new()), bytes: (pages * PAGE_SIZE) as u64, writable };
    if let Backing::Pages(frames) = &mut section.backing {
        for _ in 0..pages {
            // Dropping the section gives back what there is of it.
            frames.push(frame::allocate_zeroed().ok_or(STATUS_INSUFFICIENT_RESOURCES)?);
        }
    }
    Ok(section)
}

/// Which part of a section is to appear where, and for whom.
struct Wanted {
    offset: u64,
    /// 0 for all from the offset on.
    bytes: u64,
    protection: u32,
    window: Window,
    caller: usize,
}

/// Makes a view of the section at `address`; where it is, and how large. It takes a reference of its own.
fn map(address: usize, wanted: &Wanted) -> Result<(usize, usize), NTSTATUS> {
    // SAFETY: the caller refers to the section meanwhile.
    let section = unsafe { &*core::ptr::with_exposed_provenance::<Section>(address) };
    let writes = is_writable(wanted.protection).ok_or(STATUS_INVALID_PAGE_PROTECTION)?;
    if writes && !section.writable {
        return Err(STATUS_SECTION_PROTECTION);
    }
    let protection = match (writes, wanted.protection & UNCACHED != 0) {
        (_, true) => Protection::Device,
        (true, false) => Protection::ReadWrite,
        (false, false) => Protection::Read,
    };
    let rest = section.bytes.checked_sub(wanted.offset).filter(|&rest| rest > 0 && wanted.bytes <= rest);
    let rest = rest.ok_or(STATUS_INVALID_VIEW_SIZE)?;
    let bytes = if wanted.bytes == 0 { rest } else { wanted.bytes };
    let pages = usize::try_from(bytes).map_err(|_| STATUS_INVALID_VIEW_SIZE)?.div_ceil(PAGE_SIZE);
    let first = (wanted.offset / PAGE_SIZE as u64) as usize;
    let region = match &section.backing {
        Backing::Physical => {
            let frames = (first..first + pages).map(|page| (page * PAGE_SIZE) as u64);
            Region::map_frames_in(wanted.window, frames, protection)
        }
        Backing::Pages(frames) => {
            let frames = frames.get(first..first + pages).ok_or(STATUS_INVALID_VIEW_SIZE)?;
            Region::map_frames_in(wanted.window, frames.iter().map(|frame| frame.physical()), protection)
        }
    };
    let region = region.ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let base = region.base() as usize;
    ob::reference(address);
    VIEWS.lock().insert(base, View { region, section: address });
    MAPPED.enter(base, wanted.caller);
    Ok((base, pages * PAGE_SIZE))
}

/// Takes away the view that `address` lies in.
fn unmap(address: usize) -> NTSTATUS {
    let view = {
        let mut views = VIEWS.lock();
        let found = views.range(..=address).next_back().map(|(&base, view)| (base, view.region.bytes()));
        found
            .filter(|(base, bytes)| address - base < *bytes)
            .and_then(|(base, _)| Some((base, views.remove(&base)?)))
    };
    let Some((base, View { region, section })) = view else { return STATUS_NOT_MAPPED_VIEW };
    drop(region);
    MAPPED.leave(base);
    ob::dereference(section);
    STATUS_SUCCESS
}

/// Whether a handle stands for the one process that there is.
fn is_process(handle: usize) -> Result<(), NTSTATUS> {
    with_object(core::ptr::with_exposed_provenance_mut(handle), Kind::Process, |_| ())
}

/// # Safety
/// The call must be one of ZwMapViewOfSection's.
unsafe extern "win64" fn map_view(call: &Call<10>) -> NTSTATUS {
    let [section, process, base, _, _, offset, bytes, _, _, protection] = call.arguments;
    let base = core::ptr::with_exposed_provenance_mut::<usize>(base);
    let offset = core::ptr::with_exposed_provenance_mut::<i64>(offset);
    let size = core::ptr::with_exposed_provenance_mut::<usize>(bytes);
    // SAFETY: the caller gives where the base and the size are, and where the offset is or null.
    unsafe {
        if let Err(status) = is_process(process) {
            return status;
        }
        if base.read() != 0 {
            return STATUS_CONFLICTING_ADDRESSES;
        }
        let asked = if offset.is_null() { 0 } else { offset.read_unaligned().cast_unsigned() };
        let start = asked & !(GRANULARITY - 1);
        let bytes = size.read() as u64;
        let bytes = if bytes == 0 { 0 } else { bytes.saturating_add(asked - start) };
        let wanted = Wanted {
            offset: start,
            bytes,
            protection: protection as u32,
            window: Window::Views,
            caller: call.caller,
        };
        let section = core::ptr::with_exposed_provenance_mut(section);
        match with_object(section, Kind::Section, |address| map(address, &wanted)).and_then(|mapped| mapped) {
            Ok((at, bytes)) => {
                base.write(at);
                size.write(bytes);
                if !offset.is_null() {
                    offset.write_unaligned(start.cast_signed());
                }
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }
}

/// # Safety
/// As for MmMapViewInSystemSpace.
unsafe extern "win64" fn map_in_system(
    section: PVOID,
    base: *mut usize,
    size: *mut usize,
    caller: usize,
) -> NTSTATUS {
    // SAFETY: the caller's storage.
    unsafe {
        let wanted = Wanted {
            offset: 0,
            bytes: size.read() as u64,
            protection: 0x04,
            window: Window::Dynamic,
            caller,
        };
        let address = section.addr();
        let mapped = ob::reference_of_type(address, Kind::Section.object_type()).and_then(|()| {
            let mapped = map(address, &wanted);
            ob::dereference(address);
            mapped
        });
        match mapped {
            Ok((at, bytes)) => {
                base.write(at);
                size.write(bytes);
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }
}

export! {
    /// *ZwCreateSection function (wdm.h)*: of pages of its own, all zeros. One of a file is refused.
    pub unsafe extern "win64" fn ZwCreateSection(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        size: *const i64,
        protection: u32,
        allocation: u32,
        file: HANDLE,
    ) -> NTSTATUS {
        if allocation & RESERVE_OR_COMMIT == 0 {
            return STATUS_INVALID_PARAMETER_6;
        }
        if !file.is_null() {
            return STATUS_INVALID_FILE_FOR_SECTION;
        }
        // SAFETY: the caller's attributes and size, and storage for the handle.
        unsafe {
            let bytes = size.as_ref().and_then(|&size| u64::try_from(size).ok()).filter(|&bytes| bytes > 0);
            let Some(bytes) = bytes else { return STATUS_INVALID_PARAMETER_4 };
            let found = name_of(attributes).and_then(|name| {
                let name = name.as_deref();
                let made = with_pages(bytes, protection).and_then(|section| make(section, name));
                made_or_there(made, name, Kind::Section, flags_of(attributes))
            });
            give(to, found, access)
        }
    }

    /// *ZwOpenSection function (wdm.h)*: the section of that name.
    pub unsafe extern "win64" fn ZwOpenSection(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: as above.
        unsafe {
            let name = name_of(attributes).and_then(|name| name.ok_or(STATUS_OBJECT_PATH_SYNTAX_BAD));
            let found = name.and_then(|name| named::open(&name, Kind::Section));
            give(to, found.map(|address| (address, STATUS_SUCCESS)), access)
        }
    }

    /// *ZwMapViewOfSection function (wdm.h)*: from the offset on, rounded down to 64 KiB, wherever there is room among user mode's
    /// addresses of the system's process. An address that is asked for cannot be had.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ZwMapViewOfSection(
        section: HANDLE,
        process: HANDLE,
        base: *mut PVOID,
        zero_bits: usize,
        commit: usize,
        offset: *mut i64,
        size: *mut usize,
        inherit: u32,
        allocation: u32,
        protection: u32,
    ) -> NTSTATUS {
        with_caller!(map_view)
    }

    /// *ZwUnmapViewOfSection function (wdm.h)*: the view that the address lies in.
    pub unsafe extern "win64" fn ZwUnmapViewOfSection(process: HANDLE, address: PVOID) -> NTSTATUS {
        match is_process(process.expose_provenance()) {
            Ok(()) if address.addr() < Window::Dynamic.base() as usize => unmap(address.addr()),
            Ok(()) => STATUS_NOT_MAPPED_VIEW,
            Err(status) => status,
        }
    }

    /// *MmMapViewInSystemSpace function (ntddk.h)*: from the section's beginning, to be read and written.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmMapViewInSystemSpace(section: PVOID, base: *mut PVOID, size: *mut usize) -> NTSTATUS {
        naked_asm!("mov r9, [rsp]", "jmp {}", sym map_in_system)
    }

    /// *MmUnmapViewInSystemSpace function (ntddk.h)*.
    pub unsafe extern "win64" fn MmUnmapViewInSystemSpace(base: PVOID) -> NTSTATUS {
        unmap(base.addr())
    }
}

kernel_test! {
    fn two_views_of_a_section_show_the_same_memory_and_keep_it() {
        let free = frame::free_count();
        let section = with_pages(3 * PAGE_SIZE as u64, 0x04).and_then(|section| make(section, None));
        let Ok(section) = section else { check!(false); return Ok(()) };
        let view = |offset, bytes, window| map(section, &Wanted { offset, bytes, protection: 4, window, caller: 0 });
        let first = view(0, 0, Window::Views);
        let second = view(0x1000, 1, Window::Dynamic);
        let (Ok((first, bytes)), Ok((second, page))) = (first, second) else { check!(false); return Ok(()) };
        check!(bytes == 3 * PAGE_SIZE && page == PAGE_SIZE && view(0x3000, 1, Window::Views).is_err());
        check!(crate::mm::user::contains(first, bytes));
        // SAFETY: both views are mapped, and of the same page from there on.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u64>(first + PAGE_SIZE).write_volatile(0x1234_5678);
            check!(core::ptr::with_exposed_provenance::<u64>(second).read_volatile() == 0x1234_5678);
        }
        ob::dereference(section);
        check!(ob::references(section) == Some(2));
        check!(unmap(first + 2 * PAGE_SIZE) == STATUS_SUCCESS && unmap(second) == STATUS_SUCCESS);
        check!(unmap(first) == STATUS_NOT_MAPPED_VIEW && ob::references(section).is_none());
        // But for page tables, which stay.
        check!(free - frame::free_count() <= 4);
    }
}
