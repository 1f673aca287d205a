//! Device memory: `MmMapIoSpace` and its kin.

use alloc::collections::BTreeMap;
use core::ptr;

use super::frame::PAGE_SIZE;
use super::paging::Protection;
use super::region::Region;
use crate::ke::lock::SpinLock;
use crate::selftest::{check, kernel_test};

/// What is mapped, by the address handed out, page-aligned.
static MAPPED: SpinLock<BTreeMap<usize, Region>> = SpinLock::new(BTreeMap::new());

const PAGE_OFFSET: u64 = PAGE_SIZE as u64 - 1;

/// Makes `size` bytes from the physical address `physical` appear, past the caches unless `cached`. Null
/// where no address is left, or the range is none.
pub fn map(physical: u64, size: usize, cached: bool) -> *mut u8 {
    let offset = (physical & PAGE_OFFSET) as usize;
    let Some(pages) = size.checked_add(offset).map(|bytes| bytes.div_ceil(PAGE_SIZE)).filter(|_| size > 0)
    else {
        return ptr::null_mut();
    };
    let protection = if cached { Protection::ReadWrite } else { Protection::Device };
    let Some(region) = Region::map_physical(physical & !PAGE_OFFSET, pages, protection) else {
        return ptr::null_mut();
    };
    let base = region.pointer();
    MAPPED.lock().insert(base.addr().get(), region);
    base.as_ptr().wrapping_add(offset)
}

/// Whether some of the `bytes` from `physical` on appear somewhere: page by page, as they are mapped.
pub fn is_mapped(physical: u64, bytes: u64) -> bool {
    let page = |address: u64| address & !PAGE_OFFSET;
    let wanted = page(physical)..physical.saturating_add(bytes);
    MAPPED.lock().values().any(|region| {
        let start = super::paging::physical(region.base()).unwrap_or(0);
        start < wanted.end && wanted.start < start + region.bytes() as u64 && bytes > 0
    })
}

/// Takes away what [`map`] made appear; false where it never did. Any access faults afterwards, on every
/// processor.
pub fn unmap(address: *mut u8) -> bool {
    let region = MAPPED.lock().remove(&(address.addr() & !(PAGE_SIZE - 1)));
    region.is_some()
}

/// How many pages [`map`] made appear from the page of `address` on, where it did.
pub fn pages_at(address: *mut u8) -> Option<usize> {
    let mapped = MAPPED.lock();
    mapped.get(&(address.addr() & !(PAGE_SIZE - 1))).map(|region| region.bytes() / PAGE_SIZE)
}

kernel_test! {
    fn device_memory_appears_at_its_offset_and_goes() {
        // The I/O APIC's registers; the offset within the page has to be kept.
        let mapped = map(0xFEC0_0010, 4, false);
        check!(!mapped.is_null() && mapped.addr() % PAGE_SIZE == 0x10);
        check!(super::paging::physical(mapped.addr() as u64) == Some(0xFEC0_0010));
        check!(unmap(mapped));
        check!(!super::paging::is_present(mapped.addr() as u64));
        check!(!unmap(mapped));
        check!(map(0, 0, false).is_null());
        check!(map(u64::MAX - 10, 100, false).is_null());
        check!(map(0, usize::MAX, false).is_null());
    }
}
