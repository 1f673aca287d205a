//! Squall's embedded guest: a small kernel with NT's driver ABI.
//!
//! It exists so that a legacy driver's Unload can be watched on any machine: no Windows image can be shipped, so this
//! kernel loads the *unmodified* `.sys`, gives it IRQLs, deferred procedure calls, interrupt objects and the I/O
//! manager, and raises NT's bug checks with NT's parameters. It is not Windows, and where it is stricter it says so.
//!
//! The rooms are NT's own components, by the prefixes that every driver author knows: `hal`, `ke`, `mm`, `ps`, `io` and
//! so on; beside them `arch` holds what is the processor's rather than the kernel's.

#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod console;
mod ke;
mod mm;

use arch::boot::BootInfo;

/// The first Rust code: still on the boot stack and the boot page tables, interrupts off, one processor.
fn kernel_main(boot: &BootInfo) -> ! {
    console::println!("squall-testkernel {} ({} MiB)", env!("CARGO_PKG_VERSION"), boot.memory_bytes() >> 20);
    mm::frame::init(boot);
    console::println!("{} frames, selftest {}", mm::frame::free_count(), boot.has_word("selftest"));
    arch::halt_forever()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    console::println!("{info}");
    arch::halt_forever()
}
