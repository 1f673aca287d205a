//! Exceptions, as the routines that handle them see them.

use squall_testkernel_pure::crash_dump::Context;

use super::{PVOID, layout};

/// `CONTEXT`, aligned as it has to be for the floating point state in it.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct CONTEXT(pub Context);

/// What happened.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct EXCEPTION_RECORD {
    /// The status that it is known by.
    pub ExceptionCode: u32,
    /// `EXCEPTION_*` flags.
    pub ExceptionFlags: u32,
    /// An exception that was being handled when this one came.
    pub ExceptionRecord: *mut EXCEPTION_RECORD,
    /// Where.
    pub ExceptionAddress: PVOID,
    /// How many of the words that follow say something.
    pub NumberParameters: u32,
    /// What else there is to know, by code.
    pub ExceptionInformation: [u64; 15],
}
layout!(EXCEPTION_RECORD, size 0x98, ExceptionAddress @ 0x10, ExceptionInformation @ 0x20);

/// `EXCEPTION_NONCONTINUABLE`.
pub const EXCEPTION_NONCONTINUABLE: u32 = 0x1;
/// `EXCEPTION_UNWINDING`: handlers are called to clean up.
pub const EXCEPTION_UNWINDING: u32 = 0x2;
/// `EXCEPTION_EXIT_UNWIND`: with no target.
pub const EXCEPTION_EXIT_UNWIND: u32 = 0x4;
/// `EXCEPTION_NESTED_CALL`.
pub const EXCEPTION_NESTED_CALL: u32 = 0x10;
/// `EXCEPTION_TARGET_UNWIND`: this frame is where the unwinding ends.
pub const EXCEPTION_TARGET_UNWIND: u32 = 0x20;

/// What a filter gets.
#[derive(Debug)]
#[repr(C)]
pub struct EXCEPTION_POINTERS {
    /// What happened.
    pub ExceptionRecord: *mut EXCEPTION_RECORD,
    /// The registers.
    pub ContextRecord: *mut CONTEXT,
}

/// What a language's handler says: `ExceptionContinueExecution`.
pub const CONTINUE_EXECUTION: i32 = 0;
/// `ExceptionContinueSearch`.
pub const CONTINUE_SEARCH: i32 = 1;

/// `EXCEPTION_ROUTINE`: a language's handler.
pub type ExceptionRoutine = unsafe extern "win64" fn(
    record: *mut EXCEPTION_RECORD,
    frame: PVOID,
    context: *mut CONTEXT,
    dispatcher: *mut DISPATCHER_CONTEXT,
) -> i32;

/// What the dispatcher tells a language's handler of the frame.
#[derive(Debug)]
#[repr(C)]
pub struct DISPATCHER_CONTEXT {
    /// Where the function is.
    pub ControlPc: u64,
    /// Its image's base.
    pub ImageBase: u64,
    /// Its entry in the exception directory.
    pub FunctionEntry: PVOID,
    /// The frame.
    pub EstablisherFrame: u64,
    /// Where unwinding leads.
    pub TargetIp: u64,
    /// Registers: of the caller while a handler is looked for, of the function itself while it is unwound.
    pub ContextRecord: *mut CONTEXT,
    /// The handler.
    pub LanguageHandler: Option<ExceptionRoutine>,
    /// Its data.
    pub HandlerData: PVOID,
    /// None is kept.
    pub HistoryTable: PVOID,
    /// Scopes below this one are done with.
    pub ScopeIndex: u32,
    /// Padding.
    pub Fill0: u32,
}
layout!(DISPATCHER_CONTEXT, size 0x50, ContextRecord @ 0x28, HandlerData @ 0x38, ScopeIndex @ 0x48);
