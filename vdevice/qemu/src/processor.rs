//! Which virtual processor is running.

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr::null;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::abi::CpuState;
use crate::symbols::{find, qemu};

/// More than any guest of ours has. Processors beyond are reported as unknown.
const MAX: usize = 64;

thread_local! {
    /// Where this thread's `current_cpu` is. Looking a thread-local variable up is slow, and its place never
    /// changes.
    static CURRENT: Cell<*const AtomicPtr<CpuState>> = const { Cell::new(null()) };
}

/// Processors by index, filled in as they are met.
static PROCESSORS: [AtomicPtr<CpuState>; MAX] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX];

/// The index of the virtual processor that this thread is running, if it is running one.
pub(crate) fn current() -> Option<u16> {
    let place = CURRENT.with(|place| {
        if place.get().is_null() {
            place.set(find(c"current_cpu").cast_const().cast());
        }
        place.get()
    });
    if place.is_null() {
        return None;
    }
    // SAFETY: QEMU's thread-local pointer, as large and aligned as ours, alive as long as the thread; only
    // this thread touches it.
    let cpu = unsafe { &*place }.load(Ordering::Relaxed);
    if cpu.is_null() {
        return None;
    }
    (0..MAX).find(|&index| at(index) == cpu).map(|index| index as u16)
}

/// The processor of an index, or null. Processors are never unplugged from our guests.
pub(crate) fn at(index: usize) -> *mut CpuState {
    let Some(slot) = PROCESSORS.get(index) else { return std::ptr::null_mut() };
    let known = slot.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: QEMU walks its list of processors, which any thread may do.
    let cpu = unsafe { (qemu().qemu_get_cpu)(index as c_int) };
    slot.store(cpu, Ordering::Relaxed);
    cpu
}
