//! Addresses that are set aside: for a driver that must not fail when memory is short.
//!
//! `MmAllocateMappingAddress` takes addresses, and the page tables for them, while there are some; a list of locked pages can then
//! be made to appear there at any time, as no memory is needed for it.

use alloc::collections::BTreeMap;

use squall_testkernel_pure::bugcheck::SYSTEM_PTE_MISUSE;

use super::frame::PAGE_SIZE;
use super::mdl::{self, frames};
use super::region::Region;
use crate::ke::bugcheck::bugcheck;
use crate::ke::lock::SpinLock;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{MDL, MDL_MAPPED_TO_SYSTEM_VA, PVOID};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// Addresses set aside.
struct Reserved {
    region: Region,
    tag: u32,
    /// The list that is mapped there.
    mapped: Option<usize>,
}

static RESERVED: SpinLock<BTreeMap<usize, Reserved>> = SpinLock::new(BTreeMap::new());

/// What drivers set aside and did not give back.
pub static HELD: Census = Census::new();

/// What went wrong, as the first parameter of 0xDA. (The page gives no numbers for these routines: inferred.)
#[derive(Clone, Copy)]
enum Misuse {
    NotReserved = 0x200,
    OtherTag = 0x201,
    StillMapped = 0x202,
    AlreadyMapped = 0x203,
    NotMapped = 0x204,
}

fn stop(misuse: Misuse, address: usize, tag: u32, other: u64) -> ! {
    bugcheck(SYSTEM_PTE_MISUSE, [misuse as u64, address as u64, tag.into(), other])
}

/// The reserved addresses from `address` on, which have to be of this tag.
fn with<R>(address: usize, tag: u32, action: impl FnOnce(&mut Reserved) -> Result<R, (Misuse, u64)>) -> R {
    let result = match RESERVED.lock().get_mut(&(address & !(PAGE_SIZE - 1))) {
        None => Err((Misuse::NotReserved, 0)),
        Some(reserved) if reserved.tag != tag => Err((Misuse::OtherTag, reserved.tag.into())),
        Some(reserved) => action(reserved),
    };
    // Outside the lock: the bug check shows what is there.
    result.unwrap_or_else(|(misuse, other)| stop(misuse, address, tag, other))
}

/// # Safety
/// The call must be one of MmAllocateMappingAddress'.
unsafe extern "win64" fn reserve(call: &Call<2>) -> PVOID {
    let [bytes, tag] = call.arguments;
    let pages = bytes.div_ceil(PAGE_SIZE);
    let Some(region) = (pages > 0).then(|| Region::addresses(pages)).flatten() else {
        return core::ptr::null_mut();
    };
    let base = region.pointer().as_ptr();
    RESERVED.lock().insert(base.addr(), Reserved { region, tag: tag as u32, mapped: None });
    HELD.enter(base.addr(), call.caller);
    base.cast()
}

export! {
    /// *MmAllocateMappingAddress function (wdm.h)*: at APC_LEVEL or below; null where so much is not left. Nothing is there until a
    /// list is mapped.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn MmAllocateMappingAddress(bytes: usize, tag: u32) -> PVOID {
        with_caller!(reserve)
    }

    /// *MmFreeMappingAddress function (wdm.h)*: at APC_LEVEL or below. Of what is still mapped, was not set aside or has another tag:
    /// bug check 0xDA.
    pub unsafe extern "win64" fn MmFreeMappingAddress(address: PVOID, tag: u32) {
        with(address.addr(), tag, |reserved| {
            reserved.mapped.map_or(Ok(()), |list| Err((Misuse::StillMapped, list as u64)))
        });
        HELD.leave(address.addr());
        // Unmapped outside the lock.
        let gone = RESERVED.lock().remove(&address.addr());
        drop(gone);
    }

    /// *MmMapLockedPagesWithReservedMapping function (wdm.h)*: at DISPATCH_LEVEL or below; never fails for want of memory, and gives null
    /// only where the addresses are too few. What it returns includes the list's offset, `MappedSystemVa` does not.
    pub unsafe extern "win64" fn MmMapLockedPagesWithReservedMapping(
        address: PVOID,
        tag: u32,
        list: *mut MDL,
        cache: u32,
    ) -> PVOID {
        // SAFETY: the caller's list, whose pages are locked.
        let frames = unsafe { frames(list) };
        let protection = mdl::protection(cache);
        let is_mapped = with(address.addr(), tag, |reserved| {
            if let Some(other) = reserved.mapped {
                return Err((Misuse::AlreadyMapped, other as u64));
            }
            if frames.len() * PAGE_SIZE > reserved.region.bytes() {
                return Ok(false);
            }
            let shown = frames.iter().enumerate().all(|(page, &frame)| {
                reserved.region.show(page, (frame * PAGE_SIZE) as u64, protection)
            });
            reserved.mapped = shown.then_some(list.addr());
            Ok(shown)
        });
        if !is_mapped {
            return core::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe {
            (*list).MappedSystemVa = address;
            (*list).MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
            address.wrapping_byte_add((*list).ByteOffset as usize)
        }
    }

    /// *MmUnmapReservedMapping function (wdm.h)*: at DISPATCH_LEVEL or below; any access faults afterwards, and the addresses may be used
    /// again. Where nothing of the list's is mapped: bug check 0xDA.
    pub unsafe extern "win64" fn MmUnmapReservedMapping(address: PVOID, tag: u32, list: *mut MDL) {
        // SAFETY: the caller's list.
        let pages = unsafe { frames(list) }.len();
        let span = with(address.addr(), tag, |reserved| {
            if reserved.mapped != Some(list.addr()) {
                return Err((Misuse::NotMapped, list.addr() as u64));
            }
            Ok(reserved.region.base())
        });
        Region::conceal(span, pages);
        with(address.addr(), tag, |reserved| {
            reserved.mapped = None;
            Ok(())
        });
        // SAFETY: as above.
        unsafe { (*list).MdlFlags &= !MDL_MAPPED_TO_SYSTEM_VA };
    }
}

kernel_test! {
    /// *MmMapLockedPagesWithReservedMapping function (wdm.h)*: the pages appear where addresses were set aside, again and again.
    fn addresses_that_were_set_aside_show_one_list_after_the_other() {
        use super::{contiguous, paging};
        const TAG: u32 = u32::from_le_bytes(*b"Rsvd");
        let buffers = [(); 2].map(|()| contiguous::allocate(2 * PAGE_SIZE, u64::MAX));
        // SAFETY: memory and list are the test's own, and used as documented.
        unsafe {
            let address = MmAllocateMappingAddress(3 * PAGE_SIZE, TAG);
            check!(!address.is_null() && !paging::is_present(address.addr() as u64));
            for (number, buffer) in buffers.into_iter().enumerate() {
                let mut storage = [0_usize; 12];
                let list = storage.as_mut_ptr().cast::<MDL>();
                (*list).StartVa = buffer;
                (*list).ByteOffset = 8;
                (*list).ByteCount = PAGE_SIZE as u32;
                mdl::MmBuildMdlForNonPagedPool(list);
                let shown = MmMapLockedPagesWithReservedMapping(address, TAG, list, 1).cast::<u8>();
                check!(shown.addr() == address.addr() + 8 && (*list).MappedSystemVa == address);
                shown.add(PAGE_SIZE - 8).write_volatile(number as u8 + 1);
                check!(buffer.cast::<u8>().add(PAGE_SIZE).read_volatile() == number as u8 + 1);
                MmUnmapReservedMapping(address, TAG, list);
                check!(!paging::is_present(address.addr() as u64));
            }
            MmFreeMappingAddress(address, TAG);
        }
        check!(buffers.into_iter().all(contiguous::free));
    }
}
