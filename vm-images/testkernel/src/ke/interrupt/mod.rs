//! Interrupts: from the vector to the driver's ISR.
//!
//! A driver connects an *interrupt object* to a vector. When the interrupt comes, the processor is raised to
//! the object's IRQL, its spin lock is taken, and its ISR is called; everything at that level or below waits
//! meanwhile. Level-triggered lines may be shared: objects are asked in turn until one says that it was its
//! device's. A shared edge-triggered line has no level to come back to, so everybody is asked until nobody
//! claims it any more.
//!
//! A level line that drivers share stays open when the last of them that is known here disconnects: a line of a PC has others on
//! it, who are still listening. A device that is left asserting it then interrupts for ever, and nobody says that it was his.
//!
//! When disconnecting returns, the ISR is running nowhere and will not be called again. A DPC that the ISR queued before may
//! still run and synchronize with it: Unload disconnects first and flushes DPCs then. So an object stays a while after it was
//! disconnected ([`GONE`]), as one does on Windows, where its memory is seldom used again at once. A driver that unloads
//! without disconnecting leaves its object behind, connected: its ISR's address is called whatever is there
//! now.

mod selftest;
mod vectors;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use squall_testkernel_pure::bugcheck::{ATTEMPTED_SWITCH_FROM_DPC, IRQL_UNEXPECTED_VALUE};
use squall_testkernel_pure::vectors::{
    CLOCK_VECTOR, DISPATCH_VECTOR, IPI_VECTOR, SPURIOUS_VECTOR, pin_of_vector,
};
use x86_64::instructions::interrupts;

use self::vectors::VECTORS;
use super::bugcheck::bugcheck;
use super::irql::{self, Irql};
use super::lock::SpinLock;
use super::{claims, clock, dpc, processor, rendezvous, spinlock, thread};
use crate::hal::{self, apic, ioapic, message};
use crate::mm::region::Window;
use crate::nt::{BOOLEAN, KINTERRUPT, KSPIN_LOCK, MessageServiceRoutine, ServiceRoutine};
use crate::vf::{irql_checks, noted};

/// Objects that may share one vector.
const MAX_SHARED: usize = 8;

/// How many disconnected objects stay.
const KEPT: usize = 32;
/// The objects that were disconnected last, the oldest first; their addresses.
static GONE: SpinLock<VecDeque<usize>> = SpinLock::new(VecDeque::new());

/// So many interrupts in a row that nobody claims are a line that nobody will ever serve.
const STORM: u32 = 1_000;
/// A real processor does nothing else from then on. QEMU's I/O APIC pauses for 10 ms before it delivers such a line again, and the guest
/// would go on almost as if nothing were wrong: so the pause is waited out where the interrupt is served.
const IOAPIC_PAUSE_NS: u64 = 12_000_000;

/// How a line says that it wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As long as the line is up.
    Level,
    /// When the line goes up.
    Edge,
}

/// An ISR.
#[derive(Debug, Clone, Copy)]
pub enum Service {
    /// For whatever the device has to say.
    Routine(ServiceRoutine),
    /// For one of its messages, by number.
    Message(MessageServiceRoutine, u32),
}

impl Service {
    /// Where its code begins.
    pub fn address(self) -> u64 {
        match self {
            Self::Routine(routine) => routine as usize as u64,
            Self::Message(routine, _) => routine as usize as u64,
        }
    }

    /// # Safety
    /// The driver connected it, and has not disconnected it.
    unsafe fn call(self, object: *mut KINTERRUPT, context: *mut c_void) -> BOOLEAN {
        // SAFETY: the caller's. If the driver's image is gone, the call faults: a bug check.
        unsafe {
            match self {
                Self::Routine(routine) => routine(object, context),
                Self::Message(routine, number) => routine(object, context, number),
            }
        }
    }
}

/// An ISR came back at another level than it was called at: *Bug Check 0xC8: IRQL_UNEXPECTED_VALUE*.
#[cold]
fn changed_level(routine: Service, object: usize, expected: Irql) -> ! {
    /// `UniqueValue`: an interrupt's service routine.
    const SERVICE_ROUTINE: u64 = 3;
    irql_checks::isr_returned(routine.address(), expected);
    let levels = u64::from(irql::current().0) << 16 | u64::from(expected.0) << 8 | SERVICE_ROUTINE;
    bugcheck(IRQL_UNEXPECTED_VALUE, [levels, routine.address(), object as u64, 0]);
}

/// Everything that a driver says when it connects.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The ISR.
    pub routine: Service,
    /// Its context.
    pub context: *mut c_void,
    /// A lock of the driver's, or null for the object's own.
    pub lock: *mut KSPIN_LOCK,
    /// The vector.
    pub vector: u8,
    /// The IRQL at which the ISR runs: the vector's, or higher where devices share a lock.
    pub synchronize_irql: Irql,
    /// How the line works.
    pub trigger: Trigger,
    /// Whether others may connect to the same vector.
    pub shared: bool,
    /// Which processors may take it; the lowest of them does.
    pub affinity: u64,
}

/// Why a driver was not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No device can interrupt at this vector.
    NoSuchVector,
    /// The IRQL is not one for this vector.
    WrongIrql,
    /// No processor of the set runs.
    NoProcessor,
    /// Somebody is connected who does not share, or works the line differently; or too many are.
    InUse,
}

/// An interrupt object.
#[derive(Debug)]
pub struct Interrupt {
    connection: Connection,
    own_lock: KSPIN_LOCK,
    /// Processors that are calling the ISR or are about to.
    active: AtomicU32,
    /// The driver said that nothing is to be expected: its ISR is not asked.
    asleep: AtomicBool,
}

impl Interrupt {
    fn lock(&self) -> *mut KSPIN_LOCK {
        if self.connection.lock.is_null() {
            (&raw const self.own_lock).cast_mut()
        } else {
            self.connection.lock
        }
    }

    /// Runs `routine` as the ISR runs: at its IRQL, with its lock.
    fn synchronized<T>(&self, routine: impl FnOnce() -> T) -> T {
        let old = irql::current();
        if old < self.connection.synchronize_irql {
            irql::set(self.connection.synchronize_irql);
        }
        // SAFETY: the lock is the object's own, or the driver's, which keeps it as long as it is connected.
        unsafe { spinlock::acquire(self.lock()) };
        let result = routine();
        // SAFETY: taken just above.
        unsafe { spinlock::release(self.lock()) };
        if old < self.connection.synchronize_irql {
            irql::set(old);
        }
        result
    }
}

/// The processor that takes a connection's interrupt: the lowest of those that may.
pub fn target_of(connection: &Connection) -> Option<&'static processor::Processor> {
    processor::all().find(|processor| connection.affinity & processor.bit() != 0)
}

/// Whether nobody of a chain expects anything; under the lock.
fn is_idle(chain: &[*mut Interrupt]) -> bool {
    // SAFETY: what is in a chain is alive, under the lock.
    chain.iter().all(|object| object.is_null() || unsafe { (**object).asleep.load(Ordering::Relaxed) })
}

/// Lets the vector's interrupt come; under the lock.
fn open(connection: &Connection) {
    let Some(target) = target_of(connection) else { return };
    let level = connection.trigger == Trigger::Level;
    match pin_of_vector(connection.vector) {
        Some(pin) => ioapic::route(pin, connection.vector, level, target.apic_id),
        None => message::begin(connection.vector, target.apic_id),
    }
}

/// Lets it come no more; under the lock.
fn close(vector: u8) {
    pin_of_vector(vector).map_or_else(|| message::end(vector), ioapic::mask);
}

/// Whether others than those connected here are taken to listen to a connection's line (*IoDisconnectInterrupt function*: "if a device
/// shares a level-triggered interrupt line with other devices"). Who has it for himself has it masked when he goes.
fn has_other_listeners(connection: &Connection) -> bool {
    connection.shared && connection.trigger == Trigger::Level && pin_of_vector(connection.vector).is_some()
}

/// Says whether the ISR of `object` expects interrupts: a line of which nobody does is masked. False where the object is
/// none that is connected. At DISPATCH_LEVEL or below.
pub fn expect(object: *mut KINTERRUPT, expects: bool) -> bool {
    let object: *mut Interrupt = object.cast();
    let vectors = VECTORS.lock();
    let Some((vector, _)) = vectors.connected().find(|&(_, other)| ptr::eq(other, object)) else {
        return false;
    };
    let chain = vectors.objects(vector);
    let was_idle = is_idle(chain);
    // SAFETY: what is in a chain is alive, under the lock.
    let interrupt = unsafe { &*object };
    interrupt.asleep.store(!expects, Ordering::Relaxed);
    match (was_idle, is_idle(chain)) {
        (true, false) => open(&interrupt.connection),
        (false, true) => close(interrupt.connection.vector),
        _ => {}
    }
    true
}

/// Connects an ISR and enables its line.
///
/// # Errors
/// See [`Refused`].
pub fn connect(connection: Connection) -> Result<*mut KINTERRUPT, Refused> {
    let vector = connection.vector;
    let pin = pin_of_vector(vector);
    if pin.is_none() && !message::is_message(vector) {
        return Err(Refused::NoSuchVector);
    }
    if connection.synchronize_irql < Irql::of_vector(vector) || connection.synchronize_irql > Irql::HIGH {
        return Err(Refused::WrongIrql);
    }
    target_of(&connection).ok_or(Refused::NoProcessor)?;
    let fresh = Box::into_raw(Box::new(Interrupt {
        connection,
        own_lock: 0,
        active: AtomicU32::new(0),
        asleep: AtomicBool::new(false),
    }));
    let placed = {
        let mut vectors = VECTORS.lock();
        let chain = vectors.chain(vector);
        let compatible = chain.iter().filter(|object| !object.is_null()).all(|&object| {
            // SAFETY: what is in a chain is alive, and changes only under the lock.
            let other = unsafe { &(*object).connection };
            connection.shared && other.shared && other.trigger == connection.trigger
        });
        let idle = is_idle(chain);
        match chain.iter_mut().find(|object| object.is_null()).filter(|_| compatible) {
            Some(place) => {
                *place = fresh;
                vectors.note(vector);
                if idle {
                    open(&connection);
                }
                true
            }
            None => false,
        }
    };
    if !placed {
        // SAFETY: made above and known to nobody else.
        drop(unsafe { Box::from_raw(fresh) });
        return Err(Refused::InUse);
    }
    noted::isr_is_connected(connection.routine.address());
    Ok(fresh.cast())
}

/// Disconnects an object; false where it is none that is connected. When this returns, its ISR runs nowhere.
/// At PASSIVE_LEVEL.
pub fn disconnect(object: *mut KINTERRUPT) -> bool {
    // Windows' own goes to the interrupt's processor first, which is a wait: with a spin lock held the system stops.
    if irql::current() >= Irql::DISPATCH {
        let thread = thread::current().addr().get() as u64;
        bugcheck(ATTEMPTED_SWITCH_FROM_DPC, [thread, 0, 0, 0]);
    }
    let object: *mut Interrupt = object.cast();
    let found = {
        let mut vectors = VECTORS.lock();
        let vector = vectors.connected().find(|&(_, other)| ptr::eq(other, object)).map(|(vector, _)| vector);
        let place = vector.map(|vector| {
            let chain = vectors.chain(vector);
            let index = chain.iter().position(|&other| ptr::eq(other, object)).unwrap_or(MAX_SHARED - 1);
            chain[index..].rotate_left(1);
            chain[MAX_SHARED - 1] = ptr::null_mut();
            let idle = is_idle(chain);
            vectors.note(vector);
            (vector, idle)
        });
        // Still under the lock: a connection made meanwhile must not find its line masked.
        if let Some((vector, true)) = place {
            // SAFETY: it was in a chain, so it is alive; only this call frees it.
            let connection = unsafe { &(*object).connection };
            if !has_other_listeners(connection) {
                close(vector);
            }
        }
        place.is_some()
    };
    if !found {
        return false;
    }
    // SAFETY: the object was connected, so it is alive, and only this call frees it.
    while unsafe { (*object).active.load(Ordering::Acquire) } != 0 {
        core::hint::spin_loop();
    }
    let oldest = {
        let mut gone = GONE.lock();
        gone.push_back(object.expose_provenance());
        (gone.len() > KEPT).then(|| gone.pop_front()).flatten()
    };
    if let Some(oldest) = oldest {
        // SAFETY: out of its chain and out of this list; no DPC of that time is still under way.
        drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Interrupt>(oldest)) });
    }
    true
}

/// Whether an object was disconnected a moment ago.
pub fn was_disconnected(object: *mut KINTERRUPT) -> bool {
    GONE.lock().contains(&object.addr())
}

/// Calls `routine` with the ISR of `object` kept out: `KeSynchronizeExecution`.
///
/// # Safety
/// `object` is connected, or was a moment ago.
pub unsafe fn synchronize<T>(object: *mut KINTERRUPT, routine: impl FnOnce() -> T) -> T {
    // SAFETY: the caller's.
    unsafe { &*object.cast::<Interrupt>() }.synchronized(routine)
}

/// The processors that may take the interrupt.
///
/// # Safety
/// `object` is connected.
pub unsafe fn affinity(object: *const KINTERRUPT) -> u64 {
    // SAFETY: the caller's.
    unsafe { &*object.cast::<Interrupt>() }.connection.affinity & processor::all_mask()
}

/// Takes the object's lock at its IRQL; returns the IRQL before.
///
/// # Safety
/// `object` is connected.
pub unsafe fn acquire_lock(object: *mut KINTERRUPT) -> Irql {
    // SAFETY: the caller's.
    let object = unsafe { &*object.cast::<Interrupt>() };
    let old = irql::current();
    irql::set(old.max(object.connection.synchronize_irql));
    // SAFETY: as in `synchronized`.
    unsafe { spinlock::acquire(object.lock()) };
    old
}

/// Gives back what [`acquire_lock`] took.
///
/// # Safety
/// `object` is connected, and its lock held by the caller.
pub unsafe fn release_lock(object: *mut KINTERRUPT, old: Irql) {
    // SAFETY: the caller's.
    unsafe { spinlock::release((*object.cast::<Interrupt>()).lock()) };
    irql::set(old);
}

/// The ISR that is connected with a context in `range`: its address and the context.
pub fn context_in(range: &Range<usize>) -> Option<(u64, usize)> {
    let vectors = VECTORS.lock();
    vectors.connected().find_map(|(_, object)| {
        // SAFETY: what is in a chain is alive, under the lock.
        let Connection { routine, context, .. } = unsafe { (*object).connection };
        range.contains(&context.addr()).then(|| (routine.address(), context.addr()))
    })
}

/// One line for each object that is connected and whose ISR lies in `range`: what an unloaded driver left
/// behind.
pub fn connected_in(range: Range<u64>) -> Vec<String> {
    // Copied out first: the heap is not to be used with interrupts off.
    let mut found = [None; 64];
    let mut count = 0;
    {
        let vectors = VECTORS.lock();
        for (_, object) in vectors.connected() {
            // SAFETY: what is in a chain is alive, under the lock.
            let connection = unsafe { (*object).connection };
            if range.contains(&connection.routine.address()) && count < found.len() {
                found[count] = Some((object, connection));
                count += 1;
            }
        }
    }
    found
        .iter()
        .flatten()
        .map(|(object, connection)| {
            format!(
                "interrupt object {:#x}, vector {:#x} (IRQL {}), ISR {:#x}",
                object.addr(),
                connection.vector,
                Irql::of_vector(connection.vector).0,
                connection.routine.address()
            )
        })
        .collect()
}

/// Calls the ISRs of a device's vector. Interrupts are off on entry and on return, and on while an ISR runs.
fn deliver(vector: u8) {
    let mut chain = [ptr::null_mut::<Interrupt>(); MAX_SHARED];
    {
        let vectors = VECTORS.lock();
        for (kept, &object) in chain.iter_mut().zip(vectors.objects(vector)) {
            // SAFETY: alive under the lock, and from here on until `active` falls again.
            if !object.is_null() && unsafe { !(*object).asleep.load(Ordering::Relaxed) } {
                *kept = object;
                // SAFETY: as above.
                unsafe { (*object).active.fetch_add(1, Ordering::AcqRel) };
            }
        }
    }
    interrupts::enable();
    let objects = || chain.iter().filter(|object| !object.is_null());
    let mut claimed = false;
    loop {
        let mut claimed_now = false;
        let mut shared_edge = false;
        for &object in objects() {
            // SAFETY: see above.
            let interrupt = unsafe { &*object };
            let Connection { routine, context, trigger, .. } = interrupt.connection;
            // SAFETY: the driver connected this routine.
            let mine = interrupt.synchronized(|| unsafe {
                let level = irql::current();
                let mine = routine.call(object.cast(), context);
                if irql::current() != level {
                    changed_level(routine, object.addr(), level);
                }
                mine
            }) != 0;
            claimed_now |= mine;
            if mine && Window::Images.holds(routine.address()) {
                claims::count();
            }
            if trigger == Trigger::Level && mine {
                break;
            }
            shared_edge = trigger == Trigger::Edge && objects().count() > 1;
        }
        claimed |= claimed_now;
        if !(shared_edge && claimed_now) {
            break;
        }
    }
    let here = processor::current();
    if claimed {
        here.unclaimed_in_a_row.store(0, Ordering::Relaxed);
    } else {
        here.unclaimed.fetch_add(1, Ordering::Relaxed);
        let is_level = pin_of_vector(vector).is_some()
            // SAFETY: see above.
            && objects().all(|&object| unsafe { &*object }.connection.trigger == Trigger::Level);
        if is_level && here.unclaimed_in_a_row.fetch_add(1, Ordering::Relaxed) >= STORM {
            hal::clock::stall_ns(IOAPIC_PAUSE_NS);
        }
    }
    interrupts::disable();
    for &object in objects() {
        // SAFETY: see above.
        unsafe { (*object).active.fetch_sub(1, Ordering::AcqRel) };
    }
}

/// Takes an interrupt, from the moment that its registers are saved. Interrupts are off on entry and on
/// return; on between, above the vector's IRQL.
pub fn take(vector: u8) {
    processor::current().sleep.wake();
    let old = irql::current();
    irql::set(Irql::of_vector(vector));
    match vector {
        DISPATCH_VECTOR => {
            // Ended first: a thread switch may come before the return, and CR8 masks the level by itself.
            apic::end_of_interrupt();
            interrupts::enable();
            dpc::dispatch_interrupt();
            interrupts::disable();
        }
        IPI_VECTOR => {
            rendezvous::interrupt();
            apic::end_of_interrupt();
        }
        // Nothing is in service for it.
        SPURIOUS_VECTOR => {}
        CLOCK_VECTOR => {
            clock::interrupt();
            apic::end_of_interrupt();
        }
        _ => {
            deliver(vector);
            apic::end_of_interrupt();
        }
    }
    // What was held back comes in after the return, before the interrupted code's next instruction.
    irql::set(old);
}
