//! Exports that have to know who calls them.
//!
//! What a driver allocates is put down to it by the address of the code that asked, and a Rust function cannot ask
//! for its return address. Where the routine has fewer than four arguments a line of assembly passes it as one more;
//! for all others there is [`with_caller!`], which passes the whole call as one structure.

/// A call as it lies on the stack: where it returns to, and eight bytes for each argument, of which a smaller type
/// uses the lower ones.
#[derive(Debug)]
#[repr(C)]
pub struct Call<const N: usize> {
    /// The return address.
    pub caller: usize,
    /// The arguments.
    pub arguments: [usize; N],
}

/// The body of a naked export: calls `$routine`, an `extern "win64" fn(&Call<N>) -> T`, with the call.
///
/// The first four arguments go where the calling convention keeps room for them, next to the others. The routine
/// gets a frame of its own, as it may use *its* room for anything.
macro_rules! with_caller {
    ($routine:path) => {
        core::arch::naked_asm!(
            "mov [rsp + 8], rcx",
            "mov [rsp + 16], rdx",
            "mov [rsp + 24], r8",
            "mov [rsp + 32], r9",
            "mov rcx, rsp",
            "sub rsp, 40",
            "call {}",
            "add rsp, 40",
            "ret",
            sym $routine
        )
    };
}
pub(crate) use with_caller;
