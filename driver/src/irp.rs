//! Requests. The WDK's accessors for them are inline functions and macros, so they are written out here.

use core::{ptr::NonNull, slice, sync::atomic::AtomicPtr, sync::atomic::Ordering};

use wdk_sys::{
    CCHAR, IO_NO_INCREMENT, IO_STACK_LOCATION, IRP, NTSTATUS, PDRIVER_CANCEL, PFILE_OBJECT, PIRP,
    SL_PENDING_RETURNED, ntddk::IofCompleteRequest,
};

/// A request that this driver owns: it has to be [completed](Self::complete), once.
pub(crate) struct Irp(NonNull<IRP>);

// SAFETY: a request belongs to no thread; whoever owns it may complete it.
unsafe impl Send for Irp {}

impl Irp {
    /// Takes the request over.
    ///
    /// # Safety
    ///
    /// `irp` is a request that the I/O manager handed to one of this driver's routines, and nothing else completes it.
    pub(crate) unsafe fn new(irp: PIRP) -> Self {
        // SAFETY: never null.
        Self(unsafe { NonNull::new_unchecked(irp) })
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, irp: PIRP) -> bool {
        self.0.as_ptr() == irp
    }

    /// The open file it came through.
    pub(crate) fn file(&self) -> PFILE_OBJECT {
        // SAFETY: ours, see `stack`.
        unsafe { (*self.stack()).FileObject }
    }

    /// Of a read: how many bytes are asked for.
    pub(crate) fn read_length(&self) -> usize {
        // SAFETY: ours, see `stack`.
        let parameters = unsafe { (*self.stack()).Parameters };
        // SAFETY: any bytes are a length; that they are one is for the caller to know.
        unsafe { parameters.Read.Length as usize }
    }

    /// Of a buffered read: where the bytes go.
    pub(crate) fn read_buffer(&mut self) -> &mut [u8] {
        let length = self.read_length();
        // SAFETY: ours.
        let associated = unsafe { (*self.0.as_ptr()).AssociatedIrp };
        // SAFETY: the member of a device that asked for buffered I/O.
        let buffer = unsafe { associated.SystemBuffer }.cast::<u8>();
        if buffer.is_null() || length == 0 {
            return &mut [];
        }
        // SAFETY: non-paged memory of that length, initialized or not of no matter to bytes that are only written, ours
        // until the request is completed.
        unsafe { slice::from_raw_parts_mut(buffer, length) }
    }

    /// Says that the dispatch routine will return `STATUS_PENDING` (`IoMarkIrpPending`).
    pub(crate) fn mark_pending(&mut self) {
        // SAFETY: ours, see `stack`.
        unsafe { (*self.stack()).Control |= SL_PENDING_RETURNED as u8 };
    }

    /// Whether somebody wanted it cancelled already.
    pub(crate) fn is_cancelled(&self) -> bool {
        // SAFETY: ours.
        let cancel = unsafe { &raw const (*self.0.as_ptr()).Cancel };
        // SAFETY: as above. Volatile, as `IoCancelIrp` writes it on another processor.
        unsafe { cancel.read_volatile() != 0 }
    }

    /// Lets the request be cancelled (`IoSetCancelRoutine`).
    pub(crate) fn make_cancellable(&mut self, routine: unsafe extern "C" fn(wdk_sys::PDEVICE_OBJECT, PIRP)) {
        self.cancel_routine().swap(routine as *mut (), Ordering::SeqCst);
    }

    /// Ends that. False where it is too late: the request belongs to its cancel routine, which is about to run.
    #[must_use]
    pub(crate) fn make_uncancellable(&mut self) -> bool {
        !self.cancel_routine().swap(core::ptr::null_mut(), Ordering::SeqCst).is_null()
    }

    /// Gives the request back to the I/O manager with its outcome. Returns the status, for a dispatch routine to return.
    pub(crate) fn complete(self, status: NTSTATUS, bytes: usize) -> NTSTATUS {
        let irp = self.0.as_ptr();
        // SAFETY: ours until the call below.
        let outcome = unsafe { &mut (*irp).IoStatus };
        outcome.__bindgen_anon_1.Status = status;
        outcome.Information = bytes as u64;
        // SAFETY: ours, and never touched again.
        unsafe { IofCompleteRequest(irp, IO_NO_INCREMENT as CCHAR) };
        status
    }

    /// `IoGetCurrentIrpStackLocation`: what this driver is asked to do.
    fn stack(&self) -> *mut IO_STACK_LOCATION {
        // SAFETY: ours.
        let tail = unsafe { (*self.0.as_ptr()).Tail };
        // SAFETY: while a request is with a driver its tail is the overlay.
        let overlay = unsafe { tail.Overlay };
        // SAFETY: and the current stack location is set.
        unsafe { overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation }
    }

    /// The one field of a request that two parties change at once, each by exchanging it.
    fn cancel_routine(&self) -> &AtomicPtr<()> {
        const { assert!(size_of::<PDRIVER_CANCEL>() == size_of::<*mut ()>()) };
        // SAFETY: ours.
        let field = unsafe { &raw mut (*self.0.as_ptr()).CancelRoutine };
        // SAFETY: aligned as a pointer, lives as long as the request, and is only ever exchanged, here and in the kernel.
        unsafe { AtomicPtr::from_ptr(field.cast()) }
    }
}
