//! The bug check: the end.
//!
//! One processor finds that the system cannot go on. It stops the others by NMI, which nothing masks, writes
//! the crash record, tells the host, and halts. From the first moment on nothing may be relied on that could
//! have broken: no lock is taken, nothing is allocated, and every address is looked up before it is read. If
//! the bug check itself runs into a fault, a record of the *first* fault without the doubtful parts is
//! written instead; a third fault only halts.
//!
//! Which code a fault becomes is decided in [`squall_testkernel_pure::bugcheck`].

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use squall_testkernel_pure::bugcheck::{self as codes, BugCheck, PageFault, Place, SQUALL_KERNEL_FAULT};

use super::irql::{self, Irql};
use super::{bugcheck_callback, processor};
use crate::arch::trap::{TrapFrame, exception as vectors};
use crate::hal::{apic, clock};
use crate::ldr::export::export;
use crate::mm::paging::Absent;
use crate::mm::{modules, paging};
use crate::nt::exception::{CONTEXT, EXCEPTION_RECORD};
use crate::rtl::exception;
use crate::{arch, crash};

/// The processor that stops the system; `NOBODY` while it runs.
static OWNER: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// What the owner stopped for, should it not get to the end of telling.
struct First(UnsafeCell<Option<(BugCheck, TrapFrame, u8)>>);

// SAFETY: written once, by the owner, and read by nobody else.
unsafe impl Sync for First {}

static FIRST: First = First(UnsafeCell::new(None));

/// How far the owner has got.
static STAGE: AtomicU8 = AtomicU8::new(0);
/// Processors that have been stopped.
static STOPPED: AtomicUsize = AtomicUsize::new(0);
/// Set once NMIs can be sent.
static OTHERS_REACHABLE: AtomicBool = AtomicBool::new(false);

/// How long the others get to stop; one that does not is stuck anyway.
const STOP_NS: u64 = 20_000_000;

/// From now on, a bug check stops the other processors.
pub fn others_are_reachable() {
    OTHERS_REACHABLE.store(true, Ordering::Release);
}

/// Stops the system with NT's code and parameters, from the code that calls this.
pub fn bugcheck(code: u32, [p1, p2, p3, p4]: [u64; 4]) -> ! {
    // SAFETY: any values will do.
    unsafe { KeBugCheckEx(code, p1, p2, p3, p4) }
}

/// Whether the system is being stopped.
pub fn is_under_way() -> bool {
    OWNER.load(Ordering::Acquire) != NOBODY
}

/// Nobody took an exception.
pub fn unhandled(record: &EXCEPTION_RECORD, context: &CONTEXT) -> ! {
    let irql = irql::current().0;
    let [first, second, ..] = record.ExceptionInformation;
    let address = record.ExceptionAddress.addr() as u64;
    let check = codes::unhandled_exception(record.ExceptionCode, address, irql, [first, second]);
    stop(with_exception(check, record, context), &exception::trap_frame(context), irql, None)
}

/// *Bug Check 0x7E*: its last two parameters are the addresses of the exception's record and context.
fn with_exception(mut check: BugCheck, record: &EXCEPTION_RECORD, context: &CONTEXT) -> BugCheck {
    if check.code == codes::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED {
        check.parameters[2] = core::ptr::from_ref(record).addr() as u64;
        check.parameters[3] = core::ptr::from_ref(context).addr() as u64;
    }
    check
}

/// The guest kernel itself went wrong; what is said is on the console.
pub fn kernel_fault(what: core::fmt::Arguments<'_>, line: u32) -> ! {
    crate::console::print_unlocked(format_args!("\nsquall-testkernel fault: {what}\n"));
    bugcheck(SQUALL_KERNEL_FAULT, [u64::from(line), 0, 0, 0])
}

fn place(address: u64) -> Place {
    if paging::kernel_image().contains(&address) {
        return Place::Kernel;
    }
    match paging::absent(paging::entry(address)) {
        Some(Absent::Freed) => return Place::FreedSpecialPool,
        Some(Absent::Guard) => return Place::BeyondSpecialPool,
        _ => {}
    }
    match modules::lookup(address) {
        Some((module, _)) if module.unloaded => Place::UnloadedImage,
        Some(_) => Place::LoadedImage,
        None => Place::Elsewhere,
    }
}

/// An exception, none of which this kernel resolves.
pub fn exception(frame: &TrapFrame) -> ! {
    let vector = frame.vector as u8;
    let irql = irql::current().0;
    let trap_frame = core::ptr::from_ref(frame).addr() as u64;
    let (check, address) = match vector {
        vectors::NMI if OWNER.load(Ordering::Acquire) != NOBODY => {
            crash::dump::save_processor(processor::current_number(), frame);
            STOPPED.fetch_add(1, Ordering::AcqRel);
            arch::halt_forever()
        }
        // Somebody pressed the button: how a hung system is made to tell where it hangs.
        vectors::NMI => {
            (BugCheck { code: codes::NMI_HARDWARE_FAILURE, parameters: [0x4F4454, 0, 0, 0] }, None)
        }
        vectors::PAGE_FAULT => {
            let address = x86_64::registers::control::Cr2::read_raw();
            let fault = PageFault {
                address,
                error: frame.error,
                ip: frame.rip,
                irql,
                ip_place: place(frame.rip),
                address_place: place(address),
                entry: paging::entry(address),
                trap_frame,
            };
            (fault.bug_check(), Some(address))
        }
        _ => (codes::processor_exception(vector, frame.rip, irql, frame.rcx, trap_frame), None),
    };
    // What a handler would have been shown.
    let Some(record) = exception::record_of(frame, address.unwrap_or(0)) else {
        stop(check, frame, irql, address)
    };
    let context = exception::of_trap(frame);
    stop(with_exception(check, &record, &context), frame, irql, address)
}

/// Stops the system.
fn stop(check: BugCheck, frame: &TrapFrame, irql: u8, fault_address: Option<u64>) -> ! {
    x86_64::instructions::interrupts::disable();
    let me = processor::current_number();
    if let Err(owner) = OWNER.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire)
        && owner != me
    {
        // Somebody was first; their NMI is on its way.
        arch::halt_forever();
    }
    match STAGE.fetch_add(1, Ordering::AcqRel) {
        0 => {
            irql::set(Irql::HIGH);
            // SAFETY: only the owner gets here, once.
            unsafe { *FIRST.0.get() = Some((check, *frame, irql)) };
            stop_others();
            crash::report(check, frame, irql, fault_address, me);
            crash::dump::complete(check, frame, me);
            bugcheck_callback::call_all();
            bugcheck_callback::reason::call_all(check.code);
        }
        1 => {
            crash::announce(check, frame, irql, me);
            // SAFETY: only the owner gets here, after it wrote.
            let first = unsafe { *FIRST.0.get() };
            let (check, frame, irql) = first.unwrap_or((check, *frame, irql));
            crash::report_briefly(check, &frame, irql, me);
        }
        _ => {}
    }
    // SAFETY: only the owner gets here; it wrote before, or nobody did.
    let first = unsafe { *FIRST.0.get() };
    crash::tell_host(first.map_or(check, |(check, ..)| check));
    arch::halt_forever()
}

fn stop_others() {
    if !OTHERS_REACHABLE.load(Ordering::Acquire) {
        return;
    }
    let others = processor::count() - 1;
    apic::nmi_others();
    let end = clock::now_ns() + STOP_NS;
    while STOPPED.load(Ordering::Acquire) < others && clock::now_ns() < end {
        core::hint::spin_loop();
    }
}

/// What the naked entry calls: the caller's registers, and the fifth argument.
extern "C" fn called(frame: &TrapFrame, p4: u64) -> ! {
    let check = BugCheck { code: frame.rcx as u32, parameters: [frame.rdx, frame.r8, frame.r9, p4] };
    stop(check, frame, irql::current().0, None)
}

export! {
    /// *KeBugCheckEx function (wdm.h)*: stops the system. The registers reported are the caller's.
    #[unsafe(naked)]
    pub unsafe extern "win64" fn KeBugCheckEx(_code: u32, _p1: u64, _p2: u64, _p3: u64, _p4: u64) -> ! {
        // Builds the trap frame of an exception in the caller, right after its call.
        naked_asm!(
            "push rax", // keeps the frame aligned
            "sub rsp, 176",
            "mov [rsp + 0x00], r15",
            "mov [rsp + 0x08], r14",
            "mov [rsp + 0x10], r13",
            "mov [rsp + 0x18], r12",
            "mov [rsp + 0x20], r11",
            "mov [rsp + 0x28], r10",
            "mov [rsp + 0x30], r9",
            "mov [rsp + 0x38], r8",
            "mov [rsp + 0x40], rdi",
            "mov [rsp + 0x48], rsi",
            "mov [rsp + 0x50], rbp",
            "mov [rsp + 0x58], rbx",
            "mov [rsp + 0x60], rdx",
            "mov [rsp + 0x68], rcx",
            "mov [rsp + 0x70], rax",
            "mov qword ptr [rsp + 0x78], 0x100",    // no vector
            "mov qword ptr [rsp + 0x80], 0",
            "mov rax, [rsp + 184]",                 // the return address
            "mov [rsp + 0x88], rax",
            "mov [rsp + 0x90], cs",
            "pushfq",
            "pop rax",
            "mov [rsp + 0x98], rax",
            "lea rax, [rsp + 192]",                 // the stack pointer after the return
            "mov [rsp + 0xA0], rax",
            "mov [rsp + 0xA8], ss",
            "mov rdi, rsp",
            "mov rsi, [rsp + 184 + 0x28]",          // the fifth argument, above the home space
            "cld",
            "and rsp, -16",
            "call {called}",
            "ud2",
            called = sym called,
        )
    }
}

export! {
    /// *KeBugCheck function (ntddk.h)*: KeBugCheckEx with parameters of 0.
    pub unsafe extern "win64" fn KeBugCheck(code: u32) -> ! {
        // SAFETY: any values will do.
        unsafe { KeBugCheckEx(code, 0, 0, 0, 0) }
    }
}
