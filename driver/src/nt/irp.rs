//! Requests, and the device's queue of them. The WDK's accessors are inline functions and macros, so they are written out here.

use core::{
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicPtr, Ordering},
};

use wdk_sys::{
    CCHAR, IO_NO_INCREMENT, IO_STACK_LOCATION, IRP, NTSTATUS, PDEVICE_OBJECT, PDRIVER_CANCEL, PIRP, PVOID,
    SL_PENDING_RETURNED, STATUS_CANCELLED, TRUE,
    ntddk::{
        IoReleaseCancelSpinLock, IoStartNextPacket, IoStartPacket, IofCallDriver, IofCompleteRequest,
        KeRemoveEntryDeviceQueue,
    },
};

/// A driver's Cancel routine.
pub(crate) type CancelRoutine = unsafe extern "C" fn(PDEVICE_OBJECT, PIRP);

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

    /// What the driver keeps for the open file that it came through: in the file object's `FsContext`, which is the driver's.
    pub(crate) fn file_context(&self) -> *mut PVOID {
        // SAFETY: ours, see `stack`.
        let file = unsafe { (*self.stack()).FileObject };
        // SAFETY: a request that comes through a file has its object.
        unsafe { &raw mut (*file).FsContext }
    }

    /// Of a read: how many bytes are asked for.
    pub(crate) fn read_length(&self) -> usize {
        // SAFETY: ours, see `stack`.
        let parameters = unsafe { (*self.stack()).Parameters };
        // SAFETY: any bytes are a length; that they are one is for the caller to know.
        unsafe { parameters.Read.Length as usize }
    }

    /// Of a device control request: what is asked for, and how many bytes there are for the answer.
    pub(crate) fn control(&self) -> (u32, usize) {
        // SAFETY: ours, see `stack`.
        let parameters = unsafe { (*self.stack()).Parameters };
        // SAFETY: any bytes are numbers; that they are these is for the caller to know.
        let control = unsafe { parameters.DeviceIoControl };
        (control.IoControlCode, control.OutputBufferLength as usize)
    }

    /// Of a buffered request: where the answer goes.
    ///
    /// # Safety
    ///
    /// `length` is what the request says that there is room for.
    pub(crate) unsafe fn buffer(&mut self, length: usize) -> &mut [u8] {
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
    pub(crate) fn make_cancellable(&mut self, routine: CancelRoutine) {
        self.cancel_routine().swap(routine as *mut (), Ordering::SeqCst);
    }

    /// Ends that. False where it is too late: the request belongs to its cancel routine, which is about to run.
    #[must_use]
    pub(crate) fn make_uncancellable(&mut self) -> bool {
        !self.cancel_routine().swap(ptr::null_mut(), Ordering::SeqCst).is_null()
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

    /// Has StartIo called with the request, at once or when the device has done with the ones before (`IoStartPacket`). While it waits
    /// it can be cancelled, which calls `cancel` with the cancel spin lock held.
    ///
    /// # Safety
    ///
    /// It was [marked](Self::mark_pending), `device` is the one that it was sent to, and `cancel` ends with [`Cancelled::leave_queue`]
    /// or does what that does.
    pub(crate) unsafe fn start(self, device: PDEVICE_OBJECT, cancel: CancelRoutine) {
        // SAFETY: by contract; without a key they are started as they came.
        unsafe { IoStartPacket(device, self.0.as_ptr(), ptr::null_mut(), Some(cancel)) };
    }

    /// Passes the request to the device below (`IoSkipCurrentIrpStackLocation`, `IoCallDriver`).
    ///
    /// # Safety
    ///
    /// `lower` is the device that this driver's is attached to.
    pub(crate) unsafe fn pass(self, lower: PDEVICE_OBJECT) -> NTSTATUS {
        // SAFETY: ours.
        let irp = unsafe { &mut *self.0.as_ptr() };
        irp.CurrentLocation += 1;
        // SAFETY: while a request is with a driver its tail is the overlay.
        let overlay = unsafe { &mut irp.Tail.Overlay };
        // SAFETY: and its current stack location, one of an array that ends above this driver's, is set.
        let current = unsafe { &mut overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation };
        // SAFETY: the location above is that of who sent the request.
        *current = unsafe { current.add(1) };
        // SAFETY: by contract; the request is not touched again.
        unsafe { IofCallDriver(lower, self.0.as_ptr()) }
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

/// Has StartIo called with the next request of the device's queue (`IoStartNextPacket`). At DISPATCH_LEVEL.
///
/// # Safety
///
/// `device` is this driver's, and done with its current request.
pub(crate) unsafe fn start_next(device: PDEVICE_OBJECT) {
    // SAFETY: by contract. Cancelable, as they were all started with a cancel routine.
    unsafe { IoStartNextPacket(device, TRUE as u8) };
}

/// A request that the I/O manager wants cancelled: what a Cancel routine is called with, and the cancel spin lock, which is held.
pub(crate) struct Cancelled(PIRP);

impl Cancelled {
    /// Takes it over.
    ///
    /// # Safety
    ///
    /// `irp` is what a Cancel routine of this driver was called with.
    pub(crate) unsafe fn new(irp: PIRP) -> Self {
        Self(irp)
    }

    /// For a request that waited in the device's queue: takes it out and completes it.
    ///
    /// # Safety
    ///
    /// `device` is the one that it was sent to.
    pub(crate) unsafe fn leave_queue(self, device: PDEVICE_OBJECT) {
        // SAFETY: by contract.
        let queue = unsafe { &raw mut (*device).DeviceQueue };
        // SAFETY: the part of the request that is the queue's while it waits.
        let entry = unsafe { &raw mut (*self.0).Tail.Overlay.__bindgen_anon_1.DeviceQueueEntry };
        // SAFETY: both are initialized. It is in the queue: StartIo only gets requests without a cancel routine.
        let _ = unsafe { KeRemoveEntryDeviceQueue(queue, entry) };
        let irp = self.release();
        // SAFETY: out of everybody else's reach now.
        unsafe { Irp::new(irp) }.complete(STATUS_CANCELLED, 0);
    }

    /// For a request that the driver is at work on: lets the cancel spin lock go. It stays the driver's, to complete as it sees fit.
    pub(crate) fn release(self) -> PIRP {
        // SAFETY: the kernel called the routine for it, so it is there; it left the IRQL to go back to in it.
        let before = unsafe { (*self.0).CancelIrql };
        // SAFETY: held since the routine was called.
        unsafe { IoReleaseCancelSpinLock(before) };
        self.0
    }
}
