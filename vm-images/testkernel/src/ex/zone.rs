//! Zones: a driver's memory cut into blocks of one size. Obsolete, and kept for drivers of old.
//!
//! The headers take blocks from the zone and put them back by themselves, on the structure's own fields; what is left to the kernel is to
//! cut a segment into blocks. The driver owns the segments.

use core::ptr;

use crate::ke::irql::InterruptsOff;
use crate::ke::spinlock;
use crate::ldr::export::export;
use crate::nt::{
    KSPIN_LOCK, NTSTATUS, SINGLE_LIST_ENTRY, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use crate::selftest::{check, kernel_test};

/// `ZONE_HEADER`.
#[derive(Debug)]
#[repr(C)]
pub struct ZONE_HEADER {
    free: SINGLE_LIST_ENTRY,
    segments: SINGLE_LIST_ENTRY,
    block_size: u32,
    total_segment_size: u32,
}

const _: () = assert!(size_of::<ZONE_HEADER>() == 0x18);

/// `ZONE_SEGMENT_HEADER`, which each segment begins with.
const SEGMENT_HEADER: u32 = 16;
/// What addresses and block sizes are multiples of.
const ALIGNMENT: usize = 8;

/// Puts a segment's blocks into the zone.
///
/// # Safety
/// The zone is alive, and the segment, of `size` bytes, is larger than its header and a block.
unsafe fn add(zone: *mut ZONE_HEADER, segment: *mut SINGLE_LIST_ENTRY, size: u32) {
    // SAFETY: the caller's.
    unsafe {
        (*segment).Next = (*zone).segments.Next;
        (*zone).segments.Next = segment;
        let mut at = SEGMENT_HEADER;
        while size.checked_sub((*zone).block_size).is_some_and(|last| at <= last) {
            let block = segment.wrapping_byte_add(at as usize);
            (*block).Next = (*zone).free.Next;
            (*zone).free.Next = block;
            at += (*zone).block_size;
        }
        (*zone).total_segment_size += at;
    }
}

export! {
    /// *ExInitializeZone function (ntddk.h)*, obsolete: STATUS_INVALID_PARAMETER for a block or a segment that is not aligned to 8 bytes, or that does
    /// not fit.
    pub unsafe extern "win64" fn ExInitializeZone(
        zone: *mut ZONE_HEADER,
        block_size: u32,
        segment: *mut SINGLE_LIST_ENTRY,
        size: u32,
    ) -> NTSTATUS {
        let is_aligned = segment.addr().is_multiple_of(ALIGNMENT) && (block_size as usize).is_multiple_of(ALIGNMENT);
        if block_size == 0 || !is_aligned || block_size > size {
            return STATUS_INVALID_PARAMETER;
        }
        let none = SINGLE_LIST_ENTRY { Next: ptr::null_mut() };
        // SAFETY: the caller's storage and segment.
        unsafe {
            zone.write(ZONE_HEADER { free: none, segments: none, block_size, total_segment_size: 0 });
            add(zone, segment, size);
        }
        STATUS_SUCCESS
    }

    /// *ExExtendZone function (ntddk.h)*, obsolete: STATUS_UNSUCCESSFUL for a segment that is not aligned to 8 bytes, or smaller than a block.
    pub unsafe extern "win64" fn ExExtendZone(
        zone: *mut ZONE_HEADER,
        segment: *mut SINGLE_LIST_ENTRY,
        size: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's zone and segment.
        unsafe {
            let is_aligned = segment.addr().is_multiple_of(ALIGNMENT) && (size as usize).is_multiple_of(ALIGNMENT);
            if !is_aligned || (*zone).block_size > size {
                return STATUS_UNSUCCESSFUL;
            }
            add(zone, segment, size);
        }
        STATUS_SUCCESS
    }

    /// *ExInterlockedExtendZone function (ntddk.h)*, obsolete: ExExtendZone under a spin lock, at any IRQL.
    pub unsafe extern "win64" fn ExInterlockedExtendZone(
        zone: *mut ZONE_HEADER,
        segment: *mut SINGLE_LIST_ENTRY,
        size: u32,
        lock: *mut KSPIN_LOCK,
    ) -> NTSTATUS {
        let _off = InterruptsOff::new();
        // SAFETY: the caller's zone, segment and lock.
        unsafe {
            spinlock::acquire(lock);
            let status = ExExtendZone(zone, segment, size);
            spinlock::release(lock);
            status
        }
    }
}

kernel_test! {
    /// *ExInitializeZone function (ntddk.h)*: as many blocks as fit behind the segment's header.
    fn a_zone_has_the_blocks_of_its_segments() {
        let mut memory = [[0_u64; 16]; 2];
        let [first, second] = memory.each_mut().map(|segment| (&raw mut *segment).cast::<SINGLE_LIST_ENTRY>());
        let mut zone = core::mem::MaybeUninit::<ZONE_HEADER>::uninit();
        let zone = zone.as_mut_ptr();
        let blocks = || {
            // SAFETY: the zone and its segments live until the end of the test.
            let mut next = unsafe { (*zone).free.Next };
            core::iter::from_fn(move || {
                let block = (!next.is_null()).then_some(next)?;
                // SAFETY: as above.
                next = unsafe { (*block).Next };
                Some(block)
            })
        };
        let mut lock = 0;
        // SAFETY: as above.
        unsafe {
            check!(ExInitializeZone(zone, 12, first, 128) == STATUS_INVALID_PARAMETER);
            check!(ExInitializeZone(zone, 32, first, 16) == STATUS_INVALID_PARAMETER);
            check!(ExInitializeZone(zone, 32, first, 128) == STATUS_SUCCESS);
            check!(blocks().count() == 3 && (*zone).total_segment_size == 16 + 3 * 32);
            check!(blocks().all(|block| block > first && block < first.wrapping_byte_add(128)));
            check!(ExExtendZone(zone, second, 16) == STATUS_UNSUCCESSFUL && blocks().count() == 3);
            check!(ExInterlockedExtendZone(zone, second, 128, &raw mut lock) == STATUS_SUCCESS && lock == 0);
            check!(blocks().count() == 6 && (*zone).segments.Next == second && (*second).Next == first);
        }
    }
}
