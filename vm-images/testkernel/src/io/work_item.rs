//! Work items of a device or driver: a routine that is called in a system thread at PASSIVE_LEVEL.
//!
//! While an item is queued or its routine runs, the I/O manager holds a reference on the device or driver object that it
//! was made for; the driver's image therefore stays until the routine has returned, whatever Unload does meanwhile.

use core::arch::naked_asm;

use squall_testkernel_pure::bugcheck::WORKER_INVALID;
use squall_testkernel_pure::pool::Kind;

use crate::ex::pool;
use crate::ex::work::{self, WorkItem};
use crate::ke::bugcheck::bugcheck;
use crate::ke::call;
use crate::ldr::export::export;
use crate::nt::PVOID;
use crate::ob;
use crate::selftest::{check, kernel_test};

/// `IO_WORKITEM_ROUTINE`.
pub type Routine = unsafe extern "win64" fn(object: PVOID, context: PVOID);
/// `IO_WORKITEM_ROUTINE_EX`.
pub type RoutineEx = unsafe extern "win64" fn(object: PVOID, context: PVOID, item: *mut IO_WORKITEM);

/// What to call: one of the two kinds.
#[derive(Clone, Copy, Debug)]
enum Call {
    Plain(Option<Routine>),
    Ex(Option<RoutineEx>),
}

/// A work item; opaque to drivers.
#[derive(Debug)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "the public headers' own name")]
pub struct IO_WORKITEM {
    item: WorkItem,
    object: PVOID,
    call: Call,
    context: PVOID,
}

/// # Safety
/// `item` must be writable.
unsafe fn initialize(object: PVOID, item: *mut IO_WORKITEM) {
    let unlinked = crate::ke::list::UNLINKED;
    let work = WorkItem { list: unlinked, routine: Some(run), parameter: item.cast() };
    // SAFETY: the caller's contract.
    unsafe {
        item.write(IO_WORKITEM {
            item: work,
            object,
            call: Call::Plain(None),
            context: core::ptr::null_mut(),
        });
    }
}

/// In a worker's thread.
unsafe extern "win64" fn run(item: PVOID) {
    let item = item.cast::<IO_WORKITEM>();
    // Read before the call: the routine may free the item, or queue it again.
    // SAFETY: the item was queued, and its routine, which is the driver's, is mapped: the reference sees to that.
    unsafe {
        let IO_WORKITEM { object, call: wanted, context, .. } = *item;
        match wanted {
            Call::Plain(Some(routine)) => {
                routine(object, context);
                call::worker_returned(routine as usize, context.addr(), item.addr());
            }
            Call::Ex(Some(routine)) => {
                routine(object, context, item);
                call::worker_returned(routine as usize, context.addr(), item.addr());
            }
            Call::Plain(None) | Call::Ex(None) => {}
        }
        ob::dereference(object.addr());
    }
}

/// # Safety
/// `item` must be initialized and in no queue.
unsafe fn queue(item: *mut IO_WORKITEM, call: Call, kind: u32, context: PVOID) {
    // SAFETY: the caller's contract.
    unsafe {
        (*item).call = call;
        (*item).context = context;
        (*item).item.list = crate::ke::list::UNLINKED;
        ob::reference((*item).object.addr());
        work::queue(&raw mut (*item).item, kind);
    }
}

unsafe extern "win64" fn allocate(object: PVOID, caller: usize) -> *mut IO_WORKITEM {
    match pool::allocate_object(size_of::<IO_WORKITEM>(), Kind::WorkItem, caller) {
        Some(block) => {
            let item = block.as_ptr().cast();
            // SAFETY: the block is new and large enough.
            unsafe { initialize(object, item) };
            item
        }
        None => core::ptr::null_mut(),
    }
}

export! {
    /// *IoAllocateWorkItem function (wdm.h)*: for a device or a driver object.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn IoAllocateWorkItem(object: PVOID) -> *mut IO_WORKITEM {
        naked_asm!("mov rdx, [rsp]", "jmp {}", sym allocate)
    }

    /// *IoFreeWorkItem function (wdm.h)*: one that is not queued; its own routine may free it. One that is queued is a
    /// bug check: *Bug Check 0xE4: WORKER_INVALID*, value 2.
    pub unsafe extern "win64" fn IoFreeWorkItem(item: *mut IO_WORKITEM) {
        if work::is_queued(item.cast()) {
            // SAFETY: an item that is queued is alive.
            let routine = match unsafe { (*item).call } {
                Call::Plain(routine) => routine.map_or(0, |routine| routine as usize),
                Call::Ex(routine) => routine.map_or(0, |routine| routine as usize),
            };
            bugcheck(WORKER_INVALID, [2, item.addr() as u64, routine as u64, 0]);
        }
        pool::free(item.addr(), 0);
    }

    /// *IoSizeofWorkItem function (wdm.h)*: for a driver that allocates the item itself.
    pub unsafe extern "win64" fn IoSizeofWorkItem() -> u32 {
        size_of::<IO_WORKITEM>() as u32
    }

    /// *IoInitializeWorkItem function (wdm.h)*: an item in the driver's own memory.
    pub unsafe extern "win64" fn IoInitializeWorkItem(object: PVOID, item: *mut IO_WORKITEM) {
        // SAFETY: the caller's storage.
        unsafe { initialize(object, item) };
    }

    /// *IoUninitializeWorkItem function (wdm.h)*: the item has nothing that would have to be given back.
    pub unsafe extern "win64" fn IoUninitializeWorkItem(item: *mut IO_WORKITEM) {
        // SAFETY: the caller's item, in no queue: calling it from now on would be calling nothing.
        unsafe { (*item).call = Call::Plain(None) };
    }

    /// *IoQueueWorkItem function (wdm.h)*: at DISPATCH_LEVEL or below; the routine gets the object and the context.
    pub unsafe extern "win64" fn IoQueueWorkItem(
        item: *mut IO_WORKITEM,
        routine: Option<Routine>,
        kind: u32,
        context: PVOID,
    ) {
        // SAFETY: the caller's item.
        unsafe { queue(item, Call::Plain(routine), kind, context) };
    }

    /// *IoQueueWorkItemEx function (wdm.h)*: the routine gets the item too.
    pub unsafe extern "win64" fn IoQueueWorkItemEx(
        item: *mut IO_WORKITEM,
        routine: Option<RoutineEx>,
        kind: u32,
        context: PVOID,
    ) {
        // SAFETY: the caller's item.
        unsafe { queue(item, Call::Ex(routine), kind, context) };
    }
}

kernel_test! {
    /// *IoQueueWorkItem function*: the device object cannot go while an item is queued or runs.
    fn a_work_item_keeps_its_device_until_its_routine_returns() {
        use crate::ke::event::Event;
        use crate::ke::irql::{self, Irql};
        use crate::ke::thread;

        unsafe extern "win64" fn work(_object: PVOID, context: PVOID, item: *mut IO_WORKITEM) {
            // SAFETY: the context is the test's pair of events.
            let [entered, leave] = unsafe { &*context.cast::<[Event; 2]>() };
            if irql::current() == Irql::PASSIVE {
                entered.set();
            }
            leave.wait(Some(1_000_000_000));
            // SAFETY: the item is this routine's once it is called.
            unsafe { IoFreeWorkItem(item) };
        }

        let Ok((driver, device)) = super::selftest::start() else { check!(false); return Ok(()) };
        let events = [Event::new_notification(), Event::new_notification()];
        // SAFETY: item, device and events are this test's, which waits for the routine.
        unsafe {
            let item = IoAllocateWorkItem(device.cast());
            check!(!item.is_null());
            let old = irql::raise(Irql::DISPATCH);
            IoQueueWorkItemEx(item, Some(work), 1, (&raw const events).cast_mut().cast());
            irql::lower(old);
            check!(events[0].wait(Some(1_000_000_000)));
            super::device::delete(device);
            check!(ob::references(device.addr()) == Some(1) && ob::references(driver.addr()) == Some(2));
            events[1].set();
            let mut patience = 1000;
            // The device's own reference on its driver is the last that it gives up.
            while ob::references(driver.addr()) != Some(1) && patience > 0 {
                thread::sleep_ns(1_000_000);
                patience -= 1;
            }
            check!(ob::references(device.addr()).is_none());
        }
        super::selftest::stop(driver)?;
    }
}
