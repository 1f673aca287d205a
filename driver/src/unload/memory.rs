//! Stage 3: what the driver allocated.
//!
//! *Releasing Driver-Allocated Resources* lists what there may be: names, pool, mapped registers, contiguous and other memory. What it
//! need not free is in the extension, and goes with the device object.

use core::sync::atomic::Ordering;

use crate::{held::Held, recorder::Recording};

/// The name first: nobody finds the device any more.
pub(super) fn delete_symbolic_link(held: &mut Held) {
    if let (Some(link), Some(device)) = (held.link.take(), &held.device) {
        link.delete();
        let extension = device.extension();
        wdk::println!(
            "squall: unloading after {} interrupts, {} samples unread for too long",
            extension.arrivals().interrupts.load(Ordering::Relaxed),
            extension.reads.lock().lost()
        );
    }
}

/// Its blocks are back: every file is closed. The list itself is on one of the system's, from which it has to be taken.
pub(super) fn delete_lookaside_list(held: &mut Held) {
    if let Some(opens) = held.opens.take() {
        opens.delete();
    }
}

/// The copy of the service's name.
pub(super) fn free_pool(held: &mut Held) {
    if let Some(name) = held.key_name.take() {
        name.free();
    }
}

/// The card's registers, where they are in memory: it is not touched after this.
pub(super) fn unmap_registers(held: &mut Held) {
    if let Some(registers) = held.registers.take() {
        registers.unmap();
    }
}

/// What was recorded.
pub(super) fn free_contiguous_memory(held: &mut Held) {
    if let (Some(memory), Some(device)) = (held.recording.take(), &held.device) {
        *device.extension().recording.lock() = Recording::none();
        memory.free();
    }
}

/// What the card could see of the driver.
pub(super) fn free_common_buffer(held: &mut Held) {
    if let Some(heartbeat) = held.heartbeat.take() {
        heartbeat.free();
    }
}

/// By which it could see it: when nothing of the adapter's is in use any more (*PPUT_DMA_ADAPTER callback function*).
pub(super) fn put_dma_adapter(held: &mut Held) {
    if let Some(adapter) = held.adapter.take() {
        adapter.put();
    }
}
