//! Starting the other processors.
//!
//! A PC starts with one processor; the others wait for a start-up interrupt that names a page below 1 MiB, at
//! which they begin in real mode. `boot.s` has the way from there: a few words in known places tell the
//! newcomer its page tables, its stack and its number. They are started one after the other, since those
//! words exist once.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::boot::DIRECT_MAP_BASE;
use super::descriptors;
use crate::hal::{apic, clock};
use crate::ke::processor::{self, MAX_PROCESSORS};
use crate::ke::thread::Thread;
use crate::ke::{dispatcher, irql};
use crate::mm::paging;
use crate::mm::paging::Protection;
use crate::mm::region::{Region, Window};

/// The page that start-up interrupts name.
const TRAMPOLINE_PAGE: u8 = 8;
const STACK_PAGES: usize = 12;

/// How long a processor may take.
const START_NS: u64 = 2_000_000_000;

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    static ap_cr3: AtomicU64;
    static ap_stack: AtomicU64;
    static ap_argument: AtomicU64;
}

static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// Makes the code that runs now the idle thread of a processor with this number, tables and all.
fn become_processor(number: usize) {
    descriptors::init_this_processor();
    apic::init_this_processor();
    let processor = processor::create(number, apic::id());
    let idle = Thread::create_idle();
    processor::set_idle(processor, idle);
    processor.set_thread(idle);
    processor::enter(processor);
}

/// The first processor: it already runs.
pub fn init_first() {
    become_processor(0);
}

/// Starts processors until `wanted` run, and returns when they do.
///
/// # Errors
/// The number of the processor that did not come.
pub fn start_others(wanted: usize) -> Result<(), usize> {
    let trampoline = (&raw const ap_trampoline).addr()..(&raw const ap_trampoline_end).addr();
    let page = DIRECT_MAP_BASE + (u64::from(TRAMPOLINE_PAGE) << 12);
    // The trampoline is linked at its physical address.
    let code = (DIRECT_MAP_BASE + trampoline.start as u64) as *const u8;
    // SAFETY: the page lies below 1 MiB, which no allocator hands out, and the trampoline is shorter than a
    // page.
    unsafe { core::ptr::copy_nonoverlapping(code, page as *mut u8, trampoline.len()) };

    for number in 1..wanted.min(MAX_PROCESSORS) {
        let stack = Region::map(Window::Dynamic, 1, STACK_PAGES, Protection::ReadWrite).ok_or(number)?;
        // SAFETY: the words are atomics' size and alignment, and only accessed here and, one at a time, by
        // newcomers.
        unsafe {
            ap_cr3.store(paging::root(), Ordering::Release);
            ap_stack.store(stack.base() + stack.bytes() as u64, Ordering::Release);
            ap_argument.store(number as u64, Ordering::Release);
        }
        // The processor keeps its stack for ever.
        core::mem::forget(stack);
        let apic_id = number as u32;
        apic::reset(apic_id);
        clock::stall_ns(10_000);
        apic::start(apic_id, TRAMPOLINE_PAGE);
        let end = clock::now_ns() + START_NS;
        while ARRIVED.load(Ordering::Acquire) < number {
            if clock::now_ns() > end {
                return Err(number);
            }
            core::hint::spin_loop();
        }
    }
    Ok(())
}

/// Called by `boot.s` on each newcomer.
#[unsafe(no_mangle)]
extern "C" fn processor_entry(number: usize) -> ! {
    // Until it has a record of its own, its locks must find nothing to note in one.
    irql::set(irql::Irql::DISPATCH);
    become_processor(number);
    ARRIVED.store(number, Ordering::Release);
    idle()
}

/// What a processor does when there is nothing to do: sleep until an interrupt brings something.
pub fn idle() -> ! {
    // A thread made ready before this processor was looking has requested it already; nothing is missed,
    // because requests wait in the APIC while interrupts are off.
    drop(dispatcher::lock());
    irql::set(irql::Irql::PASSIVE);
    // The idle thread never moves.
    let processor = processor::current();
    loop {
        x86_64::instructions::interrupts::disable();
        processor.sleep.fall_asleep();
        x86_64::instructions::interrupts::enable_and_hlt();
    }
}
