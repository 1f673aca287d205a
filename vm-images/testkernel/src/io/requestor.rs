//! Who asked for a request, and what the I/O manager keeps for that thread and that packet.

use core::sync::atomic::Ordering;

use super::irp;
use crate::console::println;
use crate::ke::thread::{self, Thread};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, FALSE, FO_SYNCHRONOUS_IO, IRP, NTSTATUS, PVOID, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS, UNICODE_STRING,
};
use crate::ps::process;

/// In `IRP::Flags`: a priority, and one more, so that 0 is none.
const PRIORITY_SHIFT: u32 = 17;
const PRIORITY_MASK: u32 = 7 << PRIORITY_SHIFT;
/// `IoPriorityNormal` and `MaxIoPriorityTypes`.
const NORMAL: u32 = 2;
const PRIORITIES: u32 = 5;
/// In `IRP::Flags`: paging, and whoever waits for the packet says so.
const PAGING: u32 = 0x2;
const SYNCHRONOUS: u32 = 0x4;

fn this_thread<'a>() -> &'a Thread {
    // SAFETY: the thread that runs lives as long as it does.
    unsafe { thread::current().as_ref() }
}

/// # Safety
/// `irp` must be a packet, and its thread one that has not gone.
unsafe fn thread_of<'a>(irp: *const IRP) -> Option<&'a Thread> {
    // SAFETY: the caller's contract.
    unsafe { (*irp).Tail.Thread.cast::<Thread>().as_ref() }
}

export! {
    /// *IoGetTopLevelIrp function (ntifs.h)*: what this thread was given last by IoSetTopLevelIrp; null at first.
    pub unsafe extern "win64" fn IoGetTopLevelIrp() -> *mut IRP {
        core::ptr::with_exposed_provenance_mut(this_thread().top_level_irp.load(Ordering::Relaxed))
    }

    /// *IoSetTopLevelIrp function (ntifs.h)*: a packet of this thread's, one of the FSRTL_ constants, or null.
    pub unsafe extern "win64" fn IoSetTopLevelIrp(irp: *mut IRP) {
        this_thread().top_level_irp.store(irp.expose_provenance(), Ordering::Relaxed);
    }

    /// *IoIs32bitProcess function (wdm.h)*: there are no such processes here.
    pub unsafe extern "win64" fn IoIs32bitProcess(_irp: *mut IRP) -> BOOLEAN {
        FALSE
    }

    /// *IoGetRequestorProcess function (ntifs.h)*: of the thread that asked; null for a packet of no thread's.
    pub unsafe extern "win64" fn IoGetRequestorProcess(irp: *mut IRP) -> PVOID {
        // SAFETY: the caller's packet.
        if unsafe { (*irp).Tail.Thread.is_null() } { core::ptr::null_mut() } else { process::system() }
    }

    /// *IoGetRequestorProcessId function (ntifs.h)*: 0 for a packet of no thread's.
    pub unsafe extern "win64" fn IoGetRequestorProcessId(irp: *mut IRP) -> u32 {
        // SAFETY: the caller's packet.
        if unsafe { (*irp).Tail.Thread.is_null() } { 0 } else { process::SYSTEM_ID as u32 }
    }

    /// *IoIsOperationSynchronous function (ntifs.h)*: the file is open for synchronous requests, or the packet's issuer waits for it;
    /// not where it is paging.
    pub unsafe extern "win64" fn IoIsOperationSynchronous(irp: *mut IRP) -> BOOLEAN {
        // SAFETY: the caller's packet, in its own hands: it has a current location.
        unsafe {
            let file = (*(*irp).Tail.CurrentStackLocation).FileObject;
            let by_file = !file.is_null() && (*file).Flags & FO_SYNCHRONOUS_IO != 0;
            let flags = (*irp).Flags;
            BOOLEAN::from((by_file || flags & SYNCHRONOUS != 0) && flags & PAGING == 0)
        }
    }

    /// *IoGetIoPriorityHint function (wdm.h)*: IoPriorityNormal where none was set.
    pub unsafe extern "win64" fn IoGetIoPriorityHint(irp: *mut IRP) -> u32 {
        // SAFETY: the caller's packet.
        let kept = (unsafe { (*irp).Flags } & PRIORITY_MASK) >> PRIORITY_SHIFT;
        kept.checked_sub(1).unwrap_or(NORMAL)
    }

    /// *IoSetIoPriorityHint function (wdm.h)*: STATUS_INVALID_PARAMETER for what is no priority.
    pub unsafe extern "win64" fn IoSetIoPriorityHint(irp: *mut IRP, hint: u32) -> NTSTATUS {
        if hint >= PRIORITIES {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's packet.
        unsafe { (*irp).Flags = ((*irp).Flags & !PRIORITY_MASK) | (hint + 1) << PRIORITY_SHIFT };
        STATUS_SUCCESS
    }

    /// *IoSetThreadHardErrorMode function (ntddk.h)*: whether this thread's hard errors are shown to the user; returns how it was.
    pub unsafe extern "win64" fn IoSetThreadHardErrorMode(enable: BOOLEAN) -> BOOLEAN {
        BOOLEAN::from(!this_thread().no_hard_errors.swap(enable == FALSE, Ordering::Relaxed))
    }

    /// *IoSetHardErrorOrVerifyDevice function (ntddk.h)*: the device that a hard error of this packet's thread is about.
    pub unsafe extern "win64" fn IoSetHardErrorOrVerifyDevice(irp: *mut IRP, device: *mut DEVICE_OBJECT) {
        // SAFETY: the caller's packet.
        if let Some(thread) = unsafe { thread_of(irp) } {
            thread.device_to_verify.store(device.expose_provenance(), Ordering::Relaxed);
        }
    }

    /// *IoGetDeviceToVerify function (ntifs.h)*: null where none was set.
    pub unsafe extern "win64" fn IoGetDeviceToVerify(thread: *mut Thread) -> *mut DEVICE_OBJECT {
        // SAFETY: the caller's thread.
        let device = unsafe { &*thread }.device_to_verify.load(Ordering::Relaxed);
        core::ptr::with_exposed_provenance_mut(device)
    }

    /// *IoSetDeviceToVerify function (ntifs.h)*.
    pub unsafe extern "win64" fn IoSetDeviceToVerify(thread: *mut Thread, device: *mut DEVICE_OBJECT) {
        // SAFETY: the caller's thread.
        unsafe { &*thread }.device_to_verify.store(device.expose_provenance(), Ordering::Relaxed);
    }

    /// *IoRaiseHardError function (ntddk.h)*: there is no user who could answer, as where a thread has hard errors disabled: the
    /// packet is completed with the status that it has.
    pub unsafe extern "win64" fn IoRaiseHardError(irp: *mut IRP, _vpb: PVOID, _device: *mut DEVICE_OBJECT) {
        // SAFETY: the caller hands its packet over.
        unsafe {
            println!("hard error {:08x}: nobody to ask, the request is completed", (*irp).IoStatus.Status.bits());
            (*irp).IoStatus.Information = 0;
            irp::IofCompleteRequest(irp, 0);
        }
    }

    /// *IoRaiseInformationalHardError function (ntddk.h)*: FALSE, there is nobody to be told.
    pub unsafe extern "win64" fn IoRaiseInformationalHardError(
        _status: NTSTATUS,
        _string: *const UNICODE_STRING,
        _thread: *mut Thread,
    ) -> BOOLEAN {
        FALSE
    }

    /// *IoWithinStackLimits function (wdm.h)*: whether a region lies on this thread's stack, as a whole.
    pub unsafe extern "win64" fn IoWithinStackLimits(start: usize, size: usize) -> u32 {
        let (low, high) = thread::stack_limits();
        let end = start.checked_add(size);
        u32::from(start >= low as usize && end.is_some_and(|end| end <= high as usize))
    }
}
