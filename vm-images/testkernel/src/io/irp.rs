//! I/O request packets: made, sent down, completed.
//!
//! A packet is passed from driver to driver by reference, and each has its stack location. Completion walks back up
//! through the locations and calls each driver's completion routine, until one takes the packet back or the issuer is
//! reached, which is [`super::request`] or, for a packet that a driver made, that driver.

use core::arch::naked_asm;
use core::ptr::NonNull;

use squall_testkernel_pure::pool::Kind;

use crate::ex::pool;
use crate::ke::bugcheck::bugcheck;
use crate::ldr::export::export;
use crate::nt::{
    BOOLEAN, DEVICE_OBJECT, IO_STACK_LOCATION, IO_STATUS_BLOCK, IRP, LIST_ENTRY, NTSTATUS, Parameters,
    SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED, io_type,
};
use crate::vf;

const NO_MORE_IRP_STACK_LOCATIONS: u32 = 0x35;
const MULTIPLE_IRP_COMPLETE_REQUESTS: u32 = 0x44;

/// Bytes of a packet with so many stack locations.
const fn size_of_packet(locations: i8) -> usize {
    size_of::<IRP>() + locations as usize * size_of::<IO_STACK_LOCATION>()
}

/// The stack locations of a packet; the lowest driver's is the first.
fn locations(irp: NonNull<IRP>) -> *mut IO_STACK_LOCATION {
    irp.as_ptr().wrapping_add(1).cast()
}

/// A packet with `count` stack locations, none of them in use.
pub fn allocate(count: i8) -> Option<NonNull<IRP>> {
    allocate_for(count, 0)
}

/// The same for whoever called from `caller`.
pub fn allocate_for(count: i8, caller: usize) -> Option<NonNull<IRP>> {
    if count < 1 {
        return None;
    }
    let irp = pool::allocate_object(size_of_packet(count), Kind::Irp, caller)?.cast::<IRP>();
    // SAFETY: the block is zeroed, which is valid for a packet, and large enough.
    unsafe { initialize(irp, count) };
    Some(irp)
}

/// # Safety
/// `irp` must be zeroed memory for a packet with `count` locations.
unsafe fn initialize(irp: NonNull<IRP>, count: i8) {
    // SAFETY: the caller's contract.
    let packet = unsafe { &mut *irp.as_ptr() };
    packet.Type = io_type::IRP;
    packet.Size = size_of_packet(count) as u16;
    packet.StackCount = count;
    packet.CurrentLocation = count + 1;
    packet.Tail.CurrentStackLocation = locations(irp).wrapping_add(count as usize);
    let list = &raw mut packet.ThreadListEntry;
    // SAFETY: a field of the packet.
    unsafe { list.write(LIST_ENTRY { Flink: list, Blink: list }) };
}

/// Gives a packet's memory back.
///
/// # Safety
/// `irp` must come from [`allocate`]; nobody uses it any more.
pub unsafe fn free(irp: NonNull<IRP>) {
    // A later completion of this packet finds that it is none, as long as the memory is not used again.
    // SAFETY: the caller's contract.
    unsafe { (*irp.as_ptr()).Type = 0 };
    pool::free(irp.as_ptr().addr(), 0);
}

/// The location that the next driver down will see, to be filled in by the issuer.
///
/// # Safety
/// `irp` must be a packet with a location left.
pub unsafe fn next_location<'a>(irp: NonNull<IRP>) -> &'a mut IO_STACK_LOCATION {
    // SAFETY: the caller's contract.
    unsafe { &mut *(*irp.as_ptr()).Tail.CurrentStackLocation.sub(1) }
}

/// Makes the next location of `irp`, that of `device`, the current one.
///
/// # Safety
/// As for [`call_driver`].
unsafe fn descend(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    // SAFETY: the caller's contract.
    unsafe {
        (*irp).CurrentLocation -= 1;
        if (*irp).CurrentLocation <= 0 {
            bugcheck(NO_MORE_IRP_STACK_LOCATIONS, [irp.addr() as u64, 0, 0, 0]);
        }
        let from = (*irp).Tail.CurrentStackLocation;
        let location = from.sub(1);
        vf::dispatch::passing(irp, from, location);
        (*irp).Tail.CurrentStackLocation = location;
        (*location).DeviceObject = device;
        location
    }
}

/// Completes `irp` with `status` where the driver of `device` would have got it.
///
/// # Safety
/// As for [`call_driver`].
pub unsafe fn refuse(device: *mut DEVICE_OBJECT, irp: *mut IRP, status: NTSTATUS) {
    // SAFETY: the caller's contract.
    unsafe {
        descend(device, irp);
        (*irp).IoStatus = IO_STATUS_BLOCK::new(status, 0);
        complete(irp, 0);
    }
}

/// Hands `irp` to the driver of `device`.
///
/// # Safety
/// Both must be alive, and the packet's next location filled in.
pub unsafe fn call_driver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        let location = descend(device, irp);
        let major = usize::from((*location).MajorFunction);
        let dispatch = (*(*device).DriverObject).MajorFunction.get(major).copied().flatten();
        match dispatch {
            Some(dispatch) => vf::dispatch::call(dispatch, device, irp),
            None => invalid_request(device, irp),
        }
    }
}

/// What every entry of a driver's dispatch table is until the driver sets it.
///
/// # Safety
/// `irp` must be a packet that this device's driver owns.
pub unsafe extern "win64" fn invalid_request(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the caller's contract.
    unsafe {
        (*irp).IoStatus.Status = STATUS_INVALID_DEVICE_REQUEST;
        (*irp).IoStatus.Information = 0;
        complete(irp, 0);
    }
    STATUS_INVALID_DEVICE_REQUEST
}

/// Clears the location that completion has come past, as Windows does: whoever sends the packet down again fills it in anew, and
/// nothing of this time, the completion routine least of all, is called once more.
///
/// # Safety
/// `location` must be one of a packet's.
unsafe fn forget(location: *mut IO_STACK_LOCATION) {
    // SAFETY: the caller's contract.
    unsafe {
        (*location).MinorFunction = 0;
        (*location).Flags = 0;
        (*location).Control = 0;
        (*location).Parameters = Parameters::default();
        (*location).FileObject = core::ptr::null_mut();
    }
}

/// Walks a packet back up to its issuer, whose priority is raised by `boost` if it waits.
///
/// # Safety
/// `irp` must be a packet that the caller owns.
unsafe fn complete(irp: *mut IRP, boost: i8) {
    // SAFETY: the caller's contract; each location walked over is one of the packet's.
    unsafe {
        if (*irp).Type != io_type::IRP || (*irp).CurrentLocation > (*irp).StackCount + 1 {
            bugcheck(MULTIPLE_IRP_COMPLETE_REQUESTS, [irp.addr() as u64, 0, 0, 0]);
        }
        let mut left = (*irp).Tail.CurrentStackLocation;
        loop {
            (*irp).CurrentLocation += 1;
            (*irp).Tail.CurrentStackLocation = (*irp).Tail.CurrentStackLocation.add(1);
            if (*irp).CurrentLocation > (*irp).StackCount + 1 {
                break;
            }
            let control = (*left).Control;
            vf::dispatch::past(irp, left, (*irp).IoStatus.Status, control);
            (*irp).PendingReturned = control & SL_PENDING_RETURNED;
            let at_issuer = (*irp).CurrentLocation == (*irp).StackCount + 1;
            if let Some(routine) = (*left).CompletionRoutine.filter(|_| invoked(irp, control)) {
                let device = if at_issuer {
                    core::ptr::null_mut()
                } else {
                    (*(*irp).Tail.CurrentStackLocation).DeviceObject
                };
                let context = (*left).Context;
                forget(left);
                let status = vf::dispatch::completion(routine, device, irp, context);
                if status == STATUS_MORE_PROCESSING_REQUIRED {
                    return;
                }
            } else {
                if (*irp).PendingReturned != 0 && !at_issuer {
                    (*(*irp).Tail.CurrentStackLocation).Control |= SL_PENDING_RETURNED;
                }
                forget(left);
            }
            left = left.add(1);
        }
        match super::associated::came_back(irp) {
            Ok(Some(master)) => complete(master.as_ptr(), boost),
            Ok(None) => {}
            Err(irp) => super::request::completed(irp, boost.into()),
        }
    }
}

/// Whether a completion routine with this `Control` wants to be called.
///
/// # Safety
/// `irp` must be a packet.
pub unsafe fn invoked(irp: *const IRP, control: u8) -> bool {
    // SAFETY: the caller's contract.
    let (succeeded, cancelled) = unsafe { ((*irp).IoStatus.Status.is_success(), (*irp).Cancel != 0) };
    let outcome = if succeeded { SL_INVOKE_ON_SUCCESS } else { SL_INVOKE_ON_ERROR };
    control & outcome != 0 || (cancelled && control & SL_INVOKE_ON_CANCEL != 0)
}

unsafe extern "win64" fn allocate_irp(stack_size: i8, _charge: BOOLEAN, caller: usize) -> *mut IRP {
    allocate_for(stack_size, caller).map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

export! {
    /// *IoCallDriver macro (wdm.h)*, which is this.
    pub unsafe extern "win64" fn IofCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { call_driver(device, irp) }
    }

    /// *IoCompleteRequest macro (wdm.h)*, which is this: at DISPATCH_LEVEL or below. The priority of whoever waits for the packet is raised by the
    /// boost.
    pub unsafe extern "win64" fn IofCompleteRequest(irp: *mut IRP, boost: i8) {
        // SAFETY: the contract is the same.
        unsafe { complete(irp, boost) };
    }

    /// *IoAllocateIrp function (wdm.h)*: no quota is charged.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoAllocateIrp(stack_size: i8, charge: BOOLEAN) -> *mut IRP {
        naked_asm!("mov r8, [rsp]", "jmp {}", sym allocate_irp)
    }

    /// *IoInitializeIrp function (wdm.h)*: makes a packet of memory that the driver allocated itself.
    pub unsafe extern "win64" fn IoInitializeIrp(irp: *mut IRP, size: u16, stack_size: i8) {
        let Some(packet) = NonNull::new(irp) else { return };
        // SAFETY: the caller gives that many bytes.
        unsafe {
            packet.cast::<u8>().write_bytes(0, size.into());
            initialize(packet, stack_size);
        }
    }

    /// *IoReuseIrp function (wdm.h)*: as new, with `status`; how it was allocated is remembered.
    pub unsafe extern "win64" fn IoReuseIrp(irp: *mut IRP, status: NTSTATUS) {
        let Some(packet) = NonNull::new(irp) else { return };
        // SAFETY: the caller gives a packet of its own, whose size says how large it is.
        unsafe {
            let (size, count, flags) = ((*irp).Size, (*irp).StackCount, (*irp).AllocationFlags);
            packet.cast::<u8>().write_bytes(0, size.into());
            initialize(packet, count);
            (*irp).AllocationFlags = flags;
            (*irp).IoStatus.Status = status;
        }
    }

    /// *IoFreeIrp function (wdm.h)*.
    pub unsafe extern "win64" fn IoFreeIrp(irp: *mut IRP) {
        if let Some(irp) = NonNull::new(irp) {
            // SAFETY: the caller gives a packet from IoAllocateIrp; what is none, or freed already, is found out as Windows does.
            unsafe {
                if (*irp.as_ptr()).Type != io_type::IRP {
                    bugcheck(MULTIPLE_IRP_COMPLETE_REQUESTS, [irp.as_ptr().addr() as u64, 0, 0, 0]);
                }
                free(irp);
            }
        }
    }
}
