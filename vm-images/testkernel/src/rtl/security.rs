//! Security descriptors, as far as making and describing them goes. Nobody is refused anything here: the guest has one
//! user, the system.

use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, PVOID, STATUS_INVALID_SECURITY_DESCR, STATUS_SUCCESS, STATUS_UNKNOWN_REVISION,
    TRUE,
};
use crate::selftest::{check, kernel_test};

/// `SECURITY_DESCRIPTOR_REVISION`.
const REVISION: u8 = 1;
const SE_DACL_PRESENT: u16 = 0x0004;
const SE_DACL_DEFAULTED: u16 = 0x0008;
/// The four addresses are offsets, each 32 bits wide.
const SE_SELF_RELATIVE: u16 = 0x8000;

/// `SECURITY_DESCRIPTOR` in its absolute form.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct SecurityDescriptor {
    revision: u8,
    reserved: u8,
    control: u16,
    owner: *const Sid,
    group: *const Sid,
    sacl: *const Acl,
    dacl: *const Acl,
}

const _: () = assert!(size_of::<SecurityDescriptor>() == 0x28);

/// `SID`, followed by its subauthorities, four bytes each.
#[derive(Debug)]
#[repr(C)]
pub struct Sid {
    revision: u8,
    subauthorities: u8,
    authority: [u8; 6],
}

/// `ACL`.
#[derive(Debug)]
#[repr(C)]
pub struct Acl {
    revision: u8,
    reserved_1: u8,
    size: u16,
    entries: u16,
    reserved_2: u16,
}

/// `GENERIC_MAPPING`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct GenericMapping {
    read: u32,
    write: u32,
    execute: u32,
    all: u32,
}

/// Bytes of a SID.
///
/// # Safety
/// `sid` must be null or lead to one.
unsafe fn sid_size(sid: *const Sid) -> u32 {
    // SAFETY: the caller's.
    unsafe { sid.as_ref() }.map_or(0, |sid| 8 + 4 * u32::from(sid.subauthorities))
}

/// Bytes of an access control list.
///
/// # Safety
/// `acl` must be null or lead to one.
unsafe fn acl_size(acl: *const Acl) -> u32 {
    // SAFETY: the caller's.
    unsafe { acl.as_ref() }.map_or(0, |acl| u32::from(acl.size).next_multiple_of(4))
}

export! {
    /// *RtlCreateSecurityDescriptor function (wdm.h)*: an absolute descriptor with nothing in it.
    pub unsafe extern "win64" fn RtlCreateSecurityDescriptor(
        descriptor: *mut SecurityDescriptor,
        revision: u32,
    ) -> NTSTATUS {
        if revision != u32::from(REVISION) {
            return STATUS_UNKNOWN_REVISION;
        }
        let empty = SecurityDescriptor {
            revision: REVISION,
            reserved: 0,
            control: 0,
            owner: core::ptr::null(),
            group: core::ptr::null(),
            sacl: core::ptr::null(),
            dacl: core::ptr::null(),
        };
        // SAFETY: the caller's storage.
        unsafe { descriptor.write(empty) };
        STATUS_SUCCESS
    }

    /// *RtlSetDaclSecurityDescriptor function (wdm.h)*: of an absolute descriptor; `present` of FALSE takes it away.
    pub unsafe extern "win64" fn RtlSetDaclSecurityDescriptor(
        descriptor: *mut SecurityDescriptor,
        present: BOOLEAN,
        dacl: *const Acl,
        defaulted: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor.
        let descriptor = unsafe { &mut *descriptor };
        if descriptor.revision != REVISION {
            return STATUS_UNKNOWN_REVISION;
        }
        if descriptor.control & SE_SELF_RELATIVE != 0 {
            return STATUS_INVALID_SECURITY_DESCR;
        }
        descriptor.control &= !(SE_DACL_PRESENT | SE_DACL_DEFAULTED);
        descriptor.dacl = core::ptr::null();
        if present != FALSE {
            descriptor.control |= SE_DACL_PRESENT;
            descriptor.dacl = dacl;
            if defaulted != FALSE {
                descriptor.control |= SE_DACL_DEFAULTED;
            }
        }
        STATUS_SUCCESS
    }

    /// *RtlLengthSecurityDescriptor function (ntifs.h)*: of an absolute one with all that it leads to.
    pub unsafe extern "win64" fn RtlLengthSecurityDescriptor(descriptor: *const SecurityDescriptor) -> u32 {
        // SAFETY: the caller's descriptor; a self-relative one begins alike, and its four offsets follow.
        unsafe {
            let base = descriptor.cast::<u8>();
            if (*descriptor).control & SE_SELF_RELATIVE == 0 {
                let SecurityDescriptor { owner, group, sacl, dacl, .. } = *descriptor;
                let parts = sid_size(owner) + sid_size(group) + acl_size(sacl) + acl_size(dacl);
                return size_of::<SecurityDescriptor>() as u32 + parts;
            }
            let at = |index: usize| {
                let offset = base.add(4 + 4 * index).cast::<u32>().read_unaligned() as usize;
                if offset == 0 { core::ptr::null() } else { base.add(offset) }
            };
            20 + sid_size(at(0).cast()) + sid_size(at(1).cast()) + acl_size(at(2).cast()) + acl_size(at(3).cast())
        }
    }

    /// *RtlValidSecurityDescriptor function (wdm.h)*: the revision, and that of each part that is there.
    pub unsafe extern "win64" fn RtlValidSecurityDescriptor(descriptor: *const SecurityDescriptor) -> BOOLEAN {
        // SAFETY: the caller's descriptor.
        let Some(descriptor) = (unsafe { descriptor.as_ref() }) else { return FALSE };
        if descriptor.revision != REVISION || descriptor.control & SE_SELF_RELATIVE != 0 {
            return FALSE;
        }
        // SAFETY: as above; each part is null or valid memory.
        unsafe {
            let sid = |sid: *const Sid| sid.as_ref().is_none_or(|sid| sid.revision == 1 && sid.subauthorities <= 15);
            let acl = |acl: *const Acl| {
                acl.as_ref().is_none_or(|acl| matches!(acl.revision, 2..=4) && usize::from(acl.size) >= size_of::<Acl>())
            };
            let valid = sid(descriptor.owner) && sid(descriptor.group) && acl(descriptor.sacl) && acl(descriptor.dacl);
            if valid { TRUE } else { FALSE }
        }
    }

    /// *RtlMapGenericMask function (ntifs.h)*: each generic right becomes the rights that it stands for.
    pub unsafe extern "win64" fn RtlMapGenericMask(mask: *mut u32, mapping: *const GenericMapping) {
        // SAFETY: the caller's mask and mapping.
        let (mask, mapping) = unsafe { (&mut *mask, *mapping) };
        let GenericMapping { read, write, execute, all } = mapping;
        for (right, stands_for) in [(31, read), (30, write), (29, execute), (28, all)] {
            if *mask & (1 << right) != 0 {
                *mask = *mask & !(1 << right) | stands_for;
            }
        }
    }

    /// *RtlEqualLuid function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlEqualLuid(first: *const u64, second: PVOID) -> BOOLEAN {
        // SAFETY: the caller's two identifiers, eight bytes each, aligned as 32-bit numbers are.
        let equal = unsafe { first.read_unaligned() == second.cast::<u64>().read_unaligned() };
        if equal { TRUE } else { FALSE }
    }
}

kernel_test! {
    /// *RtlCreateSecurityDescriptor function (wdm.h)* and *RtlSetDaclSecurityDescriptor function (wdm.h)*.
    fn a_descriptor_is_made_filled_and_measured() {
        let mut memory = [0xAAu8; size_of::<SecurityDescriptor>()].map(u64::from);
        let descriptor = (&raw mut memory).cast::<SecurityDescriptor>();
        let acl = Acl { revision: 2, reserved_1: 0, size: 8, entries: 0, reserved_2: 0 };
        let mapping = GenericMapping { read: 1, write: 2, execute: 4, all: 7 };
        let mut mask = 0xC000_0000;
        // SAFETY: every pointer leads to a local that is large enough.
        unsafe {
            check!(RtlCreateSecurityDescriptor(descriptor, 2) == STATUS_UNKNOWN_REVISION);
            check!(RtlValidSecurityDescriptor(descriptor) == FALSE);
            check!(RtlCreateSecurityDescriptor(descriptor, 1) == STATUS_SUCCESS);
            check!(RtlValidSecurityDescriptor(descriptor) == TRUE);
            check!(RtlLengthSecurityDescriptor(descriptor) == 0x28);
            check!(RtlSetDaclSecurityDescriptor(descriptor, TRUE, &raw const acl, FALSE) == STATUS_SUCCESS);
            check!((*descriptor).control == SE_DACL_PRESENT);
            check!(RtlLengthSecurityDescriptor(descriptor) == 0x30);
            check!(RtlSetDaclSecurityDescriptor(descriptor, FALSE, &raw const acl, TRUE) == STATUS_SUCCESS);
            check!((*descriptor).control == 0 && (*descriptor).dacl.is_null());
            RtlMapGenericMask(&raw mut mask, &raw const mapping);
        }
        check!(mask == 3);
    }
}
