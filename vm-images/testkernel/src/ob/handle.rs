//! Handles: numbers that stand for objects and keys.
//!
//! There is one table, the system's. A handle is never used again, so that one that was closed stays invalid.

use alloc::collections::BTreeMap;

use squall_testkernel_pure::registry::KeyId;

use crate::ke::lock::SpinLock;
use crate::ke::wait::KeWaitForSingleObject;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, HANDLE, KERNEL_MODE, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};

/// The first handle. Kernel handles have their sign bit set, as on Windows, and count in fours.
const FIRST: usize = 0xFFFF_FFFF_8000_0004;
const MAX_HANDLES: usize = 4096;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A registry key.
    Key(KeyId),
    /// An object of the object manager's, on which the handle holds a reference.
    Object(usize),
}

struct Table {
    targets: BTreeMap<usize, Target>,
    next: usize,
}

static TABLE: SpinLock<Table> = SpinLock::new(Table { targets: BTreeMap::new(), next: FIRST });

/// A new handle for `target`. A reference that goes with an object becomes the handle's.
pub fn create(target: Target) -> Result<HANDLE, NTSTATUS> {
    let mut table = TABLE.lock();
    if table.targets.len() == MAX_HANDLES {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let number = table.next;
    table.next += 4;
    table.targets.insert(number, target);
    Ok(core::ptr::without_provenance_mut(number))
}

/// What `handle` stands for.
pub fn target(handle: HANDLE) -> Option<Target> {
    TABLE.lock().targets.get(&handle.addr()).copied()
}

/// Closes `handle`.
pub fn close(handle: HANDLE) -> NTSTATUS {
    let target = TABLE.lock().targets.remove(&handle.addr());
    match target {
        Some(Target::Object(address)) => {
            super::dereference(address);
            STATUS_SUCCESS
        }
        Some(Target::Key(_)) => STATUS_SUCCESS,
        None => STATUS_INVALID_HANDLE,
    }
}

/// `Executive`.
const EXECUTIVE: u32 = 0;

export! {
    /// *ZwWaitForSingleObject function (ntifs.h)*: for what the handle stands for, which lives as long as the wait does.
    pub unsafe extern "win64" fn ZwWaitForSingleObject(
        handle: HANDLE,
        alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS {
        let address = match target(handle) {
            Some(Target::Object(address)) if super::reference(address) => address,
            Some(Target::Key(_)) => return STATUS_OBJECT_TYPE_MISMATCH,
            _ => return STATUS_INVALID_HANDLE,
        };
        let object = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the reference just taken keeps the object; the timeout is the caller's.
        let status = unsafe { KeWaitForSingleObject(object, EXECUTIVE, KERNEL_MODE, alertable, timeout) };
        super::dereference(address);
        status
    }
}
