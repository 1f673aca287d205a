//! What drivers ask of processes and threads. There is one process, the system's: it has no environment, no session but the first, no parent,
//! and is charged nothing.

use core::ptr;

use super::process::{self, SYSTEM_ID};
use crate::ke::thread::{self, Thread};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FALSE, HANDLE, KERNEL_MODE, KPROCESSOR_MODE, NTSTATUS, PVOID, STATUS_PENDING, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};

/// `ImageFileName`: fifteen letters and a zero.
static IMAGE_NAME: [u8; 16] = *b"System\0\0\0\0\0\0\0\0\0\0";

export! {
    /// *PsGetThreadProcess*: as IoThreadToProcess.
    pub unsafe extern "win64" fn PsGetThreadProcess(_thread: *const Thread) -> PVOID {
        process::system()
    }

    /// *PsGetCurrentThreadProcess*.
    pub unsafe extern "win64" fn PsGetCurrentThreadProcess() -> PVOID {
        process::system()
    }

    /// *PsGetCurrentThreadProcessId*.
    pub unsafe extern "win64" fn PsGetCurrentThreadProcessId() -> HANDLE {
        ptr::without_provenance_mut(SYSTEM_ID)
    }

    /// *PsGetCurrentThreadPreviousMode*: as ExGetPreviousMode.
    pub unsafe extern "win64" fn PsGetCurrentThreadPreviousMode() -> KPROCESSOR_MODE {
        KERNEL_MODE
    }

    /// *PsGetCurrentThreadStackBase*: the end of the calling thread's stack.
    pub unsafe extern "win64" fn PsGetCurrentThreadStackBase() -> PVOID {
        ptr::with_exposed_provenance_mut(thread::stack_limits().1 as usize)
    }

    /// *PsGetCurrentThreadStackLimit*: its lowest address.
    pub unsafe extern "win64" fn PsGetCurrentThreadStackLimit() -> PVOID {
        ptr::with_exposed_provenance_mut(thread::stack_limits().0 as usize)
    }

    /// *PsGetCurrentThreadTeb*: null: a system thread has none.
    pub unsafe extern "win64" fn PsGetCurrentThreadTeb() -> PVOID {
        ptr::null_mut()
    }

    /// *PsGetThreadTeb*: null: a system thread has none.
    pub unsafe extern "win64" fn PsGetThreadTeb(_thread: *const Thread) -> PVOID {
        ptr::null_mut()
    }

    /// *PsGetThreadSessionId*: the first session.
    pub unsafe extern "win64" fn PsGetThreadSessionId(_thread: *const Thread) -> u32 {
        0
    }

    /// *PsGetProcessImageFileName*: letters of one byte, ended by a zero.
    pub unsafe extern "win64" fn PsGetProcessImageFileName(_process: PVOID) -> *const u8 {
        IMAGE_NAME.as_ptr()
    }

    /// *PsGetProcessExitStatus*: STATUS_PENDING: it has not ended.
    pub unsafe extern "win64" fn PsGetProcessExitStatus(_process: PVOID) -> NTSTATUS {
        STATUS_PENDING
    }

    /// *PsIsSystemProcess*.
    pub unsafe extern "win64" fn PsIsSystemProcess(process: PVOID) -> BOOLEAN {
        (process == process::system()).into()
    }

    /// *PsGetProcessSessionId*: the first session.
    pub unsafe extern "win64" fn PsGetProcessSessionId(_process: PVOID) -> u32 {
        0
    }

    /// *PsGetCurrentProcessSessionId*: the first session.
    pub unsafe extern "win64" fn PsGetCurrentProcessSessionId() -> u32 {
        0
    }

    /// *PsGetProcessInheritedFromUniqueProcessId*: null: nobody made the system's process.
    pub unsafe extern "win64" fn PsGetProcessInheritedFromUniqueProcessId(_process: PVOID) -> HANDLE {
        ptr::null_mut()
    }

    /// *PsGetProcessPeb*: null: the system's process has none.
    pub unsafe extern "win64" fn PsGetProcessPeb(_process: PVOID) -> PVOID {
        ptr::null_mut()
    }

    /// *PsGetProcessWow64Process*: null: it is no 32-bit process.
    pub unsafe extern "win64" fn PsGetProcessWow64Process(_process: PVOID) -> PVOID {
        ptr::null_mut()
    }

    /// *PsGetCurrentProcessWow64Process*: null: it is no 32-bit process.
    pub unsafe extern "win64" fn PsGetCurrentProcessWow64Process() -> PVOID {
        ptr::null_mut()
    }

    /// *PsChargePoolQuota function (ntifs.h)*: the system's process is charged nothing.
    pub unsafe extern "win64" fn PsChargePoolQuota(_process: PVOID, _kind: u32, _bytes: usize) {}

    /// *PsReturnPoolQuota function (ntifs.h)*: nothing was charged.
    pub unsafe extern "win64" fn PsReturnPoolQuota(_process: PVOID, _kind: u32, _bytes: usize) {}

    /// *PsChargeProcessPoolQuota*: the system's process is charged nothing, and has no limit.
    pub unsafe extern "win64" fn PsChargeProcessPoolQuota(_process: PVOID, _kind: u32, _bytes: usize) -> NTSTATUS {
        STATUS_SUCCESS
    }

    /// *PsChargeProcessPagedPoolQuota*: likewise.
    pub unsafe extern "win64" fn PsChargeProcessPagedPoolQuota(_process: PVOID, _bytes: usize) -> NTSTATUS {
        STATUS_SUCCESS
    }

    /// *PsChargeProcessNonPagedPoolQuota*: likewise.
    pub unsafe extern "win64" fn PsChargeProcessNonPagedPoolQuota(_process: PVOID, _bytes: usize) -> NTSTATUS {
        STATUS_SUCCESS
    }

    /// *PsReturnProcessPagedPoolQuota*: nothing was charged.
    pub unsafe extern "win64" fn PsReturnProcessPagedPoolQuota(_process: PVOID, _bytes: usize) {}

    /// *PsReturnProcessNonPagedPoolQuota*: nothing was charged.
    pub unsafe extern "win64" fn PsReturnProcessNonPagedPoolQuota(_process: PVOID, _bytes: usize) {}

    /// *KeAttachProcess*, obsolete: to the process that the thread is in anyway.
    pub unsafe extern "win64" fn KeAttachProcess(_process: PVOID) {}

    /// *KeDetachProcess*, obsolete.
    pub unsafe extern "win64" fn KeDetachProcess() {}

    /// *KeIsAttachedProcess*: FALSE: no thread is in another process than its own.
    pub unsafe extern "win64" fn KeIsAttachedProcess() -> BOOLEAN {
        FALSE
    }
}

kernel_test! {
    fn a_thread_is_the_systems_and_lies_on_its_stack() {
        let here = 0_u8;
        let here = (&raw const here).addr();
        // SAFETY: these ask only.
        unsafe {
            check!(PsGetCurrentThreadProcess() == process::system() && PsIsSystemProcess(process::system()) != FALSE);
            check!((PsGetCurrentThreadStackLimit().addr()..PsGetCurrentThreadStackBase().addr()).contains(&here));
            check!(PsGetProcessImageFileName(process::system()).read() == b'S');
        }
    }
}
