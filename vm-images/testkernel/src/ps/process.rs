//! The one process: the system's.
//!
//! Drivers refer to it, compare it, ask for its number, attach to it (where they already are) and look no further.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::AtomicPtr;

use crate::ke::{clock, list};
use crate::ldr::export::{export, export_data};
use crate::nt::{
    BOOLEAN, DISPATCHER_HEADER, FALSE, HANDLE, NTSTATUS, PVOID, STATUS_INVALID_CID, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, object_type,
};
use crate::ob;
use crate::ob::types::Kind;

/// The system process, which can be waited for and never ends. Nobody looks further into it.
#[derive(Debug)]
#[repr(C)]
pub struct Process {
    header: UnsafeCell<DISPATCHER_HEADER>,
    unused: [u64; 61],
}

// SAFETY: the header is only touched under the dispatcher's lock, but for its initialization.
unsafe impl Sync for Process {}

static SYSTEM: Process = Process {
    header: UnsafeCell::new(DISPATCHER_HEADER {
        Type: object_type::PROCESS,
        Flags: 0,
        Size: (size_of::<Process>() / 4) as u8,
        Inserted: 0,
        SignalState: 0,
        WaitListHead: list::UNLINKED,
    }),
    unused: [0; 61],
};

/// `PsInitialSystemProcess`.
static INITIAL: AtomicPtr<Process> = AtomicPtr::new((&raw const SYSTEM).cast_mut());

export_data! {
    PsInitialSystemProcess => INITIAL;
}

/// `PsGetProcessId` of the system process.
pub const SYSTEM_ID: usize = 4;

/// The system process.
pub fn system() -> PVOID {
    (&raw const SYSTEM).cast_mut().cast()
}

/// Makes it an object, for ever.
pub fn init() {
    // SAFETY: nobody knows it yet.
    unsafe { list::initialize(&raw mut (*SYSTEM.header.get()).WaitListHead) };
    ob::insert(system().expose_provenance(), Kind::Process, |_| {});
}

/// `KAPC_STATE`: what KeStackAttachProcess fills in and nobody but KeUnstackDetachProcess reads.
#[derive(Debug)]
#[repr(C)]
pub struct KAPC_STATE {
    lists: [usize; 4],
    process: PVOID,
    flags: [u8; 8],
}

const _: () = assert!(size_of::<KAPC_STATE>() == 0x30);

export! {
    /// *PsGetCurrentProcessId function (ntddk.h)*: the system process.
    pub unsafe extern "win64" fn PsGetCurrentProcessId() -> HANDLE {
        ptr::without_provenance_mut(SYSTEM_ID)
    }

    /// *PsGetCurrentProcess*, what *IoGetCurrentProcess (wdm.h)* is.
    pub unsafe extern "win64" fn PsGetCurrentProcess() -> PVOID {
        system()
    }

    /// *IoGetCurrentProcess function (wdm.h)*.
    pub unsafe extern "win64" fn IoGetCurrentProcess() -> PVOID {
        system()
    }

    /// *PsGetProcessId function (ntddk.h)*: there is one process.
    pub unsafe extern "win64" fn PsGetProcessId(_process: PVOID) -> HANDLE {
        ptr::without_provenance_mut(SYSTEM_ID)
    }

    /// *PsGetProcessCreateTimeQuadPart function (ntddk.h)*: the system process began when the system did.
    pub unsafe extern "win64" fn PsGetProcessCreateTimeQuadPart(_process: PVOID) -> i64 {
        clock::system_time_at_boot().cast_signed()
    }

    /// *PsGetProcessExitTime function (ntifs.h)*: 0, the current process has not ended.
    pub unsafe extern "win64" fn PsGetProcessExitTime() -> i64 {
        0
    }

    /// *PsLookupProcessByProcessId function (ntifs.h)*: with a reference; STATUS_INVALID_CID (of Windows 7 and before:
    /// STATUS_INVALID_PARAMETER) where no process has that number.
    pub unsafe extern "win64" fn PsLookupProcessByProcessId(id: HANDLE, process: *mut PVOID) -> NTSTATUS {
        if id.addr() != SYSTEM_ID {
            return STATUS_INVALID_CID;
        }
        if !ob::reference(system().addr()) {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller gives storage for the pointer.
        unsafe { process.write(system()) };
        STATUS_SUCCESS
    }

    /// *KeStackAttachProcess function (ntifs.h)*: to the process that the thread is in anyway.
    pub unsafe extern "win64" fn KeStackAttachProcess(process: PVOID, state: *mut KAPC_STATE) {
        // SAFETY: the caller gives storage for the state.
        unsafe { state.write(KAPC_STATE { lists: [0; 4], process, flags: [0; 8] }) };
    }

    /// *KeUnstackDetachProcess function (ntifs.h)*.
    pub unsafe extern "win64" fn KeUnstackDetachProcess(_state: *const KAPC_STATE) {}

    /// *PsGetVersion function (ntddk.h)*: obsolete, and the same as RtlGetVersion tells; FALSE: a free build.
    pub unsafe extern "win64" fn PsGetVersion(
        major: *mut u32,
        minor: *mut u32,
        build: *mut u32,
        csd: *mut crate::nt::UNICODE_STRING,
    ) -> BOOLEAN {
        use crate::rtl::version;
        let put = |to: *mut u32, value| {
            if !to.is_null() {
                // SAFETY: the caller gives storage or null.
                unsafe { to.write(value) };
            }
        };
        put(major, version::MAJOR);
        put(minor, version::MINOR);
        put(build, version::BUILD);
        // SAFETY: the caller gives a string or null; there is no service pack.
        if let Some(csd) = unsafe { csd.as_mut() } {
            csd.Length = 0;
        }
        FALSE
    }
}
