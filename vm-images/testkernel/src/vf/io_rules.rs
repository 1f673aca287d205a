//! I/O verification, from the side of the driver: packets and devices are used as documented.
//!
//! Source: *Bug Check 0xC9: DRIVER_VERIFIER_IOMANAGER_VIOLATION*, and 0xC4's value 0xC0. Of the page's errors those are here
//! that a driver without plug and play, power or WMI can commit; what it tells by dispatch and completion routines is in
//! [`super::dispatch`].

use core::ptr;

use squall_testkernel_pure::bugcheck::{
    DRIVER_VERIFIER_DETECTED_VIOLATION, DRIVER_VERIFIER_IOMANAGER_VIOLATION,
};
use squall_testkernel_pure::pool::Kind;

use super::stops::stop;
use super::thunk::intercept;
use crate::ex::pool::{self, Known};
use crate::io::{build, device};
use crate::ke::irql::{self, Irql};
use crate::nt::{
    DEVICE_OBJECT, DRIVER_OBJECT, IO_STACK_LOCATION, IRP, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE,
    IRP_MJ_DEVICE_CONTROL, NTSTATUS, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED, STATUS_PENDING, io_type,
};

/// A numbered violation, 0x01 to 0x12.
fn violation(parameters: [u64; 4]) -> ! {
    stop(DRIVER_VERIFIER_IOMANAGER_VIOLATION, parameters)
}

/// An I/O error, 0x200 and up: where in the driver, which packet, which device.
fn io_error(what: u64, caller: usize, irp: *mut IRP, device: *mut DEVICE_OBJECT) -> ! {
    stop(DRIVER_VERIFIER_IOMANAGER_VIOLATION, [what, caller as u64, irp.addr() as u64, device.addr() as u64])
}

/// Whether `address` lies in the image of the driver of `device`; none where that has no image.
///
/// # Safety
/// `device` must be null or a device that is alive.
unsafe fn lies_in_driver_of(device: *mut DEVICE_OBJECT, address: usize) -> Option<bool> {
    // SAFETY: the caller's contract; a device keeps its driver object alive.
    let driver: &DRIVER_OBJECT = unsafe { device.as_ref()?.DriverObject.as_ref()? };
    let start = driver.DriverStart.addr();
    (driver.DriverSize != 0).then(|| (start..start + driver.DriverSize as usize).contains(&address))
}

/// Whether the packet's current location is that of another driver than the one that called from `caller`.
///
/// # Safety
/// `irp` must be a packet.
unsafe fn is_in_use_elsewhere(irp: *mut IRP, caller: usize) -> bool {
    // SAFETY: the caller's contract: below the issuer's, the current location is one of the packet's.
    unsafe {
        let is_sent = (*irp).CurrentLocation <= (*irp).StackCount;
        is_sent && lies_in_driver_of((*(*irp).Tail.CurrentStackLocation).DeviceObject, caller) == Some(false)
    }
}

/// Whether the packet is with a driver below the one that called from `caller`, which has a location of its own above.
///
/// # Safety
/// `irp` must be a packet.
unsafe fn is_queued_beneath(irp: *mut IRP, caller: usize) -> bool {
    // SAFETY: the caller's contract; the locations above the current one are those of devices that have the packet.
    unsafe {
        let above = (*irp).StackCount - (*irp).CurrentLocation;
        // A driver may have made number and pointer disagree: no location lies behind the packet's last.
        let end = irp.add(1).cast::<IO_STACK_LOCATION>().wrapping_add((*irp).StackCount.max(0) as usize);
        let own = (1..=above.max(0)).any(|step| {
            let location = (*irp).Tail.CurrentStackLocation.wrapping_add(step as usize);
            location < end && lies_in_driver_of((*location).DeviceObject, caller) == Some(true)
        });
        own && is_in_use_elsewhere(irp, caller)
    }
}

/// The completion routine of a location, where one would be invoked.
fn routine_of(location: &IO_STACK_LOCATION) -> usize {
    let invoked = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    let routine = location.CompletionRoutine.map_or(0, |routine| routine as usize);
    if location.Control & invoked == 0 { 0 } else { routine }
}

/// The location that IoCallDriver is to pass on.
///
/// # Safety
/// `irp` must be a packet with a location left.
unsafe fn judge_next_location(site: usize, device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: the caller's contract.
    let (next, current) = unsafe {
        let current = (*irp).Tail.CurrentStackLocation;
        let is_issuers = (*irp).CurrentLocation > (*irp).StackCount;
        (&*current.sub(1), if is_issuers { None } else { current.as_ref() })
    };
    if next.Control & SL_PENDING_RETURNED != 0 {
        io_error(0x206, site, irp, device);
    }
    let copied = current.map_or(0, routine_of);
    if copied != 0
        && copied == routine_of(next)
        && current.is_some_and(|current| current.Context == next.Context)
    {
        io_error(0x207, site, irp, device);
    }
    let passive = [IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE];
    if passive.contains(&next.MajorFunction) && irql::current() > Irql::APC {
        io_error(0x23A, site, irp, device);
    }
}

intercept! {
    for Io;

    /// 0x01, 0x02, 0x20B.
    before fn IoFreeIrp(site; irp: *mut IRP) {
        // SAFETY: where it is not null the driver's packet, whose type says whether it is one.
        unsafe {
            if irp.is_null() || (*irp).Type != io_type::IRP {
                violation([1, irp.addr() as u64, 0, 0]);
            }
            if build::belongs_to_a_thread(irp) {
                violation([2, irp.addr() as u64, 0, 0]);
            }
            if is_in_use_elsewhere(irp, site.caller) {
                io_error(0x20B, site.caller, irp, ptr::null_mut());
            }
        }
        None
    }

    /// 0x20D.
    before fn IoInitializeIrp(site; irp: *mut IRP, size: u16, count: i8) {
        if let Known::Live(block) = pool::look_up(irp.addr())
            && block.kind == Kind::Irp
        {
            io_error(0x20D, site.caller, irp, ptr::null_mut());
        }
        None
    }

    /// 0x310, 0x311.
    before fn IoReuseIrp(site; irp: *mut IRP, status: NTSTATUS) {
        // SAFETY: the driver's packet.
        unsafe {
            if is_in_use_elsewhere(irp, site.caller) {
                io_error(0x310, site.caller, irp, ptr::null_mut());
            }
            if build::belongs_to_a_thread(irp) {
                io_error(0x311, site.caller, irp, ptr::null_mut());
            }
        }
        None
    }

    /// 0x03, 0x04, 0x10, 0x203 to 0x208, 0x23A, and 0xC4's 0xC0.
    before fn IofCallDriver(site; device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
        let level = irql::current();
        if level > Irql::DISPATCH {
            violation([0x10, level.0.into(), 0, 0]);
        }
        if !x86_64::instructions::interrupts::are_enabled() {
            stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xC0, irp.addr() as u64, 0, 0]);
        }
        // SAFETY: the driver's packet, whose type says whether it is one.
        if irp.is_null() || unsafe { (*irp).Type } != io_type::IRP {
            violation([3, irp.addr() as u64, 0, 0]);
        }
        if device.is_null() {
            io_error(0x204, site.caller, irp, device);
        }
        // SAFETY: the driver's device, or what it takes for one.
        if unsafe { (*device).Type } != io_type::DEVICE {
            violation([4, device.addr() as u64, 0, 0]);
        }
        // SAFETY: it is a packet.
        unsafe {
            if (*irp).CancelRoutine.is_some() {
                io_error(0x203, site.caller, irp, device);
            }
            if is_queued_beneath(irp, site.caller) {
                io_error(0x205, site.caller, irp, device);
            }
            if (*irp).CurrentLocation <= 1 {
                io_error(0x208, site.caller, irp, device);
            }
            judge_next_location(site.caller, device, irp);
        }
        None
    }

    /// 0x06, 0x07, 0x0E, 0x209, 0x312.
    before fn IofCompleteRequest(site; irp: *mut IRP, boost: i8) {
        let level = irql::current();
        if level > Irql::DISPATCH {
            violation([0xE, level.0.into(), irp.addr() as u64, 0]);
        }
        // SAFETY: the driver's packet, whose type says whether it is one.
        unsafe {
            if irp.is_null() || (*irp).Type != io_type::IRP {
                // The I/O manager itself stops for that: 0x44.
                return None;
            }
            let status = (*irp).IoStatus.Status;
            if status == STATUS_PENDING || status.0 == -1 {
                violation([6, status.bits().into(), irp.addr() as u64, 0]);
            }
            if let Some(routine) = (*irp).CancelRoutine {
                violation([7, routine as usize as u64, irp.addr() as u64, 0]);
            }
            if is_queued_beneath(irp, site.caller) {
                io_error(0x209, site.caller, irp, ptr::null_mut());
            }
            if (*irp).CurrentLocation <= (*irp).StackCount {
                let location = &*(*irp).Tail.CurrentStackLocation;
                let [output, _, code, _] = location.Parameters.0;
                let is_buffered = location.MajorFunction == IRP_MJ_DEVICE_CONTROL && code & 3 == 0;
                let is_error = status.bits() >> 30 == 3;
                if is_buffered && !is_error && (*irp).IoStatus.Information as u64 > u64::from(output as u32) {
                    io_error(0x312, site.caller, irp, location.DeviceObject);
                }
            }
        }
        None
    }

    /// 0x201, 0x240.
    before fn IoDeleteDevice(site; device: *mut DEVICE_OBJECT) {
        if !device::is_there(device.addr()) {
            io_error(0x240, site.caller, ptr::null_mut(), device);
        }
        if device::attached_to(device.addr()).is_some() {
            io_error(0x201, site.caller, ptr::null_mut(), device);
        }
        None
    }

    /// 0x202.
    before fn IoDetachDevice(site; target: *mut DEVICE_OBJECT) {
        // SAFETY: the driver's device, where there is one.
        if device::is_there(target.addr()) && unsafe { (*target).AttachedDevice }.is_null() {
            io_error(0x202, site.caller, ptr::null_mut(), target);
        }
        None
    }

    /// 0x0A.
    before fn IoInitializeTimer(site; device: *mut DEVICE_OBJECT, routine: usize, context: PVOID) -> NTSTATUS {
        // SAFETY: the driver's device.
        if !unsafe { (*device).Timer }.is_null() {
            violation([0xA, device.addr() as u64, 0, 0]);
        }
        None
    }
}
