//! Failure injection: one call that DriverEntry makes fails.
//!
//! A DriverEntry that fails half-way has to give back exactly what it had, which hardly anybody ever sees happen. So the
//! loader can put a *stub* between a driver and each routine that can fail ([`super::fallible`]). While DriverEntry runs, the
//! stubs count; the call with the wanted number is not made, and its caller is told what the documentation says such a
//! failure is told by. Asked again with the next number until none is left, every path out of DriverEntry has been
//! taken.
//!
//! Only DriverEntry's own calls count: not those of an ISR or DPC that comes in between, nor those of other threads of the
//! driver. A stub that does not fail jumps to the routine, which therefore sees the driver as its caller, as ever.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::export::{Export, Module, lookup};
use super::fallible::{self, Failure};
use crate::ex::pool;
use crate::io::irp;
use crate::ke::irql::{self, Irql};
use crate::ke::{processor, thread};
use crate::mm::image::{self, ImageRegion};
use crate::mm::paging::Protection;
use crate::nt::{IRP, NTSTATUS, STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES};
use crate::selftest::{check, kernel_test};

/// What is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which of the calls that can fail, from 1; 0 for none of them, to count only.
    pub call: u32,
    /// The status of a failure that is told by one.
    pub status: NTSTATUS,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Calls that could fail.
    pub calls: u32,
    /// The routine that did.
    pub failed: Option<&'static str>,
}

/// Nobody's thread.
const NOBODY: usize = 0;

/// One run of a DriverEntry, watched.
#[derive(Debug)]
pub struct Watch {
    plan: Plan,
    /// The thread that DriverEntry runs on, while it does.
    thread: AtomicUsize,
    calls: AtomicU32,
    /// The export that failed.
    failed: AtomicUsize,
}

impl Watch {
    /// One that carries `plan` out.
    pub fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            plan,
            thread: AtomicUsize::new(NOBODY),
            calls: AtomicU32::new(0),
            failed: AtomicUsize::new(0),
        })
    }

    /// Runs DriverEntry: what `entry` calls through the stubs counts.
    pub fn over<T>(&self, entry: impl FnOnce() -> T) -> T {
        self.thread.store(thread::current().as_ptr().addr(), Ordering::Release);
        let result = entry();
        self.thread.store(NOBODY, Ordering::Release);
        result
    }

    /// What came of it so far.
    pub fn outcome(&self) -> Outcome {
        let failed = ptr::with_exposed_provenance::<Export>(self.failed.load(Ordering::Acquire));
        // SAFETY: null, or an export, and exports live for ever.
        let failed = unsafe { failed.as_ref() }.map(Export::name);
        Outcome { calls: self.calls.load(Ordering::Acquire), failed }
    }

    /// Whether this code is DriverEntry's, and not what interrupts it.
    fn is_here(&self) -> bool {
        self.thread.load(Ordering::Acquire) == thread::current().as_ptr().addr()
            && irql::current() <= Irql::DISPATCH
            && processor::current().dpc_active.load(Ordering::Relaxed) == 0
    }

    /// Counts a call; true where it is the one.
    fn counts(&self, export: &'static Export) -> bool {
        let number = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        if number != self.plan.call {
            return false;
        }
        self.failed.store(ptr::from_ref(export).expose_provenance(), Ordering::Release);
        true
    }
}

/// What a stub stands for.
#[derive(Debug)]
struct Stub {
    watch: Arc<Watch>,
    export: &'static Export,
    failure: Failure,
    /// Where the import would lead without the stub.
    target: usize,
}

/// Room for the code of one stub.
const STUB_BYTES: usize = 32;

/// The stubs of one image. They must live as long as it does.
#[derive(Debug)]
pub struct Stubs {
    _code: ImageRegion,
    #[expect(clippy::vec_box, reason = "the code holds their addresses, so none may move")]
    _stubs: Vec<Box<Stub>>,
}

/// Stubs in the making.
#[derive(Debug)]
pub struct Planned<'a> {
    watch: &'a Arc<Watch>,
    #[expect(clippy::vec_box, reason = "the code holds their addresses, so none may move")]
    stubs: Vec<Box<Stub>>,
    code: ImageRegion,
}

impl<'a> Planned<'a> {
    /// Room for the stubs of an image with `imports` imports.
    pub fn new(watch: &'a Arc<Watch>, imports: usize) -> Option<Self> {
        let code = image::map(imports.max(1).checked_mul(STUB_BYTES)?)?;
        Some(Self { watch, stubs: Vec::new(), code })
    }

    /// Where an import of `export` shall lead, given that it would lead to `target`: there, or to a stub before it.
    pub fn lead(&mut self, export: &'static Export, target: usize) -> usize {
        let offset = self.stubs.len() * STUB_BYTES;
        let Some(failure) = fallible::how(export) else { return target };
        if offset + STUB_BYTES > self.code.bytes() {
            return target;
        }
        let stub = Box::new(Stub { watch: self.watch.clone(), export, failure, target });
        let code = code_of(ptr::from_ref(&*stub).expose_provenance() as u64);
        let at = self.code.pointer().as_ptr().wrapping_add(offset);
        // SAFETY: the region is writable, and has room for one more stub there.
        unsafe { at.copy_from_nonoverlapping(code.as_ptr(), STUB_BYTES) };
        self.stubs.push(stub);
        at.addr()
    }

    /// Makes the stubs code.
    pub fn finish(self) -> Stubs {
        self.code.protect(0, self.code.bytes(), Protection::ReadExecute);
        Stubs { _code: self.code, _stubs: self.stubs }
    }
}

/// `mov r10, stub; mov r11, gate; jmp r11`, and breakpoints. Both registers are free between a call and its routine.
fn code_of(stub: u64) -> [u8; STUB_BYTES] {
    let mut code = [0xCC; STUB_BYTES];
    code[..2].copy_from_slice(&[0x49, 0xBA]);
    code[2..10].copy_from_slice(&stub.to_le_bytes());
    code[10..12].copy_from_slice(&[0x49, 0xBB]);
    code[12..20].copy_from_slice(&(gate as *const () as u64).to_le_bytes());
    code[20..23].copy_from_slice(&[0x41, 0xFF, 0xE3]);
    code
}

/// Where every stub leads: asks [`decide`], then goes on to the routine with the registers as they were, or returns to
/// the driver.
#[unsafe(naked)]
unsafe extern "win64" fn gate() {
    naked_asm!(
        // The arguments go where the calling convention keeps room for them, next to the others.
        "mov [rsp + 8], rcx",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], r8",
        "mov [rsp + 32], r9",
        "mov rcx, r10",
        "lea rdx, [rsp + 8]",
        "sub rsp, 56",
        "lea r8, [rsp + 32]",
        "call {decide}",
        "mov r10, [rsp + 32]",
        "add rsp, 56",
        "test rax, rax",
        "jz 2f",
        "mov rcx, [rsp + 8]",
        "mov rdx, [rsp + 16]",
        "mov r8, [rsp + 24]",
        "mov r9, [rsp + 32]",
        "jmp rax",
        "2:",
        "mov rax, r10",
        "ret",
        decide = sym decide,
    )
}

/// Where a call goes on: to the routine, or, given 0, back to the driver with `answer`.
///
/// # Safety
/// `arguments` leads to those of a call to the stub's routine, `answer` to a word.
unsafe extern "win64" fn decide(stub: &Stub, arguments: *const u64, answer: &mut u64) -> usize {
    let watch = &*stub.watch;
    // SAFETY: the routine has this argument, and the call's arguments lie next to each other.
    let any = |bits: fallible::Bits| unsafe { *arguments.add(bits.argument) } & bits.mask != 0;
    let tells = match stub.failure {
        Failure::ZeroUnless(bits) => !any(bits),
        Failure::ZeroIf(bits) => any(bits),
        _ => true,
    };
    if !tells || !watch.is_here() || !watch.counts(stub.export) {
        return stub.target;
    }
    let status = watch.plan.status;
    *answer = match stub.failure {
        Failure::Status => status.bits().into(),
        Failure::Request => {
            // SAFETY: these are the arguments of IofCallDriver: a device and a packet for it.
            unsafe {
                let [device, packet] = [*arguments, *arguments.add(1)].map(|argument| argument as usize);
                let packet = ptr::with_exposed_provenance_mut::<IRP>(packet);
                irp::refuse(ptr::with_exposed_provenance_mut(device), packet, status);
            }
            status.bits().into()
        }
        _ => 0,
    };
    0
}

/// Makes `Planned` lead calls of `name` through a stub, and gives its address.
fn stub_of(watch: &Arc<Watch>, name: &str) -> Option<(Stubs, usize)> {
    let export = lookup(Module::Ntoskrnl, name)?;
    let mut planned = Planned::new(watch, 1)?;
    let stub = planned.lead(export, export.address().addr());
    Some((planned.finish(), stub))
}

kernel_test! {
    fn the_call_with_the_number_fails_and_no_other() {
        type Allocate = unsafe extern "win64" fn(usize, usize, u32) -> *mut c_void;
        let watch = Watch::new(Plan { call: 2, status: STATUS_INSUFFICIENT_RESOURCES });
        let Some((stubs, stub)) = stub_of(&watch, "ExAllocatePoolWithTag") else { check!(false); return Ok(()) };
        // SAFETY: the stub stands for that routine.
        let allocate = unsafe { core::mem::transmute::<usize, Allocate>(stub) };
        // SAFETY: plain allocations, of nonpaged pool.
        let allocate = || unsafe { allocate(512, 16, 0x7473_6554) };
        let outside = allocate();
        check!(!outside.is_null() && watch.outcome() == Outcome { calls: 0, failed: None });
        let inside = watch.over(|| [allocate(), allocate(), allocate()]);
        check!(!inside[0].is_null() && inside[1].is_null() && !inside[2].is_null());
        check!(watch.outcome() == Outcome { calls: 3, failed: Some("ExAllocatePoolWithTag") });
        for block in [outside, inside[0], inside[2]] {
            pool::free(block.addr(), 0);
        }
        // POOL_RAISE_IF_ALLOCATION_FAILURE: such a call cannot be told by a null pointer.
        let watch = Watch::new(Plan { call: 1, status: STATUS_INSUFFICIENT_RESOURCES });
        let Some((_raising, stub)) = stub_of(&watch, "ExAllocatePoolWithTag") else { check!(false); return Ok(()) };
        // SAFETY: as above.
        let block = watch.over(|| unsafe { core::mem::transmute::<usize, Allocate>(stub)(512 | 16, 16, 1) });
        check!(!block.is_null() && watch.outcome().calls == 0);
        pool::free(block.addr(), 0);
        drop(stubs);
    }

    fn a_status_is_the_one_that_was_asked_for() {
        type Delete = unsafe extern "win64" fn(u32, *const u16, *const u16) -> NTSTATUS;
        let watch = Watch::new(Plan { call: 1, status: STATUS_ACCESS_DENIED });
        let Some((_stubs, stub)) = stub_of(&watch, "RtlDeleteRegistryValue") else { check!(false); return Ok(()) };
        // SAFETY: the routine is not called, so its arguments may be anything.
        let delete = unsafe { core::mem::transmute::<usize, Delete>(stub) };
        // SAFETY: as above.
        let status = watch.over(|| unsafe { delete(9, ptr::null(), ptr::null()) });
        check!(status == STATUS_ACCESS_DENIED);
        check!(stub_of(&watch, "KeSetTimer").is_some_and(|(_, stub)| {
            lookup(Module::Ntoskrnl, "KeSetTimer").is_some_and(|export| export.address().addr() == stub)
        }));
    }
}
