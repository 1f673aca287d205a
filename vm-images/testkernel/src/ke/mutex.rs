//! Mutexes: owned by a thread, which may acquire one again and again, and releases it as often. Until then it is in a critical
//! region.
//!
//! A *mutant* is the same without the critical region. Its owner may therefore end and leave it behind: it is free then, and the next who
//! acquires it is told that it was abandoned. (Of a mutex the critical region stops the system before: 0x20.)

use core::ptr;
use core::sync::atomic::Ordering;

use super::dispatcher::{self, Guard};
use super::thread::Thread;
use super::{list, processor, wait};
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::ldr::raising::may_raise;
use crate::nt::{BOOLEAN, DISPATCHER_HEADER, FALSE, KMUTANT, LIST_ENTRY, NTSTATUS, TRUE, object_type};
use crate::selftest::{check, kernel_test};

/// `STATUS_MUTANT_NOT_OWNED`.
const NOT_OWNED: NTSTATUS = NTSTATUS::from_bits(0xC000_0046);

/// `STATUS_ABANDONED`.
const ABANDONED: NTSTATUS = NTSTATUS::from_bits(0x80);

/// The list of mutants that a thread owns.
///
/// # Safety
/// Everywhere below: under the dispatcher's lock; mutexes and threads are alive.
unsafe fn owned_by(thread: *mut Thread) -> *mut LIST_ENTRY {
    // SAFETY: the caller's.
    unsafe { &raw mut (*(*thread).scheduling.get()).mutants }
}

/// `thread` acquires `mutex`, which is free or its own; true where it had been abandoned.
///
/// # Safety
/// As above.
pub unsafe fn acquired(mutex: *mut KMUTANT, thread: *mut Thread) -> bool {
    // SAFETY: the caller's.
    unsafe {
        if (*mutex).Header.SignalState == 1 {
            if (*mutex).ApcDisable != 0 {
                // Its owner is in a critical region for as long: once, however often it acquires it.
                (*thread).kernel_apcs_off.fetch_add(1, Ordering::Relaxed);
            } else {
                list::insert_before(owned_by(thread), &raw mut (*mutex).MutantListEntry);
            }
        }
        (*mutex).Header.SignalState -= 1;
        (*mutex).OwnerThread = thread.cast();
        core::mem::replace(&mut (*mutex).Abandoned, FALSE) != FALSE
    }
}

/// Nobody owns `mutex` any more, and whoever waits for it may.
///
/// # Safety
/// As above; `owner` is its owner.
unsafe fn set_free(guard: &mut Guard, mutex: *mut KMUTANT, owner: *mut Thread, increment: i32) {
    // SAFETY: the caller's.
    unsafe {
        (*mutex).Header.SignalState = 1;
        (*mutex).OwnerThread = ptr::null_mut();
        if (*mutex).ApcDisable != 0 {
            (*owner).kernel_apcs_off.fetch_sub(1, Ordering::Relaxed);
        } else {
            list::remove(&raw mut (*mutex).MutantListEntry);
        }
        guard.signalled(&raw mut (*mutex).Header, increment);
    }
}

/// `thread` ends: the mutants that it owns are free, and abandoned.
///
/// # Safety
/// As above.
pub unsafe fn abandon_all(guard: &mut Guard, thread: *mut Thread) {
    // SAFETY: the caller's; what is in the list are mutants that it owns.
    unsafe {
        while let Some(link) = list::first(owned_by(thread)) {
            let mutex =
                link.wrapping_byte_sub(core::mem::offset_of!(KMUTANT, MutantListEntry)).cast::<KMUTANT>();
            (*mutex).Abandoned = TRUE;
            set_free(guard, mutex, thread, 0);
        }
    }
}

/// Releases `mutex` once, or altogether where it is to be abandoned; its state before.
///
/// # Safety
/// As above.
unsafe fn release_by_owner(
    mutex: *mut KMUTANT,
    increment: i32,
    abandoned: bool,
    wait: BOOLEAN,
    raised: &mut NTSTATUS,
) -> i32 {
    let mut guard = dispatcher::lock();
    let thread = processor::current().thread();
    // SAFETY: the caller's mutex, under the lock.
    let old = unsafe {
        if !ptr::eq((*mutex).OwnerThread.cast(), thread) && !abandoned {
            *raised = if (*mutex).Abandoned == FALSE { NOT_OWNED } else { ABANDONED };
            return 0;
        }
        let old = (*mutex).Header.SignalState;
        if abandoned {
            (*mutex).Abandoned = TRUE;
        }
        let owner = (*mutex).OwnerThread.cast::<Thread>();
        if owner.is_null() {
            // Free already.
        } else if abandoned || old == 0 {
            set_free(&mut guard, mutex, owner, increment);
        } else {
            (*mutex).Header.SignalState = old + 1;
        }
        old
    };
    wait::follows(guard, wait);
    old
}

/// # Safety
/// The call must be one of KeReleaseMutex's.
unsafe extern "win64" fn release(call: &Call<2>, raised: &mut NTSTATUS) -> i32 {
    let [mutex, wait] = call.arguments;
    // SAFETY: the caller's mutex.
    unsafe { release_by_owner(ptr::with_exposed_provenance_mut(mutex), 0, false, wait as BOOLEAN, raised) }
}

/// # Safety
/// The call must be one of KeReleaseMutant's.
unsafe extern "win64" fn release_mutant(call: &Call<4>, raised: &mut NTSTATUS) -> i32 {
    let [mutex, increment, abandoned, wait] = call.arguments;
    let abandoned = abandoned as BOOLEAN != FALSE;
    // SAFETY: the caller's mutant.
    unsafe {
        let mutex = ptr::with_exposed_provenance_mut(mutex);
        release_by_owner(mutex, increment as i32, abandoned, wait as BOOLEAN, raised)
    }
}

/// # Safety
/// `mutex` is writable.
unsafe fn initialize(mutex: *mut KMUTANT, apc_disable: u8) {
    // SAFETY: the caller's storage.
    unsafe {
        mutex.write(KMUTANT {
            Header: DISPATCHER_HEADER {
                Type: object_type::MUTANT,
                Flags: 0,
                Size: (size_of::<KMUTANT>() / 4) as u8,
                Inserted: 0,
                SignalState: 1,
                WaitListHead: list::UNLINKED,
            },
            MutantListEntry: list::UNLINKED,
            OwnerThread: ptr::null_mut(),
            Abandoned: FALSE,
            ApcDisable: apc_disable,
        });
        list::initialize(&raw mut (*mutex).Header.WaitListHead);
    }
}

export! {
    /// *KeInitializeMutex function (wdm.h)*: free.
    pub unsafe extern "win64" fn KeInitializeMutex(mutex: *mut KMUTANT, _level: u32) {
        // SAFETY: the caller's storage.
        unsafe { initialize(mutex, 1) };
    }

    /// *KeReleaseMutex function (wdm.h)*: returns the state before, 0 where that frees it. By anybody but its
    /// owner it raises STATUS_MUTANT_NOT_OWNED. Wait as of KeSetEvent.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn KeReleaseMutex(mutex: *mut KMUTANT, wait: BOOLEAN) -> i32 {
        may_raise!(release)
    }

    /// *KeInitializeMutant function (ntifs.h)*: free, or the calling thread's.
    pub unsafe extern "win64" fn KeInitializeMutant(mutant: *mut KMUTANT, initial_owner: BOOLEAN) {
        // SAFETY: the caller's storage; owned only under the lock.
        unsafe {
            initialize(mutant, 0);
            if initial_owner != FALSE {
                let _guard = dispatcher::lock();
                acquired(mutant, processor::current().thread());
            }
        }
    }

    /// *KeReleaseMutant function (ntifs.h)*: as KeReleaseMutex, with an increment; or altogether, by anybody, and the next who acquires it is
    /// told so. It raises STATUS_ABANDONED where it is not the caller's and had been abandoned.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn KeReleaseMutant(
        mutant: *mut KMUTANT,
        increment: i32,
        abandoned: BOOLEAN,
        wait: BOOLEAN,
    ) -> i32 {
        may_raise!(release_mutant)
    }

    /// *KeReadStateMutant function (ntifs.h)*: 1 where it is free.
    pub unsafe extern "win64" fn KeReadStateMutant(mutant: *mut KMUTANT) -> i32 {
        // SAFETY: the caller's mutant.
        unsafe { KeReadStateMutex(mutant) }
    }

    /// *KeReadStateMutex function (wdm.h)*: 1 where it is free.
    pub unsafe extern "win64" fn KeReadStateMutex(mutex: *mut KMUTANT) -> i32 {
        // SAFETY: the caller's mutex.
        unsafe { (&raw const (*mutex).Header.SignalState).read_volatile() }
    }
}

kernel_test! {
    /// *Mutant Objects*: a mutant whose owner has ended is free, and the next who acquires it is told.
    fn a_mutant_is_abandoned_by_an_owner_that_ends() {
        use super::wait::{Deadline, Wakeup, for_one};
        let mut storage = core::mem::MaybeUninit::<KMUTANT>::uninit();
        let mutant = storage.as_mut_ptr();
        let address = mutant.expose_provenance();
        // SAFETY: the mutant lives until the end of the test.
        unsafe {
            KeInitializeMutant(mutant, FALSE);
            let owner = super::thread::spawn("owner", 8, move || {
                let mutant = ptr::with_exposed_provenance_mut::<KMUTANT>(address);
                let _ = for_one(mutant.cast(), None);
                let _ = for_one(mutant.cast(), None);
            });
            check!(owner.is_ok_and(|owner| owner.join(None)));
            check!(KeReadStateMutant(mutant) == 1 && (*mutant).Abandoned == TRUE);
            check!(for_one(mutant.cast(), Some(Deadline::NOW)) == Wakeup::Object(0x80));
            check!((*mutant).Abandoned == FALSE && KeReleaseMutant(mutant, 0, FALSE, FALSE) == 0);
            check!(for_one(mutant.cast(), Some(Deadline::NOW)) == Wakeup::Object(0));
            check!(KeReleaseMutant(mutant, 0, FALSE, FALSE) == 0 && KeReadStateMutant(mutant) == 1);
        }
    }
}
