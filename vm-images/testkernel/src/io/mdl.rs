//! Memory descriptor lists, which say in pages where a buffer lies.
//!
//! What the I/O manager does with them: allocates them for drivers, and locks a request's buffer for direct I/O.

use core::ptr::NonNull;

use squall_testkernel_pure::pool::Kind;

use crate::ex::pool;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::mm::mdl as mm_mdl;
use crate::nt::{
    BOOLEAN, IRP, MDL, MDL_ALLOCATED_FIXED_SIZE, MDL_MAPPED_TO_SYSTEM_VA, MDL_PARTIAL,
    MDL_SOURCE_IS_NONPAGED_POOL, PVOID,
};
use crate::selftest::{check, kernel_test};

const PAGE: usize = 4096;
/// What `IoAllocateMdl` describes at most: 2 GiB less a page, by its documentation; less, as Size is 16 bits wide.
const MAX_PAGES: usize = (i16::MAX as usize - size_of::<MDL>()) / size_of::<u64>();

/// A list for `length` bytes at `address`, with room for the page frame numbers, which are all 0.
fn allocate(address: usize, length: usize, caller: usize) -> Option<NonNull<MDL>> {
    let offset = address % PAGE;
    let pages = (offset + length).div_ceil(PAGE);
    if pages > MAX_PAGES {
        return None;
    }
    let size = size_of::<MDL>() + pages * size_of::<u64>();
    let mdl = pool::allocate_object(size, Kind::Mdl, caller)?.cast::<MDL>();
    let description = MDL {
        Next: core::ptr::null_mut(),
        Size: size as i16,
        MdlFlags: MDL_ALLOCATED_FIXED_SIZE,
        AllocationProcessorNumber: 0,
        Reserved: 0,
        Process: core::ptr::null_mut(),
        MappedSystemVa: core::ptr::null_mut(),
        StartVa: core::ptr::with_exposed_provenance_mut(address - offset),
        ByteCount: length as u32,
        ByteOffset: offset as u32,
    };
    // SAFETY: the block is large enough for the list.
    unsafe { mdl.write(description) };
    Some(mdl)
}

/// What a list's pages are locked for: `IO_READ_ACCESS`, `IO_WRITE_ACCESS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The driver reads the buffer.
    Read,
    /// The driver fills it.
    Write,
}

/// A list for `length` bytes at `address` with its pages locked, as the I/O manager makes one for direct I/O. Nothing is mapped:
/// a driver asks for an address of the system's with MmGetSystemAddressForMdlSafe.
pub fn describe(address: usize, length: usize, access: Access, caller: usize) -> Option<NonNull<MDL>> {
    let mdl = allocate(address, length, caller)?;
    // SAFETY: the list is new and complete but for its page frame numbers.
    if unsafe { mm_mdl::lock(mdl.as_ptr(), access == Access::Write) }.is_err() {
        pool::free(mdl.as_ptr().addr(), 0);
        return None;
    }
    Some(mdl)
}

/// Unlocks a list that [`describe`] made, and gives it back. At DISPATCH_LEVEL or below.
///
/// # Safety
/// Nobody uses the list any more.
pub unsafe fn release(mdl: *mut MDL) {
    // SAFETY: the caller's contract.
    unsafe { mm_mdl::unlock(mdl) };
    pool::free(mdl.addr(), 0);
}

/// # Safety
/// `irp` must be null or a packet of the caller's.
unsafe extern "win64" fn allocate_mdl(call: &Call<5>) -> *mut MDL {
    let [address, length, secondary, _charge, irp] = call.arguments;
    let Some(mdl) = allocate(address, length as u32 as usize, call.caller) else {
        return core::ptr::null_mut();
    };
    // SAFETY: the caller's packet, and the chain of lists in it.
    unsafe {
        if let Some(irp) = core::ptr::with_exposed_provenance_mut::<IRP>(irp).as_mut() {
            let mut place = &raw mut irp.MdlAddress;
            while secondary as BOOLEAN != 0 && !(*place).is_null() {
                place = &raw mut (**place).Next;
            }
            *place = mdl.as_ptr();
        }
    }
    mdl.as_ptr()
}

export! {
    /// *IoAllocateMdl function (wdm.h)*: describes the buffer's address; its pages are MmBuildMdlForNonPagedPool's
    /// business. As a secondary buffer it goes to the end of the packet's chain.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoAllocateMdl(
        address: PVOID,
        length: u32,
        secondary: BOOLEAN,
        charge: BOOLEAN,
        irp: *mut IRP,
    ) -> *mut MDL {
        with_caller!(allocate_mdl)
    }

    /// *IoBuildPartialMdl function (wdm.h)*: a part of the source's buffer, whose pages and system address it shares;
    /// length 0 means up to the source's end.
    pub unsafe extern "win64" fn IoBuildPartialMdl(source: *mut MDL, target: *mut MDL, address: PVOID, length: u32) {
        // SAFETY: the caller gives a complete list and one that was allocated for such a part of its buffer.
        unsafe {
            let start = (*source).StartVa.addr() + (*source).ByteOffset as usize;
            let skipped = address.addr() - start;
            let length = if length == 0 { (*source).ByteCount - skipped as u32 } else { length };
            let offset = address.addr() % PAGE;
            let pages = (offset + length as usize).div_ceil(PAGE);
            let first = (address.addr() - (*source).StartVa.addr()) / PAGE;
            let from = source.add(1).cast::<u64>().add(first);
            from.copy_to_nonoverlapping(target.add(1).cast(), pages);
            // It may have been part of another before. The mapping stays the source's: only one of the part's own, which
            // MDL_PARTIAL_HAS_BEEN_MAPPED tells, is undone with it.
            let shared = MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA;
            (*target).MdlFlags &= MDL_ALLOCATED_FIXED_SIZE;
            (*target).MdlFlags |= (*source).MdlFlags & shared | MDL_PARTIAL;
            (*target).Process = (*source).Process;
            (*target).StartVa = core::ptr::with_exposed_provenance_mut(address.addr() - offset);
            (*target).ByteOffset = offset as u32;
            (*target).ByteCount = length;
            (*target).MappedSystemVa = (*source).MappedSystemVa.wrapping_byte_add(skipped);
        }
    }

    /// *IoFreeMdl function (wdm.h)*: the list, not the buffer; and what was mapped of a partial list, as *MmPrepareMdlForReuse macro* has it.
    pub unsafe extern "win64" fn IoFreeMdl(mdl: *mut MDL) {
        // SAFETY: the caller's list.
        unsafe { mm_mdl::unmap_part(mdl) };
        pool::free(mdl.addr(), 0);
    }
}

kernel_test! {
    /// *IoAllocateMdl function*: the list spans every page that the buffer touches, and chains behind the first.
    fn a_list_spans_the_pages_of_its_buffer_and_is_chained_as_secondary() {
        let Some(irp) = super::irp::allocate(1) else { check!(false); return Ok(()) };
        let buffer = core::ptr::with_exposed_provenance_mut(0xFFFF_8000_0000_0FF0);
        // SAFETY: the buffer is only described, not used; lists and packet are freed below.
        unsafe {
            let first = IoAllocateMdl(buffer, 0x20, 0, 0, irp.as_ptr());
            let second = IoAllocateMdl(buffer, 0x1020, 1, 0, irp.as_ptr());
            check!(!first.is_null() && !second.is_null());
            check!((*first).ByteOffset == 0xFF0 && (*first).ByteCount == 0x20 && (*first).Size == 0x30 + 2 * 8);
            check!((*second).Size == 0x30 + 3 * 8 && (*second).StartVa.addr() == 0xFFFF_8000_0000_0000);
            check!((*irp.as_ptr()).MdlAddress == first && (*first).Next == second);
            check!(IoAllocateMdl(buffer, u32::MAX, 0, 0, core::ptr::null_mut()).is_null());
            IoFreeMdl(second);
            IoFreeMdl(first);
            super::irp::free(irp);
        }
    }
}
