//! Structured exception handling.
//!
//! An exception, whether the processor found it or a routine raised it, goes to the frames of the thread, the innermost
//! first: each function whose image names a handler for it is asked ([`dispatch`]). For C that handler is
//! `__C_specific_handler`, which asks the filters of the `__try` blocks around the place. Whoever takes the exception has
//! the frames in between unwound: their handlers are called once more, to clean up (`__finally`), and execution goes on in
//! the block of the one who took it ([`unwind`]). If nobody does, the system stops.
//!
//! How a frame is left is in [`squall_testkernel_pure::unwind`]; here is who is asked, and in which order. The kernel's own
//! functions have no such tables. Where the walk meets one of them it is either the dispatcher's own, and goes on with the frames
//! that the exception interrupted ([`Active`] knows them), or the end of what belongs to drivers. Exceptions therefore never
//! cross a call from the kernel into a driver; what the kernel raises *for* a driver it raises as if the driver had (see
//! [`crate::ldr::raising`]), and a fault in one of the C library's routines for memory is their caller's.

mod c_handler;
mod capture;
mod unwind;
mod walk;

use core::sync::atomic::Ordering;

use squall_testkernel_pure::unwind::EXCEPTION_HANDLER;

use crate::arch::trap::{TrapFrame, exception as vector};
use crate::ke::bugcheck;
use crate::ke::irql::{self, Irql};
use crate::ke::thread;
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::mm::user;
use crate::nt::exception::{
    CONTEXT, CONTINUE_EXECUTION, CONTINUE_SEARCH, DISPATCHER_CONTEXT, EXCEPTION_NONCONTINUABLE,
    EXCEPTION_RECORD,
};
use crate::nt::{NTSTATUS, PVOID, STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT};
use capture::with_context;
use walk::Walk;

pub use capture::{of_trap, restore, trap_frame};

/// `STATUS_NONCONTINUABLE_EXCEPTION`.
const NONCONTINUABLE: u32 = 0xC000_0025;
/// `STATUS_INVALID_DISPOSITION`.
const INVALID_DISPOSITION: u32 = 0xC000_0026;

/// An exception that is being dispatched, or frames that are being unwound, on the dispatcher's stack. A walk that comes to the
/// dispatcher goes on with this.
struct Active {
    /// The one before, further up the stack; 0 for none.
    previous: usize,
    /// Where the frames begin that the dispatcher is working on.
    context: CONTEXT,
    /// What is done with of the first of them, while that is unwound.
    frame: *const DISPATCHER_CONTEXT,
}

impl Active {
    fn new(context: &CONTEXT) -> Self {
        let previous = innermost().load(Ordering::Relaxed);
        Self { previous, context: context.clone(), frame: core::ptr::null() }
    }

    /// Makes it known; it must not move any more.
    fn enter(&self) {
        innermost().store(core::ptr::from_ref(self).expose_provenance(), Ordering::Relaxed);
    }

    fn leave(&self) {
        innermost().store(self.previous, Ordering::Relaxed);
    }

    /// The innermost whose place on the stack is above `sp`.
    fn above(sp: u64) -> Option<&'static Self> {
        let mut address = innermost().load(Ordering::Relaxed);
        while address != 0 {
            // SAFETY: entered by a dispatcher further up this stack that has not returned, or it would have left.
            let active = unsafe { &*core::ptr::with_exposed_provenance::<Self>(address) };
            if address as u64 > sp {
                return Some(active);
            }
            address = active.previous;
        }
        None
    }

    /// Forgets those below `sp`: the stack is cut back to there.
    fn forget_below(sp: u64) {
        let above = Self::above(sp).map_or(0, |active| core::ptr::from_ref(active).addr());
        innermost().store(above, Ordering::Relaxed);
    }
}

fn innermost() -> &'static core::sync::atomic::AtomicUsize {
    // SAFETY: the thread that runs is alive, and only it uses this.
    unsafe { &(*thread::current().as_ptr()).exceptions }
}

impl EXCEPTION_RECORD {
    /// `status`, raised at `address`.
    pub fn new(status: u32, flags: u32, address: u64) -> Self {
        Self {
            ExceptionCode: status,
            ExceptionFlags: flags,
            ExceptionRecord: core::ptr::null_mut(),
            ExceptionAddress: core::ptr::with_exposed_provenance_mut(address as usize),
            NumberParameters: 0,
            ExceptionInformation: [0; 15],
        }
    }

    fn with(mut self, information: [u64; 2]) -> Self {
        self.NumberParameters = 2;
        self.ExceptionInformation[..2].copy_from_slice(&information);
        self
    }
}

/// Asks the handlers of the frames from `context` on. Comes back only where none takes the exception.
fn dispatch(record: &mut EXCEPTION_RECORD, context: &mut CONTEXT) {
    let active = Active::new(context);
    active.enter();
    let mut walk = Walk::from(context);
    while let Some(frame) = walk.next(EXCEPTION_HANDLER) {
        let Some(handler) = frame.handler else { continue };
        let mut caller = walk.context.clone();
        let mut dispatcher = frame.dispatcher(0, &mut caller, handler);
        // SAFETY: the handler that the frame's image names, with what it is promised.
        let disposition = unsafe {
            (handler.routine)(
                record,
                core::ptr::with_exposed_provenance_mut(frame.establisher as usize),
                context,
                &raw mut dispatcher,
            )
        };
        match disposition {
            CONTINUE_EXECUTION if record.ExceptionFlags & EXCEPTION_NONCONTINUABLE == 0 => {
                active.leave();
                // SAFETY: the handler says that execution is to go on there.
                unsafe { restore(context) }
            }
            CONTINUE_EXECUTION => return nested(record, NONCONTINUABLE, &active),
            CONTINUE_SEARCH => {}
            _ => return nested(record, INVALID_DISPOSITION, &active),
        }
    }
    active.leave();
}

/// A handler broke the rules: an exception of its own, which nobody is asked about.
fn nested(record: &mut EXCEPTION_RECORD, status: u32, active: &Active) {
    record.ExceptionCode = status;
    active.leave();
}

/// Dispatches an exception that was raised in code, and stops the system where nobody takes it.
fn raise(mut record: EXCEPTION_RECORD, context: &mut CONTEXT) -> ! {
    dispatch(&mut record, context);
    bugcheck::unhandled(&record, context)
}

/// The record of a processor's exception, where it has one.
pub fn record_of(frame: &TrapFrame, fault_address: u64) -> Option<EXCEPTION_RECORD> {
    let status = |status: u32| EXCEPTION_RECORD::new(status, 0, frame.rip);
    Some(match frame.vector as u8 {
        0 => status(0xC000_0094),
        1 => status(0x8000_0004),
        3 => EXCEPTION_RECORD::new(0x8000_0003, 0, frame.rip.wrapping_sub(1)),
        4 => status(0xC000_0095),
        5 => status(0xC000_008C),
        6 => status(0xC000_001D),
        13 => status(STATUS_ACCESS_VIOLATION.bits()).with([0, u64::MAX]),
        vector::PAGE_FAULT => {
            let access = match frame.error {
                error if error & 0x10 != 0 => 8,
                error => error >> 1 & 1,
            };
            status(STATUS_ACCESS_VIOLATION.bits()).with([access, fault_address])
        }
        16 | 19 => status(0xC000_02B5),
        17 => status(STATUS_DATATYPE_MISALIGNMENT.bits()),
        0x2C => status(0xC000_0420),
        _ => return None,
    })
}

/// Dispatches what the processor found in a driver, or in a routine that works for one without a frame of its own. Comes back
/// where it is no exception in this sense, or nobody takes it.
pub fn trapped(frame: &TrapFrame, fault_address: u64) {
    if bugcheck::is_under_way() || !walk::belongs_to_a_driver(frame.rip) {
        return;
    }
    // Only user mode's addresses: of the system's a bad one stops the system at once.
    let is_fault = frame.vector as u8 == vector::PAGE_FAULT;
    let absent = frame.error & 1 == 0;
    if is_fault
        && (!absent || irql::current() >= Irql::DISPATCH || !user::contains(fault_address as usize, 0))
    {
        return;
    }
    let Some(mut record) = record_of(frame, fault_address) else { return };
    // The kernel uses no vector register: they are as the driver left them.
    let mut context = capture::of_trap(frame);
    context.0.rip = record.ExceptionAddress.addr() as u64;
    let interruptible = frame.rflags & 0x200 != 0;
    if interruptible {
        x86_64::instructions::interrupts::enable();
    }
    dispatch(&mut record, &mut context);
    x86_64::instructions::interrupts::disable();
}

/// # Safety
/// The call must be one of ExRaiseStatus'.
unsafe extern "win64" fn raise_status(call: &Call<4>, context: &mut CONTEXT) {
    let status = call.arguments[0] as u32;
    raise(EXCEPTION_RECORD::new(status, EXCEPTION_NONCONTINUABLE, context.0.rip), context)
}

/// # Safety
/// The call must be one of ExRaiseAccessViolation's.
unsafe extern "win64" fn raise_access_violation(_: &Call<4>, context: &mut CONTEXT) {
    let status = STATUS_ACCESS_VIOLATION.bits();
    raise(EXCEPTION_RECORD::new(status, EXCEPTION_NONCONTINUABLE, context.0.rip), context)
}

/// # Safety
/// The call must be one of ExRaiseDatatypeMisalignment's.
unsafe extern "win64" fn raise_misalignment(_: &Call<4>, context: &mut CONTEXT) {
    let status = STATUS_DATATYPE_MISALIGNMENT.bits();
    raise(EXCEPTION_RECORD::new(status, EXCEPTION_NONCONTINUABLE, context.0.rip), context)
}

/// # Safety
/// The call must be one of RtlRaiseException's.
unsafe extern "win64" fn raise_exception(call: &Call<4>, context: &mut CONTEXT) {
    // SAFETY: the caller gives a record.
    let record =
        unsafe { &mut *core::ptr::with_exposed_provenance_mut::<EXCEPTION_RECORD>(call.arguments[0]) };
    record.ExceptionAddress = core::ptr::with_exposed_provenance_mut(context.0.rip as usize);
    raise(record.clone(), context)
}

export! {
    /// *ExRaiseStatus function (wdm.h)*: raises the status in the caller; nobody may go on where it was raised.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExRaiseStatus(status: NTSTATUS) {
        with_context!(raise_status)
    }

    /// *RtlRaiseStatus*, the same by another name.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlRaiseStatus(status: NTSTATUS) {
        with_context!(raise_status)
    }

    /// *ExRaiseAccessViolation function (wdm.h)*: raises STATUS_ACCESS_VIOLATION.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExRaiseAccessViolation() {
        with_context!(raise_access_violation)
    }

    /// *ExRaiseDatatypeMisalignment function (wdm.h)*: raises STATUS_DATATYPE_MISALIGNMENT.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExRaiseDatatypeMisalignment() {
        with_context!(raise_misalignment)
    }

    /// *RtlRaiseException function (rtlsupportapi.h)*: raises what the record says, at the caller.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlRaiseException(record: *mut EXCEPTION_RECORD) {
        with_context!(raise_exception)
    }

    /// *ExRaiseException*, the same by another name.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn ExRaiseException(record: *mut EXCEPTION_RECORD) {
        with_context!(raise_exception)
    }

    /// *RtlPcToFileHeader function (ntifs.h)*: the base of the driver's image that an address lies in, or null.
    pub unsafe extern "win64" fn RtlPcToFileHeader(address: PVOID, base: *mut PVOID) -> PVOID {
        let found = walk::image_at(address.addr() as u64).map_or(0, |(base, _)| base as usize);
        let found = core::ptr::with_exposed_provenance_mut(found);
        // SAFETY: the caller gives storage for the pointer.
        unsafe { base.write(found) };
        found
    }
}
