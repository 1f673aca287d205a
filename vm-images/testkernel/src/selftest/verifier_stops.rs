//! Ends of the system that the Verifier brings about, on demand: one word of the command line each, `verifier-` and what is
//! in the table. `harness/tests/vm/verifier_stops.rs` compares the crash records.

use super::victim::Victim;
use crate::console::println;
use crate::ke::irql::{self, Irql};
use crate::vf::classes::Class;

const SPECIAL: u32 = Class::SpecialPool as u32;
const TRACKING: u32 = Class::PoolTracking as u32;

/// The words, and what each does.
pub const STOPS: &[(&str, fn())] = &[
    ("verifier-zero-bytes", || {
        victim(TRACKING).allocate(0);
    }),
    ("verifier-paged-at-dispatch", || {
        let victim = victim(TRACKING);
        irql::raise(Irql::DISPATCH);
        victim.call("ExAllocatePoolWithTag", &[1, 24, 1]);
    }),
    ("verifier-allocate-at-dirql", || {
        let victim = victim(TRACKING);
        irql::raise(Irql(5));
        victim.allocate(24);
    }),
    ("verifier-free-nothing", || {
        victim(SPECIAL).call("ExFreePool", &[0]);
    }),
    ("verifier-free-elsewhere", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block + 16]);
    }),
    ("verifier-free-twice", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePoolWithTag", &[block, 0]);
        victim.call("ExFreePoolWithTag", &[block, 0]);
    }),
    ("verifier-free-twice-plain", || {
        let victim = victim(TRACKING);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.call("ExFreePool", &[block]);
    }),
    ("verifier-free-packet", || {
        let victim = victim(SPECIAL);
        let irp = victim.call("IoAllocateIrp", &[1, 0]);
        victim.call("ExFreePool", &[irp]);
    }),
    ("verifier-read-freed", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.read(block + 8);
    }),
    ("verifier-write-freed-at-dispatch", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        irql::raise(Irql::DISPATCH);
        victim.write(block, 1);
    }),
    ("verifier-kernel-reads-freed", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(64);
        victim.call("ExFreePool", &[block]);
        victim.call("RtlCompareMemory", &[block, victim.data(), 8]);
    }),
    ("verifier-overrun", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(32);
        victim.write(block + 32, 1);
    }),
    ("verifier-kernel-overrun", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(32);
        victim.call("RtlCompareMemory", &[victim.data(), block + 32, 8]);
    }),
    ("verifier-slop", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(30);
        victim.write(block + 31, 0);
        victim.call("ExFreePool", &[block]);
    }),
    ("verifier-underrun", || {
        let victim = victim(SPECIAL);
        let block = victim.allocate(30);
        victim.write(block - 1, 0);
        victim.call("ExFreePool", &[block]);
    }),
    ("verifier-leak", || {
        let victim = victim(SPECIAL | TRACKING);
        victim.allocate(30);
        victim.call("IoAllocateIrp", &[1, 0]);
        victim.call("IoAllocateMdl", &[victim.data(), 8, 0, 0, 0]);
        victim.unload();
    }),
];

/// The driver, loaded and told.
fn victim(flags: u32) -> Victim {
    let victim = Victim::load(flags);
    println!("victim at {:#x}", victim.range().start);
    victim
}
