//! A guest for the tests: a ROM that calls two functions in turn, for ever, and counts what interrupts it
//! where.
//!
//! It runs in real mode (`real_mode`). What it has counted is in the first page of memory. It enables a card whose window is
//! at port 0x300, takes its vector from wherever it comes, and acknowledges to the card, the 8259 and the local APIC alike;
//! whoever did not interrupt does not mind.

use std::arch::global_asm;
use std::ptr::addr_of;

use crate::machine::Machine;
pub(crate) use crate::real_mode::VECTOR;
use crate::real_mode::{self, BASE, prologue, tables};

/// Where the guest counts interrupts.
pub(crate) const INTERRUPTS: u64 = 0x500;
/// Where it counts those that came exactly at [`first`].
pub(crate) const AT_FIRST: u64 = 0x504;
/// Where it counts those that came exactly at [`second`].
pub(crate) const AT_SECOND: u64 = 0x508;
/// Where it counts its rounds.
pub(crate) const ROUNDS: u64 = 0x50C;

/// Where it counts those that found the card's STATUS empty.
pub(crate) const EMPTY: u64 = 0x510;
/// Where it counts those that were, by its STATUS, a second card's.
pub(crate) const SECONDS: u64 = 0x514;

/// A port that the guest is to write to, once: it comes by in every round, and then clears this.
pub(crate) const PORT: u64 = 0x604;
/// What it writes there, 32 bits.
pub(crate) const PORT_VALUE: u64 = 0x608;
/// The STATUS port of a second card that shares the line; 0 for none.
pub(crate) const SECOND_STATUS: u64 = 0x60C;
/// Where a script begins that the guest is to follow, once: it comes by in every round, and then clears this.
const SCRIPT: u64 = 0x610;
/// Where the tests put it, and where it keeps what it reads.
const SCRIPT_AT: u64 = 0x1000;
const KEPT: u64 = 0x2000;

global_asm!(
    ".pushsection .rodata.squall_test_rom,\"a\",@progbits",
    ".code16",
    // The compiler may put these into another object file than the functions that name them.
    ".globl squall_test_rom, squall_test_rom_end, squall_test_first, squall_test_after_first",
    ".globl squall_test_second_inside",
    "squall_test_rom:",
    prologue!("squall_test"),
    "movw $(squall_test_isr - squall_test_rom), 0x94",
    "movw $0xF000, 0x96",
    // IRQ_ENABLE.
    "movw $0x304, %dx",
    "movl $1, %eax",
    "outl %eax, %dx",
    "sti",
    "2:",
    "call squall_test_first",
    "squall_test_after_first:",
    "call squall_test_second",
    "incl 0x50C",
    "movw 0x604, %dx",
    "testw %dx, %dx",
    "jz 8f",
    "movl 0x608, %eax",
    "outl %eax, %dx",
    "movw $0, 0x604",
    // A script: port, verb, number; 8 bytes each.
    "8:",
    "movw 0x610, %si",
    "testw %si, %si",
    "jz 2b",
    "movw $0, 0x610",
    "9:",
    "movw (%si), %dx",
    "movw 2(%si), %cx",
    "movl 4(%si), %eax",
    "addw $8, %si",
    "decw %cx",
    "js 2b",
    "jz 82f",
    "decw %cx",
    "jz 83f",
    "84:",
    "decl %eax",
    "jnz 84b",
    "jmp 9b",
    "82:",
    "outl %eax, %dx",
    "jmp 9b",
    "83:",
    "movw %ax, %di",
    "inl %dx, %eax",
    "movl %eax, (%di)",
    "jmp 9b",
    "nop",
    "squall_test_first:",
    "incw %bx",
    "movw $20, %cx",
    "3:",
    "loop 3b",
    "ret",
    // The watched instruction is not the first of its translation block.
    "squall_test_second:",
    "xorw %cx, %cx",
    "squall_test_second_inside:",
    "addw $3, %cx",
    "ret",
    "squall_test_isr:",
    "pushw %bp",
    "movw %sp, %bp",
    "pushl %eax",
    "pushl %ebx",
    "pushw %dx",
    "incl 0x500",
    "movw 2(%bp), %ax",
    "cmpw $(squall_test_first - squall_test_rom), %ax",
    "jne 4f",
    "incl 0x504",
    "4:",
    "cmpw $(squall_test_second_inside - squall_test_rom), %ax",
    "jne 5f",
    "incl 0x508",
    "5:",
    // Acknowledge the card, and the second one, then the 8259 and the local APIC.
    "movw $0x308, %dx",
    "inl %dx, %eax",
    "testl %eax, %eax",
    "jnz 85f",
    "incl 0x510",
    "85:",
    "movl $1, %eax",
    "outl %eax, %dx",
    "movw 0x60C, %dx",
    "testw %dx, %dx",
    "jz 86f",
    "inl %dx, %eax",
    "andl $1, %eax",
    "addl %eax, 0x514",
    "outl %eax, %dx",
    "86:",
    "movb $0x20, %al",
    "outb %al, $0x20",
    "movl $0xFEE000B0, %ebx",
    "movl $0, %fs:(%ebx)",
    "popw %dx",
    "popl %ebx",
    "popl %eax",
    "popw %bp",
    "iret",
    tables!("squall_test"),
    "squall_test_rom_end:",
    ".code64",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    static squall_test_rom: u8;
    static squall_test_rom_end: u8;
    static squall_test_first: u8;
    static squall_test_after_first: u8;
    static squall_test_second_inside: u8;
}

/// What a script has the guest do.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// Write 32 bits to a port.
    Out(u16, u32),
    /// Read 32 bits from a port, and keep them.
    In(u16),
    /// Count down from here: two instructions each.
    Wait(u32),
}

/// Has the guest follow a script, while it is stopped or runs.
pub(crate) fn follow(machine: &mut Machine, script: &[Act]) {
    let mut kept = KEPT;
    for (number, act) in script.iter().enumerate() {
        let (port, verb, value) = match *act {
            Act::Out(port, value) => (port, 1, value),
            Act::In(port) => {
                kept += 4;
                (port, 2, kept as u32 - 4)
            }
            Act::Wait(rounds) => (0, 3, rounds),
        };
        let at = SCRIPT_AT + 8 * number as u64;
        machine.write_memory(at, u32::from(port) | verb << 16);
        machine.write_memory(at + 4, value);
    }
    machine.write_memory(SCRIPT_AT + 8 * script.len() as u64, 0);
    machine.write_memory(SCRIPT, SCRIPT_AT as u32);
}

/// Has a running guest follow a script, and waits until it has come to its end.
pub(crate) fn follow_to_the_end(machine: &mut Machine, script: &[Act]) {
    follow(machine, script);
    machine.wait_for_memory(SCRIPT, |left| left == 0);
    let round = machine.memory(ROUNDS);
    machine.wait_for_memory(ROUNDS, |now| now.wrapping_sub(round) >= 2);
}

/// The first `count` values that the script has read.
pub(crate) fn kept(machine: &mut Machine, count: u64) -> Vec<u32> {
    (0..count).map(|number| machine.memory(KEPT + 4 * number)).collect()
}

fn offset(label: *const u8) -> usize {
    label.addr() - addr_of!(squall_test_rom).addr()
}

/// The ROM.
pub(crate) fn rom() -> Vec<u8> {
    // SAFETY: the first and the last label of the assembly above.
    unsafe { real_mode::rom(addr_of!(squall_test_rom), addr_of!(squall_test_rom_end)) }
}

/// The first instruction of the first function.
pub(crate) fn first() -> u64 {
    BASE + offset(addr_of!(squall_test_first)) as u64
}

/// Where the first function returns to.
pub(crate) fn after_first() -> u64 {
    BASE + offset(addr_of!(squall_test_after_first)) as u64
}

/// An instruction in the middle of the second function.
pub(crate) fn second() -> u64 {
    BASE + offset(addr_of!(squall_test_second_inside)) as u64
}
