//! Subject contexts: on whose behalf something is done, held for as long as it is being decided.
//!
//! A captured context holds a reference to a token, until it is released; one that Unload leaves captured is a finding.

use core::arch::naked_asm;

use super::token;
use crate::ke::apc::{KeEnterCriticalRegion, KeLeaveCriticalRegion};
use crate::ldr::export::export;
use crate::nt::PVOID;
use crate::ob;
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// `SECURITY_SUBJECT_CONTEXT`: a driver looks for the client's token first, then for the process's.
#[derive(Debug)]
#[repr(C)]
pub struct SubjectContext {
    client: PVOID,
    level: u32,
    primary: PVOID,
    process: PVOID,
}

const _: () = assert!(size_of::<SubjectContext>() == 0x20);

/// Contexts that are captured, by address.
pub static CAPTURED: Census = Census::new();

impl SubjectContext {
    /// The token that counts: the client's where there is one.
    pub fn token(&self) -> PVOID {
        if self.client.is_null() { self.primary } else { self.client }
    }
}

/// # Safety
/// As for SeCaptureSubjectContext.
unsafe extern "win64" fn capture(context: *mut SubjectContext, caller: usize) {
    let (primary, nobody) = (token::primary(), core::ptr::null_mut());
    let process = core::ptr::without_provenance_mut(crate::ps::process::SYSTEM_ID);
    ob::reference(primary.addr());
    CAPTURED.enter(context.addr(), caller);
    // SAFETY: the caller's storage.
    unsafe { context.write(SubjectContext { client: nobody, level: 0, primary, process }) };
}

export! {
    /// *SeCaptureSubjectContext function (ntifs.h)*: the calling thread's: the system, which impersonates nobody.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn SeCaptureSubjectContext(context: *mut SubjectContext) {
        naked_asm!("mov rdx, [rsp]", "jmp {}", sym capture)
    }

    /// *SeReleaseSubjectContext function (ntifs.h)*: the references go, and so the context is empty.
    pub unsafe extern "win64" fn SeReleaseSubjectContext(context: *mut SubjectContext) {
        CAPTURED.leave(context.addr());
        // SAFETY: the caller's context.
        let context = unsafe { &mut *context };
        for token in [&mut context.client, &mut context.primary] {
            if !token.is_null() {
                ob::dereference(token.addr());
                *token = core::ptr::null_mut();
            }
        }
    }

    /// *SeLockSubjectContext function (ntifs.h)*: its tokens do not change until it is unlocked. Nobody changes one here; what is
    /// left is that the thread is in a critical region meanwhile.
    pub unsafe extern "win64" fn SeLockSubjectContext(_context: *mut SubjectContext) {
        // SAFETY: left again by SeUnlockSubjectContext.
        unsafe { KeEnterCriticalRegion() };
    }

    /// *SeUnlockSubjectContext function (ntifs.h)*.
    pub unsafe extern "win64" fn SeUnlockSubjectContext(_context: *mut SubjectContext) {
        // SAFETY: entered by SeLockSubjectContext.
        unsafe { KeLeaveCriticalRegion() };
    }
}

kernel_test! {
    fn a_captured_context_holds_its_token_until_it_is_released() {
        let mut context = core::mem::MaybeUninit::<SubjectContext>::uninit();
        let before = ob::references(token::primary().addr());
        // SAFETY: the context is a local, captured before it is looked at.
        unsafe {
            SeCaptureSubjectContext(context.as_mut_ptr());
            check!((*context.as_ptr()).token() == token::primary());
            check!(ob::references(token::primary().addr()) == before.map(|count| count + 1));
            check!(CAPTURED.knows(context.as_ptr().addr()));
            SeReleaseSubjectContext(context.as_mut_ptr());
            check!((*context.as_ptr()).token().is_null());
        }
        check!(ob::references(token::primary().addr()) == before && !CAPTURED.knows(context.as_ptr().addr()));
    }
}
