//! What drivers call.

use super::{flush_all, initialize, insert, remove, set_target, start_threads};
use crate::ke::irql::{self, Irql};
use crate::ke::processor::{self, PROCESSOR_NUMBER};
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DeferredRoutine, KDPC, NTSTATUS, PVOID, object_type};
use crate::nt::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use core::sync::atomic::Ordering;

export! {
    /// *KeInitializeDpc function (wdm.h)*.
    pub unsafe extern "win64" fn KeInitializeDpc(
        dpc: *mut KDPC,
        routine: Option<DeferredRoutine>,
        context: PVOID,
    ) {
        // SAFETY: the caller's storage.
        unsafe { initialize(dpc, routine, context) };
    }

    /// *KeInitializeThreadedDpc function (wdm.h)*: a thread of the processor's runs it at PASSIVE_LEVEL, before every
    /// other thread. Where the first of all is initialized above PASSIVE_LEVEL there are no such threads yet, and it runs
    /// as an ordinary DPC, which a driver has to expect of any.
    pub unsafe extern "win64" fn KeInitializeThreadedDpc(
        dpc: *mut KDPC,
        routine: Option<DeferredRoutine>,
        context: PVOID,
    ) {
        if irql::current() == Irql::PASSIVE {
            start_threads();
        }
        // SAFETY: the caller's storage.
        unsafe {
            initialize(dpc, routine, context);
            (*dpc).Type = object_type::THREADED_DPC;
        }
    }

    /// *KeInsertQueueDpc function (wdm.h)*: FALSE where it is queued already. At any IRQL.
    pub unsafe extern "win64" fn KeInsertQueueDpc(
        dpc: *mut KDPC,
        argument1: PVOID,
        argument2: PVOID,
    ) -> BOOLEAN {
        // SAFETY: the caller's DPC.
        BOOLEAN::from(unsafe { insert(dpc, argument1, argument2) })
    }

    /// *KeRemoveQueueDpc function (wdm.h)*: FALSE where it is not queued; it may be running then.
    pub unsafe extern "win64" fn KeRemoveQueueDpc(dpc: *mut KDPC) -> BOOLEAN {
        // SAFETY: the caller's DPC.
        BOOLEAN::from(unsafe { remove(dpc) })
    }

    /// *KeRemoveQueueDpcEx function (wdm.h)*: as KeRemoveQueueDpc; on request it waits, at PASSIVE_LEVEL, until a DPC that
    /// was not queued any more has run.
    pub unsafe extern "win64" fn KeRemoveQueueDpcEx(dpc: *mut KDPC, wait: BOOLEAN) -> BOOLEAN {
        // SAFETY: the caller's DPC.
        let removed = unsafe { remove(dpc) };
        if !removed && wait != 0 {
            flush_all();
        }
        BOOLEAN::from(removed)
    }

    /// *KeFlushQueuedDpcs function (wdm.h)*: returns when what was queued before the call has run. At
    /// PASSIVE_LEVEL.
    pub unsafe extern "win64" fn KeFlushQueuedDpcs() {
        flush_all();
    }

    /// *KeSetImportanceDpc function (wdm.h)*.
    pub unsafe extern "win64" fn KeSetImportanceDpc(dpc: *mut KDPC, importance: u32) {
        // SAFETY: the caller's DPC.
        unsafe { (*dpc).Importance = importance as u8 };
    }

    /// *KeSetTargetProcessorDpc function (wdm.h)*.
    pub unsafe extern "win64" fn KeSetTargetProcessorDpc(dpc: *mut KDPC, number: i8) {
        // SAFETY: the caller's DPC.
        unsafe { set_target(dpc, u16::from(number.unsigned_abs())) };
    }

    /// *KeSetTargetProcessorDpcEx function (wdm.h)*: STATUS_INVALID_PARAMETER where there is no such
    /// processor.
    pub unsafe extern "win64" fn KeSetTargetProcessorDpcEx(
        dpc: *mut KDPC,
        number: *const PROCESSOR_NUMBER,
    ) -> NTSTATUS {
        // SAFETY: the caller's.
        let PROCESSOR_NUMBER { group, number, .. } = unsafe { number.read() };
        if group != 0 || usize::from(number) >= processor::count() {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's DPC.
        unsafe { set_target(dpc, number.into()) };
        STATUS_SUCCESS
    }

    /// *KeShouldYieldProcessor function (ntddk.h)*: not 0 where other DPCs wait for this processor. At DISPATCH_LEVEL or below.
    pub unsafe extern "win64" fn KeShouldYieldProcessor() -> u32 {
        (!processor::current().dpcs.lock().is_empty()).into()
    }

    /// *KeIsExecutingDpc*: whether this processor runs a DPC.
    pub unsafe extern "win64" fn KeIsExecutingDpc() -> BOOLEAN {
        BOOLEAN::from(processor::current().dpc_active.load(Ordering::Relaxed) != 0)
    }
}
