//! Which virtual processor is running.
//!
//! QEMU notes it in `current_cpu`, a variable that each thread has for itself. A variable of the program's own is at the same
//! distance from every thread's pointer (*ELF Handling For Thread-Local Storage*), so once that is known it is one load;
//! asking the loader where this thread's is would cost as much as writing the record that wants to know.

use std::arch::asm;
use std::ffi::c_int;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};

use crate::abi::CpuState;
use crate::symbols::{find, qemu};

/// More than any guest of ours has. Processors beyond are reported as unknown.
const MAX: usize = 64;

/// How far `current_cpu` is from a thread's pointer; 0, where that pointer itself is, as long as it is not known.
static DISTANCE: AtomicIsize = AtomicIsize::new(0);

/// Processors by index, filled in as they are met.
static PROCESSORS: [AtomicPtr<CpuState>; MAX] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX];

/// Finds out where `current_cpu` is. If it is not at the same distance in two threads, every look asks the loader.
pub(crate) fn prepare() {
    let here = distance();
    if here.is_some() && std::thread::spawn(distance).join().is_ok_and(|there| there == here) {
        DISTANCE.store(here.unwrap_or(0), Ordering::Relaxed);
    }
}

/// How far this thread's `current_cpu` is from its pointer.
fn distance() -> Option<isize> {
    let place = find(c"current_cpu").addr();
    (place != 0).then(|| place.wrapping_sub(thread_pointer()).cast_signed())
}

/// This thread's pointer.
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: on x86-64 Linux the word that `fs` points to is always its own address; it is only read.
    unsafe { asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

/// What this thread's `current_cpu` holds.
fn running() -> *const CpuState {
    let distance = DISTANCE.load(Ordering::Relaxed);
    if distance == 0 {
        return asked();
    }
    let cpu;
    // SAFETY: QEMU's pointer of this thread, as `prepare` has found; it is only read.
    unsafe {
        asm!("mov {}, fs:[{}]", out(reg) cpu, in(reg) distance, options(nostack, readonly, preserves_flags))
    };
    cpu
}

#[cold]
fn asked() -> *const CpuState {
    let place: *const AtomicPtr<CpuState> = find(c"current_cpu").cast_const().cast();
    if place.is_null() {
        return std::ptr::null();
    }
    // SAFETY: QEMU's thread-local pointer, as large and aligned as ours, alive as long as the thread; only
    // this thread touches it.
    unsafe { &*place }.load(Ordering::Relaxed)
}

/// The index of the virtual processor that this thread is running, if it is running one.
pub(crate) fn current() -> Option<u16> {
    let cpu = running();
    if cpu.is_null() {
        return None;
    }
    (0..MAX).find(|&index| at(index).cast_const() == cpu).map(|index| index as u16)
}

/// The processor of an index, or null. Processors are never unplugged from our guests.
pub(crate) fn at(index: usize) -> *mut CpuState {
    let Some(slot) = PROCESSORS.get(index) else { return std::ptr::null_mut() };
    let known = slot.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    look_up(index, slot)
}

#[cold]
fn look_up(index: usize, slot: &AtomicPtr<CpuState>) -> *mut CpuState {
    // SAFETY: QEMU walks its list of processors, which any thread may do.
    let cpu = unsafe { (qemu().qemu_get_cpu)(index as c_int) };
    slot.store(cpu, Ordering::Relaxed);
    cpu
}
