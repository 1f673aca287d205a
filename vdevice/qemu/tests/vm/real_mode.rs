//! What the guests of the tests and of the measurements have in common.
//!
//! Both are 16-bit code in a ROM that begins at F000:0000, linear 0xF0000. Both take vector 0x25 from wherever it comes: from
//! interrupt 5 of the 8259s, which the local APIC lets through, or from a message.

/// Linear address of the ROM's first byte.
pub(crate) const BASE: u64 = 0xF_0000;
const ROM_LEN: usize = 0x1_0000;
/// The vector that the guest takes interrupts by.
pub(crate) const VECTOR: u32 = 0x25;
/// Where interrupts are masked at the first 8259 before the guest starts: one bit each. All but 5 are masked anyway.
#[allow(dead_code, reason = "the measurements mask none")]
pub(crate) const MASKED: u64 = 0x600;

/// The code that a guest begins with, in AT&T's syntax: segments and a stack, the 8259s, a segment (`fs`) that reaches all of
/// memory, and the local APIC. `$name` begins the guest's labels, of which `$name_rom` is its first byte; those of the tables
/// come with [`tables!`].
macro_rules! prologue {
    ($name:literal) => {
        concat!(
            "cli\n",
            "xorw %ax, %ax\n",
            "movw %ax, %ds\n",
            "movw %ax, %ss\n",
            "movw $0x7000, %sp\n",
            // Interrupt 5 is vector 0x25, once the 8259s say so; all others are masked.
            "movb $0x11, %al\n",
            "outb %al, $0x20\n",
            "movb $0x20, %al\n",
            "outb %al, $0x21\n",
            "movb $4, %al\n",
            "outb %al, $0x21\n",
            "movb $1, %al\n",
            "outb %al, $0x21\n",
            "movb $0xDF, %al\n",
            "orb 0x600, %al\n",
            "outb %al, $0x21\n",
            "movb $0xFF, %al\n",
            "outb %al, $0xA1\n",
            // The local APIC is far beyond what real mode reaches, except through a segment that has been to protected mode.
            "lgdtl %cs:(",
            $name,
            "_gdtr - ",
            $name,
            "_rom)\n",
            "movl %cr0, %eax\n",
            "orb $1, %al\n",
            "movl %eax, %cr0\n",
            "jmp 6f\n",
            "6:\n",
            "movw $8, %bx\n",
            "movw %bx, %fs\n",
            "andb $0xFE, %al\n",
            "movl %eax, %cr0\n",
            "jmp 7f\n",
            "7:\n",
            // It lets the 8259s through once told so.
            "movl $0xFEE000F0, %ebx\n",
            "movl $0x1FF, %fs:(%ebx)\n",
            "movl $0xFEE00350, %ebx\n",
            "movl $0x700, %fs:(%ebx)\n",
        )
    };
}
pub(crate) use prologue;

/// The tables that [`prologue!`] loads.
macro_rules! tables {
    ($name:literal) => {
        concat!(
            $name,
            "_gdt:\n",
            ".quad 0, 0x00CF92000000FFFF\n",
            $name,
            "_gdtr:\n",
            ".word 15\n",
            ".long 0xF0000 + (",
            $name,
            "_gdt - ",
            $name,
            "_rom)\n",
        )
    };
}
pub(crate) use tables;

/// The ROM whose code lies from `begin` to `end`, with a jump to its beginning at the reset vector.
///
/// # Safety
/// Both are labels of one piece of assembly, the second not before the first.
pub(crate) unsafe fn rom(begin: *const u8, end: *const u8) -> Vec<u8> {
    let len = end.addr() - begin.addr();
    // SAFETY: by the caller's word, assembly lays out so many bytes from that label on.
    let code = unsafe { std::slice::from_raw_parts(begin, len) };
    let mut rom = vec![0xF4; ROM_LEN];
    rom[..len].copy_from_slice(code);
    rom[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0x00, 0x00, 0x00, 0xF0]);
    rom
}
