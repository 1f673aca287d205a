//! `__C_specific_handler`: `__try`, `__except` and `__finally` of C.
//!
//! The compiler leaves a table of a function's guarded stretches, inner ones first, each with its filter and its block, or with its
//! `__finally`. While a handler is looked for the filters are asked; while frames are left the `__finally` blocks run.

use squall_testkernel_pure::unwind::Scope;

use super::unwind::{Target, unwind};
use super::walk;
use crate::ldr::export::export;
use crate::nt::exception::{
    CONTEXT, CONTINUE_EXECUTION, CONTINUE_SEARCH, DISPATCHER_CONTEXT, EXCEPTION_POINTERS, EXCEPTION_RECORD,
    EXCEPTION_TARGET_UNWIND, EXCEPTION_UNWINDING,
};
use crate::nt::{BOOLEAN, PVOID, TRUE};

type Filter = unsafe extern "win64" fn(pointers: *mut EXCEPTION_POINTERS, frame: PVOID) -> i32;
type Finally = unsafe extern "win64" fn(abnormal: BOOLEAN, frame: PVOID);

/// In the place of a filter's address: `EXCEPTION_EXECUTE_HANDLER` without asking.
const EVERY: u32 = 1;

/// The scopes of the handler's frame.
struct Scopes {
    image: &'static [u8],
    base: u64,
    data: u32,
    rva: u32,
}

impl Scopes {
    fn of(dispatcher: &DISPATCHER_CONTEXT) -> Option<Self> {
        let (base, image) = walk::image_at(dispatcher.ControlPc)?;
        let data = u32::try_from((dispatcher.HandlerData.addr() as u64).checked_sub(base)?).ok()?;
        Some(Self { image, base, data, rva: (dispatcher.ControlPc - base) as u32 })
    }

    fn get(&self, index: u32) -> Option<Scope> {
        Scope::read(self.image, self.data, index)
    }

    fn address(&self, rva: u32) -> PVOID {
        core::ptr::with_exposed_provenance_mut((self.base + u64::from(rva)) as usize)
    }
}

/// Asks the filters around the place; comes back where none takes the exception.
///
/// # Safety
/// The arguments are those of the handler.
unsafe fn search(
    scopes: &Scopes,
    record: *mut EXCEPTION_RECORD,
    frame: PVOID,
    context: *mut CONTEXT,
    first: u32,
) -> i32 {
    let mut index = first;
    while let Some(scope) = scopes.get(index) {
        index += 1;
        if !scope.guards(scopes.rva) || scope.target == 0 {
            continue;
        }
        if scope.routine != EVERY {
            let mut pointers = EXCEPTION_POINTERS { ExceptionRecord: record, ContextRecord: context };
            // SAFETY: the filter that the driver's compiler named.
            let verdict = unsafe {
                let filter = core::mem::transmute::<PVOID, Filter>(scopes.address(scope.routine));
                filter(&raw mut pointers, frame)
            };
            match verdict {
                0 => continue,
                verdict if verdict < 0 => return CONTINUE_EXECUTION,
                _ => {}
            }
        }
        // SAFETY: the exception's record and registers.
        let (record, start) = unsafe { (&mut *record, &*context) };
        let target = Target {
            frame: frame.addr() as u64,
            ip: scopes.address(scope.target).addr() as u64,
            value: record.ExceptionCode.into(),
        };
        unwind(&target, record, start)
    }
    CONTINUE_SEARCH
}

/// Runs what is to be run on the way out of the frame.
///
/// # Safety
/// The arguments are those of the handler.
unsafe fn clean_up(
    scopes: &Scopes,
    record: *mut EXCEPTION_RECORD,
    frame: PVOID,
    dispatcher: *mut DISPATCHER_CONTEXT,
) -> i32 {
    // SAFETY: the caller's.
    let (flags, target, first) =
        unsafe { ((*record).ExceptionFlags, (*dispatcher).TargetIp, (*dispatcher).ScopeIndex) };
    let ends_here = flags & EXCEPTION_TARGET_UNWIND != 0;
    let target = target.wrapping_sub(scopes.base) as u32;
    let mut index = first;
    while let Some(scope) = scopes.get(index) {
        index += 1;
        if !scope.guards(scopes.rva) {
            continue;
        }
        // Execution goes on in this stretch, or in its own block: what is around it stays.
        if ends_here && (scope.guards(target) || (scope.target != 0 && scope.target == target)) {
            break;
        }
        if scope.target == 0 {
            // SAFETY: the block that the driver's compiler named. It may raise an exception: then it is not run again.
            unsafe {
                (*dispatcher).ScopeIndex = index;
                core::mem::transmute::<PVOID, Finally>(scopes.address(scope.routine))(TRUE, frame);
            }
        }
    }
    CONTINUE_SEARCH
}

export! {
    /// *__C_specific_handler*, which images name as the handler of functions with `__try` in them.
    pub unsafe extern "win64" fn __C_specific_handler(
        record: *mut EXCEPTION_RECORD,
        frame: PVOID,
        context: *mut CONTEXT,
        dispatcher: *mut DISPATCHER_CONTEXT,
    ) -> i32 {
        // SAFETY: the dispatcher's arguments.
        unsafe {
            let Some(scopes) = Scopes::of(&*dispatcher) else { return CONTINUE_SEARCH };
            if (*record).ExceptionFlags & EXCEPTION_UNWINDING != 0 {
                clean_up(&scopes, record, frame, dispatcher)
            } else {
                search(&scopes, record, frame, context, (*dispatcher).ScopeIndex)
            }
        }
    }
}
