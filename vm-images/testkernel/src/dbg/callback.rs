//! Drivers that listen to what others print: `DbgSetDebugPrintCallback`.
//!
//! A callback hears every message that passes its filter, at the IRQL of whoever prints, and at DISPATCH_LEVEL at least. What it
//! prints itself it does not hear.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::ke::irql::{self, Irql};
use crate::ke::processor;
use crate::ldr::export::export;
use crate::nt::{
    ANSI_STRING, BOOLEAN, FALSE, NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_SUCCESS,
};
use crate::selftest::{check, kernel_test};

/// `PDEBUG_PRINT_CALLBACK`.
pub type PrintCallback = unsafe extern "win64" fn(output: *const ANSI_STRING, component: u32, level: u32);

const MOST: usize = 16;
static CALLBACKS: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
/// How many there are, so that printing costs nothing where nobody listens.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Processors on which one is being called.
static CALLING: AtomicU64 = AtomicU64::new(0);

/// Lets everybody who listens hear `text`.
pub fn tell(text: &str, component: u32, level: u32) {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    let old = irql::raise(irql::current().max(Irql::DISPATCH));
    let here = processor::current().bit();
    if CALLING.fetch_or(here, Ordering::SeqCst) & here == 0 {
        let length = text.len() as u16;
        let output = ANSI_STRING { Length: length, MaximumLength: length, Buffer: text.as_ptr().cast_mut() };
        for slot in &CALLBACKS {
            let routine = slot.load(Ordering::SeqCst);
            if routine != 0 {
                // SAFETY: a driver gave the routine. If its image is gone, the call faults: a bug check.
                let routine = unsafe { core::mem::transmute::<usize, PrintCallback>(routine) };
                // SAFETY: as above; the string lives until it returns.
                unsafe { routine(&raw const output, component, level) };
            }
        }
        CALLING.fetch_and(!here, Ordering::SeqCst);
    }
    irql::lower(old);
}

/// Callbacks that lie in `range`.
pub fn leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    let routines = CALLBACKS.iter().map(|slot| slot.load(Ordering::Acquire));
    routines
        .filter(|routine| range.contains(&(*routine as u64)))
        .map(|routine| (routine, routine as u64))
        .collect()
}

fn replace(from: usize, to: usize) -> bool {
    CALLBACKS.iter().any(|slot| slot.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok())
}

export! {
    /// *DbgSetDebugPrintCallback*: the routine hears what is printed, or does not any more when this returns. STATUS_NOT_FOUND where
    /// it was not listening.
    pub unsafe extern "win64" fn DbgSetDebugPrintCallback(callback: Option<PrintCallback>, enable: BOOLEAN) -> NTSTATUS {
        let Some(callback) = callback.map(|callback| callback as *const () as usize) else { return STATUS_INVALID_PARAMETER };
        if enable != FALSE {
            if !replace(0, callback) {
                return STATUS_INSUFFICIENT_RESOURCES;
            }
            COUNT.fetch_add(1, Ordering::AcqRel);
            return STATUS_SUCCESS;
        }
        if !replace(callback, 0) {
            return STATUS_NOT_FOUND;
        }
        COUNT.fetch_sub(1, Ordering::AcqRel);
        let here = processor::current().bit();
        while CALLING.load(Ordering::SeqCst) & !here != 0 {
            core::hint::spin_loop();
        }
        STATUS_SUCCESS
    }
}

kernel_test! {
    fn who_listens_hears_until_it_does_not_any_more() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "win64" fn listens(output: *const ANSI_STRING, component: u32, level: u32) {
            // SAFETY: the string of the call.
            let length = unsafe { (*output).Length };
            if component == 77 && level == 31 && irql::current() >= Irql::DISPATCH {
                HEARD.fetch_add(length.into(), Ordering::Relaxed);
            }
            // SAFETY: no arguments.
            let _ = unsafe { super::print(77, 31, c"".as_ptr().addr() as u64, core::ptr::null()) };
        }
        let routine = listens as *const () as u64;
        // SAFETY: the routine lives for ever.
        unsafe {
            check!(DbgSetDebugPrintCallback(Some(listens), 1) == STATUS_SUCCESS);
            check!(leading_into(&(routine..routine + 1)).len() == 1);
            let _ = super::print(77, 31, c"heard\n".as_ptr().addr() as u64, core::ptr::null());
            check!(HEARD.load(Ordering::Relaxed) == 6);
            check!(DbgSetDebugPrintCallback(Some(listens), 0) == STATUS_SUCCESS);
            check!(DbgSetDebugPrintCallback(Some(listens), 0) == STATUS_NOT_FOUND);
            let _ = super::print(77, 31, c"unheard\n".as_ptr().addr() as u64, core::ptr::null());
            check!(HEARD.load(Ordering::Relaxed) == 6);
        }
    }
}
