//! What a bug check leaves behind: the crash record on port 0x402, a few lines on the console, and a word to
//! the host.
//!
//! Runs with every other processor stopped and nothing to be trusted. See [`crate::ke::bugcheck`].

pub mod dump;
mod hyperv;

use core::sync::atomic::{AtomicBool, Ordering};

use squall_testkernel_pure::bugcheck::{self as codes, BugCheck};
use squall_testkernel_pure::crash_record::{CrashRecord, Image, follows_call};
use x86_64::registers::control::Cr2;

use crate::arch::port;
use crate::arch::trap::TrapFrame;
use crate::console::{DebugPort, print_unlocked};
use crate::ke::processor;
use crate::mm::frame::PAGE_SIZE;
use crate::mm::modules::{self, Module};
use crate::mm::paging;
use crate::vf;

/// Where the harness keeps `crash.jsonl`.
const CRASH_PORT: u16 = 0x402;
/// pvpanic, and its bit for "panicked".
const PVPANIC_PORT: u16 = 0x505;
const PVPANIC_PANICKED: u8 = 1;

const MAX_STACK: usize = 32;
/// How far an overflown stack's pointer may have got beyond its end.
const MAX_GUARD_PAGES: u64 = 4;
/// How much of the stack is looked at.
const STACK_BYTES: u64 = 24 * 1024;

/// The port has part of a record, perhaps all of it.
static RECORD_BEGUN: AtomicBool = AtomicBool::new(false);

fn image(module: &Module) -> Image<'_> {
    Image { name: module.name(), base: module.base, size: module.size, unloaded: module.unloaded }
}

/// Reads memory that may not be there.
fn read_bytes<const LEN: usize>(address: u64) -> Option<[u8; LEN]> {
    let last = address.checked_add(LEN as u64 - 1)?;
    if !paging::is_present(address) || !paging::is_present(last) {
        return None;
    }
    // SAFETY: both ends are present, and LEN is less than a page; every other processor is stopped, so that
    // nothing goes away meanwhile.
    Some(unsafe { (address as *const [u8; LEN]).read_unaligned() })
}

/// Whether a number found on the stack is where some call returns to. Code that is gone cannot be asked, so
/// anything in it counts.
fn is_return_address(value: u64) -> bool {
    // An image's first page is its headers; numbers like its base are about everywhere.
    let in_driver = modules::lookup(value).is_some_and(|(_, offset)| offset >= PAGE_SIZE as u64);
    let in_code = paging::kernel_text().contains(&value) || in_driver;
    in_code && read_bytes::<7>(value.wrapping_sub(7)).is_none_or(|before| follows_call(&before))
}

/// The return addresses that the stack seems to hold, innermost first.
fn walk_stack(rsp: u64, found: &mut [u64; MAX_STACK]) -> usize {
    let mut count = 0;
    // A stack that overflowed ends in its guard page, and begins behind it.
    let start =
        (0..=MAX_GUARD_PAGES)
            .map(|pages| {
                if pages == 0 { rsp & !7 } else { (rsp & !(PAGE_SIZE as u64 - 1)) + pages * PAGE_SIZE as u64 }
            })
            .find(|&address| paging::is_present(address))
            .unwrap_or(rsp & !7);
    for address in (start..start.saturating_add(STACK_BYTES)).step_by(8) {
        let Some(bytes) = read_bytes::<8>(address) else { break };
        let value = u64::from_le_bytes(bytes);
        if is_return_address(value) {
            found[count] = value;
            count += 1;
            if count == MAX_STACK {
                break;
            }
        }
    }
    count
}

fn registers(frame: &TrapFrame, cr2: u64, irql: u8) -> [(&'static str, u64); 20] {
    [
        ("rax", frame.rax),
        ("rbx", frame.rbx),
        ("rcx", frame.rcx),
        ("rdx", frame.rdx),
        ("rsi", frame.rsi),
        ("rdi", frame.rdi),
        ("rbp", frame.rbp),
        ("rsp", frame.rsp),
        ("r8", frame.r8),
        ("r9", frame.r9),
        ("r10", frame.r10),
        ("r11", frame.r11),
        ("r12", frame.r12),
        ("r13", frame.r13),
        ("r14", frame.r14),
        ("r15", frame.r15),
        ("rip", frame.rip),
        ("rflags", frame.rflags),
        ("cr2", cr2),
        ("cr8", u64::from(irql)),
    ]
}

/// Tells people, on the console.
pub fn announce(check: BugCheck, frame: &TrapFrame, irql: u8, number: usize) {
    let [p1, p2, p3, p4] = check.parameters;
    print_unlocked(format_args!(
        "\n*** STOP {:#x} {} ({p1:#x}, {p2:#x}, {p3:#x}, {p4:#x})\n\
         *** processor {number}, IRQL {irql}, rip {:#x}\n",
        check.code,
        codes::name(check.code).unwrap_or(""),
        frame.rip,
    ));
}

/// The whole record.
pub fn report(check: BugCheck, frame: &TrapFrame, irql: u8, fault_address: Option<u64>, number: usize) {
    announce(check, frame, irql, number);
    let mut stack = [0; MAX_STACK];
    let depth = walk_stack(frame.rsp, &mut stack);
    let module = fault_address.and_then(modules::lookup).or_else(|| modules::lookup(frame.rip));
    // Before the first thread runs there is nobody to name.
    // SAFETY: the record of the thread that runs is alive.
    let thread = processor::get(number).and_then(|processor| unsafe { processor.thread().as_ref() });
    let record = CrashRecord {
        check,
        processor: number,
        irql,
        rip: frame.rip,
        registers: &registers(frame, Cr2::read_raw(), irql),
        stack: &stack[..depth],
        thread: thread.map_or("boot", |thread| thread.name()),
        module: module.as_ref().map(|(module, offset)| (image(module), *offset)),
        verifier: vf::stops::is_the_verifiers(check.code),
    };
    RECORD_BEGUN.store(true, Ordering::Relaxed);
    // A debug port cannot fail.
    let _ = record.write_to(&mut DebugPort::new(CRASH_PORT), |each| {
        modules::all().try_for_each(|module| each(image(&module)))
    });
}

/// The record without what has to be looked up: telling the whole ran into a fault of its own.
pub fn report_briefly(check: BugCheck, frame: &TrapFrame, irql: u8, number: usize) {
    let mut port = DebugPort::new(CRASH_PORT);
    // Whatever was begun ends its line, so that this one is read.
    if RECORD_BEGUN.load(Ordering::Relaxed) {
        let _ = core::fmt::Write::write_str(&mut port, "\n");
    }
    let record = CrashRecord {
        check,
        processor: number,
        irql,
        rip: frame.rip,
        registers: &registers(frame, Cr2::read_raw(), irql),
        stack: &[],
        thread: "",
        module: None,
        verifier: vf::stops::is_the_verifiers(check.code),
    };
    let _ = record.write_to(&mut port, |_| Ok(()));
}

/// Raises the host's panic event: through Hyper-V's registers, where there are any, with the code, and in any case
/// through pvpanic.
pub fn tell_host(check: BugCheck) {
    hyperv::tell(check);
    port::write_u8(PVPANIC_PORT, PVPANIC_PANICKED);
}
