//! System threads of drivers.

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use squall_testkernel_pure::bugcheck::KERNEL_APC_PENDING_DURING_EXIT;

use super::{notify, process};
use crate::ke::apc;
use crate::ke::bugcheck::bugcheck;
use crate::ke::group_affinity::is_set_of_processors;
use crate::ke::irql::{self, Irql};
use crate::ke::thread::{self, NORMAL_PRIORITY, StartRoutine, Thread, ThreadRef};
use crate::ldr::export::export;
use crate::mm::{heap, modules};
use crate::nt::{
    BOOLEAN, HANDLE, KAFFINITY, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_CID, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, TRUE,
};
use crate::ob;
use crate::ob::handle;
use crate::ob::types::Kind;
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// `CLIENT_ID`.
#[derive(Debug)]
#[repr(C)]
pub struct CLIENT_ID {
    /// Of the process.
    pub process: HANDLE,
    /// Of the thread.
    pub thread: HANDLE,
}

fn id_of(thread: &Thread) -> HANDLE {
    // Thread identifiers count in fours.
    ptr::without_provenance_mut(thread.id() as usize * 4)
}

/// Makes a thread an object. Its first reference is the thread's own, and goes when the thread ends.
fn make_object(share: ThreadRef) -> usize {
    share.is_object.store(true, Ordering::Release);
    let object = share.into_raw().expose_provenance();
    ob::insert(object, Kind::Thread, delete);
    object
}

/// Makes the live thread at `address`, one that no driver started, an object: drivers refer to the thread that they happen to
/// run in as to any other. False where there is no such thread.
pub fn adopt(address: usize) -> bool {
    // Under the lock of the live threads, so that it is an object before it ends or not at all.
    thread::with_live(address, |share| {
        if !share.is_object.load(Ordering::Acquire) {
            make_object(share);
        }
    })
}

/// The calling thread is about to end: its own reference goes.
pub fn ending() {
    let thread = thread::current();
    // SAFETY: the thread that runs is alive.
    if unsafe { thread.as_ref() }.is_object.swap(false, Ordering::AcqRel) {
        ob::dereference(thread.as_ptr().addr());
    }
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

/// Binds the calling thread to processors, where all of them exist; those of before.
fn set_affinity(affinity: KAFFINITY) -> KAFFINITY {
    // No processors change nothing.
    thread::set_affinity(if is_set_of_processors(affinity) { affinity } else { 0 })
}

/// What a driver's thread does.
fn run(routine: StartRoutine, context: PVOID) {
    // SAFETY: the driver gave the routine for this call. If its image is gone, the call faults: a bug check.
    unsafe { routine(context) };
    ends();
}

/// The calling thread, a driver's, is at its end. In a critical or guarded region, and above PASSIVE_LEVEL, it must not be: *Bug Check 0x20:
/// KERNEL_APC_PENDING_DURING_EXIT*.
fn ends() {
    let (disabled, level) = (apc::disabled(), irql::current());
    if disabled != 0 || level != Irql::PASSIVE {
        bugcheck(KERNEL_APC_PENDING_DURING_EXIT, [0, disabled.into(), level.0.into(), 1]);
    }
    // SAFETY: the thread that runs is alive.
    notify::thread_comes_or_goes(id_of(unsafe { thread::current().as_ref() }), false);
    RUNNING.leave(thread::current().as_ptr().addr());
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
        let Ok(prepared) = thread::prepare_routine(name, run, routine, context) else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        // SAFETY: what was prepared keeps the record alive.
        let share = unsafe { thread::reference(NonNull::new_unchecked(prepared.pointer())) };
        let id = id_of(&share);
        let object = make_object(share);
        // The handle's; the first is the thread's own, until it ends.
        ob::reference(object);
        let created = match handle::create(object) {
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
                let process = ptr::without_provenance_mut(process::SYSTEM_ID);
                client_id.write(CLIENT_ID { process, thread: id });
            }
        }
        RUNNING.enter(prepared.pointer().addr(), routine as usize);
        notify::thread_comes_or_goes(id, true);
        drop(prepared.start());
        STATUS_SUCCESS
    }

    /// *PsTerminateSystemThread function (wdm.h)*: ends the calling thread.
    pub unsafe extern "win64" fn PsTerminateSystemThread(status: NTSTATUS) -> NTSTATUS {
        ends();
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

    /// *PsLookupThreadByThreadId function (ntifs.h)*: with a reference; STATUS_INVALID_CID where no thread has that number.
    pub unsafe extern "win64" fn PsLookupThreadByThreadId(id: HANDLE, found: *mut PVOID) -> NTSTATUS {
        let Some(share) = thread::find(|thread| id_of(thread) == id) else { return STATUS_INVALID_CID };
        if !ob::reference(ptr::from_ref::<Thread>(&share).addr()) {
            return STATUS_INVALID_CID;
        }
        // SAFETY: the caller gives storage for the pointer.
        unsafe { found.write(ptr::from_ref::<Thread>(&share).cast_mut().cast()) };
        STATUS_SUCCESS
    }

    /// *PsIsThreadTerminating function (ntifs.h)*.
    pub unsafe extern "win64" fn PsIsThreadTerminating(thread: *const Thread) -> BOOLEAN {
        // SAFETY: the caller's thread.
        unsafe { (*(*thread).header.get()).SignalState != 0 }.into()
    }

    /// *IoThreadToProcess function (ntifs.h)*: there is one process.
    pub unsafe extern "win64" fn IoThreadToProcess(_thread: *const Thread) -> PVOID {
        process::system()
    }

    /// *PsGetThreadProcessId function (ntddk.h)*: there is one process.
    pub unsafe extern "win64" fn PsGetThreadProcessId(_thread: *const Thread) -> HANDLE {
        ptr::without_provenance_mut(process::SYSTEM_ID)
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

    /// *IoGetInitialStack function (ntddk.h)*: where the current thread's stack begins, which is its highest address.
    pub unsafe extern "win64" fn IoGetInitialStack() -> PVOID {
        core::ptr::with_exposed_provenance_mut(thread::stack_limits().1 as usize)
    }

    /// *IoIsSystemThread function (ntifs.h)*: every thread is the system's.
    pub unsafe extern "win64" fn IoIsSystemThread(_thread: PVOID) -> BOOLEAN {
        crate::nt::TRUE
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

    /// *KeSetBasePriorityThread function (ntddk.h)*: the priority relative to the process's, which is 8; within 1 to 15, or 16 to 31 where the
    /// thread is of that range. Returns the increment before.
    pub unsafe extern "win64" fn KeSetBasePriorityThread(thread: *const Thread, increment: i32) -> i32 {
        const BASE: i32 = NORMAL_PRIORITY as i32;
        const REAL_TIME: i32 = 16;
        // SAFETY: the caller's thread.
        let thread = unsafe { &*thread };
        let before = i32::from(thread::base_priority(thread));
        let range = if before >= REAL_TIME { (REAL_TIME, 31) } else { (1, REAL_TIME - 1) };
        let priority = BASE.saturating_add(increment).clamp(range.0, range.1);
        thread::set_priority(thread, priority as u8);
        before - BASE
    }

    /// *KeSetIdealProcessorThread function (ntifs.h)*: where the thread best runs; the one before. Of no effect where there is no such processor.
    pub unsafe extern "win64" fn KeSetIdealProcessorThread(thread: *const Thread, number: u8) -> u8 {
        // SAFETY: the caller's thread.
        let thread = unsafe { &*thread };
        let before = thread::ideal(thread);
        thread::set_ideal(thread, number.into());
        before as u8
    }

    /// *KeSetSystemAffinityThread function (wdm.h)*: the calling thread runs on these processors only when
    /// this returns; at DISPATCH_LEVEL, when the level falls.
    pub unsafe extern "win64" fn KeSetSystemAffinityThread(affinity: KAFFINITY) {
        set_affinity(affinity);
    }

    /// *KeSetSystemAffinityThreadEx function (wdm.h)*: returns the system affinity before; 0 where there was none. Of no effect where a bit
    /// stands for no processor. At DISPATCH_LEVEL the change is deferred until the level falls.
    pub unsafe extern "win64" fn KeSetSystemAffinityThreadEx(affinity: KAFFINITY) -> KAFFINITY {
        match set_affinity(affinity) {
            KAFFINITY::MAX => 0,
            before => before,
        }
    }

    /// *KeRevertToUserAffinityThread function (wdm.h)*: every processor again.
    pub unsafe extern "win64" fn KeRevertToUserAffinityThread() {
        thread::set_affinity(KAFFINITY::MAX);
    }

    /// *KeRevertToUserAffinityThreadEx function (wdm.h)*: those of before; every one for 0.
    pub unsafe extern "win64" fn KeRevertToUserAffinityThreadEx(affinity: KAFFINITY) {
        if affinity == 0 {
            thread::set_affinity(KAFFINITY::MAX);
        } else {
            set_affinity(affinity);
        }
    }
}

kernel_test! {
    fn a_thread_that_ends_itself_leaves_nothing_behind() {
        unsafe extern "win64" fn ends_itself(_context: PVOID) {
            // SAFETY: nothing on the stack needs to be dropped.
            let _ = unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
        }
        const THREADS: usize = 100;
        // Anything at all that each leaves.
        const LEFT: usize = 8 * THREADS;
        let rounds = || {
            let made = (0..THREADS).filter(|_| {
                let mut made = ptr::null_mut();
                let none = ptr::null_mut::<core::ffi::c_void>;
                // SAFETY: storage for a handle, and a routine for a thread.
                let status = unsafe {
                    PsCreateSystemThread(&raw mut made, 0, ptr::null_mut(), none(), ptr::null_mut(), Some(ends_itself), none())
                };
                status == STATUS_SUCCESS && handle::close(made) == STATUS_SUCCESS
            });
            let made = made.count();
            // The last ones are still on their way: longer, where the host has more to do.
            thread::sleep_ns(20_000_000);
            made
        };
        let in_use = || {
            thread::reap();
            heap::in_use().0
        };
        check!(rounds() == THREADS && rounds() == THREADS);
        let before = in_use();
        check!(rounds() == THREADS);
        for _ in 0..1000 {
            if in_use() < before + LEFT {
                break;
            }
            thread::sleep_ns(5_000_000);
        }
        check!(in_use() < before + LEFT);
    }
}
