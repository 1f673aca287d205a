//! Drivers that want to know of processors that are added. None ever is; who asks for those that exist is told of each.
//!
//! First each processor is announced, and a driver may say that it cannot serve one: then those that it had been told of are called
//! off, and it is not registered. Otherwise each is said to be there.

use alloc::vec::Vec;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::lock::SpinLock;
use super::processor::{self, PROCESSOR_NUMBER};
use crate::ldr::export::export;
use crate::nt::{NTSTATUS, PVOID, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

/// `PROCESSOR_CALLBACK_FUNCTION`.
pub type ChangeRoutine =
    unsafe extern "win64" fn(context: PVOID, change: *mut ChangeContext, status: *mut NTSTATUS);

/// `KE_PROCESSOR_CHANGE_NOTIFY_CONTEXT`.
#[derive(Debug)]
#[repr(C)]
pub struct ChangeContext {
    state: u32,
    number: u32,
    status: NTSTATUS,
    processor: PROCESSOR_NUMBER,
}

/// `KE_PROCESSOR_CHANGE_NOTIFY_STATE`.
mod state {
    pub const START: u32 = 0;
    pub const COMPLETE: u32 = 1;
    pub const FAILURE: u32 = 2;
}

/// `KE_PROCESSOR_CHANGE_ADD_EXISTING`.
const ADD_EXISTING: u32 = 1;

/// Each registration with its handle.
static REGISTERED: SpinLock<Vec<(usize, ChangeRoutine)>> = SpinLock::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Registrations whose routines lie in `range`.
pub fn leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    let registered = REGISTERED.lock();
    let each = registered.iter().map(|(handle, routine)| (*handle, *routine as *const () as u64));
    each.filter(|(_, routine)| range.contains(routine)).collect()
}

/// Tells `routine` something of each of these processors, up to the first that it does not want, whose status is given.
unsafe fn tell(
    routine: ChangeRoutine,
    context: PVOID,
    state: u32,
    status: NTSTATUS,
    numbers: Range<u32>,
) -> Result<(), (u32, NTSTATUS)> {
    for number in numbers {
        let processor = PROCESSOR_NUMBER { group: 0, number: number as u8, reserved: 0 };
        let mut change = ChangeContext { state, number, status, processor };
        let mut answer = STATUS_SUCCESS;
        // SAFETY: the caller's routine, with its context.
        unsafe { routine(context, &raw mut change, &raw mut answer) };
        if state == state::START && !answer.is_success() {
            return Err((number, answer));
        }
    }
    Ok(())
}

export! {
    /// *KeRegisterProcessorChangeCallback function (wdm.h)*: a handle; null where the routine did not want one of the processors.
    pub unsafe extern "win64" fn KeRegisterProcessorChangeCallback(
        routine: Option<ChangeRoutine>,
        context: PVOID,
        flags: u32,
    ) -> PVOID {
        let Some(routine) = routine.filter(|_| flags & !ADD_EXISTING == 0) else { return ptr::null_mut() };
        let all = 0..processor::count() as u32;
        if flags & ADD_EXISTING != 0 {
            // SAFETY: the caller's routine, with its context.
            unsafe {
                if let Err((number, status)) = tell(routine, context, state::START, STATUS_SUCCESS, all.clone()) {
                    let _ = tell(routine, context, state::FAILURE, status, 0..number);
                    return ptr::null_mut();
                }
                let _ = tell(routine, context, state::COMPLETE, STATUS_SUCCESS, all);
            }
        }
        // Handles are opaque; these are told apart from null.
        let handle = NEXT.fetch_add(1, Ordering::Relaxed) << 4;
        REGISTERED.lock().push((handle, routine));
        ptr::without_provenance_mut(handle)
    }

    /// *KeDeregisterProcessorChangeCallback function (wdm.h)*.
    pub unsafe extern "win64" fn KeDeregisterProcessorChangeCallback(handle: PVOID) {
        REGISTERED.lock().retain(|(other, _)| *other != handle.addr());
    }
}

kernel_test! {
    /// *KeRegisterProcessorChangeCallback function (wdm.h)*: every processor is announced, then there; or those announced are called off.
    fn processors_are_announced_and_may_be_refused() {
        use core::sync::atomic::AtomicU32;
        static TOLD: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
        unsafe extern "win64" fn routine(context: PVOID, change: *mut ChangeContext, status: *mut NTSTATUS) {
            // SAFETY: those of the call.
            unsafe {
                let last = processor::count() as u32 - 1;
                TOLD[(*change).state as usize].fetch_add(1, Ordering::Relaxed);
                if !context.is_null() && (*change).state == state::START && (*change).number == last {
                    status.write(crate::nt::STATUS_NO_MEMORY);
                }
            }
        }
        let told = || [0, 1, 2].map(|state: usize| TOLD[state].swap(0, Ordering::Relaxed) as usize);
        let (count, null) = (processor::count(), ptr::null_mut());
        // SAFETY: the routine lives for ever.
        unsafe {
            let handle = KeRegisterProcessorChangeCallback(Some(routine), null, ADD_EXISTING);
            let here = routine as *const () as u64;
            check!(!handle.is_null() && told() == [count, count, 0] && leading_into(&(here..here + 1)).len() == 1);
            KeDeregisterProcessorChangeCallback(handle);
            let refused = KeRegisterProcessorChangeCallback(Some(routine), ptr::without_provenance_mut(1), ADD_EXISTING);
            check!(refused.is_null() && told() == [count, 0, count - 1] && leading_into(&(here..here + 1)).is_empty());
            let handle = KeRegisterProcessorChangeCallback(Some(routine), null, 0);
            check!(!handle.is_null() && told() == [0; 3]);
            KeDeregisterProcessorChangeCallback(handle);
        }
    }
}
