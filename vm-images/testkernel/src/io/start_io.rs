//! StartIo: a driver that works on one request at a time.
//!
//! The device's queue keeps the others. `IoStartPacket` begins a request or queues it; when one is done the driver asks
//! for the next with `IoStartNextPacket`. StartIo runs at DISPATCH_LEVEL. A driver may have its requests cancelled
//! while they wait: the cancel routine it names is set in each, under the cancel spin lock.

use alloc::collections::BTreeMap;
use core::mem::offset_of;

use super::cancel;
use crate::ke::device_queue::{
    KeInsertByKeyDeviceQueue, KeInsertDeviceQueue, KeRemoveByKeyDeviceQueue, KeRemoveDeviceQueue,
};
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::ldr::export::export;
use crate::nt::{BOOLEAN, DEVICE_OBJECT, DriverCancel, FALSE, IRP, IrpTail, KDEVICE_QUEUE_ENTRY};
use crate::selftest::{check, kernel_test};

/// Where the entry of a device queue lies in a packet: at the beginning of what its owner has for itself.
const ENTRY_AT: usize = offset_of!(IRP, Tail) + offset_of!(IrpTail, DriverContext);

/// How a driver wants its StartIo called.
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    /// Not from within StartIo itself.
    deferred: bool,
    /// With the cancel routine taken out.
    not_cancelable: bool,
    /// Somebody is calling StartIo.
    active: bool,
    /// What was asked for meanwhile.
    requested: Option<Next>,
}

/// The next packet, by key or not.
#[derive(Clone, Copy, Debug)]
struct Next {
    cancelable: bool,
    key: Option<u32>,
}

/// Of the devices whose drivers have called IoSetStartIoAttributes.
static ATTRIBUTES: SpinLock<BTreeMap<usize, Attributes>> = SpinLock::new(BTreeMap::new());

fn attributes(device: *mut DEVICE_OBJECT) -> Attributes {
    ATTRIBUTES.lock().get(&device.addr()).copied().unwrap_or_default()
}

/// The device is gone.
pub fn forget(device: usize) {
    ATTRIBUTES.lock().remove(&device);
}

/// Calls StartIo with the packet that is now the current one. At DISPATCH_LEVEL.
///
/// # Safety
/// The device's driver must have a StartIo routine, and own the packet.
unsafe fn start(device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: the caller's contract.
    if let Some(routine) = unsafe { (*(*device).DriverObject).DriverStartIo } {
        // SAFETY: as above.
        unsafe { routine(device, irp) };
    }
}

/// Begins the next packet that waits. At DISPATCH_LEVEL.
///
/// # Safety
/// `device` must be alive.
unsafe fn begin(device: *mut DEVICE_OBJECT, next: Next) {
    let lock = next.cancelable.then(cancel::acquire);
    // SAFETY: the caller's contract; queue entries are those of packets that the driver owns.
    let irp = unsafe {
        (*device).CurrentIrp = core::ptr::null_mut();
        let queue = &raw mut (*device).DeviceQueue;
        let entry = match next.key {
            Some(key) => KeRemoveByKeyDeviceQueue(queue, key),
            None => KeRemoveDeviceQueue(queue),
        };
        let irp = if entry.is_null() {
            core::ptr::null_mut()
        } else {
            entry.wrapping_byte_sub(ENTRY_AT).cast::<IRP>()
        };
        (*device).CurrentIrp = irp;
        if !irp.is_null() && next.cancelable && attributes(device).not_cancelable {
            (*irp).CancelRoutine = None;
        }
        irp
    };
    if let Some(old) = lock {
        cancel::release(old);
    }
    if !irp.is_null() {
        // SAFETY: the caller's contract; the packet was in the driver's queue.
        unsafe { start(device, irp) };
    }
}

/// Does `work`, which calls StartIo, and after it whatever StartIo asked for, where the driver wants that.
///
/// # Safety
/// `device` must be alive.
unsafe fn started(device: *mut DEVICE_OBJECT, work: impl FnOnce()) {
    let set = |change: &dyn Fn(&mut Attributes) -> Option<Next>| {
        ATTRIBUTES.lock().get_mut(&device.addr()).and_then(change)
    };
    if !attributes(device).deferred {
        work();
        return;
    }
    set(&|attributes| {
        attributes.active = true;
        None
    });
    work();
    while let Some(next) = set(&|attributes| {
        let next = attributes.requested.take();
        attributes.active = next.is_some();
        next
    }) {
        // SAFETY: the caller's contract.
        unsafe { begin(device, next) };
    }
}

/// Begins the next packet, now or when StartIo has returned.
///
/// # Safety
/// `device` must be alive.
unsafe fn start_next(device: *mut DEVICE_OBJECT, next: Next) {
    let old = irql::raise(Irql::DISPATCH);
    let postponed = ATTRIBUTES.lock().get_mut(&device.addr()).is_some_and(|attributes| {
        let postponed = attributes.deferred && attributes.active;
        if postponed {
            attributes.requested = Some(next);
        }
        postponed
    });
    if !postponed {
        // SAFETY: the caller's contract.
        unsafe { started(device, || begin(device, next)) };
    }
    irql::lower(old);
}

export! {
    /// *IoStartPacket function (ntifs.h)*: begins the packet or queues it, in the order of keys where one is given. One
    /// that was cancelled before it could be queued for good goes to the cancel routine.
    pub unsafe extern "win64" fn IoStartPacket(
        device: *mut DEVICE_OBJECT,
        irp: *mut IRP,
        key: *const u32,
        routine: Option<DriverCancel>,
    ) {
        let old = irql::raise(Irql::DISPATCH);
        let lock = routine.is_some().then(cancel::acquire);
        // SAFETY: the caller gives its device and a packet that it owns.
        unsafe {
            if routine.is_some() {
                (*irp).CancelRoutine = routine;
            }
            let queue = &raw mut (*device).DeviceQueue;
            let entry = irp.wrapping_byte_add(ENTRY_AT).cast::<KDEVICE_QUEUE_ENTRY>();
            let queued = match key.as_ref() {
                Some(&key) => KeInsertByKeyDeviceQueue(queue, entry, key),
                None => KeInsertDeviceQueue(queue, entry),
            };
            if queued == FALSE {
                (*device).CurrentIrp = irp;
                if let Some(lock) = lock {
                    if attributes(device).not_cancelable {
                        (*irp).CancelRoutine = None;
                    }
                    cancel::release(lock);
                }
                started(device, || start(device, irp));
            } else if let (Some(lock), Some(routine)) = (lock, routine) {
                if (*irp).Cancel != 0 {
                    // The routine releases the lock, to the level that this leaves in the packet.
                    (*irp).CancelIrql = lock.0;
                    (*irp).CancelRoutine = None;
                    routine(device, irp);
                } else {
                    cancel::release(lock);
                }
            }
        }
        irql::lower(old);
    }

    /// *IoStartNextPacket function (ntifs.h)*: begins the next packet, or leaves the device idle.
    pub unsafe extern "win64" fn IoStartNextPacket(device: *mut DEVICE_OBJECT, cancelable: BOOLEAN) {
        // SAFETY: the caller gives its device.
        unsafe { start_next(device, Next { cancelable: cancelable != 0, key: None }) };
    }

    /// *IoStartNextPacketByKey function (ntifs.h)*: the first whose key is not below `key`, or else the first.
    pub unsafe extern "win64" fn IoStartNextPacketByKey(
        device: *mut DEVICE_OBJECT,
        cancelable: BOOLEAN,
        key: u32,
    ) {
        // SAFETY: the caller gives its device.
        unsafe { start_next(device, Next { cancelable: cancelable != 0, key: Some(key) }) };
    }

    /// *IoSetStartIoAttributes function (ntifs.h)*: whether StartIo is entered again from within itself, and whether its
    /// packet can still be cancelled.
    pub unsafe extern "win64" fn IoSetStartIoAttributes(
        device: *mut DEVICE_OBJECT,
        deferred: BOOLEAN,
        not_cancelable: BOOLEAN,
    ) {
        let mut all = ATTRIBUTES.lock();
        let attributes = all.entry(device.addr()).or_default();
        attributes.deferred = deferred != 0;
        attributes.not_cancelable = not_cancelable != 0;
    }
}

mod probe {
    //! A StartIo that says in which order it was called.
    use super::{DEVICE_OBJECT, IRP, IoStartNextPacket, cancel};
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// The number of each packet started, a decimal digit each, and the nesting's depth.
    pub static ORDER: AtomicUsize = AtomicUsize::new(0);
    pub static CANCELLED: AtomicUsize = AtomicUsize::new(0);
    pub static DEPTH: AtomicUsize = AtomicUsize::new(0);
    pub static DEEPEST: AtomicUsize = AtomicUsize::new(0);
    /// Ask for the next packet at once.
    pub static ASK: AtomicBool = AtomicBool::new(false);

    fn push(to: &AtomicUsize, irp: *const IRP) {
        // SAFETY: the tests' packets carry their numbers here.
        let number = unsafe { (*irp).IoStatus.Information };
        to.store(to.load(Ordering::Relaxed) * 10 + number, Ordering::Relaxed);
    }

    pub unsafe extern "win64" fn start(device: *mut DEVICE_OBJECT, irp: *mut IRP) {
        push(&ORDER, irp);
        let depth = DEPTH.fetch_add(1, Ordering::Relaxed) + 1;
        DEEPEST.fetch_max(depth, Ordering::Relaxed);
        if ASK.load(Ordering::Relaxed) {
            // SAFETY: the test's device.
            unsafe { IoStartNextPacket(device, 1) };
        }
        DEPTH.fetch_sub(1, Ordering::Relaxed);
    }

    pub unsafe extern "win64" fn cancelled(_: *mut DEVICE_OBJECT, irp: *mut IRP) {
        push(&CANCELLED, irp);
        // SAFETY: called with the lock held.
        unsafe { cancel::IoReleaseCancelSpinLock((*irp).CancelIrql) };
    }
}

kernel_test! {
    /// *IoStartPacket function*: one packet at a time, the others in the order of their keys.
    fn packets_wait_for_a_busy_device_in_the_order_of_their_keys() {
        use core::sync::atomic::Ordering;
        let Ok((driver, device)) = super::selftest::start() else { check!(false); return Ok(()) };
        let packets = [1, 2, 3, 4].map(|number| (number, super::irp::allocate(1)));
        probe::ORDER.store(0, Ordering::Relaxed);
        probe::ASK.store(false, Ordering::Relaxed);
        // SAFETY: driver, device and packets are this test's.
        unsafe {
            (*driver).DriverStartIo = Some(probe::start);
            for (number, packet) in packets {
                let Some(packet) = packet else { check!(false); return Ok(()) };
                (*packet.as_ptr()).IoStatus.Information = number;
                let key = 10 - number as u32;
                IoStartPacket(device, packet.as_ptr(), &raw const key, None);
            }
            check!(probe::ORDER.load(Ordering::Relaxed) == 1 && irql::current() == Irql::PASSIVE);
            IoStartNextPacket(device, 0);
            check!(probe::ORDER.load(Ordering::Relaxed) == 14);
            IoStartNextPacketByKey(device, 0, 8);
            check!(probe::ORDER.load(Ordering::Relaxed) == 142);
            IoStartNextPacket(device, 0);
            check!(!(*device).CurrentIrp.is_null());
            IoStartNextPacket(device, 0);
            check!(probe::ORDER.load(Ordering::Relaxed) == 1423 && (*device).CurrentIrp.is_null());
            check!((*device).DeviceQueue.Busy == FALSE);
            packets.iter().filter_map(|(_, packet)| *packet).for_each(|packet| super::irp::free(packet));
            super::device::delete(device);
        }
        super::selftest::stop(driver)?;
    }

    /// *IoSetStartIoAttributes function*: deferred, StartIo is not entered again before it has returned; not
    /// cancelable, the packet that it gets has no cancel routine any more.
    fn a_deferred_start_io_does_not_nest_and_cancelled_packets_do_not_start() {
        use core::sync::atomic::Ordering;
        let Ok((driver, device)) = super::selftest::start() else { check!(false); return Ok(()) };
        let packets = [1, 2, 3, 4].map(|number| (number, super::irp::allocate(1)));
        for cell in [&probe::ORDER, &probe::CANCELLED, &probe::DEEPEST] {
            cell.store(0, Ordering::Relaxed);
        }
        probe::ASK.store(false, Ordering::Relaxed);
        // SAFETY: driver, device and packets are this test's.
        unsafe {
            (*driver).DriverStartIo = Some(probe::start);
            IoSetStartIoAttributes(device, 1, 1);
            for (number, packet) in packets {
                let Some(packet) = packet else { check!(false); return Ok(()) };
                (*packet.as_ptr()).IoStatus.Information = number;
                (*packet.as_ptr()).Cancel = (number == 3).into();
                IoStartPacket(device, packet.as_ptr(), core::ptr::null(), Some(probe::cancelled));
            }
            check!(probe::ORDER.load(Ordering::Relaxed) == 1 && probe::CANCELLED.load(Ordering::Relaxed) == 3);
            probe::ASK.store(true, Ordering::Relaxed);
            IoStartNextPacket(device, 1);
            check!(probe::ORDER.load(Ordering::Relaxed) == 1234);
            check!(probe::DEEPEST.load(Ordering::Relaxed) == 1);
            check!(packets.iter().filter_map(|(_, packet)| *packet).all(|packet| (*packet.as_ptr()).CancelRoutine.is_none()));
            packets.iter().filter_map(|(_, packet)| *packet).for_each(|packet| super::irp::free(packet));
            super::device::delete(device);
        }
        super::selftest::stop(driver)?;
    }
}
