//! What belongs to the processor rather than to the kernel: the way from reset into Rust, descriptor tables,
//! traps, the context switch, and the starting of the other processors.

pub mod boot;
pub mod context;
pub mod descriptors;
pub mod port;
pub mod processors;
pub mod serial;
pub mod trap;

/// Stops this processor for good: interrupts off, asleep.
pub fn halt_forever() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
