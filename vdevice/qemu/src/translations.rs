//! The code that QEMU has translated, and forgetting all of it at once.
//!
//! Going back to a snapshot, QEMU writes the guest's kernel to memory anew, and looks for the translations of each page that it
//! writes; for each that it finds it clears a table of every processor's. That takes ten times as long as all the rest, though none
//! of the translations is wanted any more: after a snapshot QEMU forgets them all. So whoever is about to go back has
//! them forgotten first.

use std::ffi::c_void;

use crate::abi::CpuState;
use crate::symbols::{find, qemu};

/// Has QEMU forget; a moment later, in a thread of a processor's, it has. Nothing where this QEMU does not say how: then
/// going back takes longer. The big lock is held.
pub(crate) fn forget() {
    // From 10.2 on the first, before it the second.
    let routine = [c"queue_tb_flush", c"tb_flush"].into_iter().map(find).find(|routine| !routine.is_null());
    // SAFETY: any number may be asked for.
    let processor = unsafe { (qemu().qemu_get_cpu)(0) };
    let Some(routine) = routine.filter(|_| !processor.is_null()) else { return };
    // SAFETY: both are functions of QEMU's that take a processor and return nothing.
    let routine = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut CpuState)>(routine) };
    // SAFETY: with the big lock held they may be called at any time.
    unsafe { routine(processor) };
}
