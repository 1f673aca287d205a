//! Access checks and privileges.
//!
//! Who calls from kernel mode is granted what they ask for. A driver that checks on behalf of somebody in user mode says so, and is
//! told what the descriptor says.

use squall_testkernel_pure::security::access::{self, Refused, Request};
use squall_testkernel_pure::security::{GENERIC_ALL, GenericMapping, MAXIMUM_ALLOWED};

use super::subject::SubjectContext;
use super::token;
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, KERNEL_MODE, KPROCESSOR_MODE, NTSTATUS, PVOID, STATUS_ACCESS_DENIED,
    STATUS_PRIVILEGE_NOT_HELD, STATUS_SUCCESS, TRUE,
};
use crate::rtl::security::{SecurityDescriptor, parts_of};

/// `PRIVILEGE_SET_ALL_NECESSARY`.
const ALL_NECESSARY: u32 = 1;
/// `SE_PRIVILEGE_USED_FOR_ACCESS`.
const USED_FOR_ACCESS: u32 = 0x8000_0000;

/// `PRIVILEGE_SET`, followed by `count` privileges.
#[derive(Debug)]
#[repr(C)]
pub struct PrivilegeSet {
    count: u32,
    control: u32,
}

/// `LUID_AND_ATTRIBUTES`.
#[repr(C, packed(4))]
struct Privilege {
    number: u64,
    attributes: u32,
}

const _: () = assert!(size_of::<Privilege>() == 12);

/// What is granted, or why not.
///
/// # Safety
/// `descriptor` must be null or valid, `subject` valid.
unsafe fn decide(
    descriptor: *const SecurityDescriptor,
    subject: *const SubjectContext,
    request: &Request,
    mode: KPROCESSOR_MODE,
) -> Result<u32, NTSTATUS> {
    let Request { desired, granted, mapping } = *request;
    if mode == KERNEL_MODE {
        let all = if desired & MAXIMUM_ALLOWED != 0 { mapping.map(GENERIC_ALL) } else { 0 };
        return Ok(granted | all | desired & !MAXIMUM_ALLOWED);
    }
    // SAFETY: the caller's contract.
    let (parts, token) = unsafe { (parts_of(descriptor), token::contents((*subject).token())) };
    let parts = parts.ok_or(STATUS_ACCESS_DENIED)?;
    access::check(&parts, token, request).map_err(|refused| match refused {
        Refused::Denied => STATUS_ACCESS_DENIED,
        Refused::NoPrivilege => STATUS_PRIVILEGE_NOT_HELD,
    })
}

export! {
    /// *SeAccessCheck function (wdm.h)*: FALSE with STATUS_ACCESS_DENIED and nothing granted, or TRUE with all that was asked
    /// for. No privilege is ever used for it, as the system's token holds none of those that would matter, so that the
    /// set of them is null.
    pub unsafe extern "win64" fn SeAccessCheck(
        descriptor: *const SecurityDescriptor,
        subject: *const SubjectContext,
        _locked: BOOLEAN,
        desired: u32,
        previously: u32,
        privileges: *mut PVOID,
        mapping: *const GenericMapping,
        mode: KPROCESSOR_MODE,
        granted: *mut u32,
        status: *mut NTSTATUS,
    ) -> BOOLEAN {
        // SAFETY: the caller's descriptor, context and mapping, and storage for the answers.
        unsafe {
            if !privileges.is_null() {
                privileges.write(core::ptr::null_mut());
            }
            let request = Request { desired, granted: previously, mapping: *mapping };
            let decided = decide(descriptor, subject, &request, mode);
            granted.write(decided.unwrap_or(0));
            status.write(decided.map_or_else(|refused| refused, |_| STATUS_SUCCESS));
            decided.is_ok().into()
        }
    }

    /// *SeFreePrivileges function (ntifs.h)*: of a set that SeAccessCheck gave.
    pub unsafe extern "win64" fn SeFreePrivileges(privileges: PVOID) {
        pool::free(privileges.addr(), 0);
    }

    /// *SeSinglePrivilegeCheck function (ntddk.h)*: TRUE for the kernel itself; for user mode, what the token says.
    pub unsafe extern "win64" fn SeSinglePrivilegeCheck(privilege: u64, mode: KPROCESSOR_MODE) -> BOOLEAN {
        (mode == KERNEL_MODE || token::contents(token::primary()).holds(privilege)).into()
    }

    /// *SePrivilegeCheck function (ntifs.h)*: all of them, or one where not all are necessary. Those that are held are marked as
    /// used.
    pub unsafe extern "win64" fn SePrivilegeCheck(
        set: *mut PrivilegeSet,
        subject: *const SubjectContext,
        mode: KPROCESSOR_MODE,
    ) -> BOOLEAN {
        if mode == KERNEL_MODE {
            return TRUE;
        }
        // SAFETY: the caller's set, with as many privileges behind it as it says, and context.
        unsafe {
            let token = token::contents((*subject).token());
            let PrivilegeSet { count, control } = set.read();
            let first = set.add(1).cast::<Privilege>();
            let mut held = 0;
            for index in 0..count as usize {
                let privilege = first.add(index);
                if token.holds((*privilege).number) {
                    (*privilege).attributes |= USED_FOR_ACCESS;
                    held += 1;
                }
            }
            let enough = if control & ALL_NECESSARY != 0 { held == count } else { held > 0 };
            if enough { TRUE } else { FALSE }
        }
    }
}
