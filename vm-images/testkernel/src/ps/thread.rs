//! System threads of drivers.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicPtr;

use crate::ke::clock;
use crate::ke::thread::{self, NORMAL_PRIORITY, Thread, ThreadRef};
use crate::ldr::export::{export, export_data};
use crate::mm::modules;
use crate::nt::{
    BOOLEAN, HANDLE, KAFFINITY, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_SUCCESS, TRUE,
};
use crate::ob;
use crate::ob::handle::{self, Target};
use crate::vf::census::Census;

/// `KSTART_ROUTINE`.
pub type StartRoutine = unsafe extern "win64" fn(context: PVOID);

/// `CLIENT_ID`.
#[derive(Debug)]
#[repr(C)]
pub struct CLIENT_ID {
    process: HANDLE,
    thread: HANDLE,
}

/// What `*PsThreadType` and `PsGetCurrentProcess` lead to: something that is not null and that nobody looks
/// into.
static OPAQUE: [u64; 64] = [0; 64];
static THREAD_TYPE: AtomicPtr<c_void> = AtomicPtr::new((&raw const OPAQUE).cast_mut().cast());

/// `PsInitialSystemProcess`.
static SYSTEM_PROCESS: AtomicPtr<c_void> = AtomicPtr::new((&raw const OPAQUE).cast_mut().cast());

export_data! {
    PsThreadType => THREAD_TYPE;
    PsInitialSystemProcess => SYSTEM_PROCESS;
}

/// `PsGetProcessId` of the system process.
const SYSTEM_PROCESS_ID: usize = 4;

fn id_of(thread: &Thread) -> HANDLE {
    // Thread identifiers count in fours.
    ptr::without_provenance_mut(thread.id() as usize * 4)
}

/// Gives back the share that the object manager held.
fn delete(address: usize) {
    if let Some(thread) = NonNull::new(ptr::with_exposed_provenance_mut::<Thread>(address)) {
        // SAFETY: `PsCreateSystemThread` gave the object manager this share; it gives it back once.
        drop(unsafe { ThreadRef::from_raw(thread) });
    }
}

/// Threads of drivers that run, each with the address of its routine.
pub static RUNNING: Census = Census::new();

struct Start {
    routine: StartRoutine,
    context: PVOID,
}

// SAFETY: a driver passes its context to a thread on purpose.
unsafe impl Send for Start {}

impl Start {
    fn run(self) {
        // SAFETY: the driver gave the routine for this call. If its image is gone, the call faults: a bug
        // check.
        unsafe { (self.routine)(self.context) };
    }
}

export! {
    /// *PsCreateSystemThread function (wdm.h)*: starts a thread of the system process at PASSIVE_LEVEL. Its
    /// handle, where asked for, has to be closed; the thread also ends when its routine returns.
    pub unsafe extern "win64" fn PsCreateSystemThread(
        thread_handle: *mut HANDLE,
        _access: u32,
        _attributes: *mut OBJECT_ATTRIBUTES,
        _process: HANDLE,
        client_id: *mut CLIENT_ID,
        routine: Option<StartRoutine>,
        context: PVOID,
    ) -> NTSTATUS {
        let Some(routine) = routine.filter(|_| !thread_handle.is_null()) else {
            return STATUS_INVALID_PARAMETER;
        };
        let module = modules::lookup(routine as usize as u64);
        let name = module.as_ref().map_or("driver's thread", |(module, _)| module.name());
        let start = Start { routine, context };
        let run = move || {
            start.run();
            RUNNING.leave(thread::current().as_ptr().addr());
        };
        let Ok(prepared) = thread::prepare(name, NORMAL_PRIORITY, run) else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        // SAFETY: what was prepared keeps the record alive.
        let share = unsafe { thread::reference(NonNull::new_unchecked(prepared.pointer())) };
        let id = id_of(&share);
        let object = share.into_raw().expose_provenance();
        ob::insert(object, delete);
        let created = match handle::create(Target::Object(object)) {
            Ok(created) => created,
            Err(status) => {
                ob::dereference(object);
                return status;
            }
        };
        // SAFETY: the caller's.
        unsafe {
            thread_handle.write(created);
            if !client_id.is_null() {
                let process = ptr::without_provenance_mut(SYSTEM_PROCESS_ID);
                client_id.write(CLIENT_ID { process, thread: id });
            }
        }
        RUNNING.enter(prepared.pointer().addr(), routine as usize);
        drop(prepared.start());
        STATUS_SUCCESS
    }

    /// *PsTerminateSystemThread function (wdm.h)*: ends the calling thread.
    pub unsafe extern "win64" fn PsTerminateSystemThread(status: NTSTATUS) -> NTSTATUS {
        RUNNING.leave(thread::current().as_ptr().addr());
        thread::exit(status.bits())
    }

    /// *KeGetCurrentThread function (wdm.h)*.
    pub unsafe extern "win64" fn KeGetCurrentThread() -> PVOID {
        thread::current().as_ptr().cast()
    }

    /// *PsGetCurrentThread function (wdm.h)*.
    pub unsafe extern "win64" fn PsGetCurrentThread() -> PVOID {
        thread::current().as_ptr().cast()
    }

    /// *PsGetCurrentThreadId function (ntddk.h)*.
    pub unsafe extern "win64" fn PsGetCurrentThreadId() -> HANDLE {
        // SAFETY: the thread that runs is alive.
        id_of(unsafe { thread::current().as_ref() })
    }

    /// *PsGetThreadId function (ntddk.h)*.
    pub unsafe extern "win64" fn PsGetThreadId(thread: *const Thread) -> HANDLE {
        // SAFETY: the caller's thread.
        id_of(unsafe { &*thread })
    }

    /// *PsGetCurrentProcessId function (ntddk.h)*: the system process.
    pub unsafe extern "win64" fn PsGetCurrentProcessId() -> HANDLE {
        ptr::without_provenance_mut(SYSTEM_PROCESS_ID)
    }

    /// *PsGetCurrentProcess*, what *IoGetCurrentProcess (wdm.h)* is: something opaque that is not null.
    pub unsafe extern "win64" fn PsGetCurrentProcess() -> PVOID {
        (&raw const OPAQUE).cast_mut().cast()
    }

    /// *PsGetProcessId function (ntddk.h)*: there is one process.
    pub unsafe extern "win64" fn PsGetProcessId(_process: PVOID) -> HANDLE {
        ptr::without_provenance_mut(SYSTEM_PROCESS_ID)
    }

    /// *PsGetThreadProcessId function (ntddk.h)*: there is one process.
    pub unsafe extern "win64" fn PsGetThreadProcessId(_thread: *const Thread) -> HANDLE {
        ptr::without_provenance_mut(SYSTEM_PROCESS_ID)
    }

    /// *PsGetProcessCreateTimeQuadPart function (ntddk.h)*: the system process began when the system did.
    pub unsafe extern "win64" fn PsGetProcessCreateTimeQuadPart(_process: PVOID) -> i64 {
        clock::system_time_at_boot().cast_signed()
    }

    /// *IoGetCurrentProcess function (wdm.h)*.
    pub unsafe extern "win64" fn IoGetCurrentProcess() -> PVOID {
        (&raw const OPAQUE).cast_mut().cast()
    }

    /// *IoGetStackLimits function (ntddk.h)*: the lowest address of the current thread's stack, and the end of it.
    pub unsafe extern "win64" fn IoGetStackLimits(low: *mut usize, high: *mut usize) {
        let (start, end) = thread::stack_limits();
        // SAFETY: the caller gives storage for both.
        unsafe {
            low.write(start as usize);
            high.write(end as usize);
        }
    }

    /// *IoGetRemainingStackSize function (ntddk.h)*, in its exported form: bytes below the caller's frame.
    pub unsafe extern "win64" fn IoGetRemainingStackSize() -> usize {
        let here = 0u8;
        (&raw const here).addr().saturating_sub(thread::stack_limits().0 as usize)
    }

    /// *PsIsSystemThread function (ntifs.h)*: there are no others.
    pub unsafe extern "win64" fn PsIsSystemThread(_thread: *const Thread) -> BOOLEAN {
        TRUE
    }

    /// *KeSetPriorityThread function (wdm.h)*: returns the priority before.
    pub unsafe extern "win64" fn KeSetPriorityThread(thread: *const Thread, priority: i32) -> i32 {
        let priority = u8::try_from(priority).unwrap_or(NORMAL_PRIORITY);
        // SAFETY: the caller's thread.
        i32::from(thread::set_priority(unsafe { &*thread }, priority))
    }

    /// *KeQueryPriorityThread function (wdm.h)*.
    pub unsafe extern "win64" fn KeQueryPriorityThread(thread: *const Thread) -> i32 {
        // SAFETY: the caller's thread.
        i32::from(thread::priority(unsafe { &*thread }))
    }

    /// *KeSetSystemAffinityThread function (wdm.h)*: the calling thread runs on these processors only when
    /// this returns.
    pub unsafe extern "win64" fn KeSetSystemAffinityThread(affinity: KAFFINITY) {
        thread::set_affinity(affinity);
    }

    /// *KeSetSystemAffinityThreadEx function (wdm.h)*: returns the affinity before.
    pub unsafe extern "win64" fn KeSetSystemAffinityThreadEx(affinity: KAFFINITY) -> KAFFINITY {
        thread::set_affinity(affinity)
    }

    /// *KeRevertToUserAffinityThread function (wdm.h)*: every processor again.
    pub unsafe extern "win64" fn KeRevertToUserAffinityThread() {
        thread::set_affinity(KAFFINITY::MAX);
    }

    /// *KeRevertToUserAffinityThreadEx function (wdm.h)*: those of before; every one for 0.
    pub unsafe extern "win64" fn KeRevertToUserAffinityThreadEx(affinity: KAFFINITY) {
        thread::set_affinity(if affinity == 0 { KAFFINITY::MAX } else { affinity });
    }
}
