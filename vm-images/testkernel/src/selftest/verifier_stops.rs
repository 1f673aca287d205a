//! Ends of the system that the Verifier brings about, on demand, and some that come without it (`plain-`): one word of the
//! command line each. `harness/tests/vm/verifier_stops.rs` compares the crash records.

use super::victim::Victim;
use crate::console::println;
use crate::ex::work::{self, MAX_WORKERS, WorkItem, WorkerRoutine};
use crate::ke::irql::{self, Irql};
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::nt::PVOID;
use crate::vf::classes::Class;

const SPECIAL: u32 = Class::SpecialPool as u32;
const TRACKING: u32 = Class::PoolTracking as u32;

/// The words, and what each does.
pub const STOPS: &[(&str, fn())] = &[
    ("verifier-zw-user-address", || {
        victim(Class::Security as u32).call("ZwOpenKey", &[0x1000, 0, 0]);
    }),
    ("verifier-zw-malformed-string", || {
        let victim = victim(Class::Security as u32);
        // Length 5 of 4, by address.
        let text = victim.allocate(32);
        // SAFETY: the victim's own block.
        unsafe { core::ptr::with_exposed_provenance_mut::<[u64; 2]>(text).write([0x0004_0005, text as u64]) };
        victim.call("ZwLoadDriver", &[text]);
    }),
    ("plain-worker-at-dispatch", || {
        unsafe extern "win64" fn raises(_: PVOID) {
            irql::raise(Irql::DISPATCH);
        }
        // Not the image's data: the item's links are the queue's to write.
        static ITEM: SpinLock<[usize; 4]> = SpinLock::new([0; 4]);
        let item = ITEM.lock().as_mut_ptr().expose_provenance();
        write_work_item(item, raises as *const () as usize);
        // SAFETY: the item was just made, and stays.
        unsafe { work::queue(core::ptr::with_exposed_provenance_mut::<WorkItem>(item), 1) };
        thread::sleep_ns(60_000_000_000);
    }),
    ("verifier-zero-bytes", || {
        victim(TRACKING).allocate(0);
    }),
    ("verifier-paged-at-dispatch", || {
        let victim = victim(TRACKING);
        irql::raise(Irql::DISPATCH);
        victim.call("ExAllocatePoolWithTag", &[1, 24, 1]);
    }),
    ("verifier-allocate-at-dirql", || {
        let victim = victim(TRACKING);
        irql::raise(Irql(5));
        victim.allocate(24);
    }),
    ("verifier-free-nothing", || {
        victim(SPECIAL).call("ExFreePool", &[0]);
    }),
    ("verifier-free-elsewhere", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block + 16]);
    }),
    ("verifier-free-twice", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePoolWithTag", &[block, 0]);
        victim.call("ExFreePoolWithTag", &[block, 0]);
    }),
    ("verifier-free-twice-plain", || {
        let victim = victim(TRACKING);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.call("ExFreePool", &[block]);
    }),
    ("verifier-free-packet", || {
        let victim = victim(SPECIAL);
        let irp = victim.call("IoAllocateIrp", &[1, 0]);
        victim.call("ExFreePool", &[irp]);
    }),
    ("verifier-read-freed", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.read(block + 8);
    }),
    ("verifier-write-freed-at-dispatch", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        irql::raise(Irql::DISPATCH);
        victim.write(block, 1);
    }),
    ("verifier-kernel-reads-freed", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.call("RtlCompareMemory", &[block, victim.data(), 8]);
    }),
    ("verifier-overrun", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(32);
        victim.write(block + 32, 1);
    }),
    ("verifier-kernel-overrun", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(32);
        victim.call("RtlCompareMemory", &[victim.data(), block + 32, 8]);
    }),
    ("verifier-slop", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(30);
        victim.write(block + 31, 0);
        victim.call("ExFreePool", &[block]);
    }),
    ("verifier-underrun", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(30);
        victim.write(block - 1, 0);
        victim.call("ExFreePool", &[block]);
    }),
    ("verifier-leak", || {
        let victim = victim(SPECIAL | TRACKING);
        victim.allocate(30);
        victim.call("IoAllocateIrp", &[1, 0]);
        victim.call("IoAllocateMdl", &[victim.data(), 8, 0, 0, 0]);
        victim.unload();
    }),
    ("verifier-timer-in-pool", || {
        let victim = victim(MISCELLANEOUS);
        let timer = victim.allocate(128) + 64;
        victim.call("KeInitializeTimer", &[timer]);
        victim.call("KeSetTimer", &[timer, SECOND_FROM_NOW, 0]);
        victim.call("ExFreePool", &[timer - 64]);
    }),
    ("verifier-timer-in-image", || {
        let victim = victim(MISCELLANEOUS);
        victim.call("KeInitializeTimer", &[victim.data()]);
        victim.call("KeSetTimer", &[victim.data(), SECOND_FROM_NOW, 0]);
        victim.unload();
    }),
    ("verifier-timer-into-image", || {
        let victim = victim(MISCELLANEOUS);
        let timer = crate::ex::pool::allocate_zeroed(256, *b"Test").map_or(0, |block| block.as_ptr().addr());
        let dpc = timer + 128;
        victim.call("KeInitializeDpc", &[dpc, victim.nothing() as usize, 0]);
        victim.call("KeInitializeTimer", &[timer]);
        victim.call("KeSetTimer", &[timer, SECOND_FROM_NOW, dpc]);
        victim.unload();
    }),
    ("verifier-dpc-in-pool", || {
        let victim = victim(MISCELLANEOUS);
        let dpc = victim.allocate(64);
        victim.call("KeInitializeDpc", &[dpc, victim.nothing() as usize, 0]);
        irql::raise(Irql::DISPATCH);
        victim.call("KeInsertQueueDpc", &[dpc, 0, 0]);
        victim.call("ExFreePoolWithTag", &[dpc, 0]);
    }),
    ("verifier-timers-dpc-in-pool", || {
        let victim = victim(MISCELLANEOUS);
        let dpc = victim.allocate(64);
        victim.call("KeInitializeDpc", &[dpc, victim.nothing() as usize, 0]);
        victim.call("KeInitializeTimer", &[victim.data()]);
        victim.call("KeSetTimer", &[victim.data(), SECOND_FROM_NOW, dpc]);
        victim.call("ExFreePoolWithTag", &[dpc, 0]);
    }),
    ("verifier-work-item-in-pool", || {
        let victim = victim(MISCELLANEOUS);
        let item = victim.allocate(32);
        occupy_workers();
        write_work_item(item, victim.nothing() as usize);
        victim.call("ExQueueWorkItem", &[item, 1]);
        victim.call("ExFreePool", &[item]);
    }),
    ("verifier-lookaside-in-pool", || {
        let victim = victim(MISCELLANEOUS);
        let list = victim.allocate(128);
        victim.call("ExInitializeNPagedLookasideList", &[list, 0, 0, 0, 64, 7]);
        victim.call("ExFreePool", &[list]);
    }),
    ("verifier-lookaside-in-image", || {
        let victim = victim(MISCELLANEOUS);
        victim.call("ExInitializePagedLookasideList", &[victim.data(), 0, 0, 0, 64, 7]);
        victim.unload();
    }),
    ("verifier-lookaside-twice", || {
        let victim = victim(MISCELLANEOUS);
        victim.call("ExInitializeNPagedLookasideList", &[victim.data(), 0, 0, 0, 64, 7]);
        victim.call("ExInitializeNPagedLookasideList", &[victim.data(), 0, 0, 0, 64, 7]);
    }),
    ("verifier-lookaside-never", || {
        let victim = victim(MISCELLANEOUS);
        victim.call("ExDeleteNPagedLookasideList", &[victim.data()]);
    }),
    ("verifier-resource-in-pool", || {
        let victim = victim(MISCELLANEOUS);
        let resource = victim.allocate(0x68);
        victim.call("ExInitializeResourceLite", &[resource]);
        victim.call("ExFreePool", &[resource]);
    }),
    ("verifier-resource-twice", || {
        let victim = victim(MISCELLANEOUS);
        victim.call("ExInitializeResourceLite", &[victim.data()]);
        victim.call("ExInitializeResourceLite", &[victim.data()]);
    }),
    ("verifier-resource-deleted-twice", || {
        let victim = victim(MISCELLANEOUS);
        victim.call("ExInitializeResourceLite", &[victim.data()]);
        victim.call("ExDeleteResourceLite", &[victim.data()]);
        victim.call("ExDeleteResourceLite", &[victim.data()]);
    }),
    ("verifier-pageable-code", || {
        let victim = victim(FORCE_IRQL);
        victim.call("KeRaiseIrqlToDpcLevel", &[]);
        victim.call_pageable();
    }),
    ("verifier-pageable-isr", || {
        let victim = victim(FORCE_IRQL);
        victim.call_pageable();
        let vector = crate::hal::interrupt::vector_of_isa_line(10).unwrap_or(0);
        let (level, routine) = (usize::from(vector >> 4), victim.pageable() as usize);
        // IoConnectInterrupt(object, routine, context, lock, vector, irql, synchronize, mode, ...), latched.
        let place = victim.data();
        victim.call("IoConnectInterrupt", &[place, routine, 0, 0, vector.into(), level, level, 1, 0, 1, 0]);
        crate::hal::apic::interrupt_self(vector);
    }),
    ("verifier-paged-pool-at-dispatch", || {
        let victim = victim(FORCE_IRQL);
        let block = victim.call("ExAllocatePoolWithTag", &[1, 64, 7]);
        victim.write(block, 5);
        victim.call("KfRaiseIrql", &[2]);
        victim.read(block);
    }),
    ("verifier-kernel-touches-paged-pool", || {
        let victim = victim(FORCE_IRQL);
        let block = victim.call("ExAllocatePoolWithTag", &[1, 64, 7]);
        victim.call("KfRaiseIrql", &[2]);
        victim.call("RtlCompareMemory", &[block, victim.data(), 8]);
    }),
    ("verifier-kernel-touches-pageable-section", || {
        let victim = victim(FORCE_IRQL);
        victim.call("KfRaiseIrql", &[2]);
        victim.call("RtlCompareMemory", &[victim.pageable() as usize, victim.data(), 1]);
    }),
    ("plain-work-item-queued-twice", || {
        let victim = victim(0);
        occupy_workers();
        write_work_item(victim.data(), victim.nothing() as usize);
        victim.call("ExQueueWorkItem", &[victim.data(), 1]);
        victim.call("ExQueueWorkItem", &[victim.data(), 1]);
    }),
    ("plain-work-item-freed", || {
        let victim = victim(0);
        let Ok((_, device)) = crate::io::selftest::start() else { return };
        let item = victim.call("IoAllocateWorkItem", &[device.addr()]);
        occupy_workers();
        victim.call("IoQueueWorkItem", &[item, victim.nothing() as usize, 1, 0]);
        victim.call("IoFreeWorkItem", &[item]);
    }),
    ("plain-free-twice", || {
        let victim = victim(0);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.call("ExFreePool", &[block]);
    }),
];

const FORCE_IRQL: u32 = Class::ForceIrql as u32;
const MISCELLANEOUS: u32 = Class::Miscellaneous as u32;
/// As `LARGE_INTEGER`: relative.
const SECOND_FROM_NOW: usize = -10_000_000_i64 as usize;

/// Sees to it that a delayed work item stays in its queue.
fn occupy_workers() {
    unsafe extern "win64" fn sleep(_: PVOID) {
        thread::sleep_ns(60_000_000_000);
    }
    static ITEMS: SpinLock<[usize; 4 * MAX_WORKERS]> = SpinLock::new([0; 4 * MAX_WORKERS]);
    for index in 0..MAX_WORKERS {
        let item = ITEMS.lock().as_mut_ptr().addr() + index * size_of::<WorkItem>();
        write_work_item(item, sleep as *const () as usize);
        // SAFETY: the item is static, and was just initialized.
        unsafe { work::queue(core::ptr::with_exposed_provenance_mut(item), 1) };
    }
}

/// What ExInitializeWorkItem, a macro, does.
fn write_work_item(item: usize, routine: usize) {
    // SAFETY: memory of the test's for an item; the routine is one.
    unsafe {
        let routine = core::mem::transmute::<usize, WorkerRoutine>(routine);
        let unlinked = crate::ke::list::UNLINKED;
        let made = WorkItem { list: unlinked, routine: Some(routine), parameter: core::ptr::null_mut() };
        core::ptr::with_exposed_provenance_mut::<WorkItem>(item).write(made);
    }
}

/// The driver, loaded and told.
fn victim(flags: u32) -> Victim {
    let victim = Victim::load(flags);
    println!("victim at {:#x}", victim.range().start);
    victim
}
