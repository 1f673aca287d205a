//! The local APIC: each processor's own interrupt controller.
//!
//! It holds back what CR8 masks, delivers the rest by vector, carries interrupts between processors, and has
//! a timer. All registers are memory at the same address on each processor, so `this processor` is meant
//! everywhere below.

use core::sync::atomic::{AtomicU64, Ordering};

use squall_testkernel_pure::vectors::{CLOCK_VECTOR, SPURIOUS_VECTOR};

use crate::ke::irql::InterruptsOff;
use crate::mm;

/// Where every PC has it.
const PHYSICAL: u64 = 0xFEE0_0000;

static BASE: AtomicU64 = AtomicU64::new(0);

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
}

const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const TO_SELF: u32 = 1 << 18;
const TO_OTHERS: u32 = 3 << 18;
const DIVIDE_BY_1: u32 = 0xB;

fn register(register: Register) -> *mut u32 {
    (BASE.load(Ordering::Relaxed) + register as u64) as *mut u32
}

fn write(at: Register, value: u32) {
    // SAFETY: `init` mapped the registers' page; each register is an aligned word in it.
    unsafe { register(at).write_volatile(value) };
}

fn read(at: Register) -> u32 {
    // SAFETY: as above.
    unsafe { register(at).read_volatile() }
}

/// Maps the registers; once, on the first processor.
pub fn init() {
    let base = mm::io::map(PHYSICAL, mm::frame::PAGE_SIZE, false);
    assert!(!base.is_null(), "no address left for the local APIC");
    BASE.store(base.addr() as u64, Ordering::Relaxed);
}

/// Turns this processor's APIC on: NMIs come through, everything else local is masked.
pub fn init_this_processor() {
    write(Register::Timer, MASKED);
    write(Register::Line0, MASKED);
    write(Register::Line1, DELIVER_NMI);
    write(Register::Error, MASKED);
    write(Register::TimerDivide, DIVIDE_BY_1);
    write(Register::Spurious, 0x100 | u32::from(SPURIOUS_VECTOR));
}

/// This processor's number on the APIC bus.
pub fn id() -> u32 {
    read(Register::Id) >> 24
}

/// Ends the interrupt in service, so that others of its level can come.
#[inline]
pub fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

fn command(destination: u32, low: u32) {
    // The two halves belong together: an ISR that sends in between would redirect this one.
    let _off = InterruptsOff::new();
    write(Register::CommandHigh, destination << 24);
    write(Register::CommandLow, low);
}

/// Interrupts this processor at `vector`, as soon as its IRQL allows.
#[inline]
pub fn interrupt_self(vector: u8) {
    write(Register::CommandLow, u32::from(vector) | ASSERT | TO_SELF);
}

/// Interrupts another processor.
pub fn interrupt(apic_id: u32, vector: u8) {
    command(apic_id, u32::from(vector) | ASSERT);
}

/// Sends an NMI to every other processor.
pub fn nmi_others() {
    command(0, DELIVER_NMI | ASSERT | TO_OTHERS);
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
