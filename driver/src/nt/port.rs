//! I/O ports. The WDK's `READ_PORT_ULONG` and `WRITE_PORT_ULONG` are compiler intrinsics on x64, not exports, so here they are.

use core::arch::asm;

/// Reads a 32-bit port.
///
/// # Safety
///
/// The port belongs to hardware of the caller, and what reading it does there is wanted.
pub(crate) unsafe fn read_u32(port: u16) -> u32 {
    let value;
    // SAFETY: the instruction touches no memory of ours; what it does to the hardware is promised by the caller. Without
    // `nomem`, so that memory accesses stay on their side of it.
    unsafe { asm!("in eax, dx", out("eax") value, in("dx") port, options(nostack, preserves_flags)) };
    value
}

/// Writes a 32-bit port.
///
/// # Safety
///
/// As for [`read_u32`].
pub(crate) unsafe fn write_u32(port: u16, value: u32) {
    // SAFETY: as in `read_u32`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}
