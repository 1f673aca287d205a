//! The local APIC: each processor's own interrupt controller.
//!
//! It holds back what CR8 masks, delivers the rest by vector, carries interrupts between processors, and has
//! a timer. Each processor finds its own at the same place, so `this processor` is meant everywhere below.
//!
//! That place is a page of memory, or, where the processor has the *x2APIC* (Intel's manual, volume 3, "Extended XAPIC
//! (x2APIC)"), a row of model-specific registers in the same order. Each interrupt ends with a write to it, and under an
//! emulator a write to a device's memory costs several times what a register's does; so the x2APIC is used where there is one.

use core::sync::atomic::{AtomicU64, Ordering};

use squall_testkernel_pure::vectors::{CLOCK_VECTOR, SPURIOUS_VECTOR};
use x86_64::registers::model_specific::Msr;

use crate::ke::irql::InterruptsOff;
use crate::mm;

/// Where every PC has it.
const PHYSICAL: u64 = 0xFEE0_0000;

/// Where its registers are mapped; 0 where they are model-specific registers.
static BASE: AtomicU64 = AtomicU64::new(0);

/// `IA32_APIC_BASE`: on, and in x2APIC mode.
const MODE: u32 = 0x1B;
const MODE_ON: u64 = 1 << 11;
const MODE_X2APIC: u64 = 1 << 10;
/// The register at offset 0 of the page.
const FIRST_MSR: u32 = 0x800;
/// `CPUID.1:ECX`: the processor has the x2APIC.
const CPUID_X2APIC: u32 = 1 << 21;

#[derive(Clone, Copy)]
#[repr(u64)]
enum Register {
    Id = 0x20,
    EndOfInterrupt = 0xB0,
    Spurious = 0xF0,
    CommandLow = 0x300,
    CommandHigh = 0x310,
    Timer = 0x320,
    Line0 = 0x350,
    Line1 = 0x360,
    Error = 0x370,
    TimerInitial = 0x380,
    TimerCurrent = 0x390,
    TimerDivide = 0x3E0,
    /// x2APIC only.
    SelfInterrupt = 0x3F0,
}

impl Register {
    /// The register of the x2APIC: 16 bytes of the page are one number.
    fn msr(self) -> Msr {
        Msr::new(FIRST_MSR + (self as u32 >> 4))
    }
}

const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const TO_SELF: u32 = 1 << 18;
const TO_OTHERS: u32 = 3 << 18;
const DIVIDE_BY_1: u32 = 0xB;

fn register(base: u64, register: Register) -> *mut u32 {
    (base + register as u64) as *mut u32
}

fn write(at: Register, value: u32) {
    match BASE.load(Ordering::Relaxed) {
        // SAFETY: `init` found the x2APIC, and every processor turns it on before it writes; the values are those of the page.
        0 => unsafe { at.msr().write(value.into()) },
        // SAFETY: `init` mapped the registers' page; each register is an aligned word in it.
        base => unsafe { register(base, at).write_volatile(value) },
    }
}

fn read(at: Register) -> u32 {
    match BASE.load(Ordering::Relaxed) {
        // SAFETY: as above.
        0 => unsafe { at.msr().read() as u32 },
        // SAFETY: as above.
        base => unsafe { register(base, at).read_volatile() },
    }
}

/// Finds the registers; once, on the first processor.
pub fn init() {
    if core::arch::x86_64::__cpuid(1).ecx & CPUID_X2APIC != 0 {
        return;
    }
    let base = mm::io::map(PHYSICAL, mm::frame::PAGE_SIZE, false);
    assert!(!base.is_null(), "no address left for the local APIC");
    BASE.store(base.addr() as u64, Ordering::Relaxed);
}

/// Turns this processor's APIC on: NMIs come through, everything else local is masked.
pub fn init_this_processor() {
    if is_x2apic() {
        let mut mode = Msr::new(MODE);
        // SAFETY: the processor has this mode, and nothing else uses its APIC yet.
        unsafe { mode.write(mode.read() | MODE_ON | MODE_X2APIC) };
    }
    write(Register::Timer, MASKED);
    write(Register::Line0, MASKED);
    write(Register::Line1, DELIVER_NMI);
    write(Register::Error, MASKED);
    write(Register::TimerDivide, DIVIDE_BY_1);
    write(Register::Spurious, 0x100 | u32::from(SPURIOUS_VECTOR));
}

/// This processor's number on the APIC bus.
pub fn id() -> u32 {
    let id = read(Register::Id);
    if is_x2apic() { id } else { id >> 24 }
}

#[inline]
fn is_x2apic() -> bool {
    BASE.load(Ordering::Relaxed) == 0
}

/// Ends the interrupt in service, so that others of its level can come.
#[inline]
pub fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

fn command(destination: u32, low: u32) {
    if is_x2apic() {
        // SAFETY: as in `write`; here the two halves are one register.
        unsafe { Register::CommandLow.msr().write(u64::from(destination) << 32 | u64::from(low)) };
        return;
    }
    // The two halves belong together: an ISR that sends in between would redirect this one.
    let _off = InterruptsOff::new();
    write(Register::CommandHigh, destination << 24);
    write(Register::CommandLow, low);
}

/// Interrupts this processor at `vector`, as soon as its IRQL allows.
#[inline]
pub fn interrupt_self(vector: u8) {
    if is_x2apic() {
        write(Register::SelfInterrupt, vector.into());
    } else {
        write(Register::CommandLow, u32::from(vector) | ASSERT | TO_SELF);
    }
}

/// Interrupts another processor.
pub fn interrupt(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector) | ASSERT);
}

/// Sends an NMI to every other processor.
pub fn nmi_others() {
    command(0, DELIVER_NMI | ASSERT | TO_OTHERS);
}

/// Sends this processor an NMI.
pub fn nmi_self() {
    let me = crate::ke::processor::current().apic_id;
    command(me, DELIVER_NMI | ASSERT);
}

/// Resets another processor; it waits for [`start`] then.
pub fn reset(apic_id: u32) {
    command(apic_id, DELIVER_INIT | ASSERT);
}

/// Starts another processor in real mode at the physical page `page`.
pub fn start(apic_id: u32, page: u8) {
    command(apic_id, DELIVER_STARTUP | ASSERT | u32::from(page));
}

/// Lets the timer count down from its maximum without interrupting, to be measured.
pub fn timer_run_free() {
    write(Register::Timer, MASKED | u32::from(CLOCK_VECTOR));
    write(Register::TimerInitial, u32::MAX);
}

/// Where the timer's countdown stands.
pub fn timer_current() -> u32 {
    read(Register::TimerCurrent)
}

/// Interrupts at the clock vector once, in `count` timer cycles; 0 never.
pub fn timer_arm(count: u32) {
    write(Register::Timer, u32::from(CLOCK_VECTOR));
    write(Register::TimerInitial, count);
}
