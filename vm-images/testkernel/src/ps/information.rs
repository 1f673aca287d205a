//! What may be asked of processes and threads by their handles.

use core::ptr;

use super::process::SYSTEM_ID;
use super::thread::{CLIENT_ID, PsGetThreadId};
use crate::ke::processor;
use crate::ke::thread::{self, NORMAL_PRIORITY, Thread};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, KAFFINITY, NTSTATUS, PVOID, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS,
    STATUS_PENDING, STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ob::named::with_object;
use crate::ob::types::Kind;
use crate::selftest::{check, kernel_test};

/// `THREAD_BASIC_INFORMATION`.
#[derive(Debug)]
#[repr(C)]
struct ThreadBasic {
    exit_status: NTSTATUS,
    teb: PVOID,
    client: CLIENT_ID,
    affinity: KAFFINITY,
    priority: i32,
    base_priority: i32,
}

/// `PROCESS_BASIC_INFORMATION`.
#[derive(Debug)]
#[repr(C)]
struct ProcessBasic {
    exit_status: NTSTATUS,
    peb: PVOID,
    affinity: KAFFINITY,
    base_priority: i32,
    process: HANDLE,
    inherited_from: HANDLE,
}

const _: () = assert!(size_of::<ThreadBasic>() == 0x30 && size_of::<ProcessBasic>() == 0x30);

/// Where an answer goes.
#[derive(Clone, Copy)]
struct Room {
    start: PVOID,
    length: u32,
    /// Null, or where the answer's length goes.
    told: *mut u32,
}

impl Room {
    /// Gives `answer`, which has to have exactly that much room.
    ///
    /// # Safety
    /// The room is what it says.
    unsafe fn take<T>(self, answer: T) -> NTSTATUS {
        if self.length as usize != size_of::<T>() {
            return STATUS_INFO_LENGTH_MISMATCH;
        }
        // SAFETY: the caller's; the room need not be aligned.
        unsafe {
            self.start.cast::<T>().write_unaligned(answer);
            if !self.told.is_null() {
                self.told.write(self.length);
            }
        }
        STATUS_SUCCESS
    }
}

/// # Safety
/// The room is what it says.
unsafe fn of_thread(thread: &Thread, what: u32, room: Room) -> NTSTATUS {
    /// `THREADINFOCLASS`.
    mod class {
        pub const BASIC: u32 = 0;
        pub const IS_TERMINATED: u32 = 20;
    }
    let outcome = thread::outcome(thread);
    // SAFETY: the caller's; the thread is alive.
    unsafe {
        match what {
            class::BASIC => room.take(ThreadBasic {
                exit_status: outcome.map_or(STATUS_PENDING, NTSTATUS::from_bits),
                teb: ptr::null_mut(),
                client: CLIENT_ID {
                    process: ptr::without_provenance_mut(SYSTEM_ID),
                    thread: PsGetThreadId(thread),
                },
                affinity: thread::affinity(thread) & processor::all_mask(),
                priority: thread::priority(thread).into(),
                base_priority: thread::base_priority(thread).into(),
            }),
            class::IS_TERMINATED => room.take(u32::from(outcome.is_some())),
            _ => STATUS_INVALID_INFO_CLASS,
        }
    }
}

/// # Safety
/// The room is what it says.
unsafe fn of_system(what: u32, room: Room) -> NTSTATUS {
    /// `PROCESSINFOCLASS`.
    mod class {
        pub const BASIC: u32 = 0;
        pub const DEBUG_PORT: u32 = 7;
        pub const WOW64_INFORMATION: u32 = 26;
        pub const IMAGE_FILE_NAME: u32 = 27;
        pub const BREAK_ON_TERMINATION: u32 = 29;
    }
    // SAFETY: the caller's.
    unsafe {
        match what {
            class::BASIC => room.take(ProcessBasic {
                exit_status: STATUS_PENDING,
                peb: ptr::null_mut(),
                affinity: processor::all_mask(),
                base_priority: NORMAL_PRIORITY.into(),
                process: ptr::without_provenance_mut(SYSTEM_ID),
                inherited_from: ptr::null_mut(),
            }),
            // No debugger, and no 32-bit process.
            class::DEBUG_PORT | class::WOW64_INFORMATION => room.take(0_usize),
            // The system goes when its process does.
            class::BREAK_ON_TERMINATION => room.take(1_u32),
            // No image was loaded for it: a string without letters, which more room than it takes is no harm to.
            class::IMAGE_FILE_NAME => {
                let length = room.length.min(size_of::<UNICODE_STRING>() as u32);
                let empty = UNICODE_STRING { Length: 0, MaximumLength: 0, Buffer: ptr::null_mut() };
                Room { length, ..room }.take(empty)
            }
            _ => STATUS_INVALID_INFO_CLASS,
        }
    }
}

export! {
    /// *ZwQueryInformationThread*: ThreadBasicInformation and ThreadIsTerminated; STATUS_INFO_LENGTH_MISMATCH where the length is not that of
    /// the information, STATUS_INVALID_INFO_CLASS for what there is not.
    pub unsafe extern "win64" fn ZwQueryInformationThread(
        handle: HANDLE,
        what: u32,
        information: PVOID,
        length: u32,
        told: *mut u32,
    ) -> NTSTATUS {
        let room = Room { start: information, length, told };
        let answer = with_object(handle, Kind::Thread, |address| {
            // SAFETY: the thread is referred to meanwhile; the caller's room.
            unsafe { of_thread(&*ptr::with_exposed_provenance::<Thread>(address), what, room) }
        });
        answer.unwrap_or_else(|status| status)
    }

    /// *ZwQueryInformationProcess*: ProcessBasicInformation, ProcessDebugPort, ProcessWow64Information, ProcessImageFileName and
    /// ProcessBreakOnTermination; the statuses as above.
    pub unsafe extern "win64" fn ZwQueryInformationProcess(
        handle: HANDLE,
        what: u32,
        information: PVOID,
        length: u32,
        told: *mut u32,
    ) -> NTSTATUS {
        let room = Room { start: information, length, told };
        // SAFETY: the caller's room.
        let answer = with_object(handle, Kind::Process, |_| unsafe { of_system(what, room) });
        answer.unwrap_or_else(|status| status)
    }

    /// *PsGetThreadExitStatus*: STATUS_PENDING while it runs.
    pub unsafe extern "win64" fn PsGetThreadExitStatus(thread: *const Thread) -> NTSTATUS {
        // SAFETY: the caller's thread.
        thread::outcome(unsafe { &*thread }).map_or(STATUS_PENDING, NTSTATUS::from_bits)
    }
}

kernel_test! {
    /// *ZwQueryInformationThread*: of the calling thread, by the handle that stands for it.
    fn a_thread_and_its_process_can_be_asked_by_their_handles() {
        let current = |number: isize| ptr::without_provenance_mut(number as usize);
        let mut basic = core::mem::MaybeUninit::<ThreadBasic>::uninit();
        let room = basic.as_mut_ptr();
        let mut told = 0;
        // SAFETY: there is room for each answer.
        unsafe {
            let mut ask = |what, length| ZwQueryInformationThread(current(-2), what, room.cast(), length, &raw mut told);
            check!(ask(0, 0x20) == STATUS_INFO_LENGTH_MISMATCH && ask(99, 0x30) == STATUS_INVALID_INFO_CLASS);
            check!(ask(0, 0x30) == STATUS_SUCCESS && told == 0x30);
            check!((*room).exit_status == STATUS_PENDING && (*room).client.process.addr() == SYSTEM_ID);
            let me = thread::current();
            check!((*room).priority == i32::from(thread::priority(me.as_ref())));
            let process = room.cast::<ProcessBasic>();
            check!(ZwQueryInformationProcess(current(-1), 0, process.cast(), 0x30, ptr::null_mut()) == STATUS_SUCCESS);
            check!((*process).process.addr() == SYSTEM_ID && (*process).affinity == processor::all_mask());
        }
    }
}
