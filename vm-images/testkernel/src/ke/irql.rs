//! Interrupt request levels.
//!
//! A processor runs at one IRQL at a time, and whatever arrives at that level or below waits until the level
//! falls. On x64 this is not a convention but a register: CR8 holds the level, the local APIC compares it
//! with the upper four bits of each vector, and so *vector >> 4 is the IRQL* of an interrupt. Raising masks
//! at once; lowering lets whatever waits in before the next instruction. Nothing else in this kernel keeps
//! book on it.
//!
//! | level | who runs there |
//! |---|---|
//! | 0 PASSIVE | threads; DriverEntry, Unload, most dispatch routines |
//! | 1 APC | threads that keep APCs out (this kernel delivers none) |
//! | 2 DISPATCH | DPCs, the scheduler, whoever holds a spin lock |
//! | 3 to 11 | devices: an ISR runs at its DIRQL |
//! | 13 CLOCK | the clock |
//! | 14 IPI | processors that stop each other |
//! | 15 HIGH | nothing gets through (but NMI) |

use core::arch::asm;
use core::marker::PhantomData;

use squall_testkernel_pure::bugcheck::IRQL_NOT_LESS_OR_EQUAL;

use super::bugcheck;

/// An interrupt request level, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Irql(pub u8);

impl Irql {
    /// Threads.
    pub const PASSIVE: Self = Self(0);
    /// No asynchronous procedure calls.
    pub const APC: Self = Self(1);
    /// No thread switch: DPCs and spin locks.
    pub const DISPATCH: Self = Self(2);
    /// `SYNCH_LEVEL`: above every device, below the clock.
    pub const SYNCH: Self = Self(12);
    /// Everything masked.
    pub const HIGH: Self = Self(15);

    /// The level at which an interrupt of this vector runs.
    #[must_use]
    pub const fn of_vector(vector: u8) -> Self {
        Self(vector >> 4)
    }
}

/// This processor's level.
#[inline]
#[must_use]
pub fn current() -> Irql {
    let level: u64;
    // SAFETY: reading CR8 has no effect.
    unsafe { asm!("mov {}, cr8", out(reg) level, options(nomem, nostack, preserves_flags)) };
    Irql(level as u8)
}

/// Moves this processor to `level`, up or down; whatever was masked and no longer is comes in before this
/// returns.
#[inline]
pub fn set(level: Irql) {
    // Not `nomem`: memory accesses must not be moved across a change of level.
    // SAFETY: writing 0 to 15 to CR8 changes only which interrupts are taken.
    unsafe { asm!("mov cr8, {}", in(reg) u64::from(level.0 & 0xF), options(nostack, preserves_flags)) };
}

/// Raises to `level` and returns the level before. Lowering this way is a mistake of the caller's.
#[inline]
pub fn raise(level: Irql) -> Irql {
    let old = current();
    set(level);
    old
}

/// Back down to `level`, which [`raise`] returned.
#[inline]
pub fn lower(level: Irql) {
    set(level);
}

/// This processor's level, which is DISPATCH_LEVEL or below: what everything asks that takes a lock of the
/// kernel's, `object`.
///
/// Above it somebody called a routine that may not be called there. Windows notices only under Verifier, or
/// by a deadlock now and then; here it always stops the system, with the code that the same mistake has when
/// it hits a page that is absent: 0xA (the object, the IRQL, 1 for a write, the instruction).
#[inline]
pub fn require_dispatch(object: usize) -> Irql {
    let level = current();
    if level > Irql::DISPATCH {
        too_high(object, level);
    }
    level
}

#[cold]
#[inline(never)]
fn too_high(object: usize, level: Irql) -> ! {
    let caller: u64;
    // SAFETY: the kernel is built with frame pointers, so the return address lies above the saved one.
    unsafe { asm!("mov {}, [rbp + 8]", out(reg) caller, options(nostack, readonly, preserves_flags)) };
    bugcheck::bugcheck(IRQL_NOT_LESS_OR_EQUAL, [object as u64, level.0.into(), 1, caller])
}

/// Interrupts off on this processor until dropped: above every IRQL, for what even the clock must not
/// interrupt.
#[derive(Debug)]
pub struct InterruptsOff {
    were_on: bool,
    // Belongs to the processor that it was made on.
    not_send: PhantomData<*const ()>,
}

impl InterruptsOff {
    /// Turns interrupts off and remembers whether they were on.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        let flags: u64;
        // SAFETY: pushes and pops one word; CLI only delays interrupts.
        unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
        Self { were_on: flags & (1 << 9) != 0, not_send: PhantomData }
    }
}

impl Drop for InterruptsOff {
    #[inline]
    fn drop(&mut self) {
        if self.were_on {
            x86_64::instructions::interrupts::enable();
        }
    }
}
