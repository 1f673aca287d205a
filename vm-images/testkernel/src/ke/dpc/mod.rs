//! Deferred procedure calls.
//!
//! An ISR keeps a whole level of interrupts waiting, so it does the least it can and leaves the rest to a
//! DPC. Each processor has a queue of them; queueing one requests the software interrupt of DISPATCH_LEVEL,
//! which comes in the moment that the IRQL falls below. Thus a DPC that an ISR queues runs *before* the
//! interrupted thread gets the processor back, which is what makes an Unload that is interrupted at the wrong
//! moment so dangerous.
//!
//! A *threaded* DPC goes through the same queue and is then handed to a thread of the processor's that runs it at
//! PASSIVE_LEVEL, before every other thread ([`serve_threaded`]). The threads are made with the first such DPC.
//!
//! The queue runs through the drivers' own KDPCs: see [`super::timer`] for what that means.

mod generic_call;
mod queue;
mod routines;
mod selftest;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};

use squall_testkernel_pure::bugcheck::TIMER_OR_DPC_INVALID;

pub use self::queue::DpcQueue;
use super::bugcheck::bugcheck;
use super::event::Event;
use super::irql;
use super::lock::InterruptLock;
use super::processor::{self, Processor};
use super::{apc, clock, dispatcher, thread, timer};
use crate::nt::{DeferredRoutine, KDPC, SINGLE_LIST_ENTRY, object_type};

/// `KDPC_IMPORTANCE`: high ones go to the front, low and medium ones to the end. Low ones wait there until something else
/// has the queue run: another DPC, the clock, or a processor with nothing to do.
pub mod importance {
    /// In no hurry.
    pub const LOW: u8 = 0;
    /// What a DPC is initialized with.
    pub const MEDIUM: u8 = 1;
    /// At the front.
    pub const HIGH: u8 = 2;
}

/// What is added to a target processor's number, so that 0 means that none is set.
const TARGET_BIAS: u16 = 0x500;

/// `MaximumDpcQueueDepth`: so many DPCs are run whatever their importance.
const MAXIMUM_DEPTH: usize = 4;

/// A DPC that was never initialized.
pub const UNUSED: KDPC = KDPC {
    Type: object_type::DPC,
    Importance: importance::MEDIUM,
    Number: 0,
    DpcListEntry: SINGLE_LIST_ENTRY { Next: ptr::null_mut() },
    ProcessorHistory: 0,
    DeferredRoutine: None,
    DeferredContext: ptr::null_mut(),
    SystemArgument1: ptr::null_mut(),
    SystemArgument2: ptr::null_mut(),
    DpcData: ptr::null_mut(),
};

/// A DPC for that routine, without a context.
pub const fn made(routine: DeferredRoutine) -> KDPC {
    KDPC { DeferredRoutine: Some(routine), ..UNUSED }
}

/// Where a processor's DPCs can be.
fn queues(processor: &Processor) -> [&InterruptLock<DpcQueue>; 2] {
    [&processor.dpcs, &processor.threaded_dpcs]
}

/// A DPC that is queued and lies in `range`.
pub fn first_queued_in(range: &Range<usize>) -> Option<usize> {
    processor::all().find_map(|processor| {
        queues(processor).into_iter().find_map(|queue| {
            let queue = queue.lock();
            // SAFETY: what is queued is alive; under the queue's lock.
            unsafe { queue.iter() }.map(<*mut KDPC>::addr).find(|dpc| range.contains(dpc))
        })
    })
}

/// A DPC that another processor runs, with a context in `range`: its routine and the context.
pub fn running_elsewhere_with(range: &Range<usize>) -> Option<(u64, usize)> {
    let here = processor::current();
    processor::all().filter(|&processor| !ptr::eq(processor, here)).find_map(|processor| {
        let context = processor.dpc_running.1.load(Ordering::Acquire);
        let routine = processor.dpc_running.0.load(Ordering::Relaxed) as u64;
        range.contains(&context).then_some((routine, context))
    })
}

/// DPCs that are queued and whose routine lies in `range`: address of the DPC and of the routine.
pub fn queued_leading_into(range: &Range<u64>) -> Vec<(usize, u64)> {
    // Copied out first: nothing may be allocated with interrupts off.
    let mut found = [None; 64];
    let mut count = 0;
    for queue in processor::all().flat_map(queues) {
        let queue = queue.lock();
        // SAFETY: as above.
        for dpc in unsafe { queue.iter() } {
            // SAFETY: as above.
            let routine = unsafe { (*dpc).DeferredRoutine }.map_or(0, |routine| routine as usize as u64);
            if range.contains(&routine) && count < found.len() {
                found[count] = Some((dpc.addr(), routine));
                count += 1;
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// Fills in a DPC that is in no queue.
///
/// # Safety
/// `dpc` is writable. Everywhere below: it is a DPC that was initialized, and alive while it is queued.
pub unsafe fn initialize(dpc: *mut KDPC, routine: Option<DeferredRoutine>, context: *mut c_void) {
    // SAFETY: the caller's.
    unsafe { dpc.write(KDPC { DeferredRoutine: routine, DeferredContext: context, ..UNUSED }) };
}

fn claim(dpc: *mut KDPC, from: *mut c_void, to: *mut c_void) -> bool {
    // SAFETY: a DPC that is queued or about to be is alive; its DpcData is only ever accessed like this.
    let data = unsafe { AtomicPtr::from_ptr(&raw mut (*dpc).DpcData) };
    data.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Queues a DPC where it belongs, at any IRQL; false where it is queued already.
///
/// # Safety
/// As above.
pub unsafe fn insert(dpc: *mut KDPC, argument1: *mut c_void, argument2: *mut c_void) -> bool {
    // A busy ISR mostly finds its DPC queued, and is told so without a lock. The fence is against the ISR's own stores: a DPC
    // that leaves its queue after this look sees all that the ISR has done before.
    fence(Ordering::SeqCst);
    // SAFETY: the caller's; as in `claim`.
    if !unsafe { AtomicPtr::from_ptr(&raw mut (*dpc).DpcData) }.load(Ordering::Acquire).is_null() {
        return false;
    }
    // Until the request is made, this must stay the same processor.
    let _off = irql::InterruptsOff::new();
    // SAFETY: the caller's.
    let target = unsafe { (*dpc).Number };
    let processor = match target.checked_sub(TARGET_BIAS).and_then(|number| processor::get(number.into())) {
        Some(processor) if processor.number() < processor::count() => processor,
        _ => processor::current(),
    };
    let mut queue = processor.dpcs.lock();
    if !claim(dpc, ptr::null_mut(), ptr::from_ref(processor).cast_mut().cast()) {
        return false;
    }
    // SAFETY: the caller's; the claim made it ours.
    unsafe {
        (*dpc).SystemArgument1 = argument1;
        (*dpc).SystemArgument2 = argument2;
        queue.push(dpc);
    }
    // *KeSetImportanceDpc*: one of low importance does not have a processor that is at work run its queue, unless too many wait.
    // SAFETY: as above.
    let waits = unsafe { (*dpc).Importance == importance::LOW && queue.iter().count() < MAXIMUM_DEPTH };
    drop(queue);
    if !(waits && clock::ticks(processor)) {
        dispatcher::request(processor);
    }
    true
}

/// Has DPCs of low importance run on a processor that is about to have nothing else to do.
pub fn run_before_idling(processor: &Processor) {
    if !processor.dpcs.lock().is_empty() {
        dispatcher::request(processor);
    }
}

/// Takes a DPC out of its queue; false where it is in none (it may be running).
///
/// # Safety
/// As above.
pub unsafe fn remove(dpc: *mut KDPC) -> bool {
    // SAFETY: the caller's.
    let data: *const Processor = unsafe { (&raw const (*dpc).DpcData).read_volatile().cast() };
    let Some(processor) = processor::all().find(|&processor| ptr::eq(processor, data)) else { return false };
    queues(processor).into_iter().any(|queue| {
        let mut queue = queue.lock();
        // SAFETY: the caller's.
        let removed = unsafe { queue.remove(dpc) };
        if removed {
            claim(dpc, ptr::from_ref(processor).cast_mut().cast(), ptr::null_mut());
        }
        removed
    })
}

/// Sets where a DPC goes when it is queued.
///
/// # Safety
/// As above.
pub unsafe fn set_target(dpc: *mut KDPC, number: u16) {
    // SAFETY: the caller's.
    unsafe { (*dpc).Number = TARGET_BIAS.saturating_add(number) };
}

/// Takes a queue's first DPC out of it, with what it was to do. The processor counts as busy with it until [`through`].
fn take(processor: &Processor, queue: &mut DpcQueue) -> Option<(*mut KDPC, KDPC)> {
    // SAFETY: what is queued is alive, or its driver freed it, and this is where it shows.
    let dpc = unsafe { queue.pop() }?;
    processor.dpc_busy.fetch_add(1, Ordering::Relaxed);
    // The values are read before the DPC counts as not queued: from then on it may be queued anew, or freed.
    // SAFETY: as above.
    let call = unsafe { *dpc };
    claim(dpc, ptr::from_ref(processor).cast_mut().cast(), ptr::null_mut());
    Some((dpc, call))
}

/// One DPC that was taken has run.
fn through(processor: &Processor) {
    processor.dpc_busy.fetch_sub(1, Ordering::Release);
}

/// # Safety
/// The call was taken out of its queue just now.
unsafe fn run(dpc: *mut KDPC, call: &KDPC) {
    if let Some(routine) = call.DeferredRoutine {
        // SAFETY: the driver gave the routine for this call. If its image is gone, the call faults: a bug check.
        unsafe { routine(dpc, call.DeferredContext, call.SystemArgument1, call.SystemArgument2) };
    }
}

/// A DPC's routine entered a critical region and did not leave it, or the other way round: *Bug Check 0xC7: TIMER_OR_DPC_INVALID*, value 4.
#[cold]
fn changed_regions(call: &KDPC, before: u32, after: u32) -> ! {
    let routine = call.DeferredRoutine.map_or(0, |routine| routine as usize as u64);
    bugcheck(TIMER_OR_DPC_INVALID, [4, routine, before.into(), after.into()]);
}

/// Runs what this processor's queue holds, until it is empty. At DISPATCH_LEVEL, interrupts on.
fn drain(processor: &Processor) {
    loop {
        let wake = processor.threaded_wake.load(Ordering::Acquire);
        let taken = {
            let mut queue = processor.dpcs.lock();
            // SAFETY: what is queued is alive.
            let is_threaded = |dpc: *mut KDPC| unsafe { (*dpc).Type } == object_type::THREADED_DPC;
            if queue.is_empty() {
                break;
            }
            if !wake.is_null() && is_threaded(queue.first()) {
                // It stays queued, in the thread's queue. SAFETY: as above; it is in no queue in between.
                if let Some(dpc) = unsafe { queue.pop() } {
                    // SAFETY: as above.
                    unsafe { processor.threaded_dpcs.lock().push(dpc) };
                }
                None
            } else {
                let taken = take(processor, &mut queue);
                if let Some((_, call)) = &taken {
                    // Still under the lock: who looks for it finds it queued or running.
                    let routine = call.DeferredRoutine.map_or(0, |routine| routine as usize);
                    processor.dpc_running.0.store(routine, Ordering::Relaxed);
                    processor.dpc_running.1.store(call.DeferredContext.addr(), Ordering::Release);
                }
                taken
            }
        };
        match taken {
            Some((dpc, call)) => {
                processor.dpc_active.store(1, Ordering::Relaxed);
                let before = apc::disabled();
                // SAFETY: taken just now.
                unsafe { run(dpc, &call) };
                let after = apc::disabled();
                if after != before {
                    changed_regions(&call, before, after);
                }
                processor.dpc_running.1.store(0, Ordering::Relaxed);
                processor.dpc_active.store(0, Ordering::Relaxed);
                through(processor);
            }
            // SAFETY: the event was leaked for this.
            None => unsafe { (*wake).set() },
        }
    }
}

/// What the thread for threaded DPCs does on its processor.
fn serve_threaded(processor: &'static Processor, wake: &Event) -> ! {
    thread::set_affinity(processor.bit());
    loop {
        wake.wait(None);
        loop {
            let taken = take(processor, &mut processor.threaded_dpcs.lock());
            let Some((dpc, call)) = taken else { break };
            // SAFETY: taken just now.
            unsafe { run(dpc, &call) };
            through(processor);
        }
    }
}

/// Makes the threads for threaded DPCs, where there are none yet. At PASSIVE_LEVEL.
fn start_threads() {
    use core::sync::atomic::AtomicBool;
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::AcqRel) {
        return;
    }
    for processor in processor::all() {
        let wake: &'static Event = Box::leak(Box::new(Event::new_synchronization()));
        if thread::spawn("threaded DPCs", thread::HIGHEST_PRIORITY, move || serve_threaded(processor, wake))
            .is_ok()
        {
            processor.threaded_wake.store(ptr::from_ref(wake).cast_mut(), Ordering::Release);
        }
    }
}

/// The software interrupt of DISPATCH_LEVEL: DPCs, timers, and then perhaps another thread.
pub fn dispatch_interrupt() {
    let processor = processor::current();
    loop {
        drain(processor);
        let mut guard = dispatcher::lock();
        timer::expire(&mut guard, processor);
        // A timer may have queued a DPC, which goes before any thread.
        if !processor.dpcs.lock().is_empty() {
            continue;
        }
        let slice_over = clock::slice_over(processor);
        guard.preempt(slice_over);
        // Perhaps another processor by now.
        clock::arm(processor::current());
        return;
    }
}

/// Whether a DPC of the processor's is queued, or taken out of its queue and not through yet. A DPC leaves its queue and is
/// noted as running under one lock, so that none can be missed in between.
fn has_any(processor: &Processor) -> bool {
    queues(processor).into_iter().any(|queue| {
        let queue = queue.lock();
        !queue.is_empty() || processor.dpc_busy.load(Ordering::Acquire) != 0
    })
}

struct Flush {
    left: AtomicUsize,
    done: Event,
}

unsafe extern "win64" fn flushed(_: *mut KDPC, context: *mut c_void, _: *mut c_void, _: *mut c_void) {
    // SAFETY: `flush_all` waits for the last of these before its record goes.
    let flush = unsafe { &*context.cast::<Flush>() };
    if flush.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        flush.done.set();
    }
}

/// Returns when every DPC that was queued before the call, on any processor, has run. At PASSIVE_LEVEL.
///
/// Each processor that has any gets one more DPC at the end of each queue: when that has run, those before it have.
pub fn flush_all() {
    let mut busy = [0_usize; processor::MAX_PROCESSORS];
    let mut some = 0;
    for processor in processor::all().filter(|processor| has_any(processor)) {
        busy[some] = processor.number();
        some += 1;
    }
    if some == 0 {
        return;
    }
    // One of either kind for each processor; a threaded one goes behind the ordinary ones before it, too.
    let count = 2 * some;
    let flush = Flush { left: AtomicUsize::new(count), done: Event::new_notification() };
    let mut dpcs = [const { core::mem::MaybeUninit::<KDPC>::uninit() }; 2 * processor::MAX_PROCESSORS];
    for (number, dpc) in dpcs.iter_mut().enumerate().take(count) {
        let dpc = dpc.as_mut_ptr();
        // SAFETY: the DPCs live on this stack until all of them have run.
        unsafe {
            initialize(dpc, Some(flushed), ptr::from_ref(&flush).cast_mut().cast());
            if number % 2 == 1 {
                (*dpc).Type = object_type::THREADED_DPC;
            }
            set_target(dpc, busy[number / 2] as u16);
            insert(dpc, ptr::null_mut(), ptr::null_mut());
        }
    }
    flush.done.wait(None);
}
