//! Unload: everything back, in the documented order.
//!
//! The order is that of the driver documentation's pages *Non-PnP Driver's Unload Routine*, *Releasing Driver-Allocated Resources* and
//! *Releasing Device and Controller Objects*; [`ORDER`] is it, a line a step, and each stage has a file that says what its steps do. The
//! first stage is the one that everything else leans on. Until the device is silent its ISR can be called at any instruction of this
//! routine, and what the ISR queues runs *before this routine goes on*, on this processor or beside it on another.

mod interrupts;
mod memory;
mod objects;
mod quiet;
mod references;
mod registry;

use wdk_sys::DRIVER_OBJECT;

use crate::{held::Held, nt::device};

/// One thing to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Disable interrupts at the device.
    SilenceCard,
    /// `IoDisconnectInterruptEx`.
    DisconnectInterrupts,
    /// `IoStopTimer`.
    StopIoTimer,
    /// `KeCancelTimer`.
    CancelTimer,
    /// `KeRemoveQueueDpc`.
    RemoveCustomDpc,
    /// `KeFlushQueuedDpcs`.
    FlushDpcs,
    /// Wait until the work item has done, `IoFreeWorkItem`.
    AwaitWorkItem,
    /// Have the system thread terminate.
    EndThread,
    /// `IoDeleteSymbolicLink`.
    DeleteSymbolicLink,
    /// `ExDeleteNPagedLookasideList`.
    DeleteLookasideList,
    /// `ExFreePoolWithTag`.
    FreePool,
    /// The ISR's context, where it was put into pool.
    #[cfg(feature = "defects")]
    FreeIsrContext,
    /// DPC, timer and lookaside list, where they were put into pool.
    #[cfg(feature = "defects")]
    FreeObjects,
    /// `MmUnmapIoSpace`.
    UnmapRegisters,
    /// `MmFreeContiguousMemory`.
    FreeContiguousMemory,
    /// `FreeCommonBuffer`.
    FreeCommonBuffer,
    /// `PutDmaAdapter`.
    PutDmaAdapter,
    /// `IoDetachDevice`.
    DetachLowerDevice,
    /// `ObDereferenceObject`.
    DereferenceFileObject,
    /// `IoReportResourceForDetection` with an empty list.
    GiveBackClaim,
    /// `RtlDeleteRegistryValue`.
    RemoveDeviceMapName,
    /// `IoDeleteController`.
    DeleteController,
    /// `IoGetConfigurationInformation`, and one less.
    CountOut,
    /// `IoDeleteDevice`.
    DeleteDevice,
}

/// The documented order.
pub(crate) const ORDER: &[Step] = &[
    // *Non-PnP Driver's Unload Routine*: the first thing is to disable interrupts at the device.
    Step::SilenceCard,
    // *Releasing Driver-Allocated Resources*, stage 1: then disconnect, as soon as they are disabled.
    Step::DisconnectInterrupts,
    // Stage 2: no other routine may still reference what is about to go.
    Step::StopIoTimer,
    Step::CancelTimer,
    Step::RemoveCustomDpc,
    Step::FlushDpcs,
    Step::AwaitWorkItem,
    Step::EndThread,
    // Stage 3: what the driver allocated.
    Step::DeleteSymbolicLink,
    Step::DeleteLookasideList,
    Step::FreePool,
    #[cfg(feature = "defects")]
    Step::FreeIsrContext,
    #[cfg(feature = "defects")]
    Step::FreeObjects,
    Step::UnmapRegisters,
    Step::FreeContiguousMemory,
    Step::FreeCommonBuffer,
    Step::PutDmaAdapter,
    // Stage 4: what the extension points at. (Its interrupt object went with stage 1.)
    Step::DetachLowerDevice,
    Step::DereferenceFileObject,
    // Stage 5: hardware resources claimed in the registry's ResourceMap. The ports are not ours after this.
    Step::GiveBackClaim,
    // Stage 6: names in the registry's DeviceMap.
    Step::RemoveDeviceMapName,
    // *Releasing Device and Controller Objects*: last, and with them the objects of the kernel in their extensions.
    Step::DeleteController,
    Step::CountOut,
    Step::DeleteDevice,
];

impl Step {
    /// Does it, where there is something to give back.
    pub(crate) fn take(self, held: &mut Held) {
        match self {
            Self::SilenceCard => interrupts::silence(held),
            Self::DisconnectInterrupts => interrupts::disconnect(held),
            Self::StopIoTimer => quiet::stop_io_timer(held),
            Self::CancelTimer => quiet::cancel_timer(held),
            Self::RemoveCustomDpc => quiet::remove_custom_dpc(held),
            Self::FlushDpcs => quiet::flush_dpcs(held),
            Self::AwaitWorkItem => quiet::await_work_item(held),
            Self::EndThread => quiet::end_thread(held),
            Self::DeleteSymbolicLink => memory::delete_symbolic_link(held),
            Self::DeleteLookasideList => memory::delete_lookaside_list(held),
            Self::FreePool => memory::free_pool(held),
            #[cfg(feature = "defects")]
            Self::FreeIsrContext => held.misplaced.free_arrivals(),
            #[cfg(feature = "defects")]
            Self::FreeObjects => held.misplaced.free_objects(),
            Self::UnmapRegisters => memory::unmap_registers(held),
            Self::FreeContiguousMemory => memory::free_contiguous_memory(held),
            Self::FreeCommonBuffer => memory::free_common_buffer(held),
            Self::PutDmaAdapter => memory::put_dma_adapter(held),
            Self::DetachLowerDevice => references::detach_lower_device(held),
            Self::DereferenceFileObject => references::dereference_file_object(held),
            Self::GiveBackClaim => registry::give_back_claim(held),
            Self::RemoveDeviceMapName => registry::remove_device_map_name(held),
            Self::DeleteController => objects::delete_controller(held),
            Self::CountOut => objects::count_out(held),
            Self::DeleteDevice => objects::delete_device(held),
        }
    }
}

/// Called once by the I/O manager in a system thread at PASSIVE_LEVEL (*Unload Routine Environment*): no file is open, no request is
/// outstanding, nothing is attached. The image is unmapped when it returns.
pub(crate) unsafe extern "C" fn unload(driver: *mut DRIVER_OBJECT) {
    // SAFETY: Unload is called with the driver object of this image.
    let Some(device) = (unsafe { device::of(driver) }) else { return };
    // SAFETY: DriverEntry made it; its last step deletes it.
    let extension = unsafe { device::extension(device) };
    // SAFETY: this is Unload, and it is the only call.
    let Some(mut held) = (unsafe { extension.release() }) else { return };
    #[cfg(feature = "defects")]
    if let Some(defect) = extension.defect {
        return defect.take_down(held);
    }
    take_down(&mut held);
}

/// Gives back everything that is there.
pub(crate) fn take_down(held: &mut Held) {
    for step in ORDER {
        step.take(held);
    }
}
