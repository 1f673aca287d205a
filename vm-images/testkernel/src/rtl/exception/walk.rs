//! Walking the frames of a thread, from the inside out.

use squall_testkernel_pure::unwind::{self, FunctionEntry, Left};

use super::Active;
use crate::ke::thread;
use crate::mm::{modules, paging};
use crate::nt::PVOID;
use crate::nt::exception::{CONTEXT, DISPATCHER_CONTEXT, ExceptionRoutine};

/// No stack is that deep.
const MAX_FRAMES: usize = 512;

/// The image of a loaded driver at an address: its base and its bytes.
pub fn image_at(address: u64) -> Option<(u64, &'static [u8])> {
    let (module, _) = modules::lookup(address).filter(|(module, _)| !module.unloaded)?;
    let start = core::ptr::with_exposed_provenance(module.base as usize);
    // SAFETY: a loaded image is mapped as long as code runs in it, or returns to it. Its tables and code are only read; what a
    // driver changes meanwhile of its own writable sections is read as bytes and believed by nobody.
    Some((module.base, unsafe { core::slice::from_raw_parts(start, module.size as usize) }))
}

unsafe extern "C" {
    static __leaf_text_start: u8;
    static __leaf_text_end: u8;
}

/// Whether an address lies in one of the routines that have no frame: see [`crate::rtl::memory`].
fn is_leaf(address: u64) -> bool {
    let (start, end) = ((&raw const __leaf_text_start).addr(), (&raw const __leaf_text_end).addr());
    (start as u64..end as u64).contains(&address)
}

/// Whether an exception at this address is a driver's: in its code, or in what it called that has no frame.
pub fn belongs_to_a_driver(address: u64) -> bool {
    is_leaf(address) || modules::lookup(address).is_some_and(|(module, _)| !module.unloaded)
}

/// A word of the calling thread's stack.
fn read(address: u64) -> Option<u64> {
    let (low, high) = thread::stack_limits();
    let on_stack = address >= low && address.checked_add(8)? <= high;
    // Where the thread has no stack of its own to be asked for, any memory will do that is there.
    if !address.is_multiple_of(8) || !(on_stack || paging::is_present(address)) {
        return None;
    }
    // SAFETY: that memory is there, and a word of it aligned.
    Some(unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() })
}

/// Handler and data of a frame, by address.
#[derive(Clone, Copy)]
pub struct Handler {
    /// The language's handler.
    pub routine: ExceptionRoutine,
    /// Its data.
    pub data: PVOID,
}

/// One frame of a driver's.
pub struct Frame {
    /// Where its function is.
    pub pc: u64,
    /// Of the image.
    pub base: u64,
    /// Its function's entry, by address.
    pub entry: PVOID,
    /// What handlers find it by.
    pub establisher: u64,
    /// Its handler, where it has one of the kind.
    pub handler: Option<Handler>,
    /// Scopes below this one are done with.
    pub scope: u32,
    /// The registers in it.
    pub context: CONTEXT,
}

impl Frame {
    /// What the handler is told.
    pub fn dispatcher(&self, target: u64, context: &mut CONTEXT, handler: Handler) -> DISPATCHER_CONTEXT {
        DISPATCHER_CONTEXT {
            ControlPc: self.pc,
            ImageBase: self.base,
            FunctionEntry: self.entry,
            EstablisherFrame: self.establisher,
            TargetIp: target,
            ContextRecord: context,
            LanguageHandler: Some(handler.routine),
            HandlerData: handler.data,
            HistoryTable: core::ptr::null_mut(),
            ScopeIndex: self.scope,
            Fill0: 0,
        }
    }
}

/// A walk, and where it stands.
pub struct Walk {
    /// The registers of the next frame.
    pub context: CONTEXT,
    scope: u32,
    left: usize,
}

impl Walk {
    /// From the function on that `context` is in.
    pub fn from(context: &CONTEXT) -> Self {
        Self { context: context.clone(), scope: 0, left: MAX_FRAMES }
    }

    /// The next frame of a driver's, with its handler if it is of this kind; none at the end.
    pub fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let pc = self.context.0.rip;
            let sp = self.context.0.rsp;
            if is_leaf(pc) {
                self.context.0.rip = read(sp)?;
                self.context.0.rsp = sp + 8;
                continue;
            }
            let Some((base, image)) = image_at(pc) else {
                // The dispatcher, perhaps: then on with what it works on.
                let active = Active::above(sp).filter(|_| paging::kernel_text().contains(&pc))?;
                self.context = active.context.clone();
                // SAFETY: it leads to the dispatcher's own record, or nowhere.
                self.scope = unsafe { active.frame.as_ref() }.map_or(0, |frame| frame.ScopeIndex);
                continue;
            };
            let found = unwind::lookup(image, (pc - base) as u32);
            let context = self.context.clone();
            let entry = found.map(|(_, entry)| entry);
            let Left { establisher, handler } =
                unwind::leave(image, base, entry, kind, &mut self.context.0, &read)?;
            // Every frame lies above the one it called.
            if self.context.0.rsp <= sp {
                return None;
            }
            let at = |rva: u32| core::ptr::with_exposed_provenance_mut((base + u64::from(rva)) as usize);
            let handler =
                handler.filter(|handler| (handler.routine as usize) < image.len()).map(|handler| Handler {
                    // SAFETY: what the image names as its handler, or an import's thunk that leads to one.
                    routine: unsafe { core::mem::transmute::<PVOID, ExceptionRoutine>(at(handler.routine)) },
                    data: at(handler.data),
                });
            let scope = core::mem::take(&mut self.scope);
            let entry = found.map_or(core::ptr::null_mut(), |(place, _)| at(place));
            return Some(Frame { pc, base, entry, establisher, handler, scope, context });
        }
    }
}

/// The entry of the function at `pc`, by address, and the base of its image.
pub fn function_at(pc: u64) -> Option<(PVOID, u64)> {
    let (base, image) = image_at(pc)?;
    let (place, _) = unwind::lookup(image, (pc - base) as u32)?;
    Some((core::ptr::with_exposed_provenance_mut((base + u64::from(place)) as usize), base))
}

/// Leaves one frame on behalf of a driver: as `RtlVirtualUnwind` does.
pub fn leave(
    kind: u32,
    base: u64,
    pc: u64,
    entry: FunctionEntry,
    context: &mut CONTEXT,
) -> Option<(Left, &'static [u8])> {
    let (found, image) = image_at(pc)?;
    context.0.rip = pc;
    let left = unwind::leave(image, base, Some(entry), kind as u8, &mut context.0, &read)?;
    (found == base).then_some((left, image))
}
