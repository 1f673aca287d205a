//! Traps: what the processor does on an exception or an interrupt, and the state it leaves behind.

use core::arch::global_asm;
use core::ptr;

use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::{Entry, HandlerFunc, InterruptDescriptorTable};

use super::descriptors::{DOUBLE_FAULT_STACK, NMI_STACK};
use crate::ke::{bugcheck, interrupt, nmi};
use crate::rtl::exception as exceptions;
use crate::vf::page_fault;

global_asm!(include_str!("trap.s"), options(att_syntax));

/// The interrupted code's registers, in the order in which `trap.s` and the processor pushed them.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the registers")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Exceptions that have a meaning of their own.
pub mod exception {
    /// Non-maskable interrupt: another processor's bug check, or somebody at the machine's NMI button.
    pub const NMI: u8 = 2;
    /// An exception on the way to the handler of another.
    pub const DOUBLE_FAULT: u8 = 8;
    /// Page fault.
    pub const PAGE_FAULT: u8 = 14;
}

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Bytes from one stub to the next.
const STUB_SIZE: u64 = 16;

/// Points every gate of `table` at its stub, but for what no processor raises. All are interrupt gates: the processor arrives with
/// interrupts off.
pub fn fill(table: &mut InterruptDescriptorTable) {
    // SAFETY: the table is 256 gates of one layout, whatever type the handler behind each has.
    let gates = unsafe { &mut *ptr::from_mut(table).cast::<[Entry<HandlerFunc>; 256]>() };
    let stubs = (&raw const trap_stubs).addr() as u64;
    for (vector, gate) in (0_u8..=255).zip(gates) {
        if matches!(vector, 9 | 15 | 20..=31) {
            continue;
        }
        let stub = VirtAddr::new(stubs + STUB_SIZE * u64::from(vector));
        // SAFETY: each stub is written for its vector: it knows whether there is an error code, and returns with
        // IRET or not at all. The two stacks are this processor's own.
        unsafe {
            let options = gate.set_handler_addr(stub);
            match vector {
                exception::NMI => _ = options.set_stack_index(NMI_STACK),
                exception::DOUBLE_FAULT => _ = options.set_stack_index(DOUBLE_FAULT_STACK),
                _ => {}
            }
        }
    }
}

/// Called by `trap.s` for exceptions, with interrupts off. Returns where a page is there again that was out of reach, or a
/// driver claims an NMI; everything else is a driver's to handle, or ends in a bug check (but see NMI).
#[unsafe(no_mangle)]
extern "C" fn exception_entry(frame: &TrapFrame) {
    let resolved = match frame.vector as u8 {
        exception::PAGE_FAULT => page_fault::resolve(Cr2::read_raw(), frame.error, frame.rip),
        exception::NMI => !bugcheck::is_under_way() && nmi::is_handled(),
        _ => false,
    };
    if !resolved {
        exceptions::trapped(frame, Cr2::read_raw());
        bugcheck::exception(frame);
    }
}

/// Called by `trap.s` for interrupts, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn interrupt_entry(frame: &TrapFrame) {
    interrupt::take(frame.vector as u8);
}
