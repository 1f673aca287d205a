//! More stack for a while: `KeExpandKernelStackAndCallout`.

use core::arch::naked_asm;
use core::ffi::c_void;

use crate::ldr::export::export;
use crate::mm::frame::PAGE_SIZE;
use crate::mm::paging::Protection;
use crate::mm::region::{Region, Window};
use crate::nt::{BOOLEAN, FALSE, NTSTATUS, PVOID, STATUS_NO_MEMORY, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

/// `EXPAND_STACK_CALLOUT`.
pub type Callout = unsafe extern "win64" fn(parameter: PVOID);

/// `STATUS_INVALID_PARAMETER_3`.
const INVALID_PARAMETER_3: NTSTATUS = NTSTATUS::from_bits(0xC000_00F1);
/// `STATUS_INVALID_PARAMETER_5`.
const INVALID_PARAMETER_5: NTSTATUS = NTSTATUS::from_bits(0xC000_00F3);
/// `MAXIMUM_EXPANSION_SIZE` of x64: what a large kernel stack has, less a little.
const MAXIMUM_EXPANSION: usize = 0x12000 - 0x1000;
/// Interrupts and DPCs run on whatever stack they come in on.
const SPARE_PAGES: usize = 6;

/// Calls `callout(parameter)` on the stack that ends at `end`.
#[unsafe(naked)]
unsafe extern "win64" fn call_on(parameter: PVOID, callout: Callout, end: u64) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, r8",
        "sub rsp, 32", // home space
        "call rdx",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
    )
}

export! {
    /// *KeExpandKernelStackAndCallout function (ntddk.h)*: calls the routine with at least `size` bytes of stack;
    /// STATUS_INVALID_PARAMETER_3 for more than there can be, STATUS_NO_MEMORY for more than there is.
    pub unsafe extern "win64" fn KeExpandKernelStackAndCallout(
        callout: Callout,
        parameter: PVOID,
        size: usize,
    ) -> NTSTATUS {
        // SAFETY: the contract is the same.
        unsafe { KeExpandKernelStackAndCalloutEx(callout, parameter, size, FALSE, core::ptr::null_mut()) }
    }

    /// *KeExpandKernelStackAndCalloutEx function (ntddk.h)*: the same, at DISPATCH_LEVEL too; nothing is waited for. STATUS_INVALID_PARAMETER_5 for a
    /// context, which is reserved.
    pub unsafe extern "win64" fn KeExpandKernelStackAndCalloutEx(
        callout: Callout,
        parameter: PVOID,
        size: usize,
        _wait: BOOLEAN,
        context: PVOID,
    ) -> NTSTATUS {
        if !context.is_null() {
            return INVALID_PARAMETER_5;
        }
        if size > MAXIMUM_EXPANSION {
            return INVALID_PARAMETER_3;
        }
        let pages = size.div_ceil(PAGE_SIZE) + SPARE_PAGES;
        let Some(stack) = Region::map(Window::Dynamic, 1, pages, Protection::ReadWrite) else {
            return STATUS_NO_MEMORY;
        };
        // SAFETY: the stack was just mapped and goes after the call; the caller gave the routine for it.
        unsafe { call_on(parameter, callout, stack.base() + stack.bytes() as u64) };
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *KeExpandKernelStackAndCallout function (ntddk.h)*: the routine has as much stack as was asked for.
    fn a_callout_has_the_stack_that_it_asked_for() {
        unsafe extern "win64" fn deep(parameter: *mut c_void) {
            let mut room = [0_u8; 0xF000];
            for index in (0..room.len()).step_by(PAGE_SIZE / 2) {
                // SAFETY: inside the array.
                unsafe { room.as_mut_ptr().add(index).write_volatile(1) };
            }
            // SAFETY: the test's number.
            unsafe { parameter.cast::<usize>().write(room.iter().map(|&byte| usize::from(byte)).sum()) };
        }
        let mut seen = 0_usize;
        let parameter = (&raw mut seen).cast();
        // SAFETY: the number outlives the call.
        unsafe {
            check!(KeExpandKernelStackAndCallout(deep, parameter, 0x10000) == STATUS_SUCCESS);
            check!(KeExpandKernelStackAndCallout(deep, parameter, 0x20000) == INVALID_PARAMETER_3);
        }
        check!(seen == 0xF000 / (PAGE_SIZE / 2));
    }
}
