//! Events: dispatcher objects that a thread waits for.

use core::{cell::UnsafeCell, mem::MaybeUninit, ptr};

use wdk_sys::{
    _EVENT_TYPE::{NotificationEvent, SynchronizationEvent},
    _KWAIT_REASON::Executive,
    _MODE::KernelMode,
    _WAIT_TYPE::WaitAny,
    FALSE, IO_NO_INCREMENT, KEVENT, NT_SUCCESS, PVOID, STATUS_WAIT_0,
    ntddk::{KeClearEvent, KeInitializeEvent, KeSetEvent, KeWaitForMultipleObjects, KeWaitForSingleObject},
};

/// What becomes of an event when a waiting thread has been let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It stays set, and lets everybody go.
    Notification,
    /// It is reset, having let one go.
    Synchronization,
}

/// An event in non-paged memory that does not move.
pub(crate) struct Event(UnsafeCell<MaybeUninit<KEVENT>>);

// SAFETY: what the routines below do to the object they do under the dispatcher's lock.
unsafe impl Sync for Event {}

impl Event {
    /// Memory for one.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// Makes it an event.
    ///
    /// # Safety
    ///
    /// It lies where it will stay, in non-paged memory, and nobody uses it yet.
    pub(crate) unsafe fn initialize(&self, kind: Kind, set: bool) {
        let kind = match kind {
            Kind::Notification => NotificationEvent,
            Kind::Synchronization => SynchronizationEvent,
        };
        // SAFETY: by contract.
        unsafe { KeInitializeEvent(self.as_ptr(), kind, set.into()) };
    }

    /// Lets waiting threads go. At DISPATCH_LEVEL or below.
    pub(crate) fn set(&self) {
        // SAFETY: initialized; without `Wait`, so that the routine keeps no lock.
        let _ = unsafe { KeSetEvent(self.as_ptr(), IO_NO_INCREMENT as i32, FALSE as u8) };
    }

    /// From now on threads wait again. At DISPATCH_LEVEL or below.
    pub(crate) fn clear(&self) {
        // SAFETY: initialized.
        unsafe { KeClearEvent(self.as_ptr()) };
    }

    /// Waits until it is set. At PASSIVE_LEVEL.
    pub(crate) fn wait(&self) {
        // SAFETY: initialized; a null pointer waits without end.
        let _ = unsafe {
            KeWaitForSingleObject(
                self.as_ptr().cast(),
                Executive,
                KernelMode as i8,
                FALSE as u8,
                ptr::null_mut(),
            )
        };
    }

    /// Waits until one of two is set. True where it is the first. At PASSIVE_LEVEL.
    pub(crate) fn wait_for_first(first: &Self, second: &Self) -> bool {
        let mut objects: [PVOID; 2] = [first.as_ptr().cast(), second.as_ptr().cast()];
        // SAFETY: both are initialized; two objects need no wait blocks of the caller's.
        let status = unsafe {
            KeWaitForMultipleObjects(
                objects.len() as u32,
                objects.as_mut_ptr(),
                WaitAny,
                Executive,
                KernelMode as i8,
                FALSE as u8,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        // A wait that fails must not become a thread that runs for ever.
        status == STATUS_WAIT_0 || !NT_SUCCESS(status)
    }

    /// For the kernel.
    pub(crate) fn as_ptr(&self) -> *mut KEVENT {
        self.0.get().cast()
    }
}
