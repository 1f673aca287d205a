//! What the driver keeps for the program that has the device open.

use core::ptr::NonNull;

use wdk_sys::{NTSTATUS, PVOID, STATUS_SUCCESS};

use crate::{extension::Extension, nt::irp::Irp, read};

/// A block of the lookaside list, from IRP_MJ_CREATE to IRP_MJ_CLOSE.
pub(crate) struct Open {
    /// Samples delivered before it was opened.
    delivered_before: u64,
}

/// `IRP_MJ_CREATE`: one program at a time, which is the I/O manager's to see to.
pub(crate) fn create(extension: &Extension, irp: Irp) -> NTSTATUS {
    let opens = extension.set_up.get().opens;
    let open = Open { delivered_before: extension.delivered.load(core::sync::atomic::Ordering::Relaxed) };
    // SAFETY: the list exists as long as the device can be opened.
    let status = match unsafe { opens.allocate(open) } {
        Ok(block) => {
            let place: *mut PVOID = irp.file_context();
            // SAFETY: the driver's part of the file object, which is just being made.
            unsafe { place.write(block.as_ptr().cast()) };
            read::admit(extension);
            STATUS_SUCCESS
        }
        Err(status) => status,
    };
    irp.complete(status, 0)
}

/// `IRP_MJ_CLEANUP`: the last handle is closed, its requests are not wanted any more.
pub(crate) fn cleanup(extension: &Extension, irp: Irp) -> NTSTATUS {
    read::abandon(extension);
    irp.complete(STATUS_SUCCESS, 0)
}

/// `IRP_MJ_CLOSE`: the last request is done with as well.
pub(crate) fn close(extension: &Extension, irp: Irp) -> NTSTATUS {
    // SAFETY: the driver's part of the file object, written when it was made, and nobody uses the file any more.
    let block = unsafe { irp.file_context().replace(core::ptr::null_mut()) };
    if let Some(block) = NonNull::new(block.cast::<Open>()) {
        // SAFETY: a block of the list, written in `create`.
        let Open { delivered_before } = unsafe { block.read() };
        let delivered = extension.delivered.load(core::sync::atomic::Ordering::Relaxed) - delivered_before;
        wdk::println!("squall: closed, having read {delivered} samples");
        // SAFETY: the list exists, and the block is used no more.
        unsafe { extension.set_up.get().opens.free(block) };
    }
    irp.complete(STATUS_SUCCESS, 0)
}
