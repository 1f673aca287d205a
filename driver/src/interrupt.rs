//! The interrupt object: what the kernel calls when the line rises, and the lock around it.

use core::{mem, ptr, ptr::NonNull};

use wdk_sys::{
    _KINTERRUPT_MODE::Latched,
    BOOLEAN, CONNECT_FULLY_SPECIFIED, FALSE, IO_CONNECT_INTERRUPT_PARAMETERS,
    IO_DISCONNECT_INTERRUPT_PARAMETERS, PDEVICE_OBJECT, PKINTERRUPT, PKSERVICE_ROUTINE, PVOID,
    STATUS_INSUFFICIENT_RESOURCES, TRUE,
    ntddk::{IoConnectInterruptEx, IoDisconnectInterruptEx, KeSynchronizeExecution},
};

use crate::{
    device::Device,
    line::Line,
    status::{Result, check},
};

/// A connected interrupt; disconnected when dropped.
pub(crate) struct Interrupt(NonNull<mem::MaybeUninit<u8>>);

impl Interrupt {
    /// Connects `routine` to the line of `physical`. It is called with the device object as its context, at the line's IRQL, from
    /// this call on, and by whatever else shares the line.
    ///
    /// # Safety
    ///
    /// `routine` copes with being called for `device` at once. The interrupt is disconnected before `device` is deleted.
    pub(crate) unsafe fn connect(
        physical: PDEVICE_OBJECT,
        line: Line,
        routine: PKSERVICE_ROUTINE,
        device: &Device,
    ) -> Result<Self> {
        let mut interrupt: PKINTERRUPT = ptr::null_mut();
        // SAFETY: plain data, for which zero is a value.
        let mut parameters: IO_CONNECT_INTERRUPT_PARAMETERS = unsafe { mem::zeroed() };
        parameters.Version = CONNECT_FULLY_SPECIFIED;
        // SAFETY: the member that the version names; all of the union is initialized.
        let specified = unsafe { &mut parameters.__bindgen_anon_1.FullySpecified };
        specified.PhysicalDeviceObject = physical;
        specified.InterruptObject = &mut interrupt;
        specified.ServiceRoutine = routine;
        specified.ServiceContext = device.as_ptr().cast();
        specified.SynchronizeIrql = line.irql;
        specified.FloatingSave = FALSE as BOOLEAN;
        // An ISA card drives its line alone.
        specified.ShareVector = FALSE as BOOLEAN;
        specified.Vector = line.vector;
        specified.Irql = line.irql;
        specified.InterruptMode = Latched;
        specified.ProcessorEnableMask = line.affinity;
        // SAFETY: every member of that version is set; a null spin lock asks for the kernel's own.
        check(unsafe { IoConnectInterruptEx(&mut parameters) })?;
        NonNull::new(interrupt.cast()).map(Self).ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }

    /// Runs `act` at the interrupt's IRQL with its lock held: no ISR of this interrupt runs meanwhile, on any processor.
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
            unsafe { KeSynchronizeExecution(self.as_ptr(), Some(call::<F>), ptr::from_mut(&mut act).cast()) };
    }

    /// `IoDisconnectInterruptEx`: when it returns, no ISR runs and none will. At PASSIVE_LEVEL.
    pub(crate) fn disconnect(self) {
        drop(self);
    }

    /// Leaves it connected for ever: a defect.
    #[cfg(feature = "defects")]
    pub(crate) fn leave_connected(self) {
        mem::forget(self);
    }

    fn as_ptr(&self) -> PKINTERRUPT {
        self.0.as_ptr().cast()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: plain data, for which zero is a value.
        let mut parameters: IO_DISCONNECT_INTERRUPT_PARAMETERS = unsafe { mem::zeroed() };
        parameters.Version = CONNECT_FULLY_SPECIFIED;
        parameters.ConnectionContext.InterruptObject = self.as_ptr();
        // SAFETY: connected as this version, and disconnected here alone.
        unsafe { IoDisconnectInterruptEx(&mut parameters) };
    }
}
