//! Objects that drivers share with the kernel: handles and references that are good, and memory that stays in reach.
//!
//! The kernel uses events, timers, locks and work items at DISPATCH_LEVEL, whoever waits for them: they must not lie where they
//! can be paged out. A wait in user mode lets the waiting thread's own stack be paged out, with the objects on it.
//!
//! Sources: *Automatic Checks* and *Miscellaneous Checks*; *Bug Check 0xC4: DRIVER_VERIFIER_DETECTED_VIOLATION*, values 0x3C, 0x3F,
//! 0xCD, 0xE1, 0xEA, 0xEB, 0xF0, 0xF5, 0x123 and 0x131; *Bug Check 0x93: INVALID_KERNEL_HANDLE*. Not here: handles of user mode's
//! (0xF6, 0xF7), as the guest has none. A copy onto itself moves nothing, and is let pass.

use squall_testkernel_pure::bugcheck::{DRIVER_VERIFIER_DETECTED_VIOLATION, INVALID_KERNEL_HANDLE};

use super::thunk::intercept;
use super::{pageable, stops};
use crate::ex::lookaside::Lookaside;
use crate::ke::irql;
use crate::ke::thread;
use crate::ke::{apc, wait::WaitBlock};
use crate::nt::{BOOLEAN, HANDLE, KERNEL_MODE, KPROCESSOR_MODE, NTSTATUS, PVOID, STATUS_INVALID_HANDLE};
use crate::ob::{self, handle};
use crate::selftest::{check, kernel_test};

fn stop(what: u64, parameters: [u64; 3]) -> ! {
    let [second, third, fourth] = parameters;
    stops::stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [what, second, third, fourth])
}

/// 0xE1: an object for synchronization is always in reach.
fn stays(object: PVOID) {
    if object.is_null() || pageable::is(object.addr()) {
        stop(0xE1, [object.addr() as u64, 0, 0]);
    }
}

/// Routines that begin with an object for synchronization, which they initialize.
macro_rules! initializers {
    ($($name:ident;)*) => { intercept! { for Automatic; $(
        /// 0xE1.
        before fn $name(site; object: PVOID) {
            stays(object);
            None
        }
    )* } };
}

initializers! {
    KeInitializeEvent;
    KeInitializeMutex;
    KeInitializeSemaphore;
    KeInitializeTimer;
    KeInitializeTimerEx;
    KeInitializeSpinLock;
    KeInitializeGuardedMutex;
    KeInitializeDpc;
    KeInitializeThreadedDpc;
    KeInitializeDeviceQueue;
}

/// 0x3F: the object is gone. `change` is what the caller made of the count.
fn exists(object: PVOID, change: i64) {
    if !ob::reference(object.addr()) {
        stop(0x3F, [object.addr() as u64, change.cast_unsigned(), 0]);
    }
    ob::dereference(object.addr());
}

/// 0xF0: *memcpy* is for buffers that do not overlap.
fn judge_copy(to: PVOID, from: PVOID, bytes: usize) {
    if to != from && to.addr().abs_diff(from.addr()) < bytes {
        stop(0xF0, [to.addr() as u64, from.addr() as u64, bytes as u64]);
    }
}

/// 0xEA and 0xEB: a push lock is for threads that take no APC.
fn judge_push_lock(what: u64, lock: PVOID) {
    if !apc::are_off() {
        let level = irql::current().0.into();
        stop(what, [level, apc::disable_count().cast_unsigned(), lock.addr() as u64]);
    }
}

/// Routines on a push lock, and what they stop with.
macro_rules! push_locks {
    ($($name:ident $what:literal;)*) => { intercept! { for Automatic; $(
        /// 0xEA, 0xEB.
        before fn $name(site; lock: PVOID) {
            judge_push_lock($what, lock);
            None
        }
    )* } };
}

push_locks! {
    ExAcquirePushLockExclusiveEx 0xEA;
    ExAcquirePushLockSharedEx 0xEA;
    ExReleasePushLockExclusiveEx 0xEB;
    ExReleasePushLockSharedEx 0xEB;
}

intercept! {
    for Automatic;

    /// 0x3F.
    before fn ObfReferenceObject(site; object: PVOID) -> isize {
        exists(object, 1);
        None
    }

    /// 0x3F.
    before fn ObfDereferenceObject(site; object: PVOID) -> isize {
        exists(object, -1);
        None
    }

    /// 0x3F.
    before fn ObReferenceObjectByPointer(site; object: PVOID, access: u32, kind: PVOID, mode: KPROCESSOR_MODE) -> NTSTATUS {
        exists(object, 1);
        None
    }

    /// 0x3C, 0xF5: a handle that a driver takes for the kernel's stands for something.
    before fn ObReferenceObjectByHandle(
        site;
        handle: HANDLE,
        access: u32,
        kind: PVOID,
        mode: KPROCESSOR_MODE,
    ) -> NTSTATUS {
        if mode == KERNEL_MODE && handle::object(handle) == Err(STATUS_INVALID_HANDLE) {
            let what = if handle.is_null() { 0xF5 } else { 0x3C };
            stop(what, [handle.addr() as u64, kind.addr() as u64, 0]);
        }
        None
    }

    /// 0x131: an item in the queue is in reach.
    before fn ExQueueWorkItem(site; item: PVOID, kind: u32) {
        if pageable::is(item.addr()) {
            stop(0x131, [item.addr() as u64, 0, 0]);
        }
        None
    }

    /// 0xF0.
    before fn memcpy(site; to: PVOID, from: PVOID, bytes: usize) -> PVOID {
        judge_copy(to, from, bytes);
        None
    }

    /// 0xF0.
    before fn RtlCopyMemory(site; to: PVOID, from: PVOID, bytes: usize) {
        judge_copy(to, from, bytes);
        None
    }
}

/// 0x123: what a thread waits for in user mode does not lie on its own stack.
fn judge_wait(object: PVOID, mode: KPROCESSOR_MODE) {
    if mode != KERNEL_MODE && thread::is_on_stack(object.addr()) {
        stop(0x123, [object.addr() as u64, 0, 0]);
    }
}

/// 0xCD: a block that waits in a list holds the list's link. For [`super::freed_memory`], which looks at the same calls.
pub fn judge_size(list: *mut Lookaside, size: usize) {
    const LINK: usize = size_of::<usize>();
    if size < LINK {
        stop(0xCD, [list.addr() as u64, size as u64, LINK as u64]);
    }
}

intercept! {
    for Miscellaneous;

    /// *Bug Check 0x93*: a handle of the kernel's is closed once.
    before fn ZwClose(site; handle: HANDLE) -> NTSTATUS {
        if handle::was_closed(handle) {
            stops::stop(INVALID_KERNEL_HANDLE, [handle.addr() as u64, 1, 0, 0]);
        }
        None
    }

    /// 0x123.
    before fn KeWaitForSingleObject(site; object: PVOID, reason: u32, mode: KPROCESSOR_MODE) -> NTSTATUS {
        judge_wait(object, mode);
        None
    }

    /// 0x123.
    before fn KeWaitForMultipleObjects(
        site;
        count: u32,
        objects: *const PVOID,
        kind: u32,
        reason: u32,
        mode: KPROCESSOR_MODE,
        alertable: BOOLEAN,
        timeout: *const i64,
        blocks: *mut WaitBlock,
    ) -> NTSTATUS {
        const MAXIMUM_WAIT_OBJECTS: u32 = 64;
        for index in 0..count.min(MAXIMUM_WAIT_OBJECTS) {
            // SAFETY: the driver's array has that many objects.
            judge_wait(unsafe { objects.add(index as usize).read() }, mode);
        }
        None
    }
}

kernel_test! {
    fn objects_in_pageable_memory_are_stopped() {
        use super::rehearsal::{Stage, import};
        use crate::ex::pool::{ExAllocatePoolWithTag, ExFreePool};
        use crate::ke::event::KeInitializeEvent;
        use crate::nt::KEVENT;
        let Some(stage) = Stage::new(super::classes::Class::Rehearsal as u32) else { check!(false); return Ok(()) };
        for (kind, stops) in [(1, true), (0, false)] {
            // SAFETY: freed below.
            let block = unsafe { ExAllocatePoolWithTag(kind, 64, 7) };
            check!(!block.is_null());
            let address = block.expose_provenance() + 24;
            let stop = stage.stop_of(move |driver| {
                let initialize = import!(driver, KeInitializeEvent: fn(*mut KEVENT, u32, BOOLEAN));
                // SAFETY: the event lies in the block.
                unsafe { initialize(core::ptr::with_exposed_provenance_mut(address), 0, 0) };
            });
            check!(stop == stops.then_some((0xC4, [0xE1, address as u64, 0, 0])));
            // SAFETY: allocated above.
            unsafe { ExFreePool(block) };
        }
    }

    fn handles_and_references_are_good() {
        use super::rehearsal::{import, stop_of};
        use crate::ob::handle::ZwClose;
        use crate::ob::{ObReferenceObjectByHandle, ObfDereferenceObject};
        const ANY: u32 = super::classes::Class::Rehearsal as u32;
        let referenced = |scene: fn(super::rehearsal::Driver)| stop_of(ANY, scene);
        fn by_handle(driver: super::rehearsal::Driver, handle: usize, mode: i8) {
            let reference = import!(driver, ObReferenceObjectByHandle:
                fn(HANDLE, u32, PVOID, i8, *mut PVOID, *mut ob::OBJECT_HANDLE_INFORMATION) -> NTSTATUS);
            let mut object = core::ptr::null_mut();
            let null = core::ptr::null_mut;
            // SAFETY: the object is a local.
            let _ = unsafe { reference(core::ptr::without_provenance_mut(handle), 0, null(), mode, &raw mut object, null().cast()) };
        }
        check!(referenced(|driver| by_handle(driver, 0x1234, 0)) == Some((0xC4, [0x3C, 0x1234, 0, 0])));
        check!(referenced(|driver| by_handle(driver, 0, 0)) == Some((0xC4, [0xF5, 0, 0, 0])));
        check!(referenced(|driver| by_handle(driver, 0x1234, 1)).is_none());
        check!(referenced(|driver| {
            let dereference = import!(driver, ObfDereferenceObject: fn(PVOID) -> isize);
            // SAFETY: the call does not come that far.
            unsafe { dereference(core::ptr::without_provenance_mut(0x1000)) };
        }) == Some((0xC4, [0x3F, 0x1000, u64::MAX, 0])));
        let closed = stop_of(super::classes::Class::Miscellaneous as u32, |driver| {
            let close = import!(driver, ZwClose: fn(HANDLE) -> NTSTATUS);
            // One that never was is told by its status.
            let unused = core::ptr::without_provenance_mut(0xFFFF_FFFF_BFFF_FFF0_usize);
            let _ = ob::reference(crate::ps::process::system().addr());
            let Ok(handle) = handle::create(crate::ps::process::system().addr()) else { return };
            // SAFETY: any number may be closed.
            unsafe {
                let _ = close(unused);
                let _ = close(handle);
                let _ = close(handle);
            }
        });
        check!(closed.is_some_and(|(code, [handle, why, ..])| {
            (code, why) == (INVALID_KERNEL_HANDLE, 1) && handle >> 31 == 0x1_FFFF_FFFF
        }));
    }

    fn copies_that_overlap_are_stopped() {
        use super::rehearsal::{import, stop_of};
        use crate::rtl::memory::memcpy;
        use core::ffi::c_void;
        const ANY: u32 = super::classes::Class::Rehearsal as u32;
        fn copy(driver: super::rehearsal::Driver, by: usize) {
            let copy = import!(driver, memcpy: fn(*mut c_void, *const c_void, usize) -> *mut c_void);
            let mut bytes = [0_u8; 64];
            let from = bytes.as_mut_ptr();
            // SAFETY: both lie in the array.
            unsafe { copy(from.add(by).cast(), from.cast(), 32) };
        }
        let overlaps = stop_of(ANY, |driver| copy(driver, 31));
        check!(overlaps.is_some_and(|(code, [what, to, from, bytes])| (code, what, to - from, bytes) == (0xC4, 0xF0, 31, 32)));
        check!(stop_of(ANY, |driver| copy(driver, 32)).is_none() && stop_of(ANY, |driver| copy(driver, 0)).is_none());
    }

    fn a_wait_in_user_mode_is_not_for_an_object_on_the_stack() {
        use super::rehearsal::{import, stop_of};
        use crate::ke::event;
        use crate::ke::wait::KeWaitForSingleObject;
        use crate::nt::{KEVENT, object_type};
        fn wait(driver: super::rehearsal::Driver, mode: i8) {
            let wait = import!(driver, KeWaitForSingleObject: fn(PVOID, u32, i8, BOOLEAN, *const i64) -> NTSTATUS);
            let mut event = core::mem::MaybeUninit::<KEVENT>::uninit();
            // SAFETY: the event lives until the wait is over, which it is at once.
            unsafe {
                event::initialize(event.as_mut_ptr(), object_type::EVENT_NOTIFICATION, true);
                let _ = wait(event.as_mut_ptr().cast(), 0, mode, 0, core::ptr::null());
            }
        }
        const MISCELLANEOUS: u32 = super::classes::Class::Miscellaneous as u32;
        check!(stop_of(MISCELLANEOUS, |driver| wait(driver, 1)).is_some_and(|(code, [what, ..])| (code, what) == (0xC4, 0x123)));
        check!(stop_of(MISCELLANEOUS, |driver| wait(driver, 0)).is_none());
    }
}
