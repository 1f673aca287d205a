//! The guest of the measurements: a ROM that does the jobs of a list, and notes how long each took.
//!
//! It runs in real mode, as the tests' guest does (`real_mode`). A job is one kind of access, or of interrupt, so many times. The whole list runs without the host, so that what is compared is measured within
//! milliseconds of each other, and nothing asks for QEMU's big lock meanwhile: the guest lets a moment pass before the first
//! job, and the host looks only when the list should be done.
//!
//! QEMU looks a page up by the low bits of its number, and pages whose bits are the same are in each other's way. So the
//! guest keeps everything of its own, down to the interrupt table, out of page 0: that is the place of the devices, which
//! are all on a megabyte of their own, since `edu` can be nowhere else. It looks translated code up by the low bits of the
//! address and the page; so the interrupts' routine has a page of its own, that no job's code is in its way.

use std::arch::global_asm;
use std::ptr::addr_of;

pub(crate) use crate::real_mode::VECTOR;
use crate::real_mode::{self, prologue, tables};

/// Number of jobs; the guest begins when it is not 0, and clears it when all are done.
pub(crate) const JOBS: u64 = 0x2000;
/// The list of jobs.
pub(crate) const LIST: u64 = 0x2100;
/// Bytes of a job in the list.
const JOB_LEN: u64 = 48;
/// Accesses that one round of the guest's loops makes: a job's count is a multiple.
pub(crate) const UNROLLED: u32 = 16;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Nothing: what the loop itself costs.
    Loop = 0,
    /// Reads 32 bits of memory.
    Read = 1,
    /// Writes 32 bits of memory.
    Write = 2,
    /// Reads a 32-bit port.
    PortRead = 3,
    /// Writes a 32-bit port.
    PortWrite = 4,
    /// Takes interrupts, of which each is asked for by a write.
    Ask = 5,
    /// Takes interrupts that come by themselves once a write has let them.
    Let = 6,
}

/// How the guest tells the interrupt controller that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Controller {
    /// The first 8259.
    Pic = 0,
    /// The local APIC.
    LocalApic = 1,
}

/// One job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    /// What is accessed; for interrupts, what asks for them or lets them come.
    pub(crate) address: u32,
    /// What is written there.
    pub(crate) value: u32,
    /// How often.
    pub(crate) count: u32,
    /// Where an interrupt is acknowledged to the device, and by which value.
    pub(crate) acknowledge: (u32, u32),
    pub(crate) controller: Controller,
    /// Where is written at the last interrupt, before it is acknowledged, and what.
    pub(crate) end: (u32, u32),
}

impl Job {
    /// Accesses without interrupts.
    pub(crate) fn access(kind: Kind, address: u32, value: u32, count: u32) -> Self {
        Self { kind, address, value, count, acknowledge: (0, 0), controller: Controller::Pic, end: (0, 0) }
    }

    /// The words of its entry in the list.
    pub(crate) fn words(&self) -> [u32; 9] {
        let Self { kind, address, value, count, acknowledge, controller, end } = *self;
        let count = if (kind as u32) < Kind::Ask as u32 { count / UNROLLED } else { count };
        [kind as u32, address, value, count, acknowledge.0, acknowledge.1, controller as u32, end.0, end.1]
    }

    /// Where a job is in the list.
    pub(crate) fn place(index: usize) -> u64 {
        LIST + index as u64 * JOB_LEN
    }

    /// Where the guest notes how long it took, in ticks of the processor's time stamp counter: 64 bits.
    pub(crate) fn ticks(index: usize) -> u64 {
        Self::place(index) + 36
    }
}

global_asm!(
    ".pushsection .rodata.squall_bench_rom,\"a\",@progbits",
    ".code16",
    ".globl squall_bench_rom, squall_bench_rom_end",
    "squall_bench_rom:",
    prologue!("squall_bench"),
    "movw $(squall_bench_isr - squall_bench_rom), 0x4094",
    "movw $0xF000, 0x4096",
    "lidtl %cs:(squall_bench_idtr - squall_bench_rom)",
    "squall_bench_wait:",
    "movl 0x2000, %ebp",
    "testl %ebp, %ebp",
    "jz squall_bench_wait",
    // Whoever has told the jobs still holds QEMU's big lock for a moment: some tenth of a millisecond, and it is over.
    "movl $0x20000, %ecx",
    "8:",
    "decl %ecx",
    "jnz 8b",
    "movw $0x2100, %si",
    "squall_bench_job:",
    "movl 12(%si), %ecx",
    "movl %ecx, 0x2008",
    "movl 4(%si), %ebx",
    "rdtsc",
    "movl %eax, 36(%si)",
    "movl %edx, 40(%si)",
    "movl 8(%si), %eax",
    "movw %bx, %dx",
    "movw (%si), %di",
    "addw %di, %di",
    "jmpw *%cs:(squall_bench_kinds - squall_bench_rom)(%di)",
    // Nothing.
    "squall_bench_loop:",
    "decl %ecx",
    "jnz squall_bench_loop",
    "jmp squall_bench_done",
    "squall_bench_read:",
    ".rept 16",
    "movl %fs:(%ebx), %eax",
    ".endr",
    "decl %ecx",
    "jnz squall_bench_read",
    "jmp squall_bench_done",
    "squall_bench_write:",
    ".rept 16",
    "movl %eax, %fs:(%ebx)",
    ".endr",
    "decl %ecx",
    "jnz squall_bench_write",
    "jmp squall_bench_done",
    "squall_bench_port_read:",
    ".rept 16",
    "inl %dx, %eax",
    ".endr",
    "decl %ecx",
    "jnz squall_bench_port_read",
    "jmp squall_bench_done",
    "squall_bench_port_write:",
    ".rept 16",
    "outl %eax, %dx",
    ".endr",
    "decl %ecx",
    "jnz squall_bench_port_write",
    "jmp squall_bench_done",
    // Each interrupt is asked for when the one before has been taken.
    "squall_bench_ask:",
    "sti",
    "2:",
    "movl %eax, %fs:(%ebx)",
    "decl %ecx",
    "3:",
    "cmpl %ecx, 0x2008",
    "jne 3b",
    "testl %ecx, %ecx",
    "jnz 2b",
    "jmp squall_bench_done",
    // They come by themselves.
    "squall_bench_let:",
    "movl %eax, %fs:(%ebx)",
    "sti",
    "4:",
    "cmpl $0, 0x2008",
    "jne 4b",
    "squall_bench_done:",
    "rdtsc",
    "cli",
    "subl 36(%si), %eax",
    "sbbl 40(%si), %edx",
    "movl %eax, 36(%si)",
    "movl %edx, 40(%si)",
    "addw $48, %si",
    "decl %ebp",
    "jnz squall_bench_job",
    "movl $0, 0x2000",
    "jmp squall_bench_wait",
    "squall_bench_kinds:",
    ".word squall_bench_loop - squall_bench_rom",
    ".word squall_bench_read - squall_bench_rom",
    ".word squall_bench_write - squall_bench_rom",
    ".word squall_bench_port_read - squall_bench_rom",
    ".word squall_bench_port_write - squall_bench_rom",
    ".word squall_bench_ask - squall_bench_rom",
    ".word squall_bench_let - squall_bench_rom",
    "squall_bench_idtr:",
    ".word 0x3FF",
    ".long 0x4000",
    tables!("squall_bench"),
    ".org 0x1000",
    "squall_bench_isr:",
    "pushl %eax",
    "pushl %ebx",
    "decl 0x2008",
    "jnz 5f",
    "movl 28(%si), %ebx",
    "movl 32(%si), %eax",
    "movl %eax, %fs:(%ebx)",
    "5:",
    "movl 16(%si), %ebx",
    "movl 20(%si), %eax",
    "movl %eax, %fs:(%ebx)",
    "cmpl $0, 24(%si)",
    "jne 6f",
    "movb $0x20, %al",
    "outb %al, $0x20",
    "popl %ebx",
    "popl %eax",
    "iret",
    "6:",
    "movl $0xFEE000B0, %ebx",
    "movl $0, %fs:(%ebx)",
    "popl %ebx",
    "popl %eax",
    "iret",
    "squall_bench_rom_end:",
    ".code64",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    static squall_bench_rom: u8;
    static squall_bench_rom_end: u8;
}

/// The ROM.
pub(crate) fn rom() -> Vec<u8> {
    // SAFETY: the first and the last label of the assembly above.
    unsafe { real_mode::rom(addr_of!(squall_bench_rom), addr_of!(squall_bench_rom_end)) }
}
