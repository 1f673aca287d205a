//! Squall's embedded guest: a small kernel with NT's driver ABI.
//!
//! It exists so that a legacy driver's Unload can be watched on any machine: no Windows image can be shipped,
//! so this kernel loads the *unmodified* `.sys`, gives it IRQLs, deferred procedure calls, interrupt objects
//! and the I/O manager, and raises NT's bug checks with NT's parameters. It is not Windows, and where it is
//! stricter it says so.
//!
//! The rooms are NT's own components, by the prefixes that every driver author knows: `hal`, `ke`, `mm`,
//! `ps`, `io` and so on; beside them `arch` holds what is the processor's rather than the kernel's.

#![no_std]
#![no_main]

extern crate alloc;

mod agent;
mod arch;
mod cm;
mod console;
mod crash;
mod dbg;
mod etw;
mod ex;
mod fsrtl;
mod hal;
mod io;
mod ke;
mod ldr;
mod mm;
mod nt;
mod ob;
mod phase1;
mod po;
mod ps;
mod rtl;
mod se;
mod selftest;
mod vf;

use arch::boot::BootInfo;
use console::println;
use ke::thread::NORMAL_PRIORITY;

/// Phase 0, the first Rust code: still on the boot stack and the boot page tables, interrupts off, one processor.
fn kernel_main(boot: &BootInfo) -> ! {
    let measurement = hal::clock::Measurement::begin();
    mm::frame::init(boot);
    assert!(mm::paging::init(boot).is_ok(), "not enough memory for the page tables");
    hal::apic::init();
    arch::processors::init_first();
    hal::pic::disable();
    hal::ioapic::init();
    hal::clock::init(measurement);
    assert!(ke::shared_data::init().is_ok(), "not enough memory for the shared page");
    ke::clock::init();

    ke::bugcheck::others_are_reachable();
    let wanted = hal::firmware::processor_count();
    if let Err(number) = arch::processors::start_others(wanted) {
        ke::bugcheck::kernel_fault(format_args!("processor {number} of {wanted} did not start"), line!());
    }
    phase1::start(boot);
    if selftest::is_wanted(boot) {
        let run = selftest::provoke::wanted(boot).unwrap_or(selftest::run);
        let run = move || {
            phase1::wait();
            run();
        };
        assert!(
            ke::thread::spawn("selftest", NORMAL_PRIORITY, run).is_ok(),
            "not enough memory for the first thread"
        );
    } else {
        start_agent();
    }
    arch::processors::idle()
}

/// Starts the thread that answers the host, where there is a line to it.
fn start_agent() {
    if let Err(why) = arch::serial::init() {
        println!("no agent: COM1 is unavailable ({why:?}); start with -device isa-serial");
        return;
    }
    let agent = ke::thread::spawn("agent", agent::PRIORITY, || agent::run());
    assert!(agent.is_ok(), "not enough memory for the agent's thread");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    ke::bugcheck::kernel_fault(format_args!("{info}"), info.location().map_or(0, core::panic::Location::line))
}
