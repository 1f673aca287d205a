//! Security identifiers, access control lists and descriptors in drivers' memory.
//!
//! What they mean is `squall_testkernel_pure::security`'s affair, which sees bytes and lengths. Here addresses are followed: as
//! far as the lengths in front of them say, which is all that a routine without a length of its own can go by.

pub mod acl;
pub mod descriptor;
pub mod sid;

use core::slice;

use squall_testkernel_pure::security::descriptor::{DACL_PRESENT, REVISION, SACL_PRESENT, SELF_RELATIVE};
use squall_testkernel_pure::security::{Acl, GenericMapping, Parts, Sid};

use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, PVOID, TRUE};
use crate::selftest::{check, kernel_test};

/// `SECURITY_DESCRIPTOR` in its absolute form.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct SecurityDescriptor {
    revision: u8,
    reserved: u8,
    control: u16,
    owner: *const u8,
    group: *const u8,
    sacl: *const u8,
    dacl: *const u8,
}

const _: () = assert!(size_of::<SecurityDescriptor>() == 0x28);

/// The identifier at an address.
///
/// # Safety
/// `sid` must be null or lead to as many bytes as an identifier's header says.
pub unsafe fn sid_at<'a>(sid: *const u8) -> Option<Sid<'a>> {
    if sid.is_null() {
        return None;
    }
    // SAFETY: the caller's contract; the number of subauthorities is the second byte.
    let bytes = unsafe {
        let count = usize::from(sid.add(1).read());
        slice::from_raw_parts(sid, 8 + 4 * count)
    };
    Sid::parse(bytes)
}

/// All bytes of the list at an address, whether or not they make sense.
///
/// # Safety
/// `acl` must lead to a list's header and as many bytes as that says.
unsafe fn acl_bytes<'a>(acl: *const u8) -> &'a [u8] {
    // SAFETY: the caller's contract; the size follows the revision and a byte that is free.
    unsafe {
        let size = usize::from(acl.add(2).cast::<u16>().read_unaligned());
        slice::from_raw_parts(acl, size.max(8))
    }
}

/// The list at an address.
///
/// # Safety
/// `acl` must be null or as for [`acl_bytes`].
pub unsafe fn acl_at<'a>(acl: *const u8) -> Option<Acl<'a>> {
    if acl.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    Acl::parse(unsafe { acl_bytes(acl) })
}

/// Where a descriptor's four parts are: owner, group, system list, discretionary list; null for what it has not. A list that is
/// not said to be present is none.
///
/// # Safety
/// `descriptor` must lead to a descriptor of either form.
unsafe fn addresses(descriptor: *const SecurityDescriptor) -> [*const u8; 4] {
    // SAFETY: the caller's contract; both forms begin alike, and the self-relative one has four offsets behind that.
    unsafe {
        let base = descriptor.cast::<u8>();
        let control = (&raw const (*descriptor).control).read_unaligned();
        let mut found = if control & SELF_RELATIVE == 0 {
            let SecurityDescriptor { owner, group, sacl, dacl, .. } = descriptor.read_unaligned();
            [owner, group, sacl, dacl]
        } else {
            [0, 1, 2, 3].map(|index| {
                let offset = base.add(4 + 4 * index).cast::<u32>().read_unaligned() as usize;
                if offset == 0 { core::ptr::null() } else { base.add(offset) }
            })
        };
        for (index, present) in [(2, SACL_PRESENT), (3, DACL_PRESENT)] {
            if control & present == 0 {
                found[index] = core::ptr::null();
            }
        }
        found
    }
}

/// The parts of a descriptor of either form; none where one of them is not what it should be.
///
/// # Safety
/// `descriptor` must be null or lead to a descriptor, whose parts stay as they are for as long as they are looked at.
pub unsafe fn parts_of<'a>(descriptor: *const SecurityDescriptor) -> Option<Parts<'a>> {
    if descriptor.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    unsafe {
        let control = (&raw const (*descriptor).control).read_unaligned();
        if (*descriptor.cast::<u8>()) != REVISION {
            return None;
        }
        let [owner, group, sacl, dacl] = addresses(descriptor);
        let sid = |sid: *const u8| if sid.is_null() { Some(None) } else { sid_at(sid).map(Some) };
        let acl = |acl: *const u8| if acl.is_null() { Some(None) } else { acl_at(acl).map(Some) };
        Some(Parts { control, owner: sid(owner)?, group: sid(group)?, sacl: acl(sacl)?, dacl: acl(dacl)? })
    }
}

export! {
    /// *RtlMapGenericMask function (ntifs.h)*: each generic right becomes the rights that it stands for.
    pub unsafe extern "win64" fn RtlMapGenericMask(mask: *mut u32, mapping: *const GenericMapping) {
        // SAFETY: the caller's mask and mapping.
        unsafe { mask.write((*mapping).map(mask.read())) };
    }

    /// *RtlAreAllAccessesGranted function (ntifs.h)*: every right that is wanted is among those granted.
    pub unsafe extern "win64" fn RtlAreAllAccessesGranted(granted: u32, wanted: u32) -> BOOLEAN {
        (!granted & wanted == 0).into()
    }

    /// *RtlAreAnyAccessesGranted function (ntifs.h)*: one of them is.
    pub unsafe extern "win64" fn RtlAreAnyAccessesGranted(granted: u32, wanted: u32) -> BOOLEAN {
        (granted & wanted != 0).into()
    }

    /// *RtlEqualLuid function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlEqualLuid(first: *const u64, second: PVOID) -> BOOLEAN {
        // SAFETY: the caller's two identifiers, eight bytes each, aligned as 32-bit numbers are.
        let equal = unsafe { first.read_unaligned() == second.cast::<u64>().read_unaligned() };
        if equal { TRUE } else { FALSE }
    }

    /// *RtlCopyLuid function (ntifs.h)*.
    pub unsafe extern "win64" fn RtlCopyLuid(to: *mut u64, from: *const u64) {
        // SAFETY: as above.
        unsafe { to.write_unaligned(from.read_unaligned()) };
    }
}

kernel_test! {
    /// *RtlMapGenericMask function (ntifs.h)* and the two comparisons of rights.
    fn rights_are_mapped_and_compared() {
        let mapping = GenericMapping { read: 1, write: 2, execute: 4, all: 7 };
        let (mut mask, mut luid, mut other) = (0xC000_0000, 0, 0x1_0000_03E7);
        // SAFETY: every pointer leads to a local.
        unsafe {
            RtlMapGenericMask(&raw mut mask, &raw const mapping);
            check!(mask == 3);
            check!(RtlAreAllAccessesGranted(3, 1) == TRUE && RtlAreAllAccessesGranted(3, 5) == FALSE);
            check!(RtlAreAnyAccessesGranted(3, 5) == TRUE && RtlAreAnyAccessesGranted(3, 4) == FALSE);
            check!(RtlEqualLuid(&raw const luid, (&raw mut other).cast()) == FALSE);
            RtlCopyLuid(&raw mut luid, &raw const other);
            check!(RtlEqualLuid(&raw const luid, (&raw mut other).cast()) == TRUE);
        }
    }
}
