//! Exports that may raise an exception.
//!
//! An exception that a routine raises belongs to whoever called it: it is looked for a handler from the driver's frame on, with
//! the registers that the driver had. A Rust function in between could not be unwound. So such a routine *returns* that it wants
//! to raise, which puts everything back as a return does, and the line of assembly in front of it jumps on to ExRaiseStatus as if
//! the driver had called that.

/// The body of a naked export: calls `$routine`, an `unsafe extern "win64" fn(&Call<N>, raised: &mut NTSTATUS) -> T`, with the call,
/// and raises what that leaves in `raised`, unless it is the 0 that it finds there.
macro_rules! may_raise {
    ($routine:path) => {
        core::arch::naked_asm!(
            "mov [rsp + 8], rcx",
            "mov [rsp + 16], rdx",
            "mov [rsp + 24], r8",
            "mov [rsp + 32], r9",
            "mov rcx, rsp",
            "sub rsp, 56",
            "mov qword ptr [rsp + 40], 0",
            "lea rdx, [rsp + 40]",
            "call {routine}",
            "mov ecx, [rsp + 40]",
            "add rsp, 56",
            "test ecx, ecx",
            "jnz {raise}",
            "ret",
            routine = sym $routine,
            raise = sym $crate::rtl::exception::ExRaiseStatus,
        )
    };
}
pub(crate) use may_raise;
