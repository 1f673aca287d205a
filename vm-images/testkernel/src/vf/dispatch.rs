//! I/O verification, from the side of the I/O manager: what a verified driver's dispatch and completion routines do.
//!
//! A dispatch routine has four ways to end: it completes the packet and returns the packet's status; it passes the packet
//! down and returns what it got; it marks the packet pending, keeps it, and returns STATUS_PENDING; or it does so and passes
//! it down. Everything else loses a packet or completes it twice, mostly later and elsewhere. So the Verifier
//! remembers each call of a dispatch routine until it returns, and what has become of the packet meanwhile, on whatever
//! processor.
//!
//! Source: *Bug Check 0xC9: DRIVER_VERIFIER_IOMANAGER_VIOLATION*, and 0xC4's values 0xC0 to 0xC5, 0xFA and 0xFB. What page
//! 0xC9 calls I/O errors (0x200 and up) have the driver's address, the packet and the device as parameters, as in a crash
//! dump of Windows.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use squall_testkernel_pure::bugcheck::{
    DRIVER_VERIFIER_DETECTED_VIOLATION, DRIVER_VERIFIER_IOMANAGER_VIOLATION,
};

use super::classes::Class;
use super::stops::stop;
use super::verified;
use crate::ke::apc;
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::nt::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DO_DIRECT_IO, DriverDispatch, IO_STACK_LOCATION, IRP, IoCompletionRoutine,
    NTSTATUS, PVOID, SL_PENDING_RETURNED, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING,
};

/// A call of a dispatch routine that has not returned.
struct Call {
    number: usize,
    irp: usize,
    /// The routine's own stack location.
    location: usize,
    /// It was passed down.
    passed: bool,
    /// Completion has come past the location: the packet may be gone.
    done: Option<Done>,
}

/// How a packet came past a location.
#[derive(Clone, Copy)]
struct Done {
    status: NTSTATUS,
    control: u8,
}

static CALLS: SpinLock<Vec<Call>> = SpinLock::new(Vec::new());
/// How many there are, for those that need not look.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static NUMBERS: AtomicUsize = AtomicUsize::new(0);

fn is_for_us(routine: usize) -> bool {
    verified::at(routine).is_some_and(|driver| driver.is_for(Class::Io))
}

/// An I/O error of page 0xC9.
fn io_error(what: u64, routine: usize, irp: usize, device: usize) -> ! {
    stop(DRIVER_VERIFIER_IOMANAGER_VIOLATION, [what, routine as u64, irp as u64, device as u64])
}

/// The thread's APC disable count, which goes down with each region entered.
fn apc_disable_count(regions: u32) -> u64 {
    (-i64::from(regions)).cast_unsigned()
}

/// What a routine of the driver's must leave as it found it.
struct Surroundings {
    irql: Irql,
    regions: u32,
}

impl Surroundings {
    fn now() -> Self {
        Self { irql: irql::current(), regions: apc::critical_regions() }
    }
}

/// Calls a dispatch routine; judges what came of it where the driver is verified.
///
/// # Safety
/// As for the routine.
pub unsafe fn call(dispatch: DriverDispatch, device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let routine = dispatch as usize;
    if !is_for_us(routine) {
        // SAFETY: the caller's contract.
        return unsafe { dispatch(device, irp) };
    }
    let both = DO_BUFFERED_IO | DO_DIRECT_IO;
    // SAFETY: the device is alive, and the packet is not yet the driver's.
    let (flags, location) = unsafe { ((*device).Flags, (*irp).Tail.CurrentStackLocation) };
    if flags & both == both {
        io_error(0x245, routine, irp.addr(), device.addr());
    }
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let call = Call { number, irp: irp.addr(), location: location.addr(), passed: false, done: None };
    CALLS.lock().push(call);
    COUNT.fetch_add(1, Ordering::AcqRel);
    let before = Surroundings::now();
    // SAFETY: the caller's contract.
    let status = unsafe { dispatch(device, irp) };
    if !x86_64::instructions::interrupts::are_enabled() {
        x86_64::instructions::interrupts::enable();
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xC1, routine as u64, 0, 0]);
    }
    let after = Surroundings::now();
    if after.irql != before.irql {
        let levels = [before.irql.0.into(), after.irql.0.into()];
        stop(DRIVER_VERIFIER_IOMANAGER_VIOLATION, [5, device.addr() as u64, levels[0], levels[1]]);
    }
    if after.regions != before.regions {
        let counts = [after.regions, before.regions].map(apc_disable_count);
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xC5, routine as u64, counts[0], counts[1]]);
    }
    let broken = {
        let mut calls = CALLS.lock();
        let index = calls.iter().position(|call| call.number == number);
        let call = index.map(|index| calls.swap_remove(index));
        // SAFETY: the packet's memory was there for the call, and stays mapped.
        let control = || unsafe { (&raw const (*location).Control).read_volatile() };
        let broken = call.and_then(|call| verdict(status, call.done, call.passed, control));
        // Only now: as long as the call counts, completion on another processor waits in `past` for the lock, and so clears
        // the location after it has been judged.
        COUNT.fetch_sub(1, Ordering::AcqRel);
        broken
    };
    if let Some((what, last)) = broken {
        let last = last.map_or(device.addr() as u64, |status| status.bits().into());
        stop(DRIVER_VERIFIER_IOMANAGER_VIOLATION, [what, routine as u64, irp.addr() as u64, last]);
    }
    status
}

/// What is wrong with a dispatch routine that returned `status`; with it the packet's own status, where that is told.
fn verdict(
    status: NTSTATUS,
    done: Option<Done>,
    passed: bool,
    control: impl Fn() -> u8,
) -> Option<(u64, Option<NTSTATUS>)> {
    let is_pending = status == STATUS_PENDING;
    let is_marked = |control: u8| control & SL_PENDING_RETURNED != 0;
    match done {
        _ if status.0 == -1 => Some((0x225, None)),
        Some(done) if !is_pending && is_marked(done.control) => Some((0x23E, None)),
        Some(done) if !is_pending && status != done.status => Some((0x224, Some(done.status))),
        Some(done) if is_pending && !is_marked(done.control) => Some((0x23D, None)),
        // What whoever it was passed to made of it is not this driver's fault.
        None if !is_pending && !passed => Some((0x226, None)),
        None if is_pending && !passed && !is_marked(control()) => Some((0x23D, None)),
        _ => None,
    }
}

/// A packet goes from one location (the issuer's, maybe) to another; where a driver skips its own, they are the same.
pub fn passing(irp: *mut IRP, from: *mut IO_STACK_LOCATION, to: *mut IO_STACK_LOCATION) {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    for call in CALLS.lock().iter_mut() {
        let is_here = call.location == from.addr() || call.location == to.addr();
        if call.irp == irp.addr() && is_here && call.done.is_none() {
            call.passed = true;
        }
    }
}

/// Completion comes past a location.
pub fn past(irp: *mut IRP, location: *mut IO_STACK_LOCATION, status: NTSTATUS, control: u8) {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    for call in CALLS.lock().iter_mut() {
        if call.irp == irp.addr() && call.location == location.addr() && call.done.is_none() {
            call.done = Some(Done { status, control });
        }
    }
}

/// Calls a completion routine; judges what it did where the driver is verified.
///
/// # Safety
/// As for the routine; `irp` is at the location of whoever set it.
pub unsafe fn completion(
    completion: IoCompletionRoutine,
    device: *mut DEVICE_OBJECT,
    irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    let routine = completion as usize;
    if !is_for_us(routine) {
        // SAFETY: the caller's contract.
        return unsafe { completion(device, irp, context) };
    }
    // SAFETY: the packet is being completed.
    let was_pending = unsafe { (*irp).PendingReturned } != 0;
    let before = Surroundings::now();
    // SAFETY: the caller's contract.
    let status = unsafe { completion(device, irp, context) };
    let after = Surroundings::now();
    if after.irql != before.irql {
        let levels = [before.irql.0.into(), after.irql.0.into()];
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xFA, routine as u64, levels[0], levels[1]]);
    }
    if after.regions != before.regions {
        let counts = [after.regions, before.regions].map(apc_disable_count);
        stop(DRIVER_VERIFIER_DETECTED_VIOLATION, [0xFB, routine as u64, counts[0], counts[1]]);
    }
    if status != STATUS_MORE_PROCESSING_REQUIRED && was_pending && !device.is_null() {
        // SAFETY: the routine did not take the packet, so it is still there.
        let control = unsafe { (*(*irp).Tail.CurrentStackLocation).Control };
        if control & SL_PENDING_RETURNED == 0 {
            io_error(0x228, routine, irp.addr(), device.addr());
        }
    }
    status
}
