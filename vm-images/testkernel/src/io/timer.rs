//! A device's timer: a routine that is called about once a second, at DISPATCH_LEVEL.

use crate::ex::pool;
use crate::ke::{dispatcher, dpc, timer, wait::Deadline};
use crate::ldr::export::export;
use crate::nt::{
    DEVICE_OBJECT, KDPC, KTIMER, NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, object_type,
};
use crate::selftest::{check, kernel_test};

const PERIOD_MS: u32 = 1000;
const PERIOD_NS: u64 = PERIOD_MS as u64 * 1_000_000;

/// `IO_TIMER_ROUTINE`.
pub type Routine = unsafe extern "win64" fn(device: *mut DEVICE_OBJECT, context: PVOID);

/// What `DEVICE_OBJECT::Timer` leads to; opaque to drivers.
#[derive(Debug)]
#[repr(C)]
struct IoTimer {
    timer: KTIMER,
    dpc: KDPC,
    device: *mut DEVICE_OBJECT,
    routine: Option<Routine>,
    context: PVOID,
}

unsafe extern "win64" fn tick(_: *mut KDPC, context: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the record is freed only when its timer has stopped and this has run.
    unsafe {
        let IoTimer { device, routine, context, .. } = *context.cast::<IoTimer>();
        if let Some(routine) = routine {
            routine(device, context);
        }
    }
}

/// Stops the timer of a device; false where it has none, or one that was not running.
///
/// # Safety
/// `device` must be alive.
pub unsafe fn stop(device: *mut DEVICE_OBJECT) -> bool {
    let _guard = dispatcher::lock();
    // SAFETY: the caller's contract; the record is the I/O manager's, under the dispatcher's lock.
    unsafe {
        let record = (*device).Timer.cast::<IoTimer>();
        !record.is_null() && timer::remove(&raw mut (*record).timer)
    }
}

/// Frees the timer of a device that nobody uses any more. At PASSIVE_LEVEL.
///
/// # Safety
/// `device` must be about to go.
pub unsafe fn free(device: *mut DEVICE_OBJECT) {
    // SAFETY: the caller's contract.
    unsafe {
        let record = core::mem::replace(&mut (*device).Timer, core::ptr::null_mut());
        if !record.is_null() {
            timer_stopped(record.cast());
            pool::free(record.addr(), 0);
        }
    }
}

/// Returns when the timer's routine runs nowhere and will not run again.
///
/// # Safety
/// `record` must be alive.
unsafe fn timer_stopped(record: *mut IoTimer) {
    {
        let _guard = dispatcher::lock();
        // SAFETY: the caller's contract, under the lock.
        unsafe { timer::remove(&raw mut (*record).timer) };
    }
    // No more than has to be: what else is queued is not this device's.
    let memory = record.addr()..record.addr() + size_of::<IoTimer>();
    if dpc::first_queued_in(&memory).is_some() || dpc::running_elsewhere_with(&memory).is_some() {
        dpc::flush_all();
    }
}

export! {
    /// *IoInitializeTimer function (wdm.h)*: once for each device; a second call changes routine and context.
    pub unsafe extern "win64" fn IoInitializeTimer(
        device: *mut DEVICE_OBJECT,
        routine: Option<Routine>,
        context: PVOID,
    ) -> NTSTATUS {
        // SAFETY: the caller gives its device.
        unsafe {
            let mut record = (*device).Timer.cast::<IoTimer>();
            if record.is_null() {
                let Some(block) = pool::allocate_zeroed(size_of::<IoTimer>(), *b"IoTi") else {
                    return STATUS_INSUFFICIENT_RESOURCES;
                };
                record = block.as_ptr().cast();
                timer::initialize(&raw mut (*record).timer, object_type::TIMER_NOTIFICATION);
                dpc::initialize(&raw mut (*record).dpc, Some(tick), record.cast());
                (*record).device = device;
                (*device).Timer = record.cast();
            }
            (*record).routine = routine;
            (*record).context = context;
        }
        STATUS_SUCCESS
    }

    /// *IoStartTimer function (wdm.h)*: the routine is called about once a second from now on.
    pub unsafe extern "win64" fn IoStartTimer(device: *mut DEVICE_OBJECT) {
        let mut guard = dispatcher::lock();
        // SAFETY: the caller gives its device, whose timer it has initialized; under the lock.
        unsafe {
            let record = (*device).Timer.cast::<IoTimer>();
            if !record.is_null() {
                let due = Deadline::after_ns(PERIOD_NS).0;
                timer::set(&mut guard, &raw mut (*record).timer, due, PERIOD_MS, &raw mut (*record).dpc);
            }
        }
    }

    /// *IoStopTimer function (wdm.h)*: a call that is under way goes on.
    pub unsafe extern "win64" fn IoStopTimer(device: *mut DEVICE_OBJECT) {
        // SAFETY: the caller gives its device.
        unsafe { stop(device) };
    }
}

kernel_test! {
    /// *IoStartTimer function*: once a second at DISPATCH_LEVEL, and not any more once the device is deleted.
    fn a_devices_timer_runs_each_second_and_goes_with_the_device() {
        use crate::ke::irql::{self, Irql};
        use crate::ke::thread;
        use core::sync::atomic::{AtomicUsize, Ordering};

        static TICKS: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn count(device: *mut DEVICE_OBJECT, context: PVOID) {
            if irql::current() == Irql::DISPATCH && context.addr() == device.addr() {
                TICKS.fetch_add(1, Ordering::Relaxed);
            }
        }

        TICKS.store(0, Ordering::Relaxed);
        let Ok((driver, device)) = super::selftest::start() else { check!(false); return Ok(()) };
        // SAFETY: the device is this test's.
        unsafe {
            check!(IoInitializeTimer(device, Some(count), device.cast()) == STATUS_SUCCESS);
            IoStartTimer(device);
            IoStopTimer(device);
            IoStartTimer(device);
            thread::sleep_ns(1_100_000_000);
            check!(TICKS.load(Ordering::Relaxed) == 1);
            super::device::delete(device);
        }
        super::selftest::stop(driver)?;
    }
}
