//! Remove locks: a count of who is busy with a device, and a wait for the last of them.
//!
//! The routines get the size of the lock that the driver was compiled with: one of a checked build is larger, and
//! begins the same.

use core::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use crate::ke::event;
use crate::ke::wait;
use crate::ldr::export::export;
use crate::nt::{IO_REMOVE_LOCK, NTSTATUS, PVOID, STATUS_DELETE_PENDING, STATUS_SUCCESS, object_type};
use crate::selftest::{check, kernel_test};

/// # Safety
/// `lock` must be an initialized remove lock. Below likewise.
unsafe fn count<'a>(lock: *mut IO_REMOVE_LOCK) -> &'a AtomicI32 {
    // SAFETY: the caller's contract; the field is only accessed like this.
    unsafe { AtomicI32::from_ptr(&raw mut (*lock).IoCount) }
}

/// # Safety
/// As above.
unsafe fn removed<'a>(lock: *mut IO_REMOVE_LOCK) -> &'a AtomicU8 {
    // SAFETY: as above.
    unsafe { AtomicU8::from_ptr(&raw mut (*lock).Removed) }
}

/// # Safety
/// As above; the caller counts.
unsafe fn release(lock: *mut IO_REMOVE_LOCK) {
    // SAFETY: the caller's contract.
    unsafe {
        if count(lock).fetch_sub(1, Ordering::AcqRel) == 1 {
            event::set(&raw mut (*lock).RemoveEvent);
        }
    }
}

export! {
    /// *IoInitializeRemoveLock macro (wdm.h)*, which is this.
    pub unsafe extern "win64" fn IoInitializeRemoveLockEx(
        lock: *mut IO_REMOVE_LOCK,
        _tag: u32,
        _max_locked_minutes: u32,
        _high_watermark: u32,
        _size: u32,
    ) {
        // SAFETY: the caller's storage.
        unsafe {
            (*lock).Removed = 0;
            (*lock).Reserved = [0; 3];
            (*lock).IoCount = 1;
            event::initialize(&raw mut (*lock).RemoveEvent, object_type::EVENT_SYNCHRONIZATION, false);
        }
    }

    /// *IoAcquireRemoveLock macro (wdm.h)*, which is this: STATUS_DELETE_PENDING once the device is being removed.
    pub unsafe extern "win64" fn IoAcquireRemoveLockEx(
        lock: *mut IO_REMOVE_LOCK,
        _tag: PVOID,
        _file: *const u8,
        _line: u32,
        _size: u32,
    ) -> NTSTATUS {
        // SAFETY: the caller's lock.
        unsafe {
            count(lock).fetch_add(1, Ordering::AcqRel);
            if removed(lock).load(Ordering::Acquire) == 0 {
                return STATUS_SUCCESS;
            }
            release(lock);
        }
        STATUS_DELETE_PENDING
    }

    /// *IoReleaseRemoveLock macro (wdm.h)*, which is this.
    pub unsafe extern "win64" fn IoReleaseRemoveLockEx(lock: *mut IO_REMOVE_LOCK, _tag: PVOID, _size: u32) {
        // SAFETY: the caller's lock.
        unsafe { release(lock) };
    }

    /// *IoReleaseRemoveLockAndWait macro (wdm.h)*, which is this: lets nobody in any more, and waits for who is.
    pub unsafe extern "win64" fn IoReleaseRemoveLockAndWaitEx(lock: *mut IO_REMOVE_LOCK, _tag: PVOID, _size: u32) {
        // SAFETY: the caller's lock: it counts once itself, and the lock's own one is given up here.
        unsafe {
            removed(lock).store(1, Ordering::Release);
            count(lock).fetch_sub(1, Ordering::AcqRel);
            if count(lock).fetch_sub(1, Ordering::AcqRel) > 1 {
                wait::for_one((&raw mut (*lock).RemoveEvent).cast(), None);
            }
        }
    }
}

kernel_test! {
    /// *Using Remove Locks*: removal waits for the last holder, and nobody gets in after it began.
    fn removal_waits_for_the_last_holder() {
        use crate::ke::thread;
        use alloc::boxed::Box;

        let lock = Box::into_raw(Box::new(core::mem::MaybeUninit::<IO_REMOVE_LOCK>::zeroed()));
        let lock = lock.cast::<IO_REMOVE_LOCK>();
        let address = lock.expose_provenance();
        let null = core::ptr::null_mut();
        // SAFETY: the lock is freed when the other thread has ended.
        unsafe {
            IoInitializeRemoveLockEx(lock, 0, 0, 0, 0x20);
            check!(IoAcquireRemoveLockEx(lock, null, core::ptr::null(), 0, 0x20) == STATUS_SUCCESS);
            check!(IoAcquireRemoveLockEx(lock, null, core::ptr::null(), 0, 0x20) == STATUS_SUCCESS);
            let remover = thread::spawn("remover", 8, move || {
                let lock = core::ptr::with_exposed_provenance_mut(address);
                IoReleaseRemoveLockAndWaitEx(lock, core::ptr::null_mut(), 0x20);
            });
            let Ok(remover) = remover else { check!(false); return Ok(()) };
            while removed(lock).load(Ordering::Acquire) == 0 {
                thread::sleep_ns(1_000_000);
            }
            check!(IoAcquireRemoveLockEx(lock, null, core::ptr::null(), 0, 0x20) == STATUS_DELETE_PENDING);
            check!(!remover.join(Some(20_000_000)));
            IoReleaseRemoveLockEx(lock, null, 0x20);
            check!(remover.join(Some(1_000_000_000)));
            drop(Box::from_raw(lock.cast::<core::mem::MaybeUninit<IO_REMOVE_LOCK>>()));
        }
    }
}
