//! The context switch.
//!
//! A thread that does not run is a stack pointer: what it must find again is on its stack. Only what a called
//! function has to preserve is pushed, since to the compiler the switch is a call that takes a while. The SSE
//! state is saved beside it: drivers' code keeps values in XMM6 to XMM15 across calls.

use core::arch::naked_asm;

/// The SSE and x87 state, as FXSAVE writes it.
#[derive(Debug, Clone)]
#[repr(C, align(16))]
pub struct FloatingPoint([u8; 512]);

impl FloatingPoint {
    /// What a thread starts with: exceptions masked, round to nearest; x87 at the 53 bits that Windows sets.
    pub const fn initial() -> Self {
        let mut state = [0; 512];
        // FCW = 0x027F, MXCSR = 0x1F80.
        state[0] = 0x7F;
        state[1] = 0x02;
        state[24] = 0x80;
        state[25] = 0x1F;
        Self(state)
    }
}

/// A thread's processor state while it does not run.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    floating_point: FloatingPoint,
    rsp: u64,
}

impl Context {
    /// The context of the code that runs now: filled in by the first switch away from it.
    pub const fn running() -> Self {
        Self { floating_point: FloatingPoint::initial(), rsp: 0 }
    }

    /// A context that will call `entry(argument)` on the stack that ends at `stack_end`.
    ///
    /// # Safety
    /// `stack_end` must be the 16-byte aligned end of a writable stack that outlives the context.
    pub unsafe fn starting(stack_end: u64, entry: extern "C" fn(u64) -> !, argument: u64) -> Self {
        // What `switch` pops, lowest address first: r15 r14 r13 r12 rbx rbp, then where it returns to.
        let first = [0, 0, 0, entry as usize as u64, argument, 0, start as *const () as u64];
        // After these seven pops the stack is 16-byte aligned, as a call wants it.
        let rsp = stack_end - 72;
        // SAFETY: 56 of the last 72 bytes of the stack, which are ours to write until the thread runs.
        unsafe { (rsp as *mut [u64; 7]).write(first) };
        Self { floating_point: FloatingPoint::initial(), rsp }
    }
}

/// Where a new thread begins: `switch` popped its entry into r12 and its argument into rbx.
#[unsafe(naked)]
extern "C" fn start() -> ! {
    naked_asm!("mov rdi, rbx", "xor ebp, ebp", "call r12", "ud2")
}

/// Saves the running code in `from` and continues `to`. Returns when somebody switches back to `from`.
///
/// # Safety
/// At DISPATCH_LEVEL or above with the dispatcher's lock held, which the code continued has to release. `to`
/// holds a context that no processor runs.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(from: *mut Context, to: *const Context) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "fxsave64 [rdi]",
        "mov [rdi + 512], rsp",
        "mov rsp, [rsi + 512]",
        "fxrstor64 [rsi]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
