//! What I/O verification stops a driver for, rehearsed.

use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::classes::Class;
use super::rehearsal::{Driver, Stage, Stop, import, stop_of};
use crate::io::attach::{IoAttachDeviceToDeviceStack, IoDetachDevice};
use crate::io::build::IoBuildSynchronousFsdRequest;
use crate::io::device::IoDeleteDevice;
use crate::io::irp::{self, IoFreeIrp, IoInitializeIrp, IofCallDriver, IofCompleteRequest};
use crate::io::timer::IoInitializeTimer;
use crate::io::{device, selftest};
use crate::ke::irql::{self, Irql};
use crate::nt::{
    DEVICE_OBJECT, DO_BUFFERED_IO, DO_DIRECT_IO, DriverDispatch, IRP, IRP_MJ_FLUSH_BUFFERS,
    IRP_MJ_INTERNAL_DEVICE_CONTROL, NTSTATUS, PVOID, SL_PENDING_RETURNED, STATUS_PENDING, STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
};
use crate::selftest::{Outcome, check, kernel_test};

const IO: u32 = Class::Io as u32;
const IOMANAGER: u32 = 0xC9;

/// The device of the scene.
static DEVICE: AtomicUsize = AtomicUsize::new(0);

fn device() -> *mut DEVICE_OBJECT {
    ptr::with_exposed_provenance_mut(DEVICE.load(Ordering::Acquire))
}

/// A packet for the scene, which it leaks where the stop comes before its end.
fn packet() -> *mut IRP {
    irp::allocate(2).map_or(ptr::null_mut(), ptr::NonNull::as_ptr)
}

/// Runs `test` with a driver and its device.
fn with_device(test: impl FnOnce() -> Outcome) -> Outcome {
    let Ok((driver, made)) = selftest::start() else {
        check!(false);
        return Ok(());
    };
    DEVICE.store(made.expose_provenance(), Ordering::Release);
    let outcome = test();
    if device::is_there(made.addr()) {
        // SAFETY: the device is this test's.
        unsafe { device::delete(made) };
    }
    selftest::stop(driver)?;
    outcome
}

/// The first parameter of a stop of the I/O manager's verification.
fn what(stop: Option<Stop>) -> u64 {
    match stop {
        Some((IOMANAGER, [what, ..])) => what,
        _ => 0,
    }
}

fn complete(driver: Driver, prepare: fn(&mut IRP)) {
    let complete = import!(driver, IofCompleteRequest: fn(*mut IRP, i8));
    // SAFETY: the packet is new.
    unsafe {
        let packet = packet();
        prepare(&mut *packet);
        complete(packet, 0);
    }
}

unsafe extern "win64" fn cancels(_: *mut DEVICE_OBJECT, _: *mut IRP) {}

kernel_test! {
    /// *Bug Check 0xC9*, values 0x06, 0x07 and 0x0E.
    fn a_packet_is_completed_only_when_it_is_done() {
        check!(what(stop_of(IO, |driver| complete(driver, |irp| irp.IoStatus.Status = STATUS_PENDING))) == 6);
        check!(what(stop_of(IO, |driver| complete(driver, |irp| irp.IoStatus.Status = NTSTATUS(-1)))) == 6);
        check!(what(stop_of(IO, |driver| complete(driver, |irp| irp.CancelRoutine = Some(cancels)))) == 7);
        let high = stop_of(IO, |driver| {
            irql::raise(Irql(5));
            let complete = import!(driver, IofCompleteRequest: fn(*mut IRP, i8));
            // SAFETY: the call does not come that far.
            unsafe { complete(ptr::without_provenance_mut(0x1000), 0) };
        });
        check!(high == Some((IOMANAGER, [0xE, 5, 0x1000, 0])));
    }

    /// Values 0x01, 0x02, 0x20D.
    fn only_a_packet_of_ones_own_is_freed_or_made_again() {
        check!(what(stop_of(IO, |driver| {
            let free = import!(driver, IoFreeIrp: fn(*mut IRP));
            let packet = packet();
            // SAFETY: the packet is the scene's.
            unsafe {
                (*packet).Type = 0;
                free(packet);
            }
        })) == 1);
        with_device(|| {
            check!(what(stop_of(IO, |driver| {
                let free = import!(driver, IoFreeIrp: fn(*mut IRP));
                // SAFETY: a request without data, event or status block is never sent.
                unsafe {
                    let flush = IRP_MJ_FLUSH_BUFFERS.into();
                    let null = ptr::null_mut();
                    free(IoBuildSynchronousFsdRequest(flush, device(), null, 0, ptr::null(), ptr::null_mut(), ptr::null_mut()));
                }
            })) == 2);
            Ok(())
        })?;
        check!(what(stop_of(IO, |driver| {
            let initialize = import!(driver, IoInitializeIrp: fn(*mut IRP, u16, i8));
            // SAFETY: the packet is the scene's.
            unsafe { initialize(packet(), 0x160, 2) };
        })) == 0x20D);
    }

    /// Values 0x03, 0x04, 0x10, 0x203, 0x204, 0x208.
    fn a_packet_is_passed_down_only_to_a_device_and_in_order() {
        fn pass(driver: Driver, to: *mut DEVICE_OBJECT, prepare: fn(&mut IRP)) {
            let call = import!(driver, IofCallDriver: fn(*mut DEVICE_OBJECT, *mut IRP) -> NTSTATUS);
            // SAFETY: the packet is new, and stopped before it goes anywhere.
            unsafe {
                let packet = packet();
                prepare(&mut *packet);
                let _ = call(to, packet);
            }
        }
        check!(what(stop_of(IO, |driver| pass(driver, ptr::null_mut(), |_| {}))) == 0x204);
        let high = stop_of(IO, |driver| {
            irql::raise(Irql(5));
            let call = import!(driver, IofCallDriver: fn(*mut DEVICE_OBJECT, *mut IRP) -> NTSTATUS);
            // SAFETY: the call does not come that far.
            let _ = unsafe { call(ptr::null_mut(), ptr::null_mut()) };
        });
        check!(high == Some((IOMANAGER, [0x10, 5, 0, 0])));
        with_device(|| {
            check!(what(stop_of(IO, |driver| pass(driver, device(), |irp| irp.Type = 9))) == 3);
            check!(what(stop_of(IO, |driver| pass(driver, device(), |irp| irp.CancelRoutine = Some(cancels)))) == 0x203);
            check!(what(stop_of(IO, |driver| pass(driver, device(), |irp| irp.CurrentLocation = 1))) == 0x208);
            let marked = stop_of(IO, |driver| pass(driver, device(), |irp| {
                // SAFETY: the packet has a location left.
                unsafe { (*irp.Tail.CurrentStackLocation.sub(1)).Control = SL_PENDING_RETURNED };
            }));
            check!(what(marked) == 0x206);
            // SAFETY: the device is the test's.
            unsafe { (*device()).Type = 9 };
            let stop = stop_of(IO, |driver| pass(driver, device(), |_| {}));
            // SAFETY: as above.
            unsafe { (*device()).Type = crate::nt::io_type::DEVICE };
            check!(stop.is_some_and(|(code, [what, third, ..])| code == IOMANAGER && what == 4 && third == device().addr() as u64));
            Ok(())
        })?;
    }

    /// Values 0x0A, 0x201, 0x202, 0x240.
    fn devices_come_apart_in_order() {
        use crate::io::device::Blueprint;
        use crate::nt::DO_DEVICE_INITIALIZING;
        static UPPER: AtomicUsize = AtomicUsize::new(0);
        fn delete(driver: Driver, address: usize) {
            let delete = import!(driver, IoDeleteDevice: fn(*mut DEVICE_OBJECT));
            // SAFETY: the call does not come that far.
            unsafe { delete(ptr::with_exposed_provenance_mut(address)) };
        }
        fn detach(driver: Driver, address: usize) {
            let detach = import!(driver, IoDetachDevice: fn(*mut DEVICE_OBJECT));
            // SAFETY: as above.
            unsafe { detach(ptr::with_exposed_provenance_mut(address)) };
        }
        with_device(|| {
            let plan = Blueprint { extension: 0, name: None, kind: 0x22, characteristics: 0, exclusive: false };
            // SAFETY: both devices are this test's.
            unsafe {
                let Ok(upper) = device::create((*device()).DriverObject, plan) else { check!(false); return Ok(()) };
                UPPER.store(upper.expose_provenance(), Ordering::Release);
                check!(IoAttachDeviceToDeviceStack(upper, device()) == device());
                (*upper).Flags &= !DO_DEVICE_INITIALIZING;
                let deleted = stop_of(IO, |driver| delete(driver, UPPER.load(Ordering::Acquire)));
                check!(deleted.is_some_and(|(code, parameters)| {
                    code == IOMANAGER && parameters[0] == 0x201 && parameters[3] == upper.addr() as u64
                }));
                IoDetachDevice(device());
                check!(what(stop_of(IO, |driver| detach(driver, device().addr()))) == 0x202);
                device::delete(upper);
                check!(what(stop_of(IO, |driver| delete(driver, UPPER.load(Ordering::Acquire)))) == 0x240);
            }
            let twice = stop_of(IO, |driver| {
                type Tick = unsafe extern "win64" fn(*mut DEVICE_OBJECT, PVOID);
                unsafe extern "win64" fn tick(_: *mut DEVICE_OBJECT, _: PVOID) {}
                let initialize =
                    import!(driver, IoInitializeTimer: fn(*mut DEVICE_OBJECT, Option<Tick>, PVOID) -> NTSTATUS);
                // SAFETY: the device is the test's.
                unsafe {
                    let _ = initialize(device(), Some(tick), ptr::null_mut());
                    let _ = initialize(device(), Some(tick), ptr::null_mut());
                }
            });
            check!(twice == Some((IOMANAGER, [0xA, device().addr() as u64, 0, 0])));
            Ok(())
        })?;
    }
}

/// Which mistake [`mistaken`] makes.
static MISTAKE: AtomicU32 = AtomicU32::new(0);

/// A dispatch routine that ends in the wrong way.
unsafe extern "win64" fn mistaken(_: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: the packet is this routine's.
    unsafe {
        let finish = move |status| selftest::finish(irp, status, 0);
        match MISTAKE.load(Ordering::Acquire) {
            0 => finish(STATUS_SUCCESS),
            // Neither completed nor passed on.
            1 => STATUS_SUCCESS,
            // Another status than the packet's.
            2 => {
                let _ = finish(STATUS_UNSUCCESSFUL);
                STATUS_SUCCESS
            }
            // Pending, and not marked.
            3 => STATUS_PENDING,
            // Marked, and not pending.
            4 => {
                (*(*irp).Tail.CurrentStackLocation).Control |= SL_PENDING_RETURNED;
                finish(STATUS_SUCCESS)
            }
            // A stack variable that nobody set.
            5 => {
                let _ = finish(STATUS_SUCCESS);
                NTSTATUS(-1)
            }
            // A spin lock that nobody released.
            6 => {
                irql::raise(Irql::DISPATCH);
                finish(STATUS_SUCCESS)
            }
            // A critical region that nobody left.
            _ => {
                crate::ke::apc::KeEnterCriticalRegion();
                finish(STATUS_SUCCESS)
            }
        }
    }
}

/// What a driver is stopped for whose dispatch routine makes a mistake; 1 for none.
fn stop_for(mistake: u32) -> Option<Stop> {
    let routine = mistaken as DriverDispatch as usize as u64;
    let stage = Stage::with_code(IO, routine..routine + 1)?;
    MISTAKE.store(mistake, Ordering::Release);
    stage.stop_of(|_| {
        let packet = packet();
        // SAFETY: the packet is new; who loses it is stopped.
        unsafe {
            let Some(irp) = ptr::NonNull::new(packet) else { return };
            irp::next_location(irp).MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
            let _ = irp::call_driver(device(), packet);
            irp::free(irp);
        }
    })
}

kernel_test! {
    /// Values 0x05, 0x224, 0x225, 0x226, 0x23D, 0x23E, 0x245, and 0xC4's 0xC5.
    fn a_dispatch_routine_completes_passes_on_or_keeps_a_packet_and_says_which() {
        with_device(|| {
            // SAFETY: the device is the test's.
            unsafe {
                let major = usize::from(IRP_MJ_INTERNAL_DEVICE_CONTROL);
                (*(*device()).DriverObject).MajorFunction[major] = Some(mistaken);
            }
            check!(stop_for(0).is_none());
            for (mistake, expected) in [(1, 0x226), (2, 0x224), (3, 0x23D), (4, 0x23E), (5, 0x225)] {
                let routine = mistaken as DriverDispatch as usize as u64;
                let stop = stop_for(mistake);
                check!(stop.is_some_and(|(code, parameters)| code == IOMANAGER && parameters[..2] == [expected, routine]));
            }
            check!(stop_for(2).is_some_and(|(_, parameters)| parameters[3] == u64::from(STATUS_UNSUCCESSFUL.bits())));
            check!(stop_for(6) == Some((IOMANAGER, [5, device().addr() as u64, 0, 2])));
            let routine = mistaken as DriverDispatch as usize as u64;
            check!(stop_for(7) == Some((0xC4, [0xC5, routine, u64::MAX, 0])));
            // SAFETY: as above.
            unsafe { (*device()).Flags |= DO_DIRECT_IO | DO_BUFFERED_IO };
            check!(what(stop_for(0)) == 0x245);
            Ok(())
        })?;
    }
}
