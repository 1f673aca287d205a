//! System threads.

use core::ptr::{self, NonNull};

use wdk_sys::{
    _KWAIT_REASON::Executive,
    _MODE::KernelMode,
    FALSE, HANDLE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_SUCCESS, THREAD_ALL_ACCESS, ULONG,
    ntddk::{
        KeWaitForSingleObject, ObReferenceObjectByHandle, ObfDereferenceObject, PsCreateSystemThread,
        PsTerminateSystemThread, ZwClose, ZwWaitForSingleObject,
    },
};

use super::status::{Result, check};

/// A thread of the driver's in the system process. Whoever drops this waits until it has terminated: its code is the driver's image.
pub(crate) struct Thread(NonNull<core::ffi::c_void>);

// SAFETY: a reference on a kernel object belongs to no thread.
unsafe impl Send for Thread {}

impl Thread {
    /// Begins a thread at `routine` with `context`. At PASSIVE_LEVEL. Where it has begun and cannot be had, `stop` tells it to
    /// terminate, and this waits until it has: it must not outlive the image.
    ///
    /// # Safety
    ///
    /// `routine` ends with [`terminate`], when it is told to by a way that the caller knows; the caller does so before the value is
    /// dropped. What it uses is there until then.
    pub(crate) unsafe fn begin(
        routine: unsafe extern "C" fn(PVOID),
        context: PVOID,
        stop: impl FnOnce(),
    ) -> Result<Self> {
        let mut attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as ULONG,
            RootDirectory: ptr::null_mut(),
            ObjectName: ptr::null_mut(),
            Attributes: OBJ_KERNEL_HANDLE,
            SecurityDescriptor: ptr::null_mut(),
            SecurityQualityOfService: ptr::null_mut(),
        };
        let mut handle: HANDLE = ptr::null_mut();
        // SAFETY: all pointers are to locals or null, where they may be; the routine is the caller's.
        check(unsafe {
            PsCreateSystemThread(
                &mut handle,
                THREAD_ALL_ACCESS,
                &mut attributes,
                ptr::null_mut(),
                ptr::null_mut(),
                Some(routine),
                context,
            )
        })?;
        let mut object: PVOID = ptr::null_mut();
        // What waits for the thread later has no handle table to rely on, so it gets the object. No type is asked for: the handle is
        // a thread's.
        // SAFETY: just opened; the pointer is to a local.
        let referenced = unsafe {
            ObReferenceObjectByHandle(
                handle,
                THREAD_ALL_ACCESS,
                ptr::null_mut(),
                KernelMode as i8,
                &mut object,
                ptr::null_mut(),
            )
        };
        if check(referenced).is_err() {
            stop();
            // SAFETY: opened above; a null pointer waits without end.
            let _ = unsafe { ZwWaitForSingleObject(handle, FALSE as u8, ptr::null_mut()) };
        }
        // SAFETY: opened above, and closed here alone.
        let _ = unsafe { ZwClose(handle) };
        check(referenced)?;
        NonNull::new(object).map(Self).ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }

    /// Returns when the thread has terminated. At PASSIVE_LEVEL.
    pub(crate) fn join(self) {
        drop(self);
    }

    /// Gives the thread up without waiting for it: a defect.
    #[cfg(feature = "defects")]
    pub(crate) fn leave(self) {
        let thread = core::mem::ManuallyDrop::new(self);
        // SAFETY: referenced in `begin`.
        unsafe { ObfDereferenceObject(thread.0.as_ptr()) };
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: referenced in `begin`; a null pointer waits without end.
        let _ = unsafe {
            KeWaitForSingleObject(self.0.as_ptr(), Executive, KernelMode as i8, FALSE as u8, ptr::null_mut())
        };
        // SAFETY: as above, and given up here alone.
        unsafe { ObfDereferenceObject(self.0.as_ptr()) };
    }
}

/// Ends the thread that calls it. Does not return.
///
/// # Safety
///
/// Called by the routine of a thread that [`Thread::begin`] made, with nothing of its own left to drop.
pub(crate) unsafe fn terminate() {
    // SAFETY: by contract. It fails only for a thread that is none of the system's.
    let _ = unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}
