//! Page tables: one address space, four levels, pages of 4 KiB (of 2 MiB in the direct map).
//!
//! Changes are made under one lock. Reading an entry is possible without it, since the bug check must be able
//! to look while somebody stopped in the middle of a change; entries are single words, so that what it sees
//! is old or new, never half.
//!
//! Making a page appear needs no care on other processors: the processor does not remember what is absent.
//! Whoever takes something away has to make every processor forget it before the frame is used again: see
//! [`crate::ke::rendezvous`].

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::structures::paging::PageTableFlags as Flags;

use super::frame::{self, Frame, MEMORY_LIMIT, PAGE_SIZE};
use crate::arch::boot::{BootInfo, DIRECT_MAP_BASE};
use crate::ke::lock::{SpinLock, SpinLockGuard};
use crate::ke::rendezvous;

/// Bytes of addresses that one table of pages shows.
const TABLE_SPAN: usize = 512 * PAGE_SIZE;

/// What may be done with a page. Never both written and executed, but where a driver's own section says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
    /// All three: a driver image may ask for it, nothing else does.
    ReadWriteExecute,
    /// Read and write, past the caches: device registers.
    Device,
}

impl Protection {
    fn flags(self) -> Flags {
        match self {
            Self::Read => Flags::PRESENT | Flags::NO_EXECUTE,
            Self::ReadWrite => Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE,
            Self::ReadExecute => Flags::PRESENT,
            Self::ReadWriteExecute => Flags::PRESENT | Flags::WRITABLE,
            Self::Device => Self::ReadWrite.flags() | Flags::NO_CACHE | Flags::WRITE_THROUGH,
        }
    }
}

/// Why a page is absent, where that is known. The page's own table entry keeps it, in bits that the processor ignores, so that
/// the bug check can read it whatever state the system is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It held an allocation that was freed.
    Freed,
    /// It lies beyond the end of an allocation.
    Guard,
    /// It is there, and out of reach until somebody below DISPATCH_LEVEL touches it.
    Trimmed,
    /// It held a device object and its extension, and is kept for who still touches it.
    DeletedDevice,
}

impl Absent {
    const ALL: [Self; 4] = [Self::Freed, Self::Guard, Self::Trimmed, Self::DeletedDevice];

    /// Two bits tell the four apart, a third that there is something to tell.
    const fn bits(self) -> u64 {
        (1 << 9) | (self as u64) << 10
    }
}

/// What an entry says of a page that is not there.
pub fn absent(entry: u64) -> Option<Absent> {
    const MASK: u64 = 0b111 << 9;
    let told = |absent: &Absent| entry & 1 == 0 && entry & MASK == absent.bits();
    Absent::ALL.into_iter().find(told)
}

/// No frame was left for a page table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;
const LARGE_PAGE: u64 = 2 << 20;
/// So many pages are forgotten one by one, at most.
const MOST_ONE_BY_ONE: usize = 64;

/// Physical address of the top table; 0 until [`init`].
static ROOT: AtomicU64 = AtomicU64::new(0);
static TABLES: SpinLock<Tables> = SpinLock::new(Tables(()));

/// The right to change the page tables.
#[derive(Debug)]
pub struct Tables(());

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
}

/// The kernel's own code.
pub fn kernel_text() -> Range<u64> {
    (&raw const __text_start).addr() as u64..(&raw const __text_end).addr() as u64
}

/// The kernel's whole image.
pub fn kernel_image() -> Range<u64> {
    (&raw const __text_start).addr() as u64..(&raw const __data_end).addr() as u64
}

/// One word of a table, which the bug check may read while it is being changed.
fn entry_at(table: Frame, index: usize) -> &'static AtomicU64 {
    // SAFETY: the frame is a page table: 512 words, alive for ever, and only ever accessed as atomics.
    unsafe { &*table.direct().cast::<AtomicU64>().add(index) }
}

fn index_at(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % ENTRIES
}

/// The lowest-level entry of `address`, where its tables exist and it is not inside a large page.
fn find(address: u64) -> Option<&'static AtomicU64> {
    let mut table = Frame::containing(ROOT.load(Ordering::Acquire));
    for level in (1..=3).rev() {
        let entry = entry_at(table, index_at(address, level)).load(Ordering::Acquire);
        let flags = Flags::from_bits_truncate(entry);
        if !flags.contains(Flags::PRESENT) || flags.contains(Flags::HUGE_PAGE) {
            return None;
        }
        table = Frame::containing(entry & ADDRESS_MASK);
    }
    Some(entry_at(table, index_at(address, 0)))
}

/// The page table entry of `address`, 0 where there is none. Takes no lock.
pub fn entry(address: u64) -> u64 {
    find(address).map_or(0, |entry| entry.load(Ordering::Acquire))
}

/// The physical address behind an address of the direct map. Takes no lock.
fn in_direct_map(address: u64) -> Option<u64> {
    let physical = address.checked_sub(DIRECT_MAP_BASE).filter(|&physical| physical < MEMORY_LIMIT)?;
    let mut table = Frame::containing(ROOT.load(Ordering::Acquire));
    for level in [3, 2] {
        let entry = entry_at(table, index_at(address, level)).load(Ordering::Acquire);
        if entry & 1 == 0 {
            return None;
        }
        table = Frame::containing(entry & ADDRESS_MASK);
    }
    let entry = entry_at(table, index_at(address, 1)).load(Ordering::Acquire);
    (entry & 1 != 0).then_some(physical)
}

/// Whether the page of `address` can be read. Takes no lock.
pub fn is_present(address: u64) -> bool {
    in_direct_map(address).is_some() || entry(address) & 1 != 0
}

/// Whether the page of `address` is there, be it out of reach for the moment, and may be written. Takes no lock.
pub fn is_writable(address: u64) -> bool {
    let writable = |entry: u64| entry & Flags::WRITABLE.bits() != 0;
    let entry = entry(address);
    in_direct_map(address).is_some()
        || (writable(entry) && (entry & 1 != 0 || absent(entry) == Some(Absent::Trimmed)))
}

/// The physical address behind `address`. Takes no lock.
pub fn physical(address: u64) -> Option<u64> {
    if let Some(physical) = in_direct_map(address) {
        return Some(physical);
    }
    let entry = entry(address);
    let is_there = entry & 1 != 0 || absent(entry) == Some(Absent::Trimmed);
    is_there.then_some((entry & ADDRESS_MASK) + address % PAGE_SIZE as u64)
}

/// The frame behind a page that was hidden.
pub fn hidden_frame(address: u64) -> Option<Frame> {
    let entry = entry(address);
    (entry & 1 == 0 && entry & ADDRESS_MASK != 0).then(|| Frame::containing(entry & ADDRESS_MASK))
}

/// Makes a page reachable that is kept behind its entry as `absent`. Takes no lock; false where it is something else by now.
pub fn restore(address: u64, absent: Absent) -> bool {
    let Some(place) = find(address) else { return false };
    let old = place.load(Ordering::Acquire);
    let kept = old & !absent.bits() | Flags::PRESENT.bits();
    old & 1 == 0
        && self::absent(old) == Some(absent)
        && place.compare_exchange(old, kept, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Takes the right to change the page tables.
pub fn tables() -> SpinLockGuard<'static, Tables> {
    TABLES.lock()
}

impl Tables {
    /// The lowest-level entry of `address`, making its tables where they are missing.
    fn make(&mut self, address: u64) -> Result<&'static AtomicU64, OutOfMemory> {
        let mut table = Frame::containing(ROOT.load(Ordering::Acquire));
        for level in (1..=3).rev() {
            let entry = entry_at(table, index_at(address, level));
            if entry.load(Ordering::Acquire) == 0 {
                let fresh = frame::allocate_zeroed().ok_or(OutOfMemory)?;
                // The lowest level decides; those above allow everything.
                entry.store(fresh.physical() | (Flags::PRESENT | Flags::WRITABLE).bits(), Ordering::Release);
            }
            table = Frame::containing(entry.load(Ordering::Acquire) & ADDRESS_MASK);
        }
        Ok(entry_at(table, index_at(address, 0)))
    }

    /// Makes the tables for a range of addresses.
    pub fn prepare(&mut self, range: Range<u64>) -> Result<(), OutOfMemory> {
        range.step_by(TABLE_SPAN).try_for_each(|address| self.make(address).map(drop))
    }

    /// Makes `frame` appear at `address`, where nothing is.
    pub fn map(&mut self, address: u64, frame: Frame, protection: Protection) -> Result<(), OutOfMemory> {
        self.map_physical(address, frame.physical(), protection)
    }

    /// Makes `frame` appear at `address`, where something was, or where a guard is.
    pub fn map_again(
        &mut self,
        address: u64,
        frame: Frame,
        protection: Protection,
    ) -> Result<(), OutOfMemory> {
        let entry = self.make(address)?;
        assert!(entry.load(Ordering::Acquire) & 1 == 0, "{address:#x} is mapped already");
        entry.store(frame.physical() | protection.flags().bits(), Ordering::Release);
        Ok(())
    }

    /// Says why there is nothing at `address`, where nothing is.
    pub fn mark(&mut self, address: u64, absent: Absent) -> Result<(), OutOfMemory> {
        let entry = self.make(address)?;
        assert!(entry.load(Ordering::Acquire) & 1 == 0, "{address:#x} is mapped");
        entry.store(absent.bits(), Ordering::Release);
        Ok(())
    }

    /// Takes the pages in these ranges out of reach, with what is behind them and what may be done with them kept in their
    /// entries. No processor remembers them when this returns.
    pub fn hide(&mut self, ranges: &[Range<u64>], absent: Absent) {
        rendezvous::with_others_parked(ranges, || {
            for page in ranges.iter().flat_map(|range| range.clone().step_by(PAGE_SIZE)) {
                if let Some(entry) = find(page) {
                    let old = entry.load(Ordering::Acquire);
                    if old & 1 != 0 {
                        entry.store(old & !Flags::PRESENT.bits() | absent.bits(), Ordering::Release);
                    }
                }
            }
        });
    }

    /// Makes the page at `physical`, of a device perhaps, appear at `address`, where nothing is.
    pub fn map_physical(
        &mut self,
        address: u64,
        physical: u64,
        protection: Protection,
    ) -> Result<(), OutOfMemory> {
        let entry = self.make(address)?;
        assert!(entry.load(Ordering::Acquire) == 0, "{address:#x} is mapped already");
        entry.store((physical & ADDRESS_MASK) | protection.flags().bits(), Ordering::Release);
        Ok(())
    }

    /// Changes what may be done with `count` pages from `address`. Every processor knows when this returns.
    pub fn protect(&mut self, address: u64, count: usize, protection: Protection) {
        rendezvous::with_others_parked(&[span(address, count)], || {
            for page in 0..count {
                if let Some(entry) = find(address + (page * PAGE_SIZE) as u64) {
                    let physical = entry.load(Ordering::Acquire) & ADDRESS_MASK;
                    if physical != 0 {
                        entry.store(physical | protection.flags().bits(), Ordering::Release);
                    }
                }
            }
        });
    }

    /// Takes `count` pages from `address` away while every other processor is parked, and tells `freed` what
    /// frame was behind each. No processor remembers the pages when this returns.
    pub fn unmap(&mut self, address: u64, count: usize, mut freed: impl FnMut(u64)) {
        // First only the protection goes, with the world stopped and no lock taken meanwhile; what was behind
        // is told afterwards, when frames can be given back.
        rendezvous::with_others_parked(&[span(address, count)], || {
            for page in 0..count {
                if let Some(entry) = find(address + (page * PAGE_SIZE) as u64) {
                    entry.fetch_and(ADDRESS_MASK, Ordering::AcqRel);
                }
            }
        });
        for page in 0..count {
            if let Some(entry) = find(address + (page * PAGE_SIZE) as u64) {
                let physical = entry.swap(0, Ordering::AcqRel) & ADDRESS_MASK;
                if physical != 0 {
                    freed(physical);
                }
            }
        }
    }
}

fn map_kernel(tables: &mut Tables, section: Range<u64>, protection: Protection) -> Result<(), OutOfMemory> {
    const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
    for address in section.step_by(PAGE_SIZE) {
        tables.map_physical(address, address - KERNEL_BASE, protection)?;
    }
    Ok(())
}

/// The direct map: memory and nothing else, in large pages. (A page that is memory in part is in it whole.)
fn map_memory(boot: &BootInfo, root: Frame) -> Result<(), OutOfMemory> {
    let table = |at: &AtomicU64| -> Result<Frame, OutOfMemory> {
        let entry = at.load(Ordering::Acquire);
        if entry != 0 {
            return Ok(Frame::containing(entry & ADDRESS_MASK));
        }
        let fresh = frame::allocate_zeroed().ok_or(OutOfMemory)?;
        at.store(fresh.physical() | (Flags::PRESENT | Flags::WRITABLE).bits(), Ordering::Release);
        Ok(fresh)
    };
    for range in boot.memory() {
        let mut physical = range.start / LARGE_PAGE * LARGE_PAGE;
        while physical < range.end.min(MEMORY_LIMIT) {
            let address = DIRECT_MAP_BASE + physical;
            let pointers = table(entry_at(root, index_at(address, 3)))?;
            let directory = table(entry_at(pointers, index_at(address, 2)))?;
            let flags = Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE | Flags::HUGE_PAGE;
            entry_at(directory, index_at(address, 1)).store(physical | flags.bits(), Ordering::Release);
            physical += LARGE_PAGE;
        }
    }
    Ok(())
}

/// Builds the kernel's own page tables and moves to them: each section of the kernel with its protection, all
/// memory in the direct map, nothing in the lower half.
///
/// # Errors
/// Where memory is too small for the tables.
pub fn init(boot: &BootInfo) -> Result<(), OutOfMemory> {
    let root = frame::allocate_zeroed().ok_or(OutOfMemory)?;
    ROOT.store(root.physical(), Ordering::Release);
    let tables = &mut *tables();
    map_kernel(tables, kernel_text(), Protection::ReadExecute)?;
    let rodata = (&raw const __rodata_start).addr() as u64..(&raw const __rodata_end).addr() as u64;
    map_kernel(tables, rodata, Protection::Read)?;
    let data = (&raw const __data_start).addr() as u64..(&raw const __data_end).addr() as u64;
    map_kernel(tables, data, Protection::ReadWrite)?;

    map_memory(boot, root)?;
    // SAFETY: the new tables map the code that runs, its stack (in .bss) and everything it points at exactly
    // where the boot tables did; the identity mapping, which goes, is used by nobody any more.
    unsafe { load_root(root.physical()) };
    Ok(())
}

/// Physical address of the top table, for the processors to come.
pub fn root() -> u64 {
    ROOT.load(Ordering::Acquire)
}

/// # Safety
/// The tables must map whatever this processor is about to use.
unsafe fn load_root(physical: u64) {
    use x86_64::registers::control::{Cr3, Cr3Flags};
    use x86_64::structures::paging::PhysFrame;
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(physical));
    // SAFETY: the caller's.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// `count` pages from `address`.
fn span(address: u64, count: usize) -> Range<u64> {
    address..address + (count * PAGE_SIZE) as u64
}

/// Makes this processor forget the translations of these ranges: one by one where they are few, as it would have to find all
/// others again.
pub fn forget(ranges: &[Range<u64>]) {
    let pages = |range: &Range<u64>| range.clone().step_by(PAGE_SIZE);
    if ranges.iter().flat_map(pages).nth(MOST_ONE_BY_ONE).is_some() {
        return flush_this_processor();
    }
    let addresses = ranges.iter().flat_map(pages);
    addresses.for_each(|address| x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(address)));
}

/// Makes this processor forget every translation.
pub fn flush_this_processor() {
    x86_64::instructions::tlb::flush_all();
}
