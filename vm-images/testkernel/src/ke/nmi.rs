//! Nonmaskable interrupts, and the drivers that know what one means.
//!
//! An NMI comes between any two instructions, whatever the IRQL, on each processor that its source is wired to. Drivers
//! register routines for it; the one that registered last is asked first, and each is told whether one before it has claimed the
//! interrupt. One that nobody claims is what a HAL stops the system for (0x80).
//!
//! The list has to be whole at every instruction, as no lock keeps an NMI out. So entries are put in and taken out by one
//! store each, and one that was taken out is freed only when no processor can be walking past it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::irql::{self, Irql};
use super::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, FALSE, NTSTATUS, PVOID, STATUS_INVALID_HANDLE, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

/// `NMI_CALLBACK`.
pub type NmiRoutine = unsafe extern "win64" fn(context: PVOID, handled: BOOLEAN) -> BOOLEAN;

struct Callback {
    next: AtomicPtr<Callback>,
    routine: NmiRoutine,
    context: PVOID,
}

/// The one that registered last.
static LAST: AtomicPtr<Callback> = AtomicPtr::new(ptr::null_mut());
/// Held by whoever changes the list; an NMI walks it all the same.
static CHANGING: SpinLock<()> = SpinLock::new(());
/// Processors that walk the list.
static WALKING: AtomicUsize = AtomicUsize::new(0);

/// The registers that a driver's routine may change and the interrupted code must not see changed.
#[repr(C, align(16))]
struct Fx([u8; 512]);

/// Asks the drivers about an NMI: whether one of them claims it. On the processor that took it, interrupts off.
pub fn is_handled() -> bool {
    if LAST.load(Ordering::Acquire).is_null() {
        return false;
    }
    let mut state = Fx([0; 512]);
    let defaults: u32 = 0x1F80;
    // SAFETY: the room is what the instruction needs, and aligned; MXCSR gets what drivers' code expects.
    unsafe { asm!("fxsave64 [{}]", "ldmxcsr [{}]", in(reg) &raw mut state, in(reg) &raw const defaults) };
    let old = irql::raise(Irql::HIGH);
    let handled = ask();
    irql::lower(old);
    // SAFETY: what was saved above.
    unsafe { asm!("fxrstor64 [{}]", in(reg) &raw const state) };
    handled
}

fn ask() -> bool {
    WALKING.fetch_add(1, Ordering::SeqCst);
    let mut handled = FALSE;
    // SAFETY: an entry that is in the list is not freed before this processor has left it.
    let mut entry = unsafe { LAST.load(Ordering::SeqCst).as_ref() };
    while let Some(callback) = entry {
        // SAFETY: the driver's routine, with the context that it gave. If its image is gone, the call faults: a bug check.
        if unsafe { (callback.routine)(callback.context, handled) } != FALSE {
            handled = 1;
        }
        // SAFETY: as above.
        entry = unsafe { callback.next.load(Ordering::SeqCst).as_ref() };
    }
    WALKING.fetch_sub(1, Ordering::SeqCst);
    handled != FALSE
}

/// Calls `with` for each entry and the link that leads to it, until it says so. The lock of changes is held.
fn find<T>(mut with: impl FnMut(&AtomicPtr<Callback>, &Callback) -> Option<T>) -> Option<T> {
    let mut link = &LAST;
    // SAFETY: entries are freed under the lock only, which is held.
    while let Some(callback) = unsafe { link.load(Ordering::Acquire).as_ref() } {
        if let Some(found) = with(link, callback) {
            return Some(found);
        }
        link = &callback.next;
    }
    None
}

/// Registrations, by handle, whose routines lie in `range`.
pub fn leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    let _changing = CHANGING.lock();
    let mut found = Vec::new();
    find(|_, callback| {
        let routine = callback.routine as *const () as usize as u64;
        if range.contains(&routine) {
            found.push((ptr::from_ref(callback).addr(), routine));
        }
        None::<()>
    });
    found
}

export! {
    /// *KeRegisterNmiCallback function (wdm.h)*: a handle for KeDeregisterNmiCallback; null where there is no routine.
    pub unsafe extern "win64" fn KeRegisterNmiCallback(routine: Option<NmiRoutine>, context: PVOID) -> PVOID {
        let Some(routine) = routine else { return ptr::null_mut() };
        let callback = Callback { next: AtomicPtr::new(ptr::null_mut()), routine, context };
        let callback = Box::into_raw(Box::new(callback));
        let _changing = CHANGING.lock();
        // SAFETY: just made, and nobody else's yet.
        unsafe { (*callback).next.store(LAST.load(Ordering::Acquire), Ordering::Release) };
        LAST.store(callback, Ordering::SeqCst);
        callback.cast()
    }

    /// *KeDeregisterNmiCallback function (wdm.h)*: STATUS_INVALID_HANDLE where the handle is none. The routine is not running any
    /// more when this returns.
    pub unsafe extern "win64" fn KeDeregisterNmiCallback(handle: PVOID) -> NTSTATUS {
        let _changing = CHANGING.lock();
        let taken_out = find(|link, callback| {
            (ptr::from_ref(callback).addr() == handle.addr()).then(|| {
                link.store(callback.next.load(Ordering::Acquire), Ordering::SeqCst);
                ptr::from_ref(callback).cast_mut()
            })
        });
        let Some(callback) = taken_out else { return STATUS_INVALID_HANDLE };
        while WALKING.load(Ordering::SeqCst) != 0 {
            core::hint::spin_loop();
        }
        // SAFETY: made as a box, out of the list, and nobody walks past it.
        drop(unsafe { Box::from_raw(callback) });
        STATUS_SUCCESS
    }
}

kernel_test! {
    /// *KeRegisterNmiCallback function (wdm.h)*: in reverse order of registration, each told whether one before it claimed.
    fn an_nmi_is_asked_about_from_the_last_registration_to_the_first() {
        use crate::hal::apic;
        use core::sync::atomic::AtomicU32;
        static ASKED: AtomicU32 = AtomicU32::new(0);
        unsafe extern "win64" fn routine(context: PVOID, handled: BOOLEAN) -> BOOLEAN {
            // Which, at what level, and what it was told: one hexadecimal digit each.
            let digits = (context.addr() as u32) << 8 | u32::from(irql::current().0) << 4 | u32::from(handled);
            let before = ASKED.load(Ordering::Relaxed);
            ASKED.store(before << 12 | digits, Ordering::Relaxed);
            (context.addr() == 2).into()
        }
        let at = |number| ptr::without_provenance_mut(number);
        // SAFETY: the routine lives for ever.
        unsafe {
            let first = KeRegisterNmiCallback(Some(routine), at(1));
            let second = KeRegisterNmiCallback(Some(routine), at(2));
            check!(!first.is_null() && !second.is_null() && first != second);
            let here = routine as *const () as usize as u64;
            check!(leading_into(&(here..here + 1)).len() == 2);
            {
                // On the processor that is asked.
                let _here = super::irql::InterruptsOff::new();
                apic::nmi_self();
            }
            for _ in 0..1000 {
                if ASKED.load(Ordering::Acquire) > 0xFFF {
                    break;
                }
                crate::ke::thread::sleep_ns(100_000);
            }
            check!(ASKED.load(Ordering::Relaxed) == 0x2F0_1F1);
            check!(KeDeregisterNmiCallback(first) == STATUS_SUCCESS);
            check!(KeDeregisterNmiCallback(first) == STATUS_INVALID_HANDLE);
            check!(KeDeregisterNmiCallback(second) == STATUS_SUCCESS);
            check!(KeDeregisterNmiCallback(ptr::null_mut()) == STATUS_INVALID_HANDLE);
            check!(leading_into(&(here..here + 1)).is_empty());
        }
    }
}
