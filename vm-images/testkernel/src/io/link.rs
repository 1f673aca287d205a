//! Symbolic links to devices, by which programs find them.

use core::arch::naked_asm;

use crate::ldr::export::export;
use crate::nt::{NTSTATUS, STATUS_SUCCESS, UNICODE_STRING};
use crate::ob::names;

/// Makes the link and remembers whose it is: a link belongs to no driver object, so the caller's address must do.
unsafe extern "win64" fn create(
    link: *const UNICODE_STRING,
    target: *const UNICODE_STRING,
    caller: usize,
) -> NTSTATUS {
    // SAFETY: the caller gives two valid names.
    let (link, target) = unsafe { ((*link).units(), (*target).units()) };
    names::with(|names| names.link(link, target, caller)).map_or_else(names::status_of, |()| STATUS_SUCCESS)
}

export! {
    /// *IoCreateSymbolicLink function (wdm.h)*.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoCreateSymbolicLink(
        link: *const UNICODE_STRING,
        target: *const UNICODE_STRING,
    ) -> NTSTATUS {
        naked_asm!("mov r8, [rsp]", "jmp {}", sym create)
    }

    /// *IoCreateUnprotectedSymbolicLink function (wdm.h)*: the same; the guest protects none.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoCreateUnprotectedSymbolicLink(
        link: *const UNICODE_STRING,
        target: *const UNICODE_STRING,
    ) -> NTSTATUS {
        naked_asm!("mov r8, [rsp]", "jmp {}", sym create)
    }

    /// *IoDeleteSymbolicLink function (wdm.h)*.
    pub unsafe extern "win64" fn IoDeleteSymbolicLink(link: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: the caller gives a valid name.
        let link = unsafe { (*link).units() };
        names::with(|names| names.unlink(link)).map_or_else(names::status_of, |()| STATUS_SUCCESS)
    }
}
