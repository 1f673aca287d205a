//! Controller objects: what several devices share and only one can use at a time.
//!
//! A driver whose devices hang on one controller asks for it on behalf of a device. As soon as it is free the driver's
//! ControllerControl routine is called, which says whether the controller is kept or given back at once.

use core::arch::naked_asm;

use squall_testkernel_pure::pool::Kind;

use crate::ex::pool;
use crate::ke::device_queue::{KeInitializeDeviceQueue, KeInsertDeviceQueue, KeRemoveDeviceQueue};
use crate::ldr::export::export;
use crate::nt::{
    CONTROLLER_OBJECT, DEALLOCATE_OBJECT, DEVICE_OBJECT, DriverControl, FALSE, PVOID, WAIT_CONTEXT_BLOCK,
    io_type,
};
use crate::selftest::{check, kernel_test};

fn block_of(device: *mut DEVICE_OBJECT) -> *mut WAIT_CONTEXT_BLOCK {
    device.wrapping_byte_add(core::mem::offset_of!(DEVICE_OBJECT, Queue)).cast()
}

/// Calls the routine of the device whose turn it is; true where it gives the controller back.
///
/// # Safety
/// `device` must be alive, and its wait block filled in.
unsafe fn enter(device: *mut DEVICE_OBJECT) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        let WAIT_CONTEXT_BLOCK { DeviceRoutine: routine, DeviceContext: context, .. } = *block_of(device);
        let call =
            |routine: DriverControl| routine(device, (*device).CurrentIrp, core::ptr::null_mut(), context);
        routine.is_none_or(|routine| call(routine) == DEALLOCATE_OBJECT)
    }
}

unsafe extern "win64" fn create(size: u32, caller: usize) -> *mut CONTROLLER_OBJECT {
    let object = size_of::<CONTROLLER_OBJECT>().next_multiple_of(16);
    let Some(block) = pool::allocate_object(object + size as usize, Kind::Controller, caller) else {
        return core::ptr::null_mut();
    };
    let controller = block.as_ptr().cast::<CONTROLLER_OBJECT>();
    // SAFETY: the block is zeroed, which is valid for the object, and has room for it and the extension.
    unsafe {
        (*controller).Type = io_type::CONTROLLER;
        (*controller).Size = (object + size as usize) as i16;
        (*controller).ControllerExtension = block.as_ptr().wrapping_add(object).cast();
        KeInitializeDeviceQueue(&raw mut (*controller).DeviceWaitQueue);
    }
    controller
}

export! {
    /// *IoCreateController function (ntddk.h)*: with a zeroed extension of the driver's own.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoCreateController(size: u32) -> *mut CONTROLLER_OBJECT {
        naked_asm!("mov rdx, [rsp]", "jmp {}", sym create)
    }

    /// *IoDeleteController function (ntddk.h)*.
    pub unsafe extern "win64" fn IoDeleteController(controller: *mut CONTROLLER_OBJECT) {
        pool::free(controller.addr(), 0);
    }

    /// *IoAllocateController function (ntddk.h)*: calls the routine when the controller is free, at DISPATCH_LEVEL as
    /// this is called.
    pub unsafe extern "win64" fn IoAllocateController(
        controller: *mut CONTROLLER_OBJECT,
        device: *mut DEVICE_OBJECT,
        routine: Option<DriverControl>,
        context: PVOID,
    ) {
        // SAFETY: the caller gives its controller and device.
        unsafe {
            let block = block_of(device);
            (*block).DeviceRoutine = routine;
            (*block).DeviceContext = context;
            let queue = &raw mut (*controller).DeviceWaitQueue;
            if KeInsertDeviceQueue(queue, &raw mut (*block).WaitQueueEntry) == FALSE && enter(device) {
                IoFreeController(controller);
            }
        }
    }

    /// *IoFreeController function (ntddk.h)*: the next device that waits gets it. At DISPATCH_LEVEL.
    pub unsafe extern "win64" fn IoFreeController(controller: *mut CONTROLLER_OBJECT) {
        // SAFETY: the caller gives its controller; who waits in its queue is a device's wait block.
        unsafe {
            loop {
                let entry = KeRemoveDeviceQueue(&raw mut (*controller).DeviceWaitQueue);
                if entry.is_null() {
                    break;
                }
                let device = entry.wrapping_byte_sub(core::mem::offset_of!(DEVICE_OBJECT, Queue)).cast();
                if !enter(device) {
                    break;
                }
            }
        }
    }
}

kernel_test! {
    /// *IoAllocateController function*: one device has the controller, the next gets it when that one gives it back.
    fn a_controller_is_one_devices_at_a_time() {
        use crate::ke::irql::{self, Irql};
        use crate::nt::IRP;
        use core::sync::atomic::{AtomicUsize, Ordering};

        static ORDER: AtomicUsize = AtomicUsize::new(0);
        /// Keeps the controller with an even context, gives it back with an odd one.
        unsafe extern "win64" fn control(_: *mut DEVICE_OBJECT, _: *mut IRP, _: PVOID, context: PVOID) -> u32 {
            ORDER.store(ORDER.load(Ordering::Relaxed) * 10 + context.addr(), Ordering::Relaxed);
            if context.addr().is_multiple_of(2) { 1 } else { DEALLOCATE_OBJECT }
        }

        ORDER.store(0, Ordering::Relaxed);
        let Ok((driver, first)) = super::selftest::start() else { check!(false); return Ok(()) };
        let plan = super::device::Blueprint { extension: 0, name: None, kind: 0x22, characteristics: 0, exclusive: false };
        // SAFETY: controller and devices are this test's.
        unsafe {
            let (Ok(second), Ok(third)) = (super::device::create(driver, plan), super::device::create(driver, plan))
            else { check!(false); return Ok(()) };
            let controller = IoCreateController(40);
            check!(!controller.is_null() && (*controller).ControllerExtension.cast::<u64>().add(4).read() == 0);
            let old = irql::raise(Irql::DISPATCH);
            for (device, context) in [(first, 2), (second, 3), (third, 4)] {
                IoAllocateController(controller, device, Some(control), core::ptr::without_provenance_mut(context));
            }
            let before = ORDER.load(Ordering::Relaxed);
            IoFreeController(controller);
            let after = ORDER.load(Ordering::Relaxed);
            IoFreeController(controller);
            irql::lower(old);
            check!(before == 2 && after == 234 && (*controller).DeviceWaitQueue.Busy == FALSE);
            IoDeleteController(controller);
            [first, second, third].into_iter().for_each(|device| super::device::delete(device));
        }
        super::selftest::stop(driver)?;
    }
}
