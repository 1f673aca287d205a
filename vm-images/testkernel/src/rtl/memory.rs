//! The C library's memory routines and the `Rtl` names for them, as ntoskrnl.exe exports them.
//!
//! Drivers call them within `__try`, with addresses that may not be there. So they are leaves, without a frame and without a
//! register that their caller relies on: an exception in one is its caller's as it stands ([`super::exception`]).

use core::ffi::c_void;

use crate::ldr::export::export;
use crate::selftest::{check, kernel_test};

/// Copies RCX <- RDX, R8 bytes, overlapping or not; gives RCX.
macro_rules! copy {
    () => {
        core::arch::naked_asm!(
            "mov rax, rcx",
            "mov r9, rcx",
            "sub r9, rdx",
            "cmp r9, r8", // below: the target begins inside the source
            "jb 4f",
            "cmp r8, 16",
            "jb 3f",
            "2:",
            "movups xmm0, [rdx]",
            "movups [rcx], xmm0",
            "add rdx, 16",
            "add rcx, 16",
            "sub r8, 16",
            "cmp r8, 16",
            "jae 2b",
            "3:",
            "test r8, r8",
            "jz 9f",
            "5:",
            "mov r9b, [rdx]",
            "mov [rcx], r9b",
            "inc rdx",
            "inc rcx",
            "dec r8",
            "jnz 5b",
            "9:",
            "ret",
            "4:",
            "add rdx, r8",
            "add rcx, r8",
            "cmp r8, 16",
            "jb 6f",
            "7:",
            "sub rdx, 16",
            "sub rcx, 16",
            "movups xmm0, [rdx]",
            "movups [rcx], xmm0",
            "sub r8, 16",
            "cmp r8, 16",
            "jae 7b",
            "6:",
            "test r8, r8",
            "jz 9b",
            "8:",
            "dec rdx",
            "dec rcx",
            "mov r9b, [rdx]",
            "mov [rcx], r9b",
            "dec r8",
            "jnz 8b",
            "ret",
        )
    };
}

/// Fills RCX, R8 bytes, with DL; gives RCX.
macro_rules! fill {
    ($($first:literal)*) => {
        core::arch::naked_asm!(
            $($first,)*
            "mov rax, rcx",
            "movzx r9d, dl",
            "mov rdx, 0x0101010101010101",
            "imul r9, rdx",
            "cmp r8, 8",
            "jb 3f",
            "2:",
            "mov [rcx], r9",
            "add rcx, 8",
            "sub r8, 8",
            "cmp r8, 8",
            "jae 2b",
            "3:",
            "test r8, r8",
            "jz 5f",
            "4:",
            "mov [rcx], r9b",
            "inc rcx",
            "dec r8",
            "jnz 4b",
            "5:",
            "ret",
        )
    };
}

export! {
    /// `memcpy`; ntoskrnl's tolerates overlap, as it is the same routine as `memmove`.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
        copy!()
    }

    /// `memmove`.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
        copy!()
    }

    /// `memset`.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void {
        fill!()
    }

    /// `memcmp`.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn memcmp(left: *const c_void, right: *const c_void, bytes: usize) -> i32 {
        core::arch::naked_asm!(
            "xor eax, eax",
            "test r8, r8",
            "jz 3f",
            "2:",
            "movzx r9d, byte ptr [rcx]",
            "movzx r10d, byte ptr [rdx]",
            "cmp r9d, r10d",
            "jne 4f",
            "inc rcx",
            "inc rdx",
            "dec r8",
            "jnz 2b",
            "3:",
            "ret",
            "4:",
            "sbb eax, eax",
            "or eax, 1",
            "ret",
        )
    }

    /// *RtlCopyMemory macro (wdm.h)*, in its exported form.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn RtlCopyMemory(to: *mut c_void, from: *const c_void, bytes: usize) {
        copy!()
    }

    /// *RtlCopyMemoryNonTemporal function (wdm.h)*: which of the caches it goes past makes no difference here.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn RtlCopyMemoryNonTemporal(to: *mut c_void, from: *const c_void, bytes: usize) {
        copy!()
    }

    /// *RtlMoveMemory macro (wdm.h)*, in its exported form.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn RtlMoveMemory(to: *mut c_void, from: *const c_void, bytes: usize) {
        copy!()
    }

    /// *RtlZeroMemory macro (wdm.h)*, in its exported form.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn RtlZeroMemory(to: *mut c_void, bytes: usize) {
        fill!("mov r8, rdx" "xor edx, edx")
    }

    /// *RtlFillMemory macro (wdm.h)*, in its exported form: length before value.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn RtlFillMemory(to: *mut c_void, bytes: usize, byte: u8) {
        fill!("mov r9, rdx" "mov edx, r8d" "mov r8, r9")
    }

    /// *RtlCompareMemory function (wdm.h)*: how many bytes are equal before the first that differs.
    #[unsafe(naked)]
    #[unsafe(link_section = ".text.squall_leaf")]
    pub unsafe extern "win64" fn RtlCompareMemory(left: *const c_void, right: *const c_void, bytes: usize) -> usize {
        core::arch::naked_asm!(
            "xor eax, eax",
            "2:",
            "cmp rax, r8",
            "jae 3f",
            "movzx r9d, byte ptr [rcx + rax]",
            "cmp r9b, [rdx + rax]",
            "jne 3f",
            "inc rax",
            "jmp 2b",
            "3:",
            "ret",
        )
    }

    /// *RtlCompareMemoryUlong function (ntifs.h)*: how many bytes at the beginning repeat a pattern.
    pub unsafe extern "win64" fn RtlCompareMemoryUlong(memory: *const u32, bytes: usize, pattern: u32) -> usize {
        // SAFETY: the caller gives that many bytes, four at a time.
        let equal = |&index: &usize| unsafe { memory.add(index).read() } == pattern;
        4 * (0..bytes / 4).take_while(equal).count()
    }
}

kernel_test! {
    fn copies_of_every_length_and_overlap_are_right() {
        let mut memory = [0u8; 160];
        for length in [0, 1, 7, 8, 15, 16, 17, 33, 64] {
            for (from, to) in [(0usize, 80usize), (80, 0), (10, 13), (13, 10), (10, 10), (10, 26), (26, 10)] {
                for (index, byte) in memory.iter_mut().enumerate() {
                    *byte = index as u8;
                }
                let base = memory.as_mut_ptr();
                // SAFETY: both ranges lie in the array.
                unsafe {
                    let end = memmove(base.add(to).cast(), base.add(from).cast(), length);
                    check!(end == base.add(to).cast());
                    check!((0..length).all(|index| base.add(to + index).read() == (from + index) as u8));
                    check!((to + length..160).all(|index| base.add(index).read() == index as u8));
                    memset(base.add(3).cast(), 0x1A5, length);
                    check!((3..3 + length).all(|index| base.add(index).read() == 0xA5));
                    check!(RtlCompareMemory(base.cast(), base.cast(), length) == length);
                    let next = base.add(length + 3).read();
                    check!(length == 0 || next == (length + 3) as u8 || to + length > length + 3);
                }
            }
        }
        let (small, large) = ([1u8, 2, 3], [1u8, 2, 0xF0]);
        let compare = |left: &[u8; 3], right: &[u8; 3], count| {
            // SAFETY: three bytes each.
            unsafe { memcmp(left.as_ptr().cast(), right.as_ptr().cast(), count) }
        };
        check!(compare(&small, &large, 3) < 0 && compare(&large, &small, 3) > 0 && compare(&small, &large, 2) == 0);
    }
}
