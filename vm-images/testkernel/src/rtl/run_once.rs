//! One-time initialization: whoever comes first does it, the others wait.
//!
//! The structure is one word: 0 at first, 1 while somebody initializes, 3 where several may, 2 with the context in its
//! upper bits once it is done. Waiting is done in small steps of sleep, as it is rare and short.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::ke::thread;
use crate::ldr::export::export;
use crate::nt::{
    NTSTATUS, PVOID, STATUS_INVALID_PARAMETER, STATUS_PENDING, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use crate::selftest::{check, kernel_test};

const FRESH: usize = 0;
const RUNNING: usize = 1;
const DONE: usize = 2;
const RUNNING_ASYNC: usize = 3;
/// The bits that hold a state; a context has them clear.
const STATE: usize = 3;

const CHECK_ONLY: u32 = 1;
const ASYNC: u32 = 2;
const INIT_FAILED: u32 = 4;

const LOOK_NS: u64 = 100_000;

/// `RTL_RUN_ONCE_INIT_FN`: nonzero where it succeeded.
pub type Initialize =
    unsafe extern "win64" fn(once: *mut usize, parameter: PVOID, context: *mut PVOID) -> u32;

/// # Safety
/// `once` must lead to a live RTL_RUN_ONCE; so everywhere below.
unsafe fn word<'a>(once: *mut usize) -> &'a AtomicUsize {
    // SAFETY: the caller's; it is only ever accessed atomically.
    unsafe { AtomicUsize::from_ptr(once) }
}

/// # Safety
/// `to` must be null or have room for a pointer.
unsafe fn hand_over(value: usize, to: *mut PVOID) {
    if !to.is_null() {
        // SAFETY: the caller's.
        unsafe { to.write(core::ptr::with_exposed_provenance_mut(value & !STATE)) };
    }
}

export! {
    /// *RtlRunOnceInitialize function (ntddk.h)*.
    pub unsafe extern "win64" fn RtlRunOnceInitialize(once: *mut usize) {
        // SAFETY: the caller's storage.
        unsafe { word(once) }.store(FRESH, Ordering::Release);
    }

    /// *RtlRunOnceBeginInitialize function (ntddk.h)*: STATUS_PENDING tells the caller to initialize and complete;
    /// STATUS_SUCCESS that it is done, with the context.
    pub unsafe extern "win64" fn RtlRunOnceBeginInitialize(
        once: *mut usize,
        flags: u32,
        context: *mut PVOID,
    ) -> NTSTATUS {
        if flags & !(CHECK_ONLY | ASYNC) != 0 || flags == CHECK_ONLY | ASYNC {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's.
        let once = unsafe { word(once) };
        let begun = if flags & ASYNC == 0 { RUNNING } else { RUNNING_ASYNC };
        loop {
            let value = once.load(Ordering::Acquire);
            match value & STATE {
                DONE => {
                    // SAFETY: the caller's storage.
                    unsafe { hand_over(value, context) };
                    return STATUS_SUCCESS;
                }
                _ if flags & CHECK_ONLY != 0 => return STATUS_UNSUCCESSFUL,
                FRESH => {
                    if once.compare_exchange(FRESH, begun, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                        return STATUS_PENDING;
                    }
                }
                RUNNING_ASYNC if begun == RUNNING_ASYNC => return STATUS_PENDING,
                RUNNING if begun == RUNNING => thread::sleep_ns(LOOK_NS),
                // Somebody initializes the other way.
                _ => return STATUS_INVALID_PARAMETER,
            }
        }
    }

    /// *RtlRunOnceComplete function (ntddk.h)*: done, with a context whose lowest two bits are clear; or failed, so
    /// that the next one tries. STATUS_UNSUCCESSFUL where another, of several, was first, or nobody began.
    pub unsafe extern "win64" fn RtlRunOnceComplete(once: *mut usize, flags: u32, context: PVOID) -> NTSTATUS {
        let failed = flags & INIT_FAILED != 0;
        let valid = flags & !(ASYNC | INIT_FAILED) == 0
            && flags != ASYNC | INIT_FAILED
            && context.addr() & STATE == 0
            && (!failed || context.is_null());
        if !valid {
            return STATUS_INVALID_PARAMETER;
        }
        let begun = if flags & ASYNC == 0 { RUNNING } else { RUNNING_ASYNC };
        let end = if failed { FRESH } else { context.expose_provenance() | DONE };
        // SAFETY: the caller's.
        match unsafe { word(once) }.compare_exchange(begun, end, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => STATUS_SUCCESS,
            Err(_) => STATUS_UNSUCCESSFUL,
        }
    }

    /// *RtlRunOnceExecuteOnce function (ntddk.h)*: calls the routine unless it has succeeded before.
    pub unsafe extern "win64" fn RtlRunOnceExecuteOnce(
        once: *mut usize,
        initialize: Option<Initialize>,
        parameter: PVOID,
        context: *mut PVOID,
    ) -> NTSTATUS {
        let Some(initialize) = initialize else { return STATUS_INVALID_PARAMETER };
        // SAFETY: the caller's.
        let status = unsafe { RtlRunOnceBeginInitialize(once, 0, context) };
        if status != STATUS_PENDING {
            return status;
        }
        let mut made: PVOID = core::ptr::null_mut();
        // SAFETY: the caller's routine, with what it was promised.
        let succeeded = unsafe { initialize(once, parameter, &raw mut made) } != 0;
        // SAFETY: the caller's; this thread began it.
        unsafe {
            if !succeeded {
                let _ = RtlRunOnceComplete(once, INIT_FAILED, core::ptr::null_mut());
                return STATUS_UNSUCCESSFUL;
            }
            let status = RtlRunOnceComplete(once, 0, made);
            if status.is_success() {
                hand_over(made.addr(), context);
            }
            status
        }
    }
}

kernel_test! {
    /// *RtlRunOnceExecuteOnce function (ntddk.h)*: a failure is tried again, a success is not.
    fn initialization_runs_until_it_succeeds_and_then_no_more() {
        use core::sync::atomic::AtomicU32;
        static CALLS: AtomicU32 = AtomicU32::new(0);
        unsafe extern "win64" fn second_time(_: *mut usize, parameter: PVOID, context: *mut PVOID) -> u32 {
            // SAFETY: the caller promised room for a pointer.
            unsafe { context.write(parameter) };
            CALLS.fetch_add(1, Ordering::Relaxed)
        }
        let mut once = usize::MAX;
        let parameter = core::ptr::without_provenance_mut(0x1000);
        let mut context = core::ptr::null_mut();
        // SAFETY: the structure and the context are locals.
        unsafe {
            RtlRunOnceInitialize(&raw mut once);
            check!(RtlRunOnceBeginInitialize(&raw mut once, CHECK_ONLY, &raw mut context) == STATUS_UNSUCCESSFUL);
            for expected in [STATUS_UNSUCCESSFUL, STATUS_SUCCESS, STATUS_SUCCESS] {
                let run = RtlRunOnceExecuteOnce(&raw mut once, Some(second_time), parameter, &raw mut context);
                check!(run == expected);
            }
            check!(CALLS.load(Ordering::Relaxed) == 2 && context == parameter);
            check!(RtlRunOnceComplete(&raw mut once, 0, core::ptr::null_mut()) == STATUS_UNSUCCESSFUL);
        }
    }
}
