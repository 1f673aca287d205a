//! Floating point in drivers: what of the processor's state they save around it.
//!
//! On x64 the system keeps the x87 and SSE registers of every thread, and the calling convention those that a routine may not change;
//! nothing is left to do for KeSaveFloatingPointState, which drivers of 32-bit Windows need. What goes beyond those registers is
//! saved by mask, where the system has it at all: this one has the x87 and SSE registers (XSTATE_MASK_LEGACY), and saves them.

use core::arch::asm;
use core::ptr::{self, NonNull};

use super::irql;
use super::thread;
use crate::ex::pool;
use crate::ldr::export::export;
use crate::nt::{NTSTATUS, PVOID, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

/// `XSTATE_MASK_LEGACY`: x87 and SSE.
pub const LEGACY: u64 = 3;
/// What FXSAVE writes.
const AREA: usize = 512;

/// `XSTATE_SAVE`.
#[derive(Debug)]
#[repr(C)]
pub struct XSTATE_SAVE {
    prev: PVOID,
    thread: PVOID,
    level: u8,
    mask: u64,
    length: u32,
    reserved: u32,
    area: *mut u8,
    buffer: PVOID,
}

const _: () = assert!(size_of::<XSTATE_SAVE>() == 0x38);

export! {
    /// *KeSaveFloatingPointState function (wdm.h)*: the system saves it anyway.
    pub unsafe extern "win64" fn KeSaveFloatingPointState(_state: PVOID) -> NTSTATUS {
        STATUS_SUCCESS
    }

    /// *KeRestoreFloatingPointState function (wdm.h)*: the system restores it anyway.
    pub unsafe extern "win64" fn KeRestoreFloatingPointState(_state: PVOID) -> NTSTATUS {
        STATUS_SUCCESS
    }

    /// *RtlGetEnabledExtendedFeatures function (wdm.h)*: those in the mask that the system saves.
    pub unsafe extern "win64" fn RtlGetEnabledExtendedFeatures(mask: u64) -> u64 {
        mask & LEGACY
    }

    /// *KeSaveExtendedProcessorState function (wdm.h)*: of the features in the mask, those that the system has;
    /// STATUS_INSUFFICIENT_RESOURCES where there is no memory for them. At DISPATCH_LEVEL or below.
    pub unsafe extern "win64" fn KeSaveExtendedProcessorState(mask: u64, save: *mut XSTATE_SAVE) -> NTSTATUS {
        let mask = mask & LEGACY;
        let mut area = ptr::null_mut();
        if mask != 0 {
            let Some(memory) = pool::allocate_zeroed(AREA, *b"XSav") else { return STATUS_INSUFFICIENT_RESOURCES };
            area = memory.as_ptr();
            // SAFETY: pool is aligned to 16 bytes, and this is as long as what is written.
            unsafe { asm!("fxsave64 [{}]", in(reg) area) };
        }
        let thread = thread::current().as_ptr().cast();
        let length = if mask == 0 { 0 } else { AREA as u32 };
        let level = irql::current().0;
        let state = XSTATE_SAVE { prev: ptr::null_mut(), thread, level, mask, length, reserved: 0, area, buffer: area.cast() };
        // SAFETY: the caller gives storage.
        unsafe { save.write(state) };
        STATUS_SUCCESS
    }

    /// *KeRestoreExtendedProcessorState function (wdm.h)*: what was saved, once.
    pub unsafe extern "win64" fn KeRestoreExtendedProcessorState(save: *mut XSTATE_SAVE) {
        // SAFETY: the caller's, as the routine above wrote it.
        unsafe {
            if let Some(area) = NonNull::new((*save).area) {
                asm!("fxrstor64 [{}]", in(reg) area.as_ptr());
                pool::free(area.as_ptr().addr(), 0);
                (*save).area = ptr::null_mut();
                (*save).buffer = ptr::null_mut();
            }
        }
    }
}

kernel_test! {
    /// *KeSaveExtendedProcessorState function (wdm.h)*: what is changed in between is as it was.
    fn what_was_saved_is_restored() {
        let mut save = core::mem::MaybeUninit::<XSTATE_SAVE>::uninit();
        let (before, other, mut after) = (0x1234_5678_9ABC_DEF0_u64, 7_u64, 0_u64);
        // SAFETY: the kernel's own code uses none of these registers.
        unsafe {
            asm!("movq xmm9, {}", in(reg) before);
            check!(KeSaveExtendedProcessorState(LEGACY, save.as_mut_ptr()) == STATUS_SUCCESS);
            asm!("movq xmm9, {}", in(reg) other);
            KeRestoreExtendedProcessorState(save.as_mut_ptr());
            asm!("movq {}, xmm9", out(reg) after);
            check!(after == before && (*save.as_ptr()).area.is_null());
            check!(KeSaveExtendedProcessorState(4, save.as_mut_ptr()) == STATUS_SUCCESS && (*save.as_ptr()).mask == 0);
            KeRestoreExtendedProcessorState(save.as_mut_ptr());
        }
    }
}
