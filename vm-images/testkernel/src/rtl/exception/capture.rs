//! Registers: taken down, and put back.

use core::arch::naked_asm;

use squall_testkernel_pure::crash_dump::Context;

use crate::arch::trap::TrapFrame;
use crate::ldr::export::export;
use crate::nt::exception::CONTEXT;

/// `CONTEXT_FULL | CONTEXT_SEGMENTS`.
const FULL: u32 = 0x0010_000F;

/// The body of a naked export: calls `$routine`, an `unsafe extern "win64" fn(&Call<4>, &mut CONTEXT)`, with the call and the
/// registers that its caller has when it returns.
macro_rules! with_context {
    ($routine:path) => {
        core::arch::naked_asm!(
            "mov [rsp + 8], rcx",
            "mov [rsp + 16], rdx",
            "mov [rsp + 24], r8",
            "mov [rsp + 32], r9",
            // Room for the registers, and for what is called; aligned again.
            "sub rsp, 0x4F8",
            "lea rcx, [rsp + 0x20]",
            "call {capture}",
            "mov rax, [rsp + 0x4F8]",
            "mov [rsp + 0x20 + 0xF8], rax", // rip
            "lea rax, [rsp + 0x500]",
            "mov [rsp + 0x20 + 0x98], rax", // rsp
            "mov rax, [rsp + 0x500]",
            "mov [rsp + 0x20 + 0x80], rax", // rcx
            "lea rcx, [rsp + 0x4F8]",
            "lea rdx, [rsp + 0x20]",
            "call {routine}",
            "add rsp, 0x4F8",
            "ret",
            capture = sym $crate::rtl::exception::capture::RtlCaptureContext,
            routine = sym $routine,
        )
    };
}
pub(super) use with_context;

export! {
    /// *RtlCaptureContext function (ntifs.h)*: the registers that the caller has when this returns.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlCaptureContext(_context: *mut CONTEXT) {
        naked_asm!(
            "mov [rcx + 0x78], rax",
            "mov [rcx + 0x80], rcx",
            "mov [rcx + 0x88], rdx",
            "mov [rcx + 0x90], rbx",
            "lea rax, [rsp + 8]",
            "mov [rcx + 0x98], rax",
            "mov [rcx + 0xA0], rbp",
            "mov [rcx + 0xA8], rsi",
            "mov [rcx + 0xB0], rdi",
            "mov [rcx + 0xB8], r8",
            "mov [rcx + 0xC0], r9",
            "mov [rcx + 0xC8], r10",
            "mov [rcx + 0xD0], r11",
            "mov [rcx + 0xD8], r12",
            "mov [rcx + 0xE0], r13",
            "mov [rcx + 0xE8], r14",
            "mov [rcx + 0xF0], r15",
            "mov rax, [rsp]",
            "mov [rcx + 0xF8], rax",
            "pushfq",
            "pop rax",
            "mov [rcx + 0x44], eax",
            "mov [rcx + 0x38], cs",
            "mov [rcx + 0x3A], ds",
            "mov [rcx + 0x3C], es",
            "mov [rcx + 0x3E], fs",
            "mov [rcx + 0x40], gs",
            "mov [rcx + 0x42], ss",
            "stmxcsr [rcx + 0x34]",
            "fxsave64 [rcx + 0x100]",
            "mov dword ptr [rcx + 0x30], {full}",
            "mov rax, [rcx + 0x78]",
            "ret",
            full = const FULL,
        )
    }

    /// *RtlRestoreContext function*: goes on with these registers. The record of an exception is not looked at.
    pub unsafe extern "win64" fn RtlRestoreContext(context: *const CONTEXT, _record: *const u8) {
        // SAFETY: the caller's registers; what is on the stack below them is over.
        unsafe {
            super::Active::forget_below((*context).0.rsp);
            restore(context)
        }
    }
}

/// Goes on with these registers.
///
/// # Safety
/// They are those of code that can run on the calling thread now.
#[unsafe(naked)]
pub unsafe extern "C" fn restore(context: *const CONTEXT) -> ! {
    naked_asm!(
        "fxrstor64 [rdi + 0x100]",
        "sub rsp, 40",
        "mov rax, [rdi + 0xF8]",
        "mov [rsp], rax",
        "movzx eax, word ptr [rdi + 0x38]",
        "mov [rsp + 8], rax",
        "mov eax, [rdi + 0x44]",
        "mov [rsp + 16], rax",
        "mov rax, [rdi + 0x98]",
        "mov [rsp + 24], rax",
        "movzx eax, word ptr [rdi + 0x42]",
        "mov [rsp + 32], rax",
        "mov rax, [rdi + 0x78]",
        "mov rcx, [rdi + 0x80]",
        "mov rdx, [rdi + 0x88]",
        "mov rbx, [rdi + 0x90]",
        "mov rbp, [rdi + 0xA0]",
        "mov rsi, [rdi + 0xA8]",
        "mov r8, [rdi + 0xB8]",
        "mov r9, [rdi + 0xC0]",
        "mov r10, [rdi + 0xC8]",
        "mov r11, [rdi + 0xD0]",
        "mov r12, [rdi + 0xD8]",
        "mov r13, [rdi + 0xE0]",
        "mov r14, [rdi + 0xE8]",
        "mov r15, [rdi + 0xF0]",
        "mov rdi, [rdi + 0xB0]",
        "iretq",
    )
}

/// The registers of the code that a trap interrupted. Those of floating point are still in the processor.
pub fn of_trap(frame: &TrapFrame) -> CONTEXT {
    let mut context = CONTEXT(Context::EMPTY);
    // SAFETY: the state goes into a part of the structure that is as large as it, and aligned.
    unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) context.0.extended.as_mut_ptr(), options(nostack)) };
    let extended = context.0.extended;
    context.0 = Context { extended, flags: FULL, ..crate::crash::dump::context(frame) };
    context.0.mxcsr = u32::from_le_bytes([extended[24], extended[25], extended[26], extended[27]]);
    context
}

/// A trap frame with these registers, for a bug check's report.
pub fn trap_frame(context: &CONTEXT) -> TrapFrame {
    let from = &context.0;
    TrapFrame {
        r15: from.r15,
        r14: from.r14,
        r13: from.r13,
        r12: from.r12,
        r11: from.r11,
        r10: from.r10,
        r9: from.r9,
        r8: from.r8,
        rdi: from.rdi,
        rsi: from.rsi,
        rbp: from.rbp,
        rbx: from.rbx,
        rdx: from.rdx,
        rcx: from.rcx,
        rax: from.rax,
        vector: 0x100,
        error: 0,
        rip: from.rip,
        cs: from.cs.into(),
        rflags: from.eflags.into(),
        rsp: from.rsp,
        ss: from.ss.into(),
    }
}
