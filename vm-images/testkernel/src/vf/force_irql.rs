//! Force IRQL checking: pageable memory is not there at raised IRQL.
//!
//! Pageable code and data that are touched at DISPATCH_LEVEL work as long as they happen to be in memory, which on a machine
//! with enough of it is nearly always. So whenever a verified driver takes a spin lock or raises its IRQL, everything
//! pageable of its own is *trimmed*: put out of reach, contents and all. Below DISPATCH_LEVEL the next access brings the
//! page back ([`super::page_fault`]); at it or above it is the bug check that it would be on a machine without memory.
//!
//! Pageable are the image's sections whose names begin with `PAGE`, unless they are locked, all of it after
//! MmPageEntireDriver, and what was allocated of paged pool.
//!
//! Source: *Force IRQL Checking* of Driver Verifier. Connecting an interrupt trims as well: from then on the ISR may be
//! called at any time.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use super::classes::Class;
use super::thunk::intercept;
use super::verified::{self, Verified};
use crate::ex::pool;
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::mm::frame::PAGE_SIZE;
use crate::mm::paging::{self, Absent};
use crate::mm::special_region;
use crate::nt::{KIRQL, NTSTATUS, PVOID};
use crate::selftest::victim::Victim;
use crate::selftest::{check, kernel_test};

/// A section that may be paged.
struct Section {
    image: u64,
    range: Range<u64>,
    /// How often it is locked.
    locks: u32,
    /// Its name says so, not only MmPageEntireDriver.
    by_name: bool,
}

static SECTIONS: SpinLock<Vec<Section>> = SpinLock::new(Vec::new());
/// Something pageable may be within reach.
static RESIDENT: AtomicBool = AtomicBool::new(true);

/// A page was brought back. At any IRQL.
pub fn paged_in() {
    RESIDENT.store(true, Ordering::Release);
}

/// The verified driver whose image begins at `image` is laid out, with these pageable sections.
pub fn image_is_ready(driver: &Verified, image: u64, pageable: impl Iterator<Item = Range<u64>>) {
    if !driver.is_for(Class::ForceIrql) {
        return;
    }
    let sections = pageable.map(|range| Section { image, range, locks: 0, by_name: true });
    SECTIONS.lock().extend(sections);
    paged_in();
}

/// The image that began at `image` is gone.
pub fn image_is_gone(image: u64) {
    SECTIONS.lock().retain(|section| section.image != image);
}

/// Locks, or unlocks, the pageable section that holds `address`. It is resident when this returns.
pub fn lock_section(address: u64, lock: bool) {
    let mut sections = SECTIONS.lock();
    for section in sections.iter_mut().filter(|section| section.range.contains(&address)) {
        section.locks = if lock { section.locks + 1 } else { section.locks.saturating_sub(1) };
        restore(&section.range);
    }
}

/// The image `all`, which holds code of a verified driver, may be paged as a whole from now on; or as its sections' names
/// say.
pub fn page_entire(all: Range<u64>, entire: bool) {
    let covered = verified::at(all.start as usize).is_some_and(|driver| driver.is_for(Class::ForceIrql));
    let mut sections = SECTIONS.lock();
    sections.retain(|section| section.image != all.start || section.by_name);
    if entire && covered {
        sections.push(Section { image: all.start, range: all, locks: 0, by_name: false });
    } else {
        restore(&all);
    }
    paged_in();
}

/// Brings back what was trimmed of `range`.
pub fn restore(range: &Range<u64>) {
    for page in range.clone().step_by(PAGE_SIZE) {
        paging::restore(page, Absent::Trimmed);
    }
    paged_in();
}

/// What is pageable of `driver`'s, by whole pages.
fn pageable(driver: &Verified) -> Vec<Range<u64>> {
    let mut ranges: Vec<_> = {
        let sections = SECTIONS.lock();
        let mine = sections.iter().filter(|section| section.locks == 0 && driver.owns(section.range.start));
        mine.map(|section| section.range.clone()).collect()
    };
    for image in driver.images() {
        for block in pool::allocated_by(&image).into_iter().filter(|block| block.paged) {
            let start = block.address as u64;
            // Small blocks of the common pool share their page with others.
            if let Some(page) = special_region::page_of(start) {
                ranges.push(page..page + PAGE_SIZE as u64);
            } else if block.size >= PAGE_SIZE {
                ranges.push(start..start + block.size.next_multiple_of(PAGE_SIZE) as u64);
            }
        }
    }
    ranges
}

/// The driver is about to run at raised IRQL.
fn trim(driver: &Verified) {
    if irql::current() < Irql::DISPATCH && RESIDENT.swap(false, Ordering::AcqRel) {
        let ranges = pageable(driver);
        if !ranges.is_empty() {
            paging::tables().hide(&ranges, Absent::Trimmed);
        }
    }
}

intercept! {
    for ForceIrql;

    /// *KeRaiseIrql function (wdm.h)*, which calls it: to DISPATCH_LEVEL or higher.
    before fn KfRaiseIrql(site; new: KIRQL) -> KIRQL {
        if Irql(new) >= Irql::DISPATCH {
            trim(site.driver);
        }
        None
    }

    /// *KeRaiseIrqlToDpcLevel function (wdm.h)*.
    before fn KeRaiseIrqlToDpcLevel(site) -> KIRQL {
        trim(site.driver);
        None
    }

    /// *KeAcquireSpinLock function (wdm.h)*, which calls it.
    before fn KeAcquireSpinLockRaiseToDpc(site) -> KIRQL {
        trim(site.driver);
        None
    }

    /// *KeAcquireInStackQueuedSpinLock function (wdm.h)*.
    before fn KeAcquireInStackQueuedSpinLock(site) {
        trim(site.driver);
        None
    }

    /// *ExAcquireSpinLockShared function (wdm.h)*.
    before fn ExAcquireSpinLockShared(site) -> KIRQL {
        trim(site.driver);
        None
    }

    /// *ExAcquireSpinLockExclusive function (wdm.h)*.
    before fn ExAcquireSpinLockExclusive(site) -> KIRQL {
        trim(site.driver);
        None
    }

    /// *IoAcquireCancelSpinLock function (wdm.h)*.
    before fn IoAcquireCancelSpinLock(site; irql: *mut KIRQL) {
        trim(site.driver);
        None
    }

    /// *KeSynchronizeExecution function (wdm.h)*.
    before fn KeSynchronizeExecution(site) -> u8 {
        trim(site.driver);
        None
    }

    /// *IoConnectInterrupt function (ntddk.h)*: its ISR is to be found at DIRQL.
    before fn IoConnectInterrupt(site) -> NTSTATUS {
        trim(site.driver);
        None
    }

    /// *IoConnectInterruptEx function (wdm.h)*: likewise.
    before fn IoConnectInterruptEx(site; parameters: PVOID) -> NTSTATUS {
        trim(site.driver);
        None
    }
}

kernel_test! {
    fn what_is_pageable_goes_when_the_irql_rises_and_comes_back_below() {
        let victim = Victim::load(Class::ForceIrql as u32);
        let block = victim.call("ExAllocatePoolWithTag", &[1, 64, 7]);
        let large = victim.call("ExAllocatePoolWithTag", &[1, 2 * PAGE_SIZE, 7]);
        check!(block != 0 && large != 0);
        for address in [block, large, large + PAGE_SIZE] {
            victim.write(address, 0x5A);
        }
        victim.call_pageable();
        let pages = [victim.pageable(), block as u64, large as u64, (large + PAGE_SIZE) as u64];
        let old = victim.call("KeRaiseIrqlToDpcLevel", &[]);
        check!(pages.iter().all(|&page| paging::absent(paging::entry(page)) == Some(Absent::Trimmed)));
        check!(paging::is_present(victim.nothing()) && paging::is_present(victim.data() as u64));
        victim.call("KeLowerIrql", &[old]);
        // Below DISPATCH_LEVEL it comes back as it was, and for the kernel's own locks too.
        victim.call_pageable();
        check!(victim.read(block) == 0x5A && victim.read(large) == 0x5A);
        let within_a_lock = {
            let _sections = SECTIONS.lock();
            // SAFETY: the block is 64 bytes of paged pool.
            unsafe { core::ptr::with_exposed_provenance::<u8>(large + PAGE_SIZE).read_volatile() }
        };
        check!(within_a_lock == 0x5A);
        check!(pages.iter().all(|&page| paging::is_present(page)));

        // What is locked stays.
        let handle = victim.call("MmLockPagableDataSection", &[victim.pageable() as usize]);
        let old = victim.call("KfRaiseIrql", &[2]);
        victim.call_pageable();
        check!(paging::absent(paging::entry(block as u64)) == Some(Absent::Trimmed));
        victim.call("KeLowerIrql", &[old]);
        victim.call("MmUnlockPagableImageSection", &[handle]);
        let old = victim.call("KfRaiseIrql", &[2]);
        check!(!paging::is_present(victim.pageable()));
        victim.call("KeLowerIrql", &[old]);

        // Freed, its pages are there for whoever has them next.
        let old = victim.call("KfRaiseIrql", &[2]);
        victim.call("KeLowerIrql", &[old]);
        victim.call("ExFreePool", &[large]);
        check!(paging::is_present(large as u64) && paging::is_present((large + PAGE_SIZE) as u64));
        victim.call("ExFreePool", &[block]);
        victim.unload();
    }
}
