//! COM1: the agent's line to the host.
//!
//! A 16550A. Received bytes come by interrupt: the ISR empties the chip into a ring, and a DPC wakes the
//! reader. Where the ring is full the ISR leaves bytes in the FIFO and turns its interrupts off until the
//! reader has taken all of it; the host waits then, and nothing is lost. They are off, too, until the reader waits
//! for the first time: it empties the chip by itself as long as there is something. Transmitting is rare and short, and an
//! emulated transmitter empties at once, so the writer looks for room itself and sleeps where the host does
//! not read.
//!
//! The FIFOs are turned on at once: without them an emulated chip takes one byte at a time from the host, and a
//! round through its main loop for each. Turning them on loses what the chip holds, and a host that has been
//! sending since before the kernel ran always has something there; the agent's protocol begins with a request
//! that is repeated until it is answered, for exactly that.
//!
//! The chip tells of a FIFO that is not full only when the line has been silent for four characters, longer than the
//! host needs for the rest of a request. So a reader in the middle of one looks for itself, for a while.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::port;
use crate::hal::{self, clock};
use crate::ke::event::Event;
use crate::ke::interrupt::{self, Connection, Refused, Service, Trigger};
use crate::ke::irql::Irql;
use crate::ke::lock::InterruptLock;
use crate::ke::processor::{self, MAX_PROCESSORS};
use crate::ke::{dpc, thread};
use crate::nt::{BOOLEAN, KDPC, KINTERRUPT};

const BASE: u16 = 0x3F8;
const LINE: u32 = 4;

const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const INTERRUPT_ID: u16 = BASE + 2;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;
const MODEM_STATUS: u16 = BASE + 6;
const SCRATCH: u16 = BASE + 7;

const RECEIVED: u8 = 1;
const STATUS_RECEIVED: u8 = 1;
const STATUS_CAN_TRANSMIT: u8 = 1 << 5;
const ID_NOTHING: u8 = 1;

const FIFO_BYTES: usize = 16;
/// On, emptied, and an interrupt at 14 bytes or when the sender pauses.
const FIFO_ON: u8 = 0xC7;
const RING_BYTES: usize = 16 * 1024;
/// How often the transmitter is asked before the writer sleeps.
const PATIENCE: usize = 1000;
const NAP_NS: u64 = 1_000_000;
/// For how long a reader looks for the rest of a request by itself, and how often.
const LOOK_NS: u64 = 200_000;
const BETWEEN_LOOKS_NS: u64 = 5_000;

struct Ring {
    bytes: VecDeque<u8>,
    /// The chip does not interrupt: nobody has waited yet, or the ISR found no room.
    stalled: bool,
}

struct Serial {
    ring: InterruptLock<Ring>,
    readable: Event,
    /// The reader found the ring empty and is waiting, or about to.
    wanted: AtomicBool,
    /// Signalled while nobody writes.
    writable: Event,
}

/// What wakes the reader: a DPC for each processor.
struct Dpcs([UnsafeCell<KDPC>; MAX_PROCESSORS]);

// SAFETY: the DPCs are only handed to the kernel's queues, which know how to share them.
unsafe impl Sync for Dpcs {}

static DPCS: Dpcs = Dpcs([const { UnsafeCell::new(dpc::made(wake_reader)) }; MAX_PROCESSORS]);

static SERIAL: AtomicPtr<Serial> = AtomicPtr::new(ptr::null_mut());

fn serial() -> Option<&'static Serial> {
    // SAFETY: once stored, it lives for ever.
    unsafe { SERIAL.load(Ordering::Acquire).as_ref() }
}

/// Why there is no serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// Nothing answers at its ports.
    NoPort,
    /// Its interrupt could not be connected.
    Interrupt(Refused),
}

/// Sets the port up: 115200 baud, 8N1.
///
/// # Errors
/// See [`Unavailable`].
pub fn init() -> Result<(), Unavailable> {
    port::write_u8(SCRATCH, 0x5A);
    if port::read_u8(SCRATCH) != 0x5A {
        return Err(Unavailable::NoPort);
    }
    port::write_u8(INTERRUPT_ENABLE, 0);
    port::write_u8(LINE_CONTROL, 0x80); // the divisor's turn
    port::write_u8(DATA, 1);
    port::write_u8(INTERRUPT_ENABLE, 0);
    port::write_u8(LINE_CONTROL, 0x03);
    port::write_u8(FIFO_CONTROL, FIFO_ON);
    port::read_u8(DATA); // QEMU looks whether the host has sent something when the guest has read, and not before
    port::write_u8(MODEM_CONTROL, 0x0B); // DTR, RTS, and OUT2, which gates the interrupt

    let serial: &'static Serial = Box::leak(Box::new(Serial {
        ring: InterruptLock::new(Ring { bytes: VecDeque::with_capacity(RING_BYTES), stalled: true }),
        readable: Event::new_synchronization(),
        wanted: AtomicBool::new(false),
        writable: Event::new_synchronization(),
    }));
    serial.writable.set();
    let context = ptr::from_ref(serial).cast_mut().cast();
    for (number, dpc) in DPCS.0.iter().enumerate() {
        // SAFETY: the DPC lives for ever and is in no queue yet.
        unsafe { dpc::set_target(dpc.get(), number as u16) };
    }
    SERIAL.store(ptr::from_ref(serial).cast_mut(), Ordering::Release);

    let vector =
        hal::interrupt::vector_of_isa_line(LINE).ok_or(Unavailable::Interrupt(Refused::NoSuchVector))?;
    interrupt::connect(Connection {
        routine: Service::Routine(service),
        context,
        lock: ptr::null_mut(),
        vector,
        synchronize_irql: Irql::of_vector(vector),
        trigger: Trigger::Edge,
        shared: false,
        affinity: u64::MAX,
    })
    .map_err(Unavailable::Interrupt)?;
    Ok(())
}

impl Ring {
    /// Empties the FIFO as far as there is room.
    fn receive(&mut self) {
        while port::read_u8(LINE_STATUS) & STATUS_RECEIVED != 0 {
            if self.bytes.len() == RING_BYTES {
                self.stalled = true;
                port::write_u8(INTERRUPT_ENABLE, 0);
                return;
            }
            // Within the capacity, so that nothing is allocated here.
            self.bytes.push_back(port::read_u8(DATA));
        }
    }
}

/// The ISR. The line is edge-triggered: it must not return while the chip still wants something.
unsafe extern "win64" fn service(_: *mut KINTERRUPT, _: *mut c_void) -> BOOLEAN {
    let Some(serial) = serial() else { return 0 };
    let mut mine = 0;
    while port::read_u8(INTERRUPT_ID) & ID_NOTHING == 0 {
        mine = 1;
        // Whatever it was: reading these three takes it back.
        serial.ring.lock().receive();
        port::read_u8(LINE_STATUS);
        port::read_u8(MODEM_STATUS);
    }
    if serial.wanted.swap(false, Ordering::AcqRel) {
        defer();
    }
    mine
}

/// Has the reader woken by this processor, or by whichever gets to it first. In the ISR.
fn defer() {
    let here = processor::current();
    let idle = ptr::eq(here.thread(), here.idle.load(Ordering::Relaxed))
        && here.dpc_active.load(Ordering::Relaxed) == 0;
    let others = (0..processor::count()).filter(|&number| number != here.number() && !idle);
    for number in core::iter::once(here.number()).chain(others) {
        // SAFETY: the DPC was initialized and lives for ever.
        unsafe { dpc::insert(DPCS.0[number].get(), ptr::null_mut(), ptr::null_mut()) };
    }
}

unsafe extern "win64" fn wake_reader(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    if let Some(serial) = serial() {
        serial.readable.set();
    }
}

/// Waits until something was received, and takes as much of it as fits: at least one byte, unless `buffer` is
/// empty or there is no port. `more_is_due`: the sender is in the middle of something. One reader at a time. At
/// PASSIVE_LEVEL.
pub fn read(buffer: &mut [u8], more_is_due: bool) -> usize {
    let Some(serial) = serial().filter(|_| !buffer.is_empty()) else { return 0 };
    let look_until = if more_is_due { clock::now_ns() + LOOK_NS } else { 0 };
    loop {
        // Said before looking: what comes after the look interrupts, and finds this.
        serial.wanted.store(true, Ordering::Release);
        let will_wait;
        {
            let mut ring = serial.ring.lock();
            // What has not come to 14 bytes yet would only interrupt when the sender pauses.
            ring.receive();
            let count = buffer.len().min(ring.bytes.len());
            if count > 0 {
                serial.wanted.store(false, Ordering::Release);
                for (place, byte) in buffer.iter_mut().zip(ring.bytes.drain(..count)) {
                    *place = byte;
                }
                return count;
            }
            will_wait = clock::now_ns() >= look_until;
            if will_wait && core::mem::take(&mut ring.stalled) {
                port::write_u8(INTERRUPT_ENABLE, RECEIVED);
            }
        }
        if will_wait {
            serial.readable.wait(None);
        } else {
            clock::stall_ns(BETWEEN_LOOKS_NS);
        }
    }
}

/// Sends all of `bytes`; waits as long as the host does not read. At PASSIVE_LEVEL.
pub fn write(bytes: &[u8]) {
    let Some(serial) = serial() else { return };
    serial.writable.wait(None);
    for chunk in bytes.chunks(FIFO_BYTES) {
        while !(0..PATIENCE).any(|_| port::read_u8(LINE_STATUS) & STATUS_CAN_TRANSMIT != 0) {
            thread::sleep_ns(NAP_NS);
        }
        chunk.iter().for_each(|&byte| port::write_u8(DATA, byte));
    }
    serial.writable.set();
}
