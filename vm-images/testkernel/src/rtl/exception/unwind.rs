//! Unwinding: the frames between an exception and whoever took it are left one by one, and each cleans up.

use squall_testkernel_pure::unwind::{FunctionEntry, UNWIND_HANDLER};

use super::capture::{restore, with_context};
use super::walk::{self, Walk};
use super::{Active, dispatch};
use crate::ke::bugcheck;
use crate::ldr::caller::Call;
use crate::ldr::export::export;
use crate::nt::PVOID;
use crate::nt::exception::{
    CONTEXT, CONTINUE_SEARCH, EXCEPTION_EXIT_UNWIND, EXCEPTION_RECORD, EXCEPTION_TARGET_UNWIND,
    EXCEPTION_UNWINDING, ExceptionRoutine,
};

/// `STATUS_UNWIND`.
const STATUS_UNWIND: u32 = 0xC000_0027;
/// `STATUS_BAD_STACK`.
const STATUS_BAD_STACK: u32 = 0xC000_0028;

/// Where unwinding ends.
pub struct Target {
    /// The frame; 0: all of them.
    pub frame: u64,
    /// Where execution goes on in it.
    pub ip: u64,
    /// What RAX is then.
    pub value: u64,
}

/// Leaves the frames from `start` on, up to the target's, and goes on there.
pub fn unwind(target: &Target, record: &mut EXCEPTION_RECORD, start: &CONTEXT) -> ! {
    record.ExceptionFlags |= EXCEPTION_UNWINDING;
    if target.frame == 0 {
        record.ExceptionFlags |= EXCEPTION_EXIT_UNWIND;
    }
    let mut active = Active::new(start);
    active.enter();
    let mut walk = Walk::from(start);
    while let Some(frame) = walk.next(UNWIND_HANDLER) {
        let is_target = frame.establisher == target.frame;
        let mut context = frame.context.clone();
        if let Some(handler) = frame.handler {
            if is_target {
                record.ExceptionFlags |= EXCEPTION_TARGET_UNWIND;
            }
            context.0.rax = target.value;
            let mut dispatcher = frame.dispatcher(target.ip, &mut context, handler);
            // What cleans up may raise an exception itself: it then goes on from this frame, without what is done already.
            active.context = frame.context.clone();
            active.frame = &raw const dispatcher;
            let establisher = core::ptr::with_exposed_provenance_mut(frame.establisher as usize);
            let registers = dispatcher.ContextRecord;
            // SAFETY: the handler that the frame's image names, with what it is promised.
            let disposition =
                unsafe { (handler.routine)(record, establisher, registers, &raw mut dispatcher) };
            active.frame = core::ptr::null();
            record.ExceptionFlags &= !EXCEPTION_TARGET_UNWIND;
            if disposition != CONTINUE_SEARCH {
                break;
            }
        }
        if is_target {
            context.0.rip = target.ip;
            context.0.rax = target.value;
            Active::forget_below(context.0.rsp);
            // SAFETY: the frame is on this stack, and what it called is over.
            unsafe { restore(&context) }
        }
    }
    active.leave();
    // The target is no frame of this stack.
    let mut record = EXCEPTION_RECORD::new(STATUS_BAD_STACK, 1, start.0.rip);
    let mut context = start.clone();
    if target.frame != 0 {
        dispatch(&mut record, &mut context);
    }
    bugcheck::unhandled(&record, &context)
}

fn unwind_call(frame: usize, ip: usize, record: usize, value: usize, context: &CONTEXT) -> ! {
    let mut own = EXCEPTION_RECORD::new(STATUS_UNWIND, 0, context.0.rip);
    let record = core::ptr::with_exposed_provenance_mut::<EXCEPTION_RECORD>(record);
    // SAFETY: the caller gives a record or null.
    let record = unsafe { record.as_mut() }.unwrap_or(&mut own);
    let target = Target { frame: frame as u64, ip: ip as u64, value: value as u64 };
    unwind(&target, record, context)
}

/// # Safety
/// The call must be one of RtlUnwind's.
unsafe extern "win64" fn plain(call: &Call<4>, context: &mut CONTEXT) {
    let [frame, ip, record, value] = call.arguments;
    unwind_call(frame, ip, record, value, context)
}

/// # Safety
/// The call must be one of _local_unwind's.
unsafe extern "win64" fn local(call: &Call<4>, context: &mut CONTEXT) {
    let [frame, ip, ..] = call.arguments;
    unwind_call(frame, ip, 0, 0, context)
}

/// # Safety
/// The call must be one of RtlCaptureStackBackTrace's.
unsafe extern "win64" fn back_trace(call: &Call<4>, context: &mut CONTEXT) -> u16 {
    let [skip, wanted, to, hash] = call.arguments;
    let (skip, wanted) = (skip as u32 as usize, wanted as u32 as usize);
    let to = core::ptr::with_exposed_provenance_mut::<u64>(to);
    let mut walk = Walk::from(context);
    let (mut taken, mut sum, mut index) = (0, 0u32, 0);
    while taken < wanted.min(u16::MAX.into()) {
        let Some(frame) = walk.next(0) else { break };
        if index >= skip {
            // SAFETY: the caller gives room for as many addresses as it wants.
            unsafe { to.add(taken).write(frame.pc) };
            sum = sum.wrapping_add(frame.pc as u32);
            taken += 1;
        }
        index += 1;
    }
    let hash = core::ptr::with_exposed_provenance_mut::<u32>(hash);
    if !hash.is_null() {
        // SAFETY: the caller gives storage for it, or null.
        unsafe { hash.write(sum) };
    }
    taken as u16
}

/// # Safety
/// The call must be one of RtlWalkFrameChain's.
unsafe extern "win64" fn frame_chain(call: &Call<4>, context: &mut CONTEXT) -> u32 {
    let [to, wanted, ..] = call.arguments;
    let call = Call { caller: call.caller, arguments: [0, wanted, to, 0] };
    // SAFETY: the same contract.
    unsafe { back_trace(&call, context) }.into()
}

export! {
    /// *RtlUnwind*: leaves the frames up to `frame`, and goes on at `ip` with `value` in RAX.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlUnwind(
        frame: PVOID,
        ip: PVOID,
        record: *mut EXCEPTION_RECORD,
        value: PVOID,
    ) {
        with_context!(plain)
    }

    /// *RtlUnwindEx*: the same; the caller's room for registers and its history are not needed.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlUnwindEx(
        frame: PVOID,
        ip: PVOID,
        record: *mut EXCEPTION_RECORD,
        value: PVOID,
        _context: *mut CONTEXT,
        _history: PVOID,
    ) {
        with_context!(plain)
    }

    /// *_local_unwind*: leaves the `__try` blocks between here and `ip`, in one frame.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn _local_unwind(frame: PVOID, ip: PVOID) {
        with_context!(local)
    }

    /// *RtlLookupFunctionEntry*: the entry of the function at `pc`, and the base of its image; null for a leaf, and for what is no
    /// driver's.
    pub unsafe extern "win64" fn RtlLookupFunctionEntry(pc: u64, base: *mut u64, _history: PVOID) -> PVOID {
        let found = walk::function_at(pc);
        let image = walk::image_at(pc).map_or(0, |(base, _)| base);
        // SAFETY: the caller gives storage for the base.
        unsafe { base.write(image) };
        found.map_or(core::ptr::null_mut(), |(entry, _)| entry)
    }

    /// *RtlVirtualUnwind*: `context` becomes that of the caller; gives the handler of the kind asked for. Of tables that make no sense
    /// nothing comes of it but an instruction pointer of 0, where walks end.
    pub unsafe extern "win64" fn RtlVirtualUnwind(
        kind: u32,
        base: u64,
        pc: u64,
        entry: *const FunctionEntry,
        context: *mut CONTEXT,
        data: *mut PVOID,
        establisher: *mut u64,
        _pointers: PVOID,
    ) -> Option<ExceptionRoutine> {
        // SAFETY: the caller gives an entry, registers, and storage for the rest.
        unsafe {
            let Some((left, _)) = walk::leave(kind, base, pc, entry.read(), &mut *context) else {
                (*context).0.rip = 0;
                return None;
            };
            establisher.write(left.establisher);
            let handler = left.handler?;
            let at = |rva: u32| core::ptr::with_exposed_provenance_mut::<core::ffi::c_void>((base + u64::from(rva)) as usize);
            data.write(at(handler.data));
            Some(core::mem::transmute::<PVOID, ExceptionRoutine>(at(handler.routine)))
        }
    }

    /// *RtlCaptureStackBackTrace function (ntifs.h)*: where the caller, its caller and so on are, as far as they are drivers' functions;
    /// returns how many. The hash is their sum.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlCaptureStackBackTrace(
        skip: u32,
        wanted: u32,
        to: *mut PVOID,
        hash: *mut u32,
    ) -> u16 {
        with_context!(back_trace)
    }

    /// *RtlWalkFrameChain*: the same in another form; flags are for user mode's frames.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn RtlWalkFrameChain(to: *mut PVOID, wanted: u32, flags: u32) -> u32 {
        with_context!(frame_chain)
    }
}
