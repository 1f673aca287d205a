//! Processors, and what each has to itself.
//!
//! The GS segment of each processor begins at its control region. The beginning of that is NT's KPCR, as far
//! as public headers let a driver's inline code reach into it; what follows is this kernel's own.

use core::cell::Cell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc::boxed::Box;

use super::dpc::DpcQueue;
use super::event::Event;
use super::lock::InterruptLock;
use super::rendezvous::Sleep;
use super::thread::Thread;
use super::timer::TimerQueue;
use crate::crash::dump::ProcessorState;
use crate::ldr::export::{export, export_data};
use crate::nt::{KAFFINITY, NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use crate::selftest::{check, kernel_test};

/// More processors than this are not started.
pub const MAX_PROCESSORS: usize = 8;

/// The documented part of the processor control region.
#[derive(Debug)]
#[repr(C)]
struct Kpcr {
    /// 0x00: the segment descriptors.
    gdt_base: u64,
    /// 0x08: unused; 0x10 likewise.
    unused_8: [u64; 2],
    /// 0x18: the region's own address.
    self_address: *const Processor,
    /// 0x20: the processor control block inside it.
    current_prcb: *const u8,
    unused_28: [u64; 2],
    /// 0x38: the interrupt descriptors.
    idt_base: u64,
    unused_40: [u64; 2],
    /// 0x50: the IRQL lives in CR8; this is 0 for ever.
    irql: u8,
    unused_51: [u8; 0x60 - 0x51],
    /// 0x60: `PCR_MAJOR_VERSION` and `PCR_MINOR_VERSION`.
    version: [u16; 2],
    unused_64: [u8; 0x180 - 0x64],
    /// 0x180: the processor control block begins with MXCSR.
    mxcsr: u32,
    /// 0x184
    legacy_number: u8,
    unused_185: [u8; 3],
    /// 0x188: who runs.
    current_thread: AtomicPtr<Thread>,
    /// 0x190: `NextThread`, which nobody else looks at.
    unused_190: u64,
    /// 0x198: who runs when nobody does.
    idle_thread: AtomicPtr<Thread>,
    unused_1a0: u32,
    /// 0x1A4
    number: u32,
}

const _: () = {
    assert!(offset_of!(Kpcr, self_address) == 0x18);
    assert!(offset_of!(Kpcr, current_prcb) == 0x20);
    assert!(offset_of!(Kpcr, irql) == 0x50);
    assert!(offset_of!(Kpcr, mxcsr) == 0x180);
    assert!(offset_of!(Kpcr, current_thread) == 0x188);
    assert!(offset_of!(Kpcr, idle_thread) == 0x198);
    assert!(offset_of!(Kpcr, idt_base) == 0x38);
    assert!(offset_of!(Kpcr, version) == 0x60);
    assert!(offset_of!(Kpcr, number) == 0x1a4);
};

/// Where the processor control block begins in a [`Processor`]; drivers and debuggers know it by this.
pub const PRCB_OFFSET: usize = offset_of!(Kpcr, mxcsr);
/// Where it names the thread that runs.
pub const PRCB_CURRENT_THREAD: u16 = (offset_of!(Kpcr, current_thread) - PRCB_OFFSET) as u16;
/// Where it has its number.
pub const PRCB_NUMBER: u16 = (offset_of!(Kpcr, number) - PRCB_OFFSET) as u16;

/// One processor.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Processor {
    kpcr: Kpcr,
    /// Its registers, for dumps.
    pub state: ProcessorState,
    /// Its local APIC's number.
    pub apic_id: u32,
    /// What it runs when there is nothing to run. Set once, before the processor schedules.
    pub idle: AtomicPtr<Thread>,
    /// What it is to run next. Under the dispatcher's lock.
    pub next: Cell<*mut Thread>,
    /// Timers that expire here. Under the dispatcher's lock.
    pub timers: TimerQueue,
    /// DPCs that wait for this processor.
    pub dpcs: InterruptLock<DpcQueue>,
    /// Threaded DPCs that wait for this processor's thread.
    pub threaded_dpcs: InterruptLock<DpcQueue>,
    /// What that thread waits for; null until there is one.
    pub threaded_wake: AtomicPtr<Event>,
    /// DPC routines on the stack: 0 or 1, as they do not nest.
    pub dpc_active: AtomicU32,
    /// DPCs of either kind that have left their queue and are not through.
    pub dpc_busy: AtomicU32,
    /// Routine and context of the DPC that runs; the context is 0 where none does.
    pub dpc_running: (AtomicUsize, AtomicUsize),
    /// When the clock is set to interrupt, in ns; `u64::MAX` never.
    pub clock_armed: AtomicU64,
    /// When the next clock tick is due, in ns; `u64::MAX` while idle.
    pub next_tick: AtomicU64,
    /// Whether it sleeps.
    pub sleep: Sleep,
    /// Interrupts that nobody was connected for.
    pub unclaimed: AtomicU64,
    /// Those of them since the last that somebody claimed.
    pub unclaimed_in_a_row: AtomicU32,
    /// Interrupts that an ISR of a driver's image claimed.
    pub claimed: AtomicU64,
    /// The kernel itself raised to DISPATCH_LEVEL, for a lock of its own: see [`kernel_raised`].
    kernel_raised: AtomicBool,
}

// SAFETY: what is not atomic or locked is `next` and `timers`, which are only touched under the dispatcher's
// lock, `state`, which only its own processor writes, at its end, and the KPCR's constant fields.
unsafe impl Sync for Processor {}

static PROCESSORS: [AtomicPtr<Processor>; MAX_PROCESSORS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_PROCESSORS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Makes the record of processor `number`, which runs this and has its tables.
pub fn create(number: usize, apic_id: u32) -> &'static Processor {
    let processor = Box::leak(Box::new(Processor {
        kpcr: Kpcr {
            gdt_base: x86_64::instructions::tables::sgdt().base.as_u64(),
            unused_8: [0; 2],
            self_address: ptr::null(),
            current_prcb: ptr::null(),
            unused_28: [0; 2],
            idt_base: x86_64::instructions::tables::sidt().base.as_u64(),
            unused_40: [0; 2],
            irql: 0,
            unused_51: [0; 0x60 - 0x51],
            version: [1; 2],
            unused_64: [0; 0x180 - 0x64],
            mxcsr: 0x1F80,
            legacy_number: number as u8,
            unused_185: [0; 3],
            current_thread: AtomicPtr::new(ptr::null_mut()),
            unused_190: 0,
            idle_thread: AtomicPtr::new(ptr::null_mut()),
            unused_1a0: 0,
            number: number as u32,
        },
        state: ProcessorState::new(),
        apic_id,
        idle: AtomicPtr::new(ptr::null_mut()),
        next: Cell::new(ptr::null_mut()),
        timers: TimerQueue::new(),
        dpcs: InterruptLock::new(DpcQueue::new()),
        threaded_dpcs: InterruptLock::new(DpcQueue::new()),
        threaded_wake: AtomicPtr::new(ptr::null_mut()),
        dpc_active: AtomicU32::new(0),
        dpc_busy: AtomicU32::new(0),
        dpc_running: (AtomicUsize::new(0), AtomicUsize::new(0)),
        clock_armed: AtomicU64::new(u64::MAX),
        next_tick: AtomicU64::new(u64::MAX),
        sleep: Sleep::awake(),
        unclaimed: AtomicU64::new(0),
        unclaimed_in_a_row: AtomicU32::new(0),
        claimed: AtomicU64::new(0),
        kernel_raised: AtomicBool::new(false),
    }));
    processor.kpcr.self_address = &raw const *processor;
    processor.kpcr.current_prcb = (&raw const processor.kpcr.mxcsr).cast();
    PROCESSORS[number].store(&raw mut *processor, Ordering::Release);
    processor
}

/// Says who runs on `processor` when there is nothing to run. Once, before it schedules.
pub fn set_idle(processor: &Processor, idle: *mut Thread) {
    processor.idle.store(idle, Ordering::Release);
    processor.kpcr.idle_thread.store(idle, Ordering::Release);
}

/// Makes `processor` the one that runs this, from now on.
pub fn enter(processor: &'static Processor) {
    x86_64::registers::model_specific::GsBase::write(x86_64::VirtAddr::from_ptr(processor));
    let before = COUNT.fetch_add(1, Ordering::AcqRel);
    NUMBER_PROCESSORS.store(before as u32 + 1, Ordering::Release);
    super::shared_data::processors_are(before + 1);
}

/// How many processors run.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// A set with a bit for each processor that runs.
pub fn all_mask() -> u64 {
    (1 << count()) - 1
}

/// Processor `number`, where there is one.
pub fn get(number: usize) -> Option<&'static Processor> {
    let pointer = PROCESSORS.get(number)?.load(Ordering::Acquire);
    // SAFETY: once stored, the record lives for ever.
    unsafe { pointer.as_ref() }
}

/// Every processor that runs, by number.
pub fn all() -> impl Iterator<Item = &'static Processor> {
    (0..count()).filter_map(get)
}

/// The processor that runs this. Below DISPATCH_LEVEL the answer may be old before it is used.
#[inline]
pub fn current() -> &'static Processor {
    let pointer: *const Processor;
    // SAFETY: `enter` made GS point at this processor's record before any code that asks; it lives for ever.
    unsafe {
        core::arch::asm!("mov {}, gs:[0x18]", out(reg) pointer, options(nostack, preserves_flags, readonly));
        &*pointer
    }
}

/// The number of the processor that runs this, also before [`enter`]: 0 then. For the bug check.
pub fn current_number() -> usize {
    if x86_64::registers::model_specific::GsBase::read().is_null() { 0 } else { current().number() }
}

/// Notes that the kernel raised this processor's IRQL from below DISPATCH_LEVEL for a lock of its own, or is about to lower it
/// again. Pageable memory may be touched meanwhile: the driver that called could have, and Windows' locks of that kind
/// would not have raised.
#[inline]
pub fn kernel_raised(raised: bool) {
    // Before the first processor has entered, nobody asks.
    if COUNT.load(Ordering::Relaxed) > 0 {
        current().kernel_raised.store(raised, Ordering::Relaxed);
    }
}

/// Whether it was the kernel that raised this processor's IRQL.
pub fn is_kernel_raised() -> bool {
    current().kernel_raised.load(Ordering::Relaxed)
}

impl Processor {
    /// Its number, from 0.
    #[inline]
    pub fn number(&self) -> usize {
        self.kpcr.number as usize
    }

    /// Its bit in a set of processors.
    #[inline]
    pub fn bit(&self) -> u64 {
        1 << self.number()
    }

    /// Who runs on it.
    #[inline]
    pub fn thread(&self) -> *mut Thread {
        self.kpcr.current_thread.load(Ordering::Acquire)
    }

    /// Says who runs on it: the dispatcher's business.
    pub fn set_thread(&self, thread: *mut Thread) {
        self.kpcr.current_thread.store(thread, Ordering::Release);
    }

    /// Whether it runs its idle thread and has nothing to run next. Under the dispatcher's lock.
    pub fn is_idle(&self) -> bool {
        self.thread() == self.idle.load(Ordering::Acquire) && self.next.get().is_null()
    }
}

/// A processor in a machine with groups of them; this one has group 0.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct PROCESSOR_NUMBER {
    /// The group.
    pub group: u16,
    /// The number in it.
    pub number: u8,
    /// 0.
    pub reserved: u8,
}

/// What drivers import as `KeNumberProcessors`.
static NUMBER_PROCESSORS: AtomicU32 = AtomicU32::new(0);

export_data! {
    KeNumberProcessors => NUMBER_PROCESSORS;
}

/// Stands for every group: `ALL_PROCESSOR_GROUPS`.
const ALL_GROUPS: u16 = 0xFFFF;

fn count_in(group: u16, count: usize) -> u32 {
    if group == 0 || group == ALL_GROUPS { count as u32 } else { 0 }
}

export! {
    /// *KeGetCurrentProcessorNumberEx function (wdm.h)*: the number, also where `number` is not null.
    pub unsafe extern "win64" fn KeGetCurrentProcessorNumberEx(number: *mut PROCESSOR_NUMBER) -> u32 {
        let current = current().number() as u32;
        if !number.is_null() {
            // SAFETY: the caller's.
            unsafe { number.write(PROCESSOR_NUMBER { group: 0, number: current as u8, reserved: 0 }) };
        }
        current
    }

    /// *KeQueryActiveProcessorCount function (wdm.h)*: how many, and their set where `set` is not null.
    pub unsafe extern "win64" fn KeQueryActiveProcessorCount(set: *mut KAFFINITY) -> u32 {
        if !set.is_null() {
            // SAFETY: the caller's.
            unsafe { set.write(all_mask()) };
        }
        count() as u32
    }

    /// *KeQueryActiveProcessorCountEx function (wdm.h)*: of a group; 0 where there is no such group.
    pub unsafe extern "win64" fn KeQueryActiveProcessorCountEx(group: u16) -> u32 {
        count_in(group, count())
    }

    /// *KeQueryActiveProcessors function (wdm.h)*: the set of them.
    pub unsafe extern "win64" fn KeQueryActiveProcessors() -> KAFFINITY {
        all_mask()
    }

    /// *KeQueryMaximumProcessorCount function (wdm.h)*: none is ever added.
    pub unsafe extern "win64" fn KeQueryMaximumProcessorCount() -> u32 {
        count() as u32
    }

    /// *KeQueryMaximumProcessorCountEx function (wdm.h)*.
    pub unsafe extern "win64" fn KeQueryMaximumProcessorCountEx(group: u16) -> u32 {
        count_in(group, count())
    }

    /// *KeQueryActiveGroupCount function (wdm.h)*: 1.
    pub unsafe extern "win64" fn KeQueryActiveGroupCount() -> u16 {
        1
    }

    /// *KeQueryMaximumGroupCount function (wdm.h)*: 1.
    pub unsafe extern "win64" fn KeQueryMaximumGroupCount() -> u16 {
        1
    }

    /// *KeQueryGroupAffinity function (wdm.h)*: the processors of a group; 0 where there is no such group.
    pub unsafe extern "win64" fn KeQueryGroupAffinity(group: u16) -> KAFFINITY {
        if group == 0 { all_mask() } else { 0 }
    }

    /// *KeGetProcessorNumberFromIndex function (wdm.h)*: STATUS_INVALID_PARAMETER where there is no such
    /// processor.
    pub unsafe extern "win64" fn KeGetProcessorNumberFromIndex(
        index: u32,
        number: *mut PROCESSOR_NUMBER,
    ) -> NTSTATUS {
        if index as usize >= count() {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's.
        unsafe { number.write(PROCESSOR_NUMBER { group: 0, number: index as u8, reserved: 0 }) };
        STATUS_SUCCESS
    }

    /// *KeGetProcessorIndexFromNumber function (wdm.h)*: INVALID_PROCESSOR_INDEX where there is no such
    /// processor.
    pub unsafe extern "win64" fn KeGetProcessorIndexFromNumber(number: *const PROCESSOR_NUMBER) -> u32 {
        // SAFETY: the caller's.
        let PROCESSOR_NUMBER { group, number, reserved } = unsafe { number.read() };
        let exists = group == 0 && reserved == 0 && usize::from(number) < count();
        if exists { number.into() } else { u32::MAX }
    }

    /// *KeQueryHighestNodeNumber function (wdm.h)*: 0, the only node.
    pub unsafe extern "win64" fn KeQueryHighestNodeNumber() -> u16 {
        0
    }

    /// *KeGetCurrentNodeNumber function (wdm.h)*: 0, the only node.
    pub unsafe extern "win64" fn KeGetCurrentNodeNumber() -> u16 {
        0
    }
}

kernel_test! {
    /// *KeGetProcessorNumberFromIndex function (wdm.h)* and back; beyond the last there is none.
    fn processors_have_numbers_and_indexes() {
        let mut number = PROCESSOR_NUMBER { group: 9, number: 9, reserved: 9 };
        // SAFETY: the number has room.
        unsafe {
            for index in 0..count() as u32 {
                check!(KeGetProcessorNumberFromIndex(index, &raw mut number) == STATUS_SUCCESS);
                check!(number.group == 0 && u32::from(number.number) == index && number.reserved == 0);
                check!(KeGetProcessorIndexFromNumber(&raw const number) == index);
            }
            let beyond = count() as u32;
            check!(KeGetProcessorNumberFromIndex(beyond, &raw mut number) == STATUS_INVALID_PARAMETER);
            number.number = beyond as u8;
            check!(KeGetProcessorIndexFromNumber(&raw const number) == u32::MAX);
            check!(KeQueryGroupAffinity(0) == all_mask() && KeQueryGroupAffinity(1) == 0);
        }
    }
}
