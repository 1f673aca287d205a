//! Requests on files that are not complete: whose they are, so that a thread can take all of its own back.

use alloc::vec::Vec;
use core::ptr::NonNull;

use super::{cancel, irp};
use crate::ke::lock::SpinLock;
use crate::ke::thread;
use crate::nt::IRP;
use crate::selftest::{check, kernel_test};

struct Entry {
    irp: usize,
    file: usize,
    thread: usize,
    /// Somebody is cancelling it, and frees it if it is complete by then.
    held: bool,
    complete: bool,
}

static PACKETS: SpinLock<Vec<Entry>> = SpinLock::new(Vec::new());

fn current() -> usize {
    thread::current().as_ptr().addr()
}

/// The calling thread is about to send `irp` for `file`.
pub fn begin(irp: *mut IRP, file: usize) {
    let entry = Entry { irp: irp.expose_provenance(), file, thread: current(), held: false, complete: false };
    PACKETS.lock().push(entry);
}

/// The packet is complete; false where whoever is cancelling it will free it.
pub fn end(irp: *mut IRP) -> bool {
    let mut packets = PACKETS.lock();
    let Some(place) = packets.iter().position(|entry| entry.irp == irp.addr() && !entry.complete) else {
        return true;
    };
    if packets[place].held {
        packets[place].complete = true;
        return false;
    }
    packets.swap_remove(place);
    true
}

/// Cancels the calling thread's requests on `file`, and waits until they are complete. At PASSIVE_LEVEL.
pub fn cancel_all(file: usize) {
    let is_mine = |entry: &Entry| entry.file == file && entry.thread == current();
    let held: Vec<usize> = {
        let mut packets = PACKETS.lock();
        let mine = packets.iter_mut().filter(|entry| is_mine(entry) && !entry.held);
        mine.map(|entry| {
            entry.held = true;
            entry.irp
        })
        .collect()
    };
    for address in held {
        let packet = core::ptr::with_exposed_provenance_mut::<IRP>(address);
        // SAFETY: nobody frees a packet that is held, complete or not.
        unsafe { cancel::cancel(packet) };
        let is_complete = {
            let mut packets = PACKETS.lock();
            let place = packets.iter().position(|entry| entry.irp == address && entry.held);
            place.is_some_and(|place| {
                packets[place].held = false;
                packets[place].complete && {
                    packets.swap_remove(place);
                    true
                }
            })
        };
        if let Some(packet) = NonNull::new(packet).filter(|_| is_complete) {
            // SAFETY: complete, and left to this to be freed.
            unsafe { irp::free(packet) };
        }
    }
    while PACKETS.lock().iter().any(is_mine) {
        thread::sleep_ns(1_000_000);
    }
}

kernel_test! {
    fn a_packet_that_is_held_is_freed_by_who_holds_it() {
        let Some(packet) = irp::allocate(1) else { check!(false); return Ok(()) };
        begin(packet.as_ptr(), 0x10);
        check!(end(packet.as_ptr()) && end(packet.as_ptr()));
        begin(packet.as_ptr(), 0x10);
        PACKETS.lock().iter_mut().for_each(|entry| entry.held |= entry.irp == packet.as_ptr().addr());
        check!(!end(packet.as_ptr()));
        PACKETS.lock().retain(|entry| entry.irp != packet.as_ptr().addr());
        // SAFETY: this test's, and nowhere any more.
        unsafe { irp::free(packet) };
        cancel_all(0x10);
    }
}
