//! Two conveniences round a completion routine: to wait for the driver below, and to be sure of one's own image.

use squall_testkernel_pure::pool::Kind;

use super::irp;
use crate::ex::pool;
use crate::ke::event::{self, KeSetEvent};
use crate::ke::wait::KeWaitForSingleObject;
use crate::ldr::caller::{Call, with_caller};
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, FALSE, IO_STACK_LOCATION, IRP, IoCompletionRoutine, KERNEL_MODE, KEVENT,
    NTSTATUS, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS,
    object_type,
};
use crate::ob;
use crate::vf;

const ALWAYS: u8 = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;

/// Wakes the thread that waits in IoForwardIrpSynchronously, which has the packet again.
unsafe extern "win64" fn wake(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS {
    // SAFETY: the context is the waiting thread's event. Where the driver below has not returned pending, that thread is this
    // one and does not wait.
    unsafe {
        if (*irp).PendingReturned != 0 {
            KeSetEvent(context.cast::<KEVENT>(), 0, 0);
        }
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

/// What a driver asked for by IoSetCompletionRoutineEx.
struct Held {
    device: usize,
    routine: IoCompletionRoutine,
    context: PVOID,
    control: u8,
}

/// Calls the driver's routine where it wants to be called, and lets the driver go only then.
unsafe extern "win64" fn with_the_driver_held(
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: the context was made for this packet's location, and completion comes past it once.
    let held = unsafe { context.cast::<Held>().read() };
    pool::free(context.addr(), 0);
    // SAFETY: the packet is the completing thread's; the routine is the driver's, which the reference keeps.
    let status = unsafe {
        if irp::invoked(irp, held.control) {
            vf::dispatch::completion(held.routine, device, irp, held.context)
        } else {
            if (*irp).PendingReturned != 0 && (*irp).CurrentLocation <= (*irp).StackCount {
                (*(*irp).Tail.CurrentStackLocation).Control |= SL_PENDING_RETURNED;
            }
            STATUS_SUCCESS
        }
    };
    ob::dereference(held.device);
    status
}

/// # Safety
/// The call must be one of IoSetCompletionRoutineEx'.
unsafe extern "win64" fn set_completion_routine(call: &Call<7>) -> NTSTATUS {
    let [device, irp, routine, context, on_success, on_error, on_cancel] = call.arguments;
    let wanted = [
        (on_success, SL_INVOKE_ON_SUCCESS),
        (on_error, SL_INVOKE_ON_ERROR),
        (on_cancel, SL_INVOKE_ON_CANCEL),
    ];
    let control =
        wanted.iter().filter(|(on, _)| *on as BOOLEAN != 0).fold(0, |control, (_, bit)| control | bit);
    let Some(block) = pool::allocate_object(size_of::<Held>(), Kind::Plain, call.caller) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    ob::reference(device);
    // SAFETY: the block is large enough; the caller gives a routine, and a packet with a location left.
    unsafe {
        let routine = core::mem::transmute::<usize, IoCompletionRoutine>(routine);
        let context = core::ptr::with_exposed_provenance_mut(context);
        block.cast::<Held>().write(Held { device, routine, context, control });
        let irp = core::ptr::with_exposed_provenance_mut::<IRP>(irp);
        let next = (*irp).Tail.CurrentStackLocation.sub(1);
        (*next).CompletionRoutine = Some(with_the_driver_held);
        (*next).Context = block.as_ptr().cast();
        (*next).Control = ALWAYS;
    }
    STATUS_SUCCESS
}

export! {
    /// *IoForwardIrpSynchronously function (wdm.h)*: at PASSIVE_LEVEL. Sends the packet on as it is and waits until the drivers
    /// below are done with it; it is the caller's again then. FALSE, and nothing sent, where no stack location is left.
    pub unsafe extern "win64" fn IoForwardIrpSynchronously(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> BOOLEAN {
        // SAFETY: the caller's device and packet; the event outlives the wait for it.
        unsafe {
            if (*irp).CurrentLocation <= 1 {
                return FALSE;
            }
            let mut done: KEVENT = core::mem::zeroed();
            event::initialize(&raw mut done, object_type::EVENT_NOTIFICATION, false);
            let current = (*irp).Tail.CurrentStackLocation;
            let completion = Some(wake as IoCompletionRoutine);
            *current.sub(1) = IO_STACK_LOCATION {
                Control: ALWAYS, CompletionRoutine: completion, Context: (&raw mut done).cast(), ..*current
            };
            if irp::call_driver(device, irp) == STATUS_PENDING {
                let _ = KeWaitForSingleObject((&raw mut done).cast(), 0, KERNEL_MODE, 0, core::ptr::null());
            }
        }
        1
    }

    /// *IoSetCompletionRoutineEx function (wdm.h)*: as IoSetCompletionRoutine; the driver stays until its routine has returned.
    /// A packet that is then not sent keeps it for ever.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoSetCompletionRoutineEx(
        device: *mut DEVICE_OBJECT,
        irp: *mut IRP,
        routine: Option<IoCompletionRoutine>,
        context: PVOID,
        on_success: BOOLEAN,
        on_error: BOOLEAN,
        on_cancel: BOOLEAN,
    ) -> NTSTATUS {
        with_caller!(set_completion_routine)
    }
}
