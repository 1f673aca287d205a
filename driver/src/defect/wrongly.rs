//! Steps that are there, and not done as they should be.

use core::{cell::UnsafeCell, mem};

use wdk_sys::{
    _WORK_QUEUE_TYPE::DelayedWorkQueue, PDEVICE_OBJECT, PVOID, WORK_QUEUE_ITEM, ntddk::ExQueueWorkItem,
};

use super::Defect;
use crate::{
    extension::Extension,
    held::Held,
    nt::{device, pool},
    saver,
    unload::Step,
};

impl Defect {
    /// Does the step as somebody did who meant well.
    pub(super) fn take_wrongly(self, step: Step, held: &mut Held) {
        let Held { device: Some(device), .. } = held else { return };
        let extension = device.extension();
        match self {
            // "Nobody may touch this while I take it down."
            Self::DisconnectAbovePassive => {
                let _guard = extension.reads.lock();
                held.interrupts.take();
            }
            // The same idea.
            Self::WaitsAtDispatchInUnload => {
                extension.stop.set();
                let _guard = extension.reads.lock();
                held.recorder.take();
            }
            // "It only comes once a second: after this one it is the last time."
            Self::IoTimerLeftRunning => {
                super::sleep(1100);
                mem::forget(held.io_timer.take());
            }
            // "It has been told, so it will go."
            Self::SystemThreadLeft => {
                extension.stop.set();
                if let Some(thread) = held.recorder.take() {
                    thread.leave();
                }
            }
            // "One last time; and then I do not need it any more."
            Self::WorkItemFreedWhileQueued => {
                extension.saved.wait();
                let _guard = extension.reads.lock();
                saver::save(extension);
                held.saver.take();
            }
            // Not waited for, and freed, as the item that is queued is another one.
            Self::WorkItemOutlivesImage => {
                held.saver.take();
            }
            // "The device's DPC I have taken out of its queue": and the other one nobody has thought of.
            Self::GlobalDpcPendingAtReturn => {
                // SAFETY: this driver's device, whose interrupt is disconnected.
                unsafe { device::remove_dpc(extension.arrivals().device) };
                step.take(held);
            }
            // "Every path frees what it has."
            Self::PoolFreedTwice => {
                let address = held.key_name.as_ref().map(|name| name.address());
                step.take(held);
                if let Some(address) = address {
                    // SAFETY: it is not ours to free any more, which is the mistake.
                    unsafe { pool::free(address) };
                }
            }
            _ => step.take(held),
        }
    }
}

/// A work item of the old kind: `ExQueueWorkItem` knows no device that it could hold a reference on.
struct OldItem(UnsafeCell<WORK_QUEUE_ITEM>);

// SAFETY: written by the one timer DPC that queues it, while it is not queued.
unsafe impl Sync for OldItem {}

static OLD_ITEM: OldItem = OldItem(UnsafeCell::new(WORK_QUEUE_ITEM {
    List: wdk_sys::LIST_ENTRY { Flink: core::ptr::null_mut(), Blink: core::ptr::null_mut() },
    WorkerRoutine: None,
    Parameter: core::ptr::null_mut(),
}));

/// Queues an old work item instead of the device's. False where the defect is another one.
pub(crate) fn queue_elsewhere(extension: &Extension) -> bool {
    if extension.defect != Some(Defect::WorkItemOutlivesImage) {
        return false;
    }
    let item = OLD_ITEM.0.get();
    // SAFETY: not queued, which is what `saving` is for.
    unsafe { (*item).WorkerRoutine = Some(write) };
    // SAFETY: as above.
    unsafe { (*item).Parameter = extension.arrivals().device.cast() };
    // SAFETY: filled in. That the routine is still there when it is called is what nobody sees to.
    unsafe { ExQueueWorkItem(item, DelayedWorkQueue) };
    true
}

/// The old item's routine, called with the device object.
unsafe extern "C" fn write(device: PVOID) {
    let device: PDEVICE_OBJECT = device.cast();
    // SAFETY: this driver's, if it is still there.
    unsafe { saver::write(device, core::ptr::null_mut()) };
}
