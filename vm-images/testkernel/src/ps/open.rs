//! Handles for processes and threads, and what may be set of a thread by its handle.

use core::ptr;

use super::process::{self, SYSTEM_ID};
use super::thread::{CLIENT_ID, PsLookupThreadByThreadId};
use crate::ke::thread::{self, Thread};
use crate::ldr::export::export;
use crate::nt::{
    HANDLE, KAFFINITY, NTSTATUS, OBJECT_ATTRIBUTES, PVOID, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_CID,
    STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_INVALID_PARAMETER_MIX, STATUS_SUCCESS,
};
use crate::ob;
use crate::ob::named::{give, with_object};
use crate::ob::types::Kind;
use crate::selftest::{check, kernel_test};

/// `STATUS_NO_YIELD_PERFORMED`.
const NO_YIELD_PERFORMED: NTSTATUS = NTSTATUS::from_bits(0x4000_0024);

/// `THREADINFOCLASS`, of which the rest is refused.
mod class {
    pub const PRIORITY: u32 = 2;
    pub const BASE_PRIORITY: u32 = 3;
    pub const AFFINITY_MASK: u32 = 4;
    pub const IDEAL_PROCESSOR: u32 = 13;
}

/// Reads what a caller gives, where it has that length.
///
/// # Safety
/// `information` is readable for `length` bytes.
unsafe fn given<T>(information: *const T, length: u32) -> Result<T, NTSTATUS> {
    if length as usize != size_of::<T>() {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    // SAFETY: the caller's; it need not be aligned.
    Ok(unsafe { information.read_unaligned() })
}

/// # Safety
/// As above, of `information`; `thread` is alive.
unsafe fn set(thread: &Thread, what: u32, information: PVOID, length: u32) -> Result<(), NTSTATUS> {
    // SAFETY: the caller's.
    unsafe {
        match what {
            class::PRIORITY => {
                let priority = given::<i32>(information.cast(), length)?;
                let priority = u8::try_from(priority).ok().filter(|priority| (1..32).contains(priority));
                thread::set_priority(thread, priority.ok_or(STATUS_INVALID_PARAMETER)?);
            }
            class::BASE_PRIORITY => {
                let increment = given::<i32>(information.cast(), length)?;
                super::thread::KeSetBasePriorityThread(thread, increment);
            }
            class::AFFINITY_MASK => {
                let mask = given::<KAFFINITY>(information.cast(), length)?;
                if mask == 0 || !thread::bind(thread, mask) {
                    return Err(STATUS_INVALID_PARAMETER);
                }
            }
            class::IDEAL_PROCESSOR => {
                let number = given::<u32>(information.cast(), length)?;
                thread::set_ideal(thread, number as usize).ok_or(STATUS_INVALID_PARAMETER)?;
            }
            _ => return Err(STATUS_INVALID_INFO_CLASS),
        }
    }
    Ok(())
}

export! {
    /// *ZwOpenProcess function (ntddk.h)*: STATUS_INVALID_CID where there is no such process; STATUS_INVALID_PARAMETER_MIX where neither, or both, a
    /// name and a client identifier are given. (Processes have no names here.)
    pub unsafe extern "win64" fn ZwOpenProcess(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        client: *const CLIENT_ID,
    ) -> NTSTATUS {
        // SAFETY: the caller's, or null.
        let (named, client) = unsafe { (is_named(attributes), client.as_ref()) };
        let Some(client) = client.filter(|_| !named) else { return STATUS_INVALID_PARAMETER_MIX };
        // A thread's identifier, where there is one, has to be one of the process's.
        // SAFETY: the caller gives room for the handle.
        unsafe {
            if !client.thread.is_null() {
                let mut found = ptr::null_mut();
                let status = PsLookupThreadByThreadId(client.thread, &raw mut found);
                if !status.is_success() {
                    return status;
                }
                ob::dereference(found.addr());
            }
            if client.process.addr() != SYSTEM_ID || !ob::reference(process::system().addr()) {
                return STATUS_INVALID_CID;
            }
            give(to, Ok((process::system().addr(), STATUS_SUCCESS)), access)
        }
    }

    /// *ZwOpenThread*: likewise of a thread; the identifier of its process may be left out.
    pub unsafe extern "win64" fn ZwOpenThread(
        to: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        client: *const CLIENT_ID,
    ) -> NTSTATUS {
        // SAFETY: the caller's, or null.
        let (named, client) = unsafe { (is_named(attributes), client.as_ref()) };
        let Some(client) = client.filter(|_| !named) else { return STATUS_INVALID_PARAMETER_MIX };
        if !client.process.is_null() && client.process.addr() != SYSTEM_ID {
            return STATUS_INVALID_CID;
        }
        let mut found = ptr::null_mut();
        // SAFETY: the caller gives room for the handle; the thread comes with a reference, which becomes the handle's.
        unsafe {
            let status = PsLookupThreadByThreadId(client.thread, &raw mut found);
            if !status.is_success() {
                return status;
            }
            give(to, Ok((found.addr(), STATUS_SUCCESS)), access)
        }
    }

    /// *ZwSetInformationThread function (ntifs.h)*: priority, base priority, affinity, ideal processor. STATUS_INFO_LENGTH_MISMATCH where
    /// the length is not that of the information; STATUS_INVALID_INFO_CLASS for what there is not.
    pub unsafe extern "win64" fn ZwSetInformationThread(
        handle: HANDLE,
        what: u32,
        information: PVOID,
        length: u32,
    ) -> NTSTATUS {
        let set = with_object(handle, Kind::Thread, |address| {
            // SAFETY: the thread is referred to meanwhile; the caller's information.
            unsafe { set(&*ptr::with_exposed_provenance::<Thread>(address), what, information, length) }
        });
        set.flatten().map_or_else(|status| status, |()| STATUS_SUCCESS)
    }

    /// *ZwYieldExecution*: another thread of the same priority runs first; STATUS_NO_YIELD_PERFORMED where none waits.
    pub unsafe extern "win64" fn ZwYieldExecution() -> NTSTATUS {
        if thread::yield_now() { STATUS_SUCCESS } else { NO_YIELD_PERFORMED }
    }

    /// *PsLookupProcessThreadByCid*: the thread of that identifier, and its process where that is asked for, each with a reference; STATUS_INVALID_CID where
    /// there is none.
    pub unsafe extern "win64" fn PsLookupProcessThreadByCid(
        client: *const CLIENT_ID,
        to_process: *mut PVOID,
        to_thread: *mut PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller's identifiers, and storage for what is found.
        unsafe {
            if (*client).process.addr() != SYSTEM_ID {
                return STATUS_INVALID_CID;
            }
            let status = PsLookupThreadByThreadId((*client).thread, to_thread);
            if status.is_success() && !to_process.is_null() {
                ob::reference(process::system().addr());
                to_process.write(process::system());
            }
            status
        }
    }
}

/// # Safety
/// `attributes` is null or valid.
unsafe fn is_named(attributes: *const OBJECT_ATTRIBUTES) -> bool {
    // SAFETY: the caller's.
    unsafe { attributes.as_ref() }.is_some_and(|attributes| !attributes.ObjectName.is_null())
}

kernel_test! {
    /// *ZwSetInformationThread function (ntifs.h)*: by its handle, with the length that the class has.
    fn a_thread_is_opened_by_its_number_and_set_by_its_handle() {
        use crate::ob::handle::close;
        let me = thread::current();
        let mut handle = ptr::null_mut();
        // SAFETY: the calling thread is alive; everything else is a local.
        unsafe {
            let id = super::thread::PsGetThreadId(me.as_ptr());
            let client = CLIENT_ID { process: ptr::without_provenance_mut(SYSTEM_ID), thread: id };
            let nobody = CLIENT_ID { process: ptr::null_mut(), thread: ptr::without_provenance_mut(3) };
            check!(ZwOpenThread(&raw mut handle, 0, ptr::null(), ptr::null()) == STATUS_INVALID_PARAMETER_MIX);
            check!(ZwOpenThread(&raw mut handle, 0, ptr::null(), &raw const nobody) == STATUS_INVALID_CID);
            check!(ZwOpenThread(&raw mut handle, 0, ptr::null(), &raw const client) == STATUS_SUCCESS);
            let mut priority = 12_i32;
            let information = (&raw mut priority).cast();
            let before = thread::priority(me.as_ref());
            check!(ZwSetInformationThread(handle, class::PRIORITY, information, 8) == STATUS_INFO_LENGTH_MISMATCH);
            check!(ZwSetInformationThread(handle, class::PRIORITY, information, 4) == STATUS_SUCCESS);
            let set = thread::priority(me.as_ref());
            thread::set_priority(me.as_ref(), before);
            check!(set == 12 && ZwSetInformationThread(handle, 99, information, 4) == STATUS_INVALID_INFO_CLASS);
            check!(close(handle) == STATUS_SUCCESS);
            check!(ZwOpenProcess(&raw mut handle, 0, ptr::null(), &raw const nobody) == STATUS_INVALID_CID);
            check!(ZwOpenProcess(&raw mut handle, 0, ptr::null(), &raw const client) == STATUS_SUCCESS);
            check!(with_object(handle, Kind::Process, |found| found) == Ok(process::system().addr()));
            check!(close(handle) == STATUS_SUCCESS);
        }
    }
}
