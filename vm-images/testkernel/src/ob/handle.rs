//! Handles: numbers that stand for objects.
//!
//! There is one table, the system's. A handle is never used again, so that one that was closed stays invalid.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::filter::{self, Operation};
use super::types::Kind;
use crate::cm::key;
use crate::io::file;
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::ke::wait::{KeWaitForMultipleObjects, KeWaitForSingleObject, WaitBlock};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, FILE_OBJECT, HANDLE, KERNEL_MODE, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER_1, STATUS_INVALID_PARAMETER_3,
    STATUS_INVALID_PARAMETER_MIX, STATUS_SUCCESS,
};
use crate::ps;

/// The first handle. Kernel handles have their sign bit set, as on Windows, and count in fours.
const FIRST: usize = 0xFFFF_FFFF_8000_0004;
const MAX_HANDLES: usize = 4096;
/// `NtCurrentProcess()`, `NtCurrentThread()`.
const CURRENT_PROCESS: usize = usize::MAX;
const CURRENT_THREAD: usize = usize::MAX - 1;
/// Every right: what a handle of the kernel's own grants.
const ALL_ACCESS: u32 = 0x001F_FFFF;

struct Entry {
    /// The object, on which the handle holds a reference.
    object: usize,
    /// The access rights that it was opened with.
    granted: u32,
}

struct Table {
    entries: BTreeMap<usize, Entry>,
    next: usize,
}

static TABLE: SpinLock<Table> = SpinLock::new(Table { entries: BTreeMap::new(), next: FIRST });

/// A new handle for `object`, with every right; a reference on it becomes the handle's.
pub fn create(object: usize) -> Result<HANDLE, NTSTATUS> {
    create_with(object, ALL_ACCESS)
}

/// The same with the rights in `granted`.
pub fn create_with(object: usize, granted: u32) -> Result<HANDLE, NTSTATUS> {
    filter::around(Operation::Create, object, granted, |granted| enter(object, granted))
}

/// A new handle for `object` that is made from another.
pub fn duplicate(object: usize, granted: u32) -> Result<HANDLE, NTSTATUS> {
    filter::around(Operation::Duplicate, object, granted, |granted| enter(object, granted))
}

fn enter(object: usize, granted: u32) -> Result<HANDLE, NTSTATUS> {
    let mut table = TABLE.lock();
    if table.entries.len() == MAX_HANDLES {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let number = table.next;
    table.next += 4;
    table.entries.insert(number, Entry { object, granted });
    Ok(core::ptr::without_provenance_mut(number))
}

/// The object that `handle` stands for, and the rights that the handle grants. `NtCurrentProcess()` and
/// `NtCurrentThread()` stand for those, whoever asks.
pub fn object(handle: HANDLE) -> Result<(usize, u32), NTSTATUS> {
    match handle.addr() {
        CURRENT_PROCESS => return Ok((ps::process::system().addr(), ALL_ACCESS)),
        CURRENT_THREAD => return Ok((thread::current().as_ptr().expose_provenance(), ALL_ACCESS)),
        _ => {}
    }
    let table = TABLE.lock();
    table.entries.get(&handle.addr()).map(|entry| (entry.object, entry.granted)).ok_or(STATUS_INVALID_HANDLE)
}

/// Whether `handle` stood for something and was closed.
pub fn was_closed(handle: HANDLE) -> bool {
    let table = TABLE.lock();
    (FIRST..table.next).contains(&handle.addr()) && !table.entries.contains_key(&handle.addr())
}

/// Closes `handle`.
pub fn close(handle: HANDLE) -> NTSTATUS {
    if matches!(handle.addr(), CURRENT_PROCESS | CURRENT_THREAD) {
        return STATUS_SUCCESS;
    }
    // Whoever filters the registry is asked while the handle is still one.
    let known = TABLE.lock().entries.get(&handle.addr()).map(|entry| entry.object);
    match known {
        None => STATUS_INVALID_HANDLE,
        Some(object) if super::kind(object) == Some(Kind::Key) => key::closing(object, || remove(handle)),
        Some(_) => remove(handle),
    }
}

/// Takes a handle out of the table, and gives up its reference.
fn remove(handle: HANDLE) -> NTSTATUS {
    let (object, last) = {
        let mut table = TABLE.lock();
        let Some(Entry { object, .. }) = table.entries.remove(&handle.addr()) else {
            return STATUS_INVALID_HANDLE;
        };
        (object, table.entries.values().all(|entry| entry.object != object))
    };
    if last && super::kind(object) == Some(Kind::File) {
        // SAFETY: the handle's reference keeps the file, and it was the last handle.
        unsafe { file::cleanup(core::ptr::with_exposed_provenance_mut(object)) };
    }
    super::dereference(object);
    STATUS_SUCCESS
}

/// How many handles stand for an object.
pub fn count_for(object: usize) -> usize {
    TABLE.lock().entries.values().filter(|entry| entry.object == object).count()
}

/// What is waited for where the object at `address` is: its own header, but of a file the event in it.
fn waited_for(address: usize) -> PVOID {
    let object = core::ptr::with_exposed_provenance_mut::<core::ffi::c_void>(address);
    let is_file = super::kind(address) == Some(Kind::File);
    if is_file { object.wrapping_byte_add(core::mem::offset_of!(FILE_OBJECT, Event)) } else { object }
}

/// `MAXIMUM_WAIT_OBJECTS`.
const MAX_WAITED: usize = 64;
/// `Executive`.
const EXECUTIVE: u32 = 0;

export! {
    /// *ZwClose function (wdm.h)*.
    pub unsafe extern "win64" fn ZwClose(handle: HANDLE) -> NTSTATUS {
        close(handle)
    }

    /// *ZwWaitForMultipleObjects function*: for all or any of up to 64, each of which lives as long as the wait does. One
    /// that is to be waited for twice among all: STATUS_INVALID_PARAMETER_MIX.
    pub unsafe extern "win64" fn ZwWaitForMultipleObjects(
        count: u32,
        handles: *const HANDLE,
        wait_type: u32,
        alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS {
        if count == 0 || count as usize > MAX_WAITED {
            return STATUS_INVALID_PARAMETER_1;
        }
        if wait_type > 1 {
            return STATUS_INVALID_PARAMETER_3;
        }
        let mut objects: Vec<usize> = Vec::new();
        let mut status = STATUS_SUCCESS;
        for index in 0..count as usize {
            // SAFETY: the caller gives so many handles.
            match object(unsafe { handles.add(index).read() }) {
                Ok((address, _)) if super::reference(address) => objects.push(address),
                Ok(_) => status = STATUS_INVALID_HANDLE,
                Err(error) => status = error,
            }
        }
        let twice = || objects.iter().enumerate().any(|(index, object)| objects[..index].contains(object));
        if objects.len() == count as usize && wait_type == 0 && twice() {
            status = STATUS_INVALID_PARAMETER_MIX;
        } else if objects.len() == count as usize {
            let waited: Vec<PVOID> = objects.iter().map(|&address| waited_for(address)).collect();
            let mut blocks: Vec<core::mem::MaybeUninit<WaitBlock>> = Vec::new();
            blocks.resize_with(waited.len(), core::mem::MaybeUninit::uninit);
            // SAFETY: the references just taken keep the objects; blocks and timeout live as long as the wait.
            status = unsafe {
                KeWaitForMultipleObjects(
                    count,
                    waited.as_ptr(),
                    wait_type,
                    EXECUTIVE,
                    KERNEL_MODE,
                    alertable,
                    timeout,
                    blocks.as_mut_ptr().cast(),
                )
            };
        }
        objects.into_iter().for_each(|address| {
            super::dereference(address);
        });
        status
    }

    /// *ZwWaitForSingleObject function (ntifs.h)*: for what the handle stands for, which lives as long as the wait does.
    pub unsafe extern "win64" fn ZwWaitForSingleObject(
        handle: HANDLE,
        alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS {
        let address = match object(handle) {
            Ok((address, _)) if super::reference(address) => address,
            Ok(_) => return STATUS_INVALID_HANDLE,
            Err(status) => return status,
        };
        let object = waited_for(address);
        // SAFETY: the reference just taken keeps the object; the timeout is the caller's.
        let status = unsafe { KeWaitForSingleObject(object, EXECUTIVE, KERNEL_MODE, alertable, timeout) };
        super::dereference(address);
        status
    }
}
