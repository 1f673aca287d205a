//! Memory and port ranges in resource descriptors: lengths of more than 32 bits are kept in units of 2^8, 2^16 or 2^32 bytes.
//!
//! Source: *CM_PARTIAL_RESOURCE_DESCRIPTOR structure (wdm.h)*, `u.Memory40`, `u.Memory48`, `u.Memory64`.

use crate::ldr::export::export;
use crate::nt::{NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use crate::selftest::{check, kernel_test};

/// `CmResourceTypePort`, `CmResourceTypeMemory`, `CmResourceTypeMemoryLarge`.
const PORT: u8 = 1;
const MEMORY: u8 = 3;
const MEMORY_LARGE: u8 = 7;
/// `CM_RESOURCE_MEMORY_LARGE_40`, `_48` and `_64`, and the bits that a length is shifted by.
const LARGE: [(u16, u32); 3] = [(0x0200, 8), (0x0400, 16), (0x0800, 32)];
const LARGE_FLAGS: u16 = 0x0E00;

/// The fields that `CM_PARTIAL_RESOURCE_DESCRIPTOR` has for ports and memory.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub struct Assigned {
    kind: u8,
    share: u8,
    flags: u16,
    start: u64,
    length: u32,
    rest: u32,
}

/// The same of `IO_RESOURCE_DESCRIPTOR`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Wanted {
    option: u8,
    kind: u8,
    share: u8,
    spare: u8,
    flags: u16,
    spare_2: u16,
    length: u32,
    alignment: u32,
    minimum: u64,
    maximum: u64,
}

const _: () = assert!(size_of::<Assigned>() == 20 && size_of::<Wanted>() == 32);

/// How numbers are kept: the kind of resource, its flag, and what they are shifted by.
#[derive(Clone, Copy)]
struct Form {
    kind: u8,
    flag: u16,
    shift: u32,
}

impl Form {
    /// The first that can keep both numbers.
    fn for_numbers(kind: u8, numbers: [u64; 2]) -> Result<Self, NTSTATUS> {
        if !matches!(kind, PORT | MEMORY | MEMORY_LARGE) {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let keeps = |shift: u32| {
            numbers.iter().all(|number| number >> shift << shift == *number && number >> shift >> 32 == 0)
        };
        let plain = Self { kind: if kind == PORT { PORT } else { MEMORY }, flag: 0, shift: 0 };
        if keeps(0) {
            return Ok(plain);
        }
        let large = LARGE.into_iter().find(|&(_, shift)| kind != PORT && keeps(shift));
        large.map(|(flag, shift)| Self { kind: MEMORY_LARGE, flag, shift }).ok_or(STATUS_UNSUCCESSFUL)
    }

    /// What a descriptor's numbers are shifted by.
    fn shift_of(kind: u8, flags: u16) -> u32 {
        let large = LARGE.iter().find(|(flag, _)| kind == MEMORY_LARGE && flags & flag != 0);
        large.map_or(0, |(_, shift)| *shift)
    }
}

/// # Safety
/// `to` must be null or have room for a number.
unsafe fn tell(to: *mut u64, number: u64) {
    if !to.is_null() {
        // SAFETY: the caller's contract.
        unsafe { to.write(number) };
    }
}

export! {
    /// *RtlCmEncodeMemIoResource function (wdm.h)*: memory becomes large memory where its length needs that; a length that cannot be
    /// kept is STATUS_UNSUCCESSFUL.
    pub unsafe extern "win64" fn RtlCmEncodeMemIoResource(
        descriptor: *mut Assigned,
        kind: u8,
        length: u64,
        start: u64,
    ) -> NTSTATUS {
        let form = match Form::for_numbers(kind, [length, 0]) {
            Ok(form) => form,
            Err(status) => return status,
        };
        // SAFETY: the caller's descriptor.
        unsafe {
            (*descriptor).kind = form.kind;
            (*descriptor).flags = (*descriptor).flags & !LARGE_FLAGS | form.flag;
            (*descriptor).start = start;
            (*descriptor).length = (length >> form.shift) as u32;
        }
        STATUS_SUCCESS
    }

    /// *RtlCmDecodeMemIoResource function (wdm.h)*: the length, and where it begins.
    pub unsafe extern "win64" fn RtlCmDecodeMemIoResource(descriptor: *const Assigned, start: *mut u64) -> u64 {
        // SAFETY: the caller's descriptor and storage.
        unsafe {
            let Assigned { kind, flags, start: first, length, .. } = *descriptor;
            tell(start, first);
            u64::from(length) << Form::shift_of(kind, flags)
        }
    }

    /// *RtlIoEncodeMemIoResource function (wdm.h)*: the same for what a device asks for.
    pub unsafe extern "win64" fn RtlIoEncodeMemIoResource(
        descriptor: *mut Wanted,
        kind: u8,
        length: u64,
        alignment: u64,
        minimum: u64,
        maximum: u64,
    ) -> NTSTATUS {
        let form = match Form::for_numbers(kind, [length, alignment]) {
            Ok(form) => form,
            Err(status) => return status,
        };
        // SAFETY: the caller's descriptor.
        let descriptor = unsafe { &mut *descriptor };
        descriptor.kind = form.kind;
        descriptor.flags = descriptor.flags & !LARGE_FLAGS | form.flag;
        descriptor.length = (length >> form.shift) as u32;
        descriptor.alignment = (alignment >> form.shift) as u32;
        descriptor.minimum = minimum;
        descriptor.maximum = maximum;
        STATUS_SUCCESS
    }

    /// *RtlIoDecodeMemIoResource function (wdm.h)*: the length, and the rest where it is wanted.
    pub unsafe extern "win64" fn RtlIoDecodeMemIoResource(
        descriptor: *const Wanted,
        alignment: *mut u64,
        minimum: *mut u64,
        maximum: *mut u64,
    ) -> u64 {
        // SAFETY: the caller's descriptor and storage.
        unsafe {
            let descriptor = *descriptor;
            let shift = Form::shift_of(descriptor.kind, descriptor.flags);
            tell(alignment, u64::from(descriptor.alignment) << shift);
            tell(minimum, descriptor.minimum);
            tell(maximum, descriptor.maximum);
            u64::from(descriptor.length) << shift
        }
    }

    /// *RtlFindClosestEncodableLength function (wdm.h)*: the length itself or the next that can be kept.
    pub unsafe extern "win64" fn RtlFindClosestEncodableLength(length: u64, closest: *mut u64) -> NTSTATUS {
        let shifts = [0].into_iter().chain(LARGE.map(|(_, shift)| shift));
        let fitting = shifts.filter_map(|shift| length.checked_next_multiple_of(1 << shift).filter(|up| up >> shift >> 32 == 0));
        match fitting.min() {
            Some(found) => {
                // SAFETY: the caller's storage.
                unsafe { closest.write(found) };
                STATUS_SUCCESS
            }
            None => STATUS_UNSUCCESSFUL,
        }
    }
}

kernel_test! {
    /// *RtlCmEncodeMemIoResource function (wdm.h)*.
    fn lengths_beyond_32_bits_are_kept_in_larger_units() {
        let mut descriptor = Assigned { kind: 0, share: 0, flags: 4, start: 0, length: 0, rest: 0 };
        let mut number = 0;
        // SAFETY: everything is a local.
        unsafe {
            for (length, kind, flags) in
                [(0x1000, MEMORY, 4), (0x12_3456_7800, MEMORY_LARGE, 0x204), (0x1234_5678_0000, MEMORY_LARGE, 0x404)]
            {
                check!(RtlCmEncodeMemIoResource(&raw mut descriptor, MEMORY, length, 0x1000) == STATUS_SUCCESS);
                check!((descriptor.kind, descriptor.flags) == (kind, flags));
                check!(RtlCmDecodeMemIoResource(&raw const descriptor, &raw mut number) == length && number == 0x1000);
            }
            check!(RtlCmEncodeMemIoResource(&raw mut descriptor, PORT, 1 << 32, 0) == STATUS_UNSUCCESSFUL);
            check!(RtlCmEncodeMemIoResource(&raw mut descriptor, MEMORY, (1 << 32) + 1, 0) == STATUS_UNSUCCESSFUL);
            check!(RtlFindClosestEncodableLength((1 << 32) + 1, &raw mut number) == STATUS_SUCCESS);
            check!(number == (1 << 32) + 0x100);
            check!(RtlFindClosestEncodableLength(77, &raw mut number) == STATUS_SUCCESS && number == 77);
        }
    }
}
