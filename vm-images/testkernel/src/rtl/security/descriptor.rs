//! Security descriptors in both forms: absolute, whose parts lie anywhere, and self-relative, which is one block.

use squall_testkernel_pure::security::Parts;
use squall_testkernel_pure::security::descriptor::{
    DACL_DEFAULTED, DACL_PRESENT, GROUP_DEFAULTED, OWNER_DEFAULTED, REVISION, SACL_DEFAULTED, SACL_PRESENT,
    SELF_RELATIVE,
};

use super::{SecurityDescriptor, addresses, parts_of};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, STATUS_BAD_DESCRIPTOR_FORMAT, STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_SECURITY_DESCR, STATUS_SUCCESS, STATUS_UNKNOWN_REVISION, TRUE,
};
use crate::selftest::{check, kernel_test};

/// The descriptor, where it may be changed: one of the known revision, and absolute.
///
/// # Safety
/// `descriptor` must lead to a descriptor that nobody else looks at meanwhile.
unsafe fn absolute<'a>(descriptor: *mut SecurityDescriptor) -> Result<&'a mut SecurityDescriptor, NTSTATUS> {
    // SAFETY: both forms begin with revision and control, and only an absolute one is taken for the whole structure.
    unsafe {
        if (*descriptor.cast::<u8>()) != REVISION {
            return Err(STATUS_UNKNOWN_REVISION);
        }
        if (&raw const (*descriptor).control).read() & SELF_RELATIVE != 0 {
            return Err(STATUS_INVALID_SECURITY_DESCR);
        }
        Ok(&mut *descriptor)
    }
}

/// Sets or clears bits.
fn put(control: &mut u16, bits: u16, value: bool) {
    *control = if value { *control | bits } else { *control & !bits };
}

/// Which of the two lists.
#[derive(Clone, Copy)]
enum List {
    Discretionary,
    System,
}

/// # Safety
/// As for [`absolute`]; the list is null or valid for as long as it is part of the descriptor.
unsafe fn set_list(
    descriptor: *mut SecurityDescriptor,
    which: List,
    present: BOOLEAN,
    list: *const u8,
    defaulted: BOOLEAN,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    let descriptor = match unsafe { absolute(descriptor) } {
        Ok(descriptor) => descriptor,
        Err(status) => return status,
    };
    let SecurityDescriptor { control, dacl, sacl, .. } = descriptor;
    let (is_present, is_defaulted, place) = match which {
        List::Discretionary => (DACL_PRESENT, DACL_DEFAULTED, dacl),
        List::System => (SACL_PRESENT, SACL_DEFAULTED, sacl),
    };
    put(control, is_present, present != FALSE);
    put(control, is_defaulted, present != FALSE && defaulted != FALSE);
    *place = if present == FALSE { core::ptr::null() } else { list };
    STATUS_SUCCESS
}

/// # Safety
/// `descriptor` must be valid, and the others have room for the answers.
unsafe fn get_list(
    descriptor: *const SecurityDescriptor,
    which: List,
    present: *mut BOOLEAN,
    list: *mut *const u8,
    defaulted: *mut BOOLEAN,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        if (*descriptor.cast::<u8>()) != REVISION {
            return STATUS_UNKNOWN_REVISION;
        }
        let control = (&raw const (*descriptor).control).read_unaligned();
        let (is_present, is_defaulted, index) = match which {
            List::Discretionary => (DACL_PRESENT, DACL_DEFAULTED, 3),
            List::System => (SACL_PRESENT, SACL_DEFAULTED, 2),
        };
        present.write((control & is_present != 0).into());
        if control & is_present != 0 {
            list.write(addresses(descriptor)[index]);
            defaulted.write((control & is_defaulted != 0).into());
        }
    }
    STATUS_SUCCESS
}

/// # Safety
/// As for [`get_list`].
unsafe fn get_sid(
    descriptor: *const SecurityDescriptor,
    (index, is_defaulted): (usize, u16),
    sid: *mut *const u8,
    defaulted: *mut BOOLEAN,
) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        if (*descriptor.cast::<u8>()) != REVISION {
            return STATUS_UNKNOWN_REVISION;
        }
        let control = (&raw const (*descriptor).control).read_unaligned();
        sid.write(addresses(descriptor)[index]);
        defaulted.write((control & is_defaulted != 0).into());
    }
    STATUS_SUCCESS
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
        dacl: *const u8,
        defaulted: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor and list.
        unsafe { set_list(descriptor, List::Discretionary, present, dacl, defaulted) }
    }

    /// *RtlSetSaclSecurityDescriptor*: the same for the system list.
    pub unsafe extern "win64" fn RtlSetSaclSecurityDescriptor(
        descriptor: *mut SecurityDescriptor,
        present: BOOLEAN,
        sacl: *const u8,
        defaulted: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor and list.
        unsafe { set_list(descriptor, List::System, present, sacl, defaulted) }
    }

    /// *RtlSetOwnerSecurityDescriptor function (ntifs.h)*: of an absolute descriptor; null takes it away.
    pub unsafe extern "win64" fn RtlSetOwnerSecurityDescriptor(
        descriptor: *mut SecurityDescriptor,
        owner: *const u8,
        defaulted: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor.
        match unsafe { absolute(descriptor) } {
            Ok(descriptor) => {
                descriptor.owner = owner;
                put(&mut descriptor.control, OWNER_DEFAULTED, defaulted != FALSE);
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *RtlSetGroupSecurityDescriptor function (ntifs.h)*: the same for the group.
    pub unsafe extern "win64" fn RtlSetGroupSecurityDescriptor(
        descriptor: *mut SecurityDescriptor,
        group: *const u8,
        defaulted: BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor.
        match unsafe { absolute(descriptor) } {
            Ok(descriptor) => {
                descriptor.group = group;
                put(&mut descriptor.control, GROUP_DEFAULTED, defaulted != FALSE);
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// *RtlGetDaclSecurityDescriptor function (ntifs.h)*: where there is none, only that is told.
    pub unsafe extern "win64" fn RtlGetDaclSecurityDescriptor(
        descriptor: *const SecurityDescriptor,
        present: *mut BOOLEAN,
        dacl: *mut *const u8,
        defaulted: *mut BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor and storage.
        unsafe { get_list(descriptor, List::Discretionary, present, dacl, defaulted) }
    }

    /// *RtlGetSaclSecurityDescriptor function (ntifs.h)*: likewise.
    pub unsafe extern "win64" fn RtlGetSaclSecurityDescriptor(
        descriptor: *const SecurityDescriptor,
        present: *mut BOOLEAN,
        sacl: *mut *const u8,
        defaulted: *mut BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor and storage.
        unsafe { get_list(descriptor, List::System, present, sacl, defaulted) }
    }

    /// *RtlGetOwnerSecurityDescriptor function (ntifs.h)*: null where none was set.
    pub unsafe extern "win64" fn RtlGetOwnerSecurityDescriptor(
        descriptor: *const SecurityDescriptor,
        owner: *mut *const u8,
        defaulted: *mut BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor and storage.
        unsafe { get_sid(descriptor, (0, OWNER_DEFAULTED), owner, defaulted) }
    }

    /// *RtlGetGroupSecurityDescriptor function (ntifs.h)*: likewise.
    pub unsafe extern "win64" fn RtlGetGroupSecurityDescriptor(
        descriptor: *const SecurityDescriptor,
        group: *mut *const u8,
        defaulted: *mut BOOLEAN,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor and storage.
        unsafe { get_sid(descriptor, (1, GROUP_DEFAULTED), group, defaulted) }
    }

    /// *RtlLengthSecurityDescriptor function (ntifs.h)*: with all that it leads to.
    pub unsafe extern "win64" fn RtlLengthSecurityDescriptor(descriptor: *const SecurityDescriptor) -> u32 {
        // SAFETY: the caller's descriptor.
        unsafe {
            let [owner, group, sacl, dacl] = addresses(descriptor);
            let control = (&raw const (*descriptor).control).read_unaligned();
            let header = if control & SELF_RELATIVE == 0 { size_of::<SecurityDescriptor>() } else { 20 };
            let sid = |sid: *const u8| if sid.is_null() { 0 } else { super::sid::RtlLengthSid(sid) };
            let acl = |acl: *const u8| {
                if acl.is_null() { 0 } else { super::acl_bytes(acl).len().next_multiple_of(4) as u32 }
            };
            header as u32 + sid(owner) + sid(group) + acl(sacl) + acl(dacl)
        }
    }

    /// *RtlValidSecurityDescriptor function (wdm.h)*: the revision, and each part that is there.
    pub unsafe extern "win64" fn RtlValidSecurityDescriptor(descriptor: *const SecurityDescriptor) -> BOOLEAN {
        // SAFETY: the caller's descriptor.
        unsafe { parts_of(descriptor) }.is_some().into()
    }

    /// *RtlValidRelativeSecurityDescriptor function (wdm.h)*: of a self-relative one that is at most so long, and has the parts
    /// that are asked for.
    pub unsafe extern "win64" fn RtlValidRelativeSecurityDescriptor(
        descriptor: *const u8,
        length: u32,
        required: u32,
    ) -> BOOLEAN {
        // SAFETY: the caller's memory of that length.
        let bytes = unsafe { core::slice::from_raw_parts(descriptor, length as usize) };
        Parts::of_relative(bytes).is_some_and(|parts| parts.has(required)).into()
    }

    /// *RtlAbsoluteToSelfRelativeSD function (ntifs.h)*: STATUS_BUFFER_TOO_SMALL with what it takes;
    /// STATUS_BAD_DESCRIPTOR_FORMAT where it is self-relative already.
    pub unsafe extern "win64" fn RtlAbsoluteToSelfRelativeSD(
        descriptor: *const SecurityDescriptor,
        to: *mut u8,
        length: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor, and as much room as they say.
        unsafe {
            let Some(parts) = parts_of(descriptor) else { return STATUS_INVALID_SECURITY_DESCR };
            if parts.control & SELF_RELATIVE != 0 {
                return STATUS_BAD_DESCRIPTOR_FORMAT;
            }
            let needed = parts.relative_size() as u32;
            if *length < needed {
                length.write(needed);
                return STATUS_BUFFER_TOO_SMALL;
            }
            let bytes = parts.to_relative();
            bytes.as_ptr().copy_to_nonoverlapping(to, bytes.len());
        }
        STATUS_SUCCESS
    }

    /// *RtlSelfRelativeToAbsoluteSD function (ntifs.h)*: each part to a buffer of its own; STATUS_BUFFER_TOO_SMALL with what
    /// they all take where one does not fit.
    pub unsafe extern "win64" fn RtlSelfRelativeToAbsoluteSD(
        descriptor: *const SecurityDescriptor,
        to: *mut SecurityDescriptor,
        size: *mut u32,
        dacl: *mut u8,
        dacl_size: *mut u32,
        sacl: *mut u8,
        sacl_size: *mut u32,
        owner: *mut u8,
        owner_size: *mut u32,
        group: *mut u8,
        group_size: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's descriptor, and buffers as large as they say.
        unsafe {
            let Some(parts) = parts_of(descriptor) else { return STATUS_INVALID_SECURITY_DESCR };
            if parts.control & SELF_RELATIVE == 0 {
                return STATUS_BAD_DESCRIPTOR_FORMAT;
            }
            let copies: [(Option<&[u8]>, *mut u8, *mut u32); 4] = [
                (parts.owner.map(|sid| sid.bytes()), owner, owner_size),
                (parts.group.map(|sid| sid.bytes()), group, group_size),
                (parts.sacl.map(|acl| acl.bytes()), sacl, sacl_size),
                (parts.dacl.map(|acl| acl.bytes()), dacl, dacl_size),
            ];
            let needed = copies.map(|(part, ..)| part.map_or(0, <[u8]>::len) as u32);
            let own = size_of::<SecurityDescriptor>() as u32;
            let fits = copies.iter().zip(needed).all(|((.., room), needed)| **room >= needed);
            if !fits || *size < own {
                size.write(own);
                copies.iter().zip(needed).for_each(|((.., room), needed)| room.write(needed));
                return STATUS_BUFFER_TOO_SMALL;
            }
            let [owner, group, sacl, dacl] = copies.map(|(part, to, _)| {
                part.map_or(core::ptr::null(), |part| {
                    part.as_ptr().copy_to_nonoverlapping(to, part.len());
                    to.cast_const()
                })
            });
            let control = parts.control & !SELF_RELATIVE;
            to.write(SecurityDescriptor { revision: REVISION, reserved: 0, control, owner, group, sacl, dacl });
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *RtlCreateSecurityDescriptor function (wdm.h)* and *RtlSetDaclSecurityDescriptor function (wdm.h)*.
    fn a_descriptor_is_made_filled_and_measured() {
        let mut memory = [0xAAu8; size_of::<SecurityDescriptor>()].map(u64::from);
        let descriptor = (&raw mut memory).cast::<SecurityDescriptor>();
        let acl = [2u8, 0, 8, 0, 0, 0, 0, 0];
        let acl = (&raw const acl).cast::<u8>();
        // SAFETY: every pointer leads to a local that is large enough.
        unsafe {
            check!(RtlCreateSecurityDescriptor(descriptor, 2) == STATUS_UNKNOWN_REVISION);
            check!(RtlValidSecurityDescriptor(descriptor) == FALSE);
            check!(RtlCreateSecurityDescriptor(descriptor, 1) == STATUS_SUCCESS);
            check!(RtlValidSecurityDescriptor(descriptor) == TRUE);
            check!(RtlLengthSecurityDescriptor(descriptor) == 0x28);
            check!(RtlSetDaclSecurityDescriptor(descriptor, TRUE, acl, FALSE) == STATUS_SUCCESS);
            check!((*descriptor).control == DACL_PRESENT);
            check!(RtlLengthSecurityDescriptor(descriptor) == 0x30);
            check!(RtlSetDaclSecurityDescriptor(descriptor, FALSE, acl, TRUE) == STATUS_SUCCESS);
            check!((*descriptor).control == 0 && (*descriptor).dacl.is_null());
        }
    }

    /// *RtlAbsoluteToSelfRelativeSD function (ntifs.h)* and back.
    fn a_descriptor_goes_into_one_block_and_out_again() {
        use squall_testkernel_pure::security::sid::{ADMINISTRATORS, LOCAL_SYSTEM};
        let mut memory = [0u64; size_of::<SecurityDescriptor>() / 8];
        let (mut block, mut sids) = ([0u64; 16], [[0u32; 4]; 2]);
        let descriptor = (&raw mut memory).cast::<SecurityDescriptor>();
        let mut length = 0;
        let mut sizes = [0x28u32, 0, 0, 16, 16];
        let to = (&raw mut block).cast::<u8>();
        // SAFETY: every pointer leads to a local that is large enough, or to an identifier that lives for ever.
        unsafe {
            check!(RtlCreateSecurityDescriptor(descriptor, 1) == STATUS_SUCCESS);
            let owner = ADMINISTRATORS.sid().bytes().as_ptr();
            check!(RtlSetOwnerSecurityDescriptor(descriptor, owner, FALSE) == STATUS_SUCCESS);
            let group = LOCAL_SYSTEM.sid().bytes().as_ptr();
            check!(RtlSetGroupSecurityDescriptor(descriptor, group, TRUE) == STATUS_SUCCESS);
            check!(RtlAbsoluteToSelfRelativeSD(descriptor, to, &raw mut length) == STATUS_BUFFER_TOO_SMALL);
            check!(length == 20 + 16 + 12);
            check!(RtlAbsoluteToSelfRelativeSD(descriptor, to, &raw mut length) == STATUS_SUCCESS);
            check!(RtlValidRelativeSecurityDescriptor(to, length, 3) == TRUE);
            check!(RtlValidRelativeSecurityDescriptor(to, length - 1, 3) == FALSE);
            check!(RtlValidRelativeSecurityDescriptor(to, length, 4) == FALSE);
            let [size, dacl, sacl, owner, group] = &mut sizes;
            let [first, second] = &mut sids;
            let status = RtlSelfRelativeToAbsoluteSD(
                to.cast(), descriptor, size, core::ptr::null_mut(), dacl, core::ptr::null_mut(), sacl,
                first.as_mut_ptr().cast(), owner, second.as_mut_ptr().cast(), group,
            );
            check!(status == STATUS_SUCCESS);
            let parts = parts_of(descriptor);
            check!(parts.is_some_and(|parts| parts.owner == Some(ADMINISTRATORS.sid())));
            check!(parts.is_some_and(|parts| parts.group == Some(LOCAL_SYSTEM.sid())));
            check!(parts.is_some_and(|parts| parts.control == GROUP_DEFAULTED));
        }
    }
}
