//! The saver: writes how many interrupts were served into the registry, where the next DriverEntry, or a curious person, finds it.
//!
//! The registry can only be written at PASSIVE_LEVEL, and what finds out that it is time is a timer's DPC; so the DPC queues a work item.

use core::sync::atomic::Ordering;

use squall_driver_pure::utf16_with_nul;
use wdk_sys::{
    PCUNICODE_STRING, PDEVICE_OBJECT, PVOID, REG_QWORD, RTL_REGISTRY_ABSOLUTE, STATUS_NAME_TOO_LONG, ULONG,
    ntddk::RtlWriteRegistryValue,
};

use crate::{
    extension::Extension,
    nt::{device, pool::Pooled, status::Result, text::text},
};

/// The full name of a service's `Parameters` key, ending in a zero.
pub(crate) type KeyName = [u16; 256];

/// The name as the work item knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceKey(*const u16);

impl ServiceKey {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self(core::ptr::null())
    }

    /// That one, for as long as it is there.
    pub(crate) fn of(name: &Pooled<KeyName>) -> Self {
        Self(name.get().as_ptr())
    }
}

/// Copies the name to pool: the string that DriverEntry is called with is gone when it returns.
///
/// # Safety
///
/// `registry_path` is that string.
#[inline(never)]
pub(crate) unsafe fn copy_name(registry_path: PCUNICODE_STRING) -> Result<Pooled<KeyName>> {
    // SAFETY: by contract.
    let path = unsafe { &*registry_path };
    // SAFETY: a counted string has that many units.
    let path = unsafe { core::slice::from_raw_parts(path.Buffer, usize::from(path.Length / 2)) };
    let mut name: KeyName = [0; 256];
    utf16_with_nul(&mut name, path, r"\Parameters").ok_or(STATUS_NAME_TOO_LONG)?;
    Pooled::new(name)
}

/// Queues the work item, unless it is under way. At DISPATCH_LEVEL or below.
pub(crate) fn save(extension: &Extension) {
    if extension.saving.swap(true, Ordering::AcqRel) {
        return;
    }
    extension.saved.clear();
    #[cfg(feature = "defects")]
    if crate::defect::queue_elsewhere(extension) {
        return;
    }
    // SAFETY: made in DriverEntry and not queued, which is what `saving` is for. Unload frees it only when it is not under way and
    // nothing is left that calls this.
    unsafe { extension.set_up.get().saver.queue(Some(write)) };
}

/// The work item's routine, called with the device object.
pub(crate) unsafe extern "C" fn write(device: PDEVICE_OBJECT, _context: PVOID) {
    // SAFETY: this driver's device, on which a queued work item holds a reference.
    let extension = unsafe { device::extension(device) };
    #[cfg(feature = "defects")]
    crate::defect::dawdle(extension.defect, crate::defect::Where::WorkItem);
    let mut interrupts = extension.arrivals().interrupts.load(Ordering::Relaxed);
    let ServiceKey(key) = extension.set_up.get().service_key;
    // SAFETY: both names end in a zero, and the data are as long as said. The key's name is freed only after this has run.
    let status = unsafe {
        RtlWriteRegistryValue(
            RTL_REGISTRY_ABSOLUTE,
            key,
            text!("Interrupts\0").as_ptr(),
            REG_QWORD,
            (&raw mut interrupts).cast(),
            size_of::<u64>() as ULONG,
        )
    };
    if !wdk::nt_success(status) {
        wdk::println!("squall: Parameters\\Interrupts cannot be written: status {status:#x}");
    }
    extension.saving.store(false, Ordering::Release);
    // Last: from here on Unload does not wait for this routine. What is left of it the device's reference protects.
    extension.saved.set();
}
