//! What compilers call before a frame of more than a page: so that none of its pages is stepped over, each is touched in turn.
//!
//! A guard page round every stack is only worth something if whoever runs out of stack meets it. *-Gs (Control stack checking
//! calls)* and *x64 prolog and epilog* say when `__chkstk` is called and what it may change; ntoskrnl.exe exports it for drivers,
//! which are linked without the C runtime that has it otherwise.

use core::arch::naked_asm;

use crate::ke::thread;
use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

export! {
    /// *x64 prolog and epilog*: RAX is the size of the frame in bytes. Touches each of its pages, from the caller's down; changes
    /// nothing but R10, R11 and the flags.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn __chkstk() {
        naked_asm!(
            "lea r10, [rsp + 8]", // the caller's stack pointer
            "mov r11, r10",
            "sub r10, rax",
            // A frame larger than all addresses ends at the lowest.
            "jae 2f",
            "xor r10d, r10d",
            "2:",
            "and r10, -4096",
            "and r11, -4096",
            "3:",
            "cmp r11, r10",
            "jbe 4f",
            "sub r11, 4096",
            "test byte ptr [r11], 0",
            "jmp 3b",
            "4:",
            "ret",
        )
    }
}

kernel_test! {
    fn a_probe_touches_the_frame_and_keeps_every_register_but_two() {
        let here = 0u8;
        let room = (&raw const here).addr() as u64 - thread::stack_limits().0;
        for bytes in [0, 1, 4096, 4097, room - 2048] {
            let (mut rax, mut rcx, mut rdx, mut r8, mut r9) = (bytes, 1u64, 2u64, 3u64, 4u64);
            // SAFETY: the routine changes R10, R11 and flags, and reads the stack within its limits.
            unsafe {
                core::arch::asm!(
                    "call {probe}", probe = sym __chkstk,
                    inout("rax") rax, inout("rcx") rcx, inout("rdx") rdx, inout("r8") r8, inout("r9") r9,
                    out("r10") _, out("r11") _,
                );
            }
            check!((rax, rcx, rdx, r8, r9) == (bytes, 1, 2, 3, 4));
        }
    }
}
