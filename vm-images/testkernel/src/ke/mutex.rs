//! Mutexes: owned by a thread, which may acquire one again and again, and releases it as often. Until then it is in a critical
//! region.

use core::ptr;
use core::sync::atomic::Ordering;

use super::{dispatcher, list, processor};
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::ldr::raising::may_raise;
use crate::nt::{BOOLEAN, DISPATCHER_HEADER, KMUTANT, NTSTATUS, object_type};

/// `STATUS_MUTANT_NOT_OWNED`.
const NOT_OWNED: NTSTATUS = NTSTATUS::from_bits(0xC000_0046);

/// # Safety
/// The call must be one of KeReleaseMutex's.
unsafe extern "win64" fn release(call: &Call<2>, raised: &mut NTSTATUS) -> i32 {
    let mutex = ptr::with_exposed_provenance_mut::<KMUTANT>(call.arguments[0]);
    let mut guard = dispatcher::lock();
    // SAFETY: the caller's mutex, under the lock.
    unsafe {
        if !ptr::eq((*mutex).OwnerThread.cast(), processor::current().thread()) {
            *raised = NOT_OWNED;
            return 0;
        }
        let old = (*mutex).Header.SignalState;
        (*mutex).Header.SignalState = old + 1;
        if old == 0 {
            (*mutex).OwnerThread = ptr::null_mut();
            if (*mutex).ApcDisable != 0 {
                let owner = &*processor::current().thread();
                owner.kernel_apcs_off.fetch_sub(1, Ordering::Relaxed);
            }
            guard.signalled(&raw mut (*mutex).Header);
        }
        old
    }
}

export! {
    /// *KeInitializeMutex function (wdm.h)*: free.
    pub unsafe extern "win64" fn KeInitializeMutex(mutex: *mut KMUTANT, _level: u32) {
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
                Abandoned: 0,
                ApcDisable: 1,
            });
            list::initialize(&raw mut (*mutex).Header.WaitListHead);
        }
    }

    /// *KeReleaseMutex function (wdm.h)*: returns the state before, 0 where that frees it. By anybody but its
    /// owner it raises STATUS_MUTANT_NOT_OWNED.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn KeReleaseMutex(mutex: *mut KMUTANT, wait: BOOLEAN) -> i32 {
        may_raise!(release)
    }

    /// *KeReadStateMutex function (wdm.h)*: 1 where it is free.
    pub unsafe extern "win64" fn KeReadStateMutex(mutex: *mut KMUTANT) -> i32 {
        // SAFETY: the caller's mutex.
        unsafe { (&raw const (*mutex).Header.SignalState).read_volatile() }
    }
}
