//! Descriptors for new objects.

use squall_testkernel_pure::pool::Terms;
use squall_testkernel_pure::security::descriptor::OWNER;
use squall_testkernel_pure::security::inherit::{Creation, NotAssigned};
use squall_testkernel_pure::security::{GenericMapping, Parts};

use super::subject::SubjectContext;
use super::token;
use crate::ex::pool;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_ACL, STATUS_INVALID_OWNER,
    STATUS_INVALID_SECURITY_DESCR, STATUS_PRIVILEGE_NOT_HELD, STATUS_SUCCESS,
};
use crate::rtl::security::{SecurityDescriptor, parts_of};

/// Bit 0 of a pool type.
const PAGED: usize = 1;

/// The parts of a descriptor that may be left out.
///
/// # Safety
/// The address must be null or a descriptor's.
unsafe fn optional<'a>(descriptor: usize) -> Result<Option<Parts<'a>>, NTSTATUS> {
    if descriptor == 0 {
        return Ok(None);
    }
    let descriptor = core::ptr::with_exposed_provenance::<SecurityDescriptor>(descriptor);
    // SAFETY: the caller's contract.
    unsafe { parts_of(descriptor) }.map(Some).ok_or(STATUS_INVALID_SECURITY_DESCR)
}

/// # Safety
/// The arguments must be those of SeAssignSecurity.
unsafe fn create(
    [parent, explicit, to, directory, subject, mapping, kind]: [usize; 7],
    caller: usize,
) -> Result<(), NTSTATUS> {
    // SAFETY: the caller's contract.
    unsafe {
        let subject = core::ptr::with_exposed_provenance::<SubjectContext>(subject);
        let creation = Creation {
            parent: optional(parent)?,
            explicit: optional(explicit)?,
            is_container: directory as BOOLEAN != FALSE,
            token: token::contents((*subject).token()),
            mapping: *core::ptr::with_exposed_provenance::<GenericMapping>(mapping),
        };
        let bytes = creation.descriptor().map_err(|why| match why {
            NotAssigned::InvalidOwner => STATUS_INVALID_OWNER,
            NotAssigned::NoPrivilege => STATUS_PRIVILEGE_NOT_HELD,
            NotAssigned::TooLong => STATUS_INVALID_ACL,
        })?;
        let terms = Terms {
            size: bytes.len(),
            tag: u32::from_le_bytes(*b"SeSd"),
            paged: kind & PAGED != 0,
            caller,
            ..Terms::default()
        };
        let block = pool::allocate(terms, false).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        bytes.as_ptr().copy_to_nonoverlapping(block.as_ptr(), bytes.len());
        core::ptr::with_exposed_provenance_mut::<PVOID>(to).write(block.as_ptr().cast());
    }
    Ok(())
}

/// # Safety
/// The call must be one of SeAssignSecurity's.
unsafe extern "win64" fn assign(call: &Call<7>) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe { create(call.arguments, call.caller) }.map_or_else(|status| status, |()| STATUS_SUCCESS)
}

export! {
    /// *SeAssignSecurity function (wdm.h)*: a self-relative descriptor in pool of that kind. Owner and group are those that are
    /// named, or the token's; the list is the one that is given, or what the parent hands down, or the token's.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn SeAssignSecurity(
        parent: *const SecurityDescriptor,
        explicit: *const SecurityDescriptor,
        to: *mut PVOID,
        directory: BOOLEAN,
        subject: *const SubjectContext,
        mapping: *const GenericMapping,
        kind: u32,
    ) -> NTSTATUS {
        with_caller!(assign)
    }

    /// *SeDeassignSecurity function (wdm.h)*: frees it, and forgets where it was.
    pub unsafe extern "win64" fn SeDeassignSecurity(descriptor: *mut PVOID) -> NTSTATUS {
        // SAFETY: the caller's variable.
        unsafe {
            if !(*descriptor).is_null() {
                pool::free((*descriptor).addr(), 0);
                descriptor.write(core::ptr::null_mut());
            }
        }
        STATUS_SUCCESS
    }

    /// *SeValidSecurityDescriptor function (wdm.h)*: of a self-relative one that lies in that many bytes and has an owner.
    pub unsafe extern "win64" fn SeValidSecurityDescriptor(length: u32, descriptor: *const u8) -> BOOLEAN {
        // SAFETY: the caller's memory of that length.
        let bytes = unsafe { core::slice::from_raw_parts(descriptor, length as usize) };
        Parts::of_relative(bytes).is_some_and(|parts| parts.has(OWNER)).into()
    }
}
