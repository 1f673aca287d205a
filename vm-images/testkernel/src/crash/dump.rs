//! What makes a dump of this guest one of Windows' own.
//!
//! `dump-guest-memory` with `win-dmp` wants to be shown a dump header; Windows' guest tools do that through the
//! vmcoreinfo device, and so does this. The header is shown at boot, so that a dump can be taken of a system that
//! hangs; a bug check completes it. From the header a debugger reaches everything else in memory: the debugger data
//! block, the lists of images ([`crate::mm::module_list`]) and each processor's registers.
//!
//! A processor has two sets of registers in a dump. Where it stood when the bug check stopped it is written here, as
//! the processor state of its control block; where it was when the dump was taken, QEMU writes itself.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use squall_testkernel_pure::bugcheck::BugCheck;
use squall_testkernel_pure::crash_dump::{Context, DebuggerData, Header, MAX_RUNS, Note, System};

use crate::arch::boot::BootInfo;
use crate::arch::trap::TrapFrame;
use crate::hal::firmware;
use crate::ke::processor::{self, MAX_PROCESSORS, PRCB_OFFSET, Processor};
use crate::ke::{clock, processor::PRCB_CURRENT_THREAD, processor::PRCB_NUMBER};
use crate::mm::{module_list, paging};
use crate::rtl::version;

/// The vmcoreinfo device's file, and what is written to it: `FWCfgVMCoreInfo`.
const FILE: &str = "etc/vmcoreinfo";
/// The note is an ELF note.
const FORMAT_ELF: u16 = 1;

/// Memory that is written here and read from outside the guest.
struct Shown<T>(UnsafeCell<T>);

// SAFETY: each is written at boot, by one processor, and again by the one that owns the bug check, when every other
// is stopped; nobody reads it inside the guest.
unsafe impl<T> Sync for Shown<T> {}

static NOTE: Shown<Note> = Shown(UnsafeCell::new(Note::EMPTY));
static DEBUGGER_DATA: Shown<DebuggerData> = Shown(UnsafeCell::new(DebuggerData::EMPTY));
/// `KiProcessorBlock`.
static PROCESSOR_BLOCK: [AtomicU64; MAX_PROCESSORS] = [const { AtomicU64::new(0) }; MAX_PROCESSORS];
/// `KiBugCheckData`.
static BUGCHECK_DATA: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// What a processor's control block holds for dumps; its fields are named in the debugger data block.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct ProcessorState {
    /// Where it stood when the system stopped.
    stopped: UnsafeCell<Context>,
    /// What QEMU writes as it takes the dump.
    at_dump: UnsafeCell<Context>,
    /// The address of `at_dump`.
    context: AtomicU64,
}

impl ProcessorState {
    /// A processor that runs.
    pub const fn new() -> Self {
        Self {
            stopped: UnsafeCell::new(Context::EMPTY),
            at_dump: UnsafeCell::new(Context::EMPTY),
            context: AtomicU64::new(0),
        }
    }
}

fn address<T>(of: &T) -> u64 {
    core::ptr::from_ref(of).addr() as u64
}

/// Shows QEMU where the header is. Does nothing where the machine has no vmcoreinfo device.
pub fn init(boot: &BootInfo) {
    const STATE: usize = offset_of!(Processor, state) - PRCB_OFFSET;
    const {
        assert!(STATE + size_of::<ProcessorState>() <= u16::MAX as usize);
    }
    for (slot, processor) in PROCESSOR_BLOCK.iter().zip(processor::all()) {
        processor.state.context.store(address(&processor.state.at_dump), Ordering::Relaxed);
        slot.store(address(processor) + PRCB_OFFSET as u64, Ordering::Relaxed);
    }
    let mut ranges = [(0, 0); MAX_RUNS];
    let mut count = 0;
    for (slot, range) in ranges.iter_mut().zip(boot.memory()) {
        *slot = (range.start, range.end);
        count += 1;
    }
    // SAFETY: this is boot, on one processor; see `Shown`.
    unsafe {
        let data = &mut *DEBUGGER_DATA.0.get();
        data.kern_base = paging::kernel_image().start;
        data.ps_loaded_module_list = module_list::loaded_head();
        data.ki_bugcheck_data = address(&BUGCHECK_DATA);
        data.ki_processor_block = address(&PROCESSOR_BLOCK);
        data.mm_unloaded_drivers = module_list::unloaded_pointer();
        data.mm_last_unloaded_driver = module_list::last_unloaded();
        data.offset_prcb_current_thread = PRCB_CURRENT_THREAD;
        data.offset_prcb_number = PRCB_NUMBER;
        data.offset_prcb_proc_state_context = (STATE + offset_of!(ProcessorState, stopped)) as u16;
        data.offset_prcb_context = (STATE + offset_of!(ProcessorState, context)) as u16;
        (*NOTE.0.get()).header.describe(System {
            build: version::BUILD,
            directory_table_base: paging::root(),
            loaded_modules: module_list::loaded_head(),
            debugger_data: address(&DEBUGGER_DATA),
            processors: processor::count() as u32,
            memory: &ranges[..count],
        });
    }
    module_list::publish();
    let Some(note) = paging::physical(address(&NOTE)) else { return };
    // Host's format (QEMU's to fill in), guest's format, size, physical address; all little-endian.
    let mut file = [0; 16];
    file[2..4].copy_from_slice(&FORMAT_ELF.to_le_bytes());
    file[4..8].copy_from_slice(&(size_of::<Note>() as u32).to_le_bytes());
    file[8..16].copy_from_slice(&note.to_le_bytes());
    firmware::write_file(FILE, &file);
}

/// The registers of a trap frame.
pub fn context(frame: &TrapFrame) -> Context {
    Context {
        flags: Context::VALID,
        cs: frame.cs as u16,
        ss: frame.ss as u16,
        eflags: frame.rflags as u32,
        rax: frame.rax,
        rcx: frame.rcx,
        rdx: frame.rdx,
        rbx: frame.rbx,
        rsp: frame.rsp,
        rbp: frame.rbp,
        rsi: frame.rsi,
        rdi: frame.rdi,
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rip: frame.rip,
        ..Context::EMPTY
    }
}

/// Keeps where a processor stood when the bug check stopped it.
pub fn save_processor(number: usize, frame: &TrapFrame) {
    if let Some(processor) = processor::get(number) {
        // SAFETY: each processor writes its own, once, on its way to a halt; nobody reads it inside the guest.
        unsafe { *processor.state.stopped.get() = context(frame) };
    }
}

/// The header as it lies in memory, and its bytes.
pub fn header() -> (*const u8, usize) {
    // SAFETY: only the address is taken.
    let header = unsafe { &raw const (*NOTE.0.get()).header };
    (header.cast(), size_of::<Header>())
}

/// Completes the header with what the bug check knows. Every other processor is stopped.
pub fn complete(check: BugCheck, frame: &TrapFrame, number: usize) {
    save_processor(number, frame);
    let [p1, p2, p3, p4] = check.parameters;
    for (slot, value) in BUGCHECK_DATA.iter().zip([check.code.into(), p1, p2, p3, p4]) {
        slot.store(value, Ordering::Relaxed);
    }
    // SAFETY: only the owner of the bug check gets here, with every other processor stopped.
    let header = unsafe { &mut (*NOTE.0.get()).header };
    header.crash(
        check.code,
        check.parameters,
        &context(frame),
        clock::interrupt_time(),
        clock::system_time(),
    );
    module_list::publish();
}
