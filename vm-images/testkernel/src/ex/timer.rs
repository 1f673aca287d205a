//! The executive's timers: allocated by the system, with a callback at DISPATCH_LEVEL.
//!
//! Each is a KTIMER with a DPC that calls the driver. Deleting one with the wish to wait returns when the
//! callback runs nowhere and will not run again; otherwise the memory goes a moment later.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use alloc::boxed::Box;

use squall_testkernel_pure::bugcheck::TIMER_OR_DPC_INVALID;

use super::work::{self, WorkItem};
use crate::ke::bugcheck::bugcheck;
use crate::ke::{dispatcher, dpc, list, timer, wait};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, KDPC, KTIMER, PVOID, TRUE, object_type};
use crate::selftest::{check, kernel_test};
use crate::vf::census::Census;

/// Timers that drivers allocated and did not delete.
pub static TIMERS: Census = Census::new();

/// `EXT_CALLBACK`.
pub type Callback = unsafe extern "win64" fn(timer: *mut ExTimer, context: PVOID);

/// `EX_TIMER_NOTIFICATION`: stays signalled; otherwise one waiter is let go.
const NOTIFICATION: u32 = 1 << 31;
/// 100 ns units in the milliseconds that periods are counted in.
const UNITS_PER_MS: i64 = 10_000;

/// `EX_TIMER`: opaque to drivers, which may wait for it.
#[derive(Debug)]
#[repr(C)]
pub struct ExTimer {
    timer: KTIMER,
    dpc: KDPC,
    callback: Option<Callback>,
    context: PVOID,
    item: WorkItem,
    /// Deleted without being cancelled: it goes when it has expired.
    goes_when_expired: AtomicBool,
    /// What the driver wants to be called when it has gone.
    deleted: Option<DeleteCallback>,
    deleted_context: PVOID,
}

/// `EXT_DELETE_CALLBACK`.
pub type DeleteCallback = unsafe extern "win64" fn(context: PVOID);

/// `EXT_DELETE_PARAMETERS`.
#[derive(Debug)]
#[repr(C)]
pub struct DeleteParameters {
    version: u32,
    reserved: u32,
    callback: Option<DeleteCallback>,
    context: PVOID,
}

unsafe extern "win64" fn expired(_: *mut KDPC, timer: *mut c_void, _: *mut c_void, _: *mut c_void) {
    let timer: *mut ExTimer = timer.cast();
    // SAFETY: the timer is freed only after its DPCs were flushed.
    unsafe {
        if let Some(callback) = (*timer).callback {
            callback(timer, (*timer).context);
        }
        if (*timer).goes_when_expired.swap(false, Ordering::AcqRel) {
            ExCancelTimer(timer, ptr::null_mut());
            work::queue(&raw mut (*timer).item, 1);
        }
    }
}

/// Frees a timer that is not running, once no processor calls its callback. At PASSIVE_LEVEL.
unsafe extern "win64" fn free(timer: PVOID) {
    dpc::flush_all();
    // SAFETY: made as a box by ExAllocateTimer; it is not running and its DPC has run.
    let gone = unsafe { Box::from_raw(timer.cast::<ExTimer>()) };
    let (deleted, context) = (gone.deleted, gone.deleted_context);
    drop(gone);
    if let Some(deleted) = deleted {
        // SAFETY: the driver gave the routine for this call.
        unsafe { deleted(context) };
    }
}

unsafe extern "win64" fn allocate(
    callback: Option<Callback>,
    context: PVOID,
    attributes: u32,
    caller: usize,
) -> *mut ExTimer {
    let made = Box::into_raw(Box::new(ExTimer {
        timer: timer::UNUSED,
        dpc: dpc::UNUSED,
        callback,
        context,
        item: WorkItem { list: list::UNLINKED, routine: Some(free), parameter: ptr::null_mut() },
        goes_when_expired: AtomicBool::new(false),
        deleted: None,
        deleted_context: ptr::null_mut(),
    }));
    let notification = attributes & NOTIFICATION != 0;
    let kind =
        if notification { object_type::TIMER_NOTIFICATION } else { object_type::TIMER_SYNCHRONIZATION };
    // SAFETY: just made, and nobody else's yet.
    unsafe {
        timer::initialize(&raw mut (*made).timer, kind);
        dpc::initialize(&raw mut (*made).dpc, Some(expired), made.cast());
        (*made).item.parameter = made.cast();
    }
    TIMERS.enter(made.addr(), caller);
    made
}

export! {
    /// *ExAllocateTimer function (wdm.h)*: one that does not run.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExAllocateTimer(
        callback: Option<Callback>,
        context: PVOID,
        attributes: u32,
    ) -> *mut ExTimer {
        naked_asm!("mov r9, [rsp]", "jmp {}", sym allocate)
    }

    /// *ExSetTimer function (wdm.h)*: TRUE where it was running. Periods are rounded up to milliseconds.
    pub unsafe extern "win64" fn ExSetTimer(
        timer: *mut ExTimer,
        due: i64,
        period: i64,
        _parameters: PVOID,
    ) -> BOOLEAN {
        let period = period.max(0).unsigned_abs().div_ceil(UNITS_PER_MS.unsigned_abs());
        let period = u32::try_from(period).unwrap_or(u32::MAX);
        let due = wait::Deadline::from_driver(due).0;
        // SAFETY: the caller's timer, under the lock.
        unsafe {
            let dpc = if (*timer).callback.is_some() { &raw mut (*timer).dpc } else { ptr::null_mut() };
            timer::set(&mut dispatcher::lock(), &raw mut (*timer).timer, due, period, dpc).into()
        }
    }

    /// *ExCancelTimer function (wdm.h)*: TRUE where it was running.
    pub unsafe extern "win64" fn ExCancelTimer(timer: *mut ExTimer, _parameters: PVOID) -> BOOLEAN {
        let _guard = dispatcher::lock();
        // SAFETY: the caller's timer, under the lock.
        unsafe { timer::remove(&raw mut (*timer).timer) }.into()
    }

    /// *ExDeleteTimer function (wdm.h)*: TRUE where it was running and is cancelled. One that is not to be cancelled goes
    /// when it has expired, if it is running. With `wait` its callback runs nowhere when this returns, at PASSIVE_LEVEL
    /// then; to wait without cancelling is a bug check (which one, the page does not say). *EXT_DELETE_CALLBACK callback function*: called when the
    /// timer has gone, before this returns with `wait`.
    pub unsafe extern "win64" fn ExDeleteTimer(
        timer: *mut ExTimer,
        cancel: BOOLEAN,
        wait: BOOLEAN,
        parameters: *const DeleteParameters,
    ) -> BOOLEAN {
        if cancel == FALSE && wait != FALSE {
            bugcheck(TIMER_OR_DPC_INVALID, [0, timer.addr() as u64, 0, 0]);
        }
        TIMERS.leave(timer.addr());
        // SAFETY: the caller's timer, which it does not use any more; its parameters, or null.
        unsafe {
            if let Some(parameters) = parameters.as_ref() {
                ((*timer).deleted, (*timer).deleted_context) = (parameters.callback, parameters.context);
            }
            if cancel == FALSE && let_expire(timer) {
                return FALSE;
            }
            let running = ExCancelTimer(timer, ptr::null_mut());
            if wait == FALSE {
                work::queue(&raw mut (*timer).item, 1);
            } else {
                free(timer.cast());
            }
            running
        }
    }
}

/// Leaves a timer that runs to itself: it goes when it has expired. False where it does not run.
///
/// # Safety
/// `timer` must be alive.
unsafe fn let_expire(timer: *mut ExTimer) -> bool {
    let _guard = dispatcher::lock();
    // SAFETY: the caller's timer, under the lock.
    unsafe {
        if (*timer).timer.Header.Inserted == 0 {
            return false;
        }
        (*timer).goes_when_expired.store(true, Ordering::Release);
        // Without a callback it has queued no DPC so far.
        (*timer).timer.Dpc = &raw mut (*timer).dpc;
    }
    true
}

kernel_test! {
    /// *ExSetTimer function (wdm.h)*: the callback is called each period; none comes after ExDeleteTimer has waited.
    fn a_timer_of_the_executives_calls_back_until_it_is_deleted() {
        use core::sync::atomic::AtomicU32;
        static CALLS: AtomicU32 = AtomicU32::new(0);
        unsafe extern "win64" fn count(_: *mut ExTimer, context: PVOID) {
            let level = crate::ke::irql::current();
            if context.addr() == 7 && level == crate::ke::irql::Irql::DISPATCH {
                CALLS.fetch_add(1, Ordering::Relaxed);
            }
        }
        /// However busy the machine is: until the callback was called so often.
        fn called(often: u32) -> bool {
            (0..5000).any(|_| {
                crate::ke::thread::sleep_ns(1_000_000);
                CALLS.load(Ordering::Relaxed) >= often
            })
        }
        CALLS.store(0, Ordering::Relaxed);
        // SAFETY: the timers are deleted below and not used after.
        unsafe {
            let timer = ExAllocateTimer(Some(count), ptr::without_provenance_mut(7), 0);
            check!(ExSetTimer(timer, -10_000, 20_000, ptr::null_mut()) == FALSE);
            check!(wait::for_one(timer.cast(), None) == wait::Wakeup::Object(0));
            check!(called(3));
            check!(ExDeleteTimer(timer, TRUE, TRUE, ptr::null()) == TRUE);
            let often = CALLS.load(Ordering::Relaxed);
            crate::ke::thread::sleep_ns(10_000_000);
            check!(CALLS.load(Ordering::Relaxed) == often);

            let timer = ExAllocateTimer(Some(count), ptr::without_provenance_mut(7), 0);
            check!(ExSetTimer(timer, -1_000_000, 0, ptr::null_mut()) == FALSE);
            check!(ExDeleteTimer(timer, FALSE, FALSE, ptr::null()) == FALSE);
            check!(called(often + 1));

            let timer = ExAllocateTimer(None, ptr::null_mut(), NOTIFICATION);
            check!(ExSetTimer(timer, -10_000_000_000, 0, ptr::null_mut()) == FALSE);
            check!(ExCancelTimer(timer, ptr::null_mut()) == TRUE);
            check!(ExCancelTimer(timer, ptr::null_mut()) == FALSE);
            check!(ExDeleteTimer(timer, TRUE, FALSE, ptr::null()) == FALSE);
        }
    }
}
