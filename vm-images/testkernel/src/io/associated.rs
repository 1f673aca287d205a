//! One request as several: associated packets.
//!
//! A file system or other highest driver that cannot serve a request in one piece makes a packet for each piece and counts
//! them in the *master*, the request itself. The I/O manager counts down as they come back, frees each of them, and completes
//! the master with the last one. The count and the pointer to the master both stand where a system buffer would.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, Ordering};

use super::irp;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{IRP, MDL};
use crate::selftest::{check, kernel_test};

/// In `IRP::Flags`: `SystemBuffer` is the master.
const ASSOCIATED: u32 = 0x8;

/// A packet has come back up to its issuer. One that is associated is freed, with the lists that hang on it; gives the
/// master where it was the last. Any other packet comes back as the error.
///
/// # Safety
/// `irp` must be a packet whose completion has reached the top, and its master one that nobody else completes.
pub unsafe fn came_back(irp: *mut IRP) -> Result<Option<NonNull<IRP>>, *mut IRP> {
    // SAFETY: the caller's contract; the master is the driver's until it is completed here.
    unsafe {
        if (*irp).Flags & ASSOCIATED == 0 {
            return Err(irp);
        }
        let master = (*irp).SystemBuffer.cast::<IRP>();
        let mut list: *mut MDL = (*irp).MdlAddress;
        while !list.is_null() {
            let next = (*list).Next;
            super::mdl::IoFreeMdl(list);
            list = next;
        }
        irp::free(NonNull::new_unchecked(irp));
        let count = AtomicI32::from_ptr((&raw mut (*master).SystemBuffer).cast());
        Ok(NonNull::new(master).filter(|_| count.fetch_sub(1, Ordering::AcqRel) == 1))
    }
}

/// # Safety
/// The call must be one of IoMakeAssociatedIrp's.
unsafe extern "win64" fn make(call: &Call<2>) -> *mut IRP {
    let [master, stack_size] = call.arguments;
    let master = core::ptr::with_exposed_provenance_mut::<IRP>(master);
    let Some(made) = irp::allocate_for(stack_size as i8, call.caller) else { return core::ptr::null_mut() };
    // SAFETY: the packet is new; the master is the caller's.
    unsafe {
        let irp = &mut *made.as_ptr();
        irp.Flags |= ASSOCIATED;
        irp.SystemBuffer = master.cast();
        irp.Tail.Thread = (*master).Tail.Thread;
        irp.RequestorMode = (*master).RequestorMode;
    }
    made.as_ptr()
}

export! {
    /// *IoMakeAssociatedIrp function (ntddk.h)*: at DISPATCH_LEVEL or below. The driver counts in the master how many it makes; the
    /// I/O manager frees each when it is complete, and completes the master with the last one.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoMakeAssociatedIrp(irp: *mut IRP, stack_size: i8) -> *mut IRP {
        with_caller!(make)
    }
}

kernel_test! {
    /// *IoMakeAssociatedIrp function (ntddk.h)*: the master goes up with the last of its parts, whatever their order.
    fn the_last_part_completes_the_master() {
        use crate::nt::{NTSTATUS, PVOID, DEVICE_OBJECT, SL_INVOKE_ON_SUCCESS, STATUS_MORE_PROCESSING_REQUIRED};
        unsafe extern "win64" fn count(_: *mut DEVICE_OBJECT, _: *mut IRP, calls: PVOID) -> NTSTATUS {
            // SAFETY: the context is the test's local.
            unsafe { *calls.cast::<u32>() += 1 };
            STATUS_MORE_PROCESSING_REQUIRED
        }
        let Some(master) = irp::allocate(1) else { check!(false); return Ok(()) };
        let mut calls = 0_u32;
        // SAFETY: the packets are the test's; the master has a location, which is made the current one.
        unsafe {
            let location = irp::next_location(master);
            location.CompletionRoutine = Some(count);
            location.Context = (&raw mut calls).cast();
            location.Control = SL_INVOKE_ON_SUCCESS;
            (*master.as_ptr()).CurrentLocation -= 1;
            (*master.as_ptr()).Tail.CurrentStackLocation = location;
            (*master.as_ptr()).SystemBuffer = core::ptr::without_provenance_mut(3);
            let parts = [(); 3].map(|()| IoMakeAssociatedIrp(master.as_ptr(), 1));
            for (done, part) in parts.into_iter().rev().enumerate() {
                check!(!part.is_null() && calls == 0);
                (*part).CurrentLocation -= 1;
                (*part).Tail.CurrentStackLocation = (*part).Tail.CurrentStackLocation.sub(1);
                irp::IofCompleteRequest(part, 0);
                check!(calls == u32::from(done == 2));
            }
            irp::free(master);
        }
    }
}
