//! Descriptor tables, one set for each processor; the gates are the same for all.
//!
//! Long mode needs little of them: a code and a data segment, gates for the vectors, and the task state
//! segment for its interrupt stack table. Two exceptions get a known good stack from it. The double fault,
//! because the most likely reason for one is a thread that ran over the end of its stack into the guard page:
//! the page fault finds no stack to run on. And the NMI, because it may come at any instruction whatever.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use super::trap;

/// Index in the interrupt stack table of the double fault's stack.
pub const DOUBLE_FAULT_STACK: u16 = 0;
/// Index of the NMI's stack.
pub const NMI_STACK: u16 = 1;

const EXCEPTION_STACK_BYTES: usize = 16 * 1024;

/// The gates, which no processor changes any more once they are filled.
struct Gates(UnsafeCell<InterruptDescriptorTable>);

// SAFETY: the first processor fills them, alone; from then on processors only read.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new(InterruptDescriptorTable::new()));
static ARE_FILLED: AtomicBool = AtomicBool::new(false);

#[repr(align(16))]
struct ExceptionStack([u8; EXCEPTION_STACK_BYTES]);

fn exception_stack() -> VirtAddr {
    let stack = Box::leak(Box::new(ExceptionStack([0; EXCEPTION_STACK_BYTES])));
    VirtAddr::new(stack.0.as_ptr_range().end.addr() as u64)
}

/// Gives the processor that runs this its tables, for ever.
pub fn init_this_processor() {
    let mut tss = TaskStateSegment::new();
    tss.interrupt_stack_table[usize::from(DOUBLE_FAULT_STACK)] = exception_stack();
    tss.interrupt_stack_table[usize::from(NMI_STACK)] = exception_stack();
    let tss: &'static TaskStateSegment = Box::leak(Box::new(tss));

    let gdt = Box::leak(Box::new(GlobalDescriptorTable::new()));
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    gdt.load();
    // SAFETY: the selectors are those just made, of flat segments like the ones in use.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }

    if !ARE_FILLED.swap(true, Ordering::AcqRel) {
        // SAFETY: this is the first processor, and the others have not been started.
        trap::fill(unsafe { &mut *GATES.0.get() });
    }
    // SAFETY: they are filled, and stay as they are.
    let gates: &'static InterruptDescriptorTable = unsafe { &*GATES.0.get() };
    gates.load();
}
