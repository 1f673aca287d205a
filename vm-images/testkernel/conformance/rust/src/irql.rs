//! IRQL as x64 drivers have it: `KeGetCurrentIrql` and its kin are inline in the kit's headers, one access to CR8 each.

use core::arch::asm;

/// `KeGetCurrentIrql`.
pub(crate) fn current() -> u32 {
    let irql: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr8", out(reg) irql, options(nostack, preserves_flags)) };
    irql as u32
}

/// `KeRaiseIrql` and `KeLowerIrql`. Gives the IRQL before.
///
/// # Safety
///
/// What runs may run at that IRQL, and what was raised is lowered again.
pub(crate) unsafe fn set(irql: u32) -> u32 {
    let before = current();
    // SAFETY: by contract; a register write that lets interrupts in or keeps them out.
    unsafe { asm!("mov cr8, {}", in(reg) u64::from(irql), options(nostack, preserves_flags)) };
    before
}
