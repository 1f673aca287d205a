//! Interrupt objects: what the kernel calls when the line rises or a message comes, and the lock around it.

use core::{cell::UnsafeCell, mem, ptr};

use squall_driver_pure::{Granted, Line};
use wdk_sys::{
    _KINTERRUPT_MODE::{Latched, LevelSensitive},
    BOOLEAN, CONNECT_FULLY_SPECIFIED, FALSE, IO_CONNECT_INTERRUPT_PARAMETERS,
    IO_DISCONNECT_INTERRUPT_PARAMETERS, KIRQL, KSPIN_LOCK, PDEVICE_OBJECT, PKINTERRUPT, PKSERVICE_ROUTINE,
    PVOID, STATUS_INSUFFICIENT_RESOURCES, TRUE,
    ntddk::{IoConnectInterruptEx, IoDisconnectInterruptEx, KeSynchronizeExecution},
};

use super::status::{Result, check};

/// The lock that is held while the ISR runs, in non-paged memory that does not move.
///
/// A card with several messages has several interrupt objects. What keeps its ISR from running twice at once is that all of them have
/// this lock, and run at the highest IRQL among them (*InterruptMessageService routines*).
pub(crate) struct IsrLock(UnsafeCell<KSPIN_LOCK>);

impl IsrLock {
    /// An open one. (x64's `KeInitializeSpinLock` is an inline that stores zero.)
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(0))
    }
}

/// Everything that a card interrupts with, connected; disconnected when dropped.
pub(crate) struct Interrupts {
    objects: [PKINTERRUPT; Granted::MOST_LINES],
}

impl Interrupts {
    /// Connects `routine` to the lines of `physical`. It is called with `context`, at the lines' highest IRQL, from this call on, and by
    /// whatever else shares them.
    ///
    /// # Safety
    ///
    /// `routine` copes with being called at once, and the interrupts are disconnected before anything that it uses goes, or `lock`.
    pub(crate) unsafe fn connect(
        physical: PDEVICE_OBJECT,
        lines: &[Line],
        routine: PKSERVICE_ROUTINE,
        context: PVOID,
        lock: &IsrLock,
    ) -> Result<Self> {
        let synchronize_irql = lines.iter().map(|line| line.irql).max().unwrap_or_default();
        let mut interrupts = Self { objects: [ptr::null_mut(); Granted::MOST_LINES] };
        // Where one fails, those before it are disconnected by being dropped.
        for (line, object) in lines.iter().zip(&mut interrupts.objects) {
            // SAFETY: plain data, for which zero is a value.
            let mut parameters: IO_CONNECT_INTERRUPT_PARAMETERS = unsafe { mem::zeroed() };
            parameters.Version = CONNECT_FULLY_SPECIFIED;
            // SAFETY: the member that the version names; all of the union is initialized.
            let specified = unsafe { &mut parameters.__bindgen_anon_1.FullySpecified };
            specified.PhysicalDeviceObject = physical;
            specified.InterruptObject = object;
            specified.ServiceRoutine = routine;
            specified.ServiceContext = context;
            specified.SpinLock = lock.0.get();
            specified.SynchronizeIrql = synchronize_irql;
            specified.FloatingSave = FALSE as BOOLEAN;
            specified.ShareVector = line.shared.into();
            specified.Vector = line.vector;
            specified.Irql = line.irql as KIRQL;
            specified.InterruptMode = if line.latched { Latched } else { LevelSensitive };
            specified.ProcessorEnableMask = line.affinity;
            // SAFETY: every member of that version is set.
            check(unsafe { IoConnectInterruptEx(&mut parameters) })?;
        }
        if interrupts.first().is_null() { Err(STATUS_INSUFFICIENT_RESOURCES) } else { Ok(interrupts) }
    }

    /// Runs `act` at the ISR's IRQL with its lock held: the ISR does not run meanwhile, on any processor.
    pub(crate) fn synchronize<F: FnOnce()>(&self, act: F) {
        /// Called by the kernel with the address of an `Option<F>`.
        unsafe extern "C" fn call<F: FnOnce()>(context: PVOID) -> BOOLEAN {
            // SAFETY: the local below, which outlives the call.
            if let Some(act) = unsafe { &mut *context.cast::<Option<F>>() }.take() {
                act();
            }
            TRUE as BOOLEAN
        }

        let mut act = Some(act);
        // SAFETY: connected, and the routine fits its context. Returns what `call` does, which says nothing.
        let _ =
            unsafe { KeSynchronizeExecution(self.first(), Some(call::<F>), ptr::from_mut(&mut act).cast()) };
    }

    /// `IoDisconnectInterruptEx`: when it returns, no ISR runs and none will. At PASSIVE_LEVEL.
    pub(crate) fn disconnect(self) {
        drop(self);
    }

    /// Any of them: they have one lock.
    fn first(&self) -> PKINTERRUPT {
        let [first, ..] = self.objects;
        first
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for object in self.objects.into_iter().filter(|object| !object.is_null()) {
            // SAFETY: plain data, for which zero is a value.
            let mut parameters: IO_DISCONNECT_INTERRUPT_PARAMETERS = unsafe { mem::zeroed() };
            parameters.Version = CONNECT_FULLY_SPECIFIED;
            parameters.ConnectionContext.InterruptObject = object;
            // SAFETY: connected as this version, and disconnected here alone.
            unsafe { IoDisconnectInterruptEx(&mut parameters) };
        }
    }
}
